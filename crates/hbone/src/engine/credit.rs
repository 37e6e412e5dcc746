//! What may go and what may come: the windows of one connection and its streams.
//!
//! The peer gets a stream's credit back when bytes were delivered, not when they arrived. The
//! connection's it gets back at once, so that stalled readers do not stop the others; what bounds
//! them is that each stream's window shrinks with what is held ([`crate::credit`]), and in the end
//! that nothing is granted any more.

use super::{
    code::Code,
    core::Core,
    failure::{Broken, Fatal},
    frame,
    settings::{self, WINDOW_MAX},
};
use crate::credit;

/// What a connection holds at most for readers that stall, however little its peer heeds narrower
/// windows. One that does holds 71 MiB with Istio's windows, and some on the way.
const HELD_BYTES_MAX: usize = 128 << 20;

impl Core {
    /// How much more than its window a stream may receive until the peer knows how small that is.
    pub(super) fn slack(&self) -> i64 {
        let most = self.unacknowledged.iter().max().copied().unwrap_or(0);
        i64::from(most.saturating_sub(self.grant.stream))
    }

    /// Counts bytes that have come and wait in a stream.
    pub(super) fn hold(&mut self, bytes: usize) {
        let before = self.held;
        self.held += bytes;
        if credit::is_step(before, self.held) {
            self.adapt();
        }
    }

    /// Counts bytes that are where they belong, and lets the peer send as many.
    pub(crate) fn delivered(&mut self, number: u32, bytes: usize) {
        let Some(stream) = self.streams.get_mut(&number) else { return };
        let bytes = bytes.min(stream.held);
        stream.held -= bytes;
        if let Some(missing) = stream.missing(self.grant.stream) {
            stream.recv_window += i64::from(missing);
            frame::put_window_update(number, missing, &mut self.control);
            self.stirred = true;
        }
        self.unhold(bytes);
    }

    pub(super) fn unhold(&mut self, bytes: usize) {
        let before = self.held;
        self.held -= bytes;
        if credit::is_step(before, self.held) {
            self.adapt();
            self.replenish();
        }
    }

    /// Lets the peer send what the connection's window has become too small for, once that is half.
    pub(super) fn replenish(&mut self) {
        let window = i64::from(self.config.grant.connection);
        let missing = window - self.recv_window;
        if missing >= (window / 2).max(1) && self.held < HELD_BYTES_MAX && self.lost.is_none() {
            self.recv_window += missing;
            frame::put_window_update(0, missing as u32, &mut self.control);
            self.stir();
        }
    }

    /// Makes the windows of streams smaller while much is held, and larger again.
    pub(super) fn adapt(&mut self) {
        // One change at a time: the peer must say that it knows of the last one.
        if !self.unacknowledged.is_empty() || self.lost.is_some() {
            return;
        }
        let wanted = credit::grant(self.config.grant, self.grant, self.held);
        if wanted.stream == self.grant.stream {
            return;
        }
        let change = i64::from(wanted.stream) - i64::from(self.grant.stream);
        self.unacknowledged.push_back(self.grant.stream);
        self.grant = wanted;
        settings::put(&[(settings::INITIAL_WINDOW_SIZE, wanted.stream)], &mut self.control);
        for (number, stream) in &mut self.streams {
            stream.recv_window += change;
            if let Some(missing) = stream.missing(wanted.stream) {
                stream.recv_window += i64::from(missing);
                frame::put_window_update(*number, missing, &mut self.control);
            }
        }
        self.stir();
    }

    /// The peer knows of our settings.
    pub(super) fn acknowledged(&mut self) -> Result<(), Fatal> {
        self.unacknowledged
            .pop_front()
            .ok_or_else(|| Fatal::new(Code::PROTOCOL_ERROR, "an acknowledgement of SETTINGS that were not sent"))?;
        self.adapt();
        Ok(())
    }

    /// The peer lets us send more: on one stream, or on the connection.
    pub(super) fn widen(&mut self, number: u32, bytes: u32) -> Result<Result<(), Code>, Fatal> {
        let bytes = i64::from(bytes);
        if number == 0 {
            if bytes == 0 {
                return Err(Fatal::new(Code::PROTOCOL_ERROR, "a WINDOW_UPDATE of nothing"));
            }
            self.send_window += bytes;
            if self.send_window > WINDOW_MAX {
                return Err(Fatal::new(Code::FLOW_CONTROL_ERROR, "a window beyond what HTTP/2 can express"));
            }
            self.wake_starved();
            if !self.turns.order.is_empty() {
                self.stir();
            }
            return Ok(Ok(()));
        }
        let Some(stream) = self.streams.get_mut(&number).filter(|stream| stream.broken.is_none()) else {
            return Ok(Ok(()));
        };
        if bytes == 0 {
            return Ok(Err(Code::PROTOCOL_ERROR));
        }
        stream.send_window += bytes;
        if stream.send_window > WINDOW_MAX {
            return Ok(Err(Code::FLOW_CONTROL_ERROR));
        }
        self.wakes.extend(stream.writer.take());
        self.stirred |= self.turns.enter(number, stream);
        Ok(Ok(()))
    }

    /// The peer has changed what it lets each stream send.
    pub(super) fn shift_windows(&mut self, change: i64) -> Result<(), Fatal> {
        if change == 0 {
            return Ok(());
        }
        for (number, stream) in &mut self.streams {
            stream.send_window += change;
            if stream.send_window > WINDOW_MAX {
                return Err(Fatal::new(Code::FLOW_CONTROL_ERROR, "windows beyond what HTTP/2 can express"));
            }
            if change > 0 {
                self.wakes.extend(stream.writer.take());
            }
            self.stirred |= self.turns.enter(*number, stream);
        }
        self.wake_starved();
        Ok(())
    }

    /// What all writers together may still give.
    pub(super) fn room(&self) -> usize {
        usize::try_from(self.send_window).unwrap_or(0).saturating_sub(self.turns.promised)
    }

    /// Wakes who waits for the connection's window, in the order they came.
    pub(super) fn wake_starved(&mut self) {
        if self.starved.is_empty() || self.room() == 0 {
            return;
        }
        for number in std::mem::take(&mut self.starved) {
            if let Some(stream) = self.streams.get_mut(&number) {
                stream.starved = false;
                self.wakes.extend(stream.writer.take());
            }
        }
    }

    /// Ends a stream for what the peer did on it; the peer is told, and it counts.
    pub(super) fn refuse(&mut self, number: u32, code: Code, now: std::time::Instant) -> Result<(), Fatal> {
        frame::put_reset(number, code, &mut self.control);
        self.forget_unseen(number);
        self.remember(number, true);
        self.break_off(number, Broken::Reset(code));
        self.annoyed(1, now)
    }

    /// Takes a request back that nobody has seen yet; true if it was one.
    pub(super) fn forget_unseen(&mut self, number: u32) -> bool {
        let Some(at) = self.asked.iter().position(|asked| asked.stream == number) else { return false };
        self.asked.remove(at);
        if let Some(stream) = self.streams.get_mut(&number) {
            stream.wanted = false;
        }
        true
    }

    /// Counts work for nothing.
    pub(super) fn annoyed(&mut self, cost: u32, now: std::time::Instant) -> Result<(), Fatal> {
        match self.nuisance.add(cost, now) {
            true => Ok(()),
            false => Err(Fatal::new(Code::ENHANCE_YOUR_CALM, "too much work for nothing")),
        }
    }
}
