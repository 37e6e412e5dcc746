//! DATA in: what may come on which stream, for whom it is kept, and the end of it.

use super::{
    code::Code,
    core::Core,
    failure::Fatal,
    frame::{self, Head, flag},
    receive::Reading,
    stream::Receiving,
};
use bytes::{Buf, BytesMut};
use std::time::Instant;

impl Core {
    pub(super) fn begin_data(
        &mut self,
        head: Head,
        left: usize,
        padding: usize,
        now: Instant,
    ) -> Result<Reading, Fatal> {
        let (number, end) = (head.stream, head.has(flag::END_STREAM));
        let bytes = (left + padding) as i64;
        if self.is_idle(number) {
            return Err(Fatal::new(Code::PROTOCOL_ERROR, "DATA on a stream that was never opened"));
        }
        if bytes > self.recv_window {
            return Err(Fatal::new(Code::FLOW_CONTROL_ERROR, "DATA beyond the window of the connection"));
        }
        if left == 0 && !end {
            self.annoyed(1, now)?;
        }
        let slack = self.slack();
        let wrong = match self.streams.get(&number) {
            Some(stream) if stream.broken.is_some() => None,
            Some(stream) => match stream.receiving {
                Receiving::Unanswered => Some(Code::PROTOCOL_ERROR),
                Receiving::Ended => Some(Code::STREAM_CLOSED),
                // To say that it ends costs nothing, also where the window was made less than nothing.
                Receiving::Open if bytes > (stream.recv_window + slack).max(0) => Some(Code::FLOW_CONTROL_ERROR),
                Receiving::Open => None,
            },
            // What was on its way when we reset it is no mistake. What we do not remember may have
            // been; to say it once more does no harm.
            None if self.ended(number) != Some(true) => {
                frame::put_reset(number, Code::STREAM_CLOSED, &mut self.control);
                None
            }
            None => None,
        };
        if let Some(code) = wrong {
            self.refuse(number, code, now)?;
        }
        Ok(Reading::Data { stream: number, left, padding, end })
    }

    pub(super) fn take_data(
        &mut self,
        number: u32,
        buffer: &mut BytesMut,
        bytes: usize,
        now: Instant,
    ) -> Result<(), Fatal> {
        self.recv_window -= bytes as i64;
        let Some(stream) = self.streams.get_mut(&number).filter(|stream| stream.takes()) else {
            buffer.advance(bytes);
            self.replenish();
            return Ok(());
        };
        if let Some(left) = &mut stream.content_left {
            let Some(after) = left.checked_sub(bytes as u64) else {
                buffer.advance(bytes);
                return self.refuse(number, Code::PROTOCOL_ERROR, now);
            };
            *left = after;
        }
        stream.recv_window -= bytes as i64;
        if stream.wanted {
            stream.arrived.take_from(buffer, bytes);
            stream.held += bytes;
            if !stream.only_end {
                self.wakes.extend(stream.reader.take());
            }
            self.hold(bytes);
        } else {
            buffer.advance(bytes);
        }
        self.replenish();
        Ok(())
    }

    /// Counts bytes that are for nobody.
    pub(super) fn unused(&mut self, bytes: usize) {
        self.recv_window -= bytes as i64;
        self.replenish();
    }

    /// The peer says that nothing more comes on a stream.
    pub(super) fn ended_by_peer(&mut self, number: u32, now: Instant) -> Result<(), Fatal> {
        let Some(stream) = self.streams.get_mut(&number).filter(|stream| stream.broken.is_none()) else {
            return Ok(());
        };
        if stream.content_left.is_some_and(|left| left > 0) {
            return self.refuse(number, Code::PROTOCOL_ERROR, now);
        }
        stream.receiving = Receiving::Ended;
        self.wakes.extend(stream.reader.take());
        self.note_end(number);
        self.settle(number);
        Ok(())
    }

    /// Remembers a stream that is over in order.
    pub(super) fn note_end(&mut self, number: u32) {
        if self.streams.get(&number).is_some_and(|stream| stream.is_over()) {
            self.remember(number, false);
        }
    }
}
