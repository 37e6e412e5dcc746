//! Bytes out: frames in the order in which they go. Control frames first, then DATA, one frame a
//! stream and turn.

use super::{
    batch::{BATCH_BYTES, Batch, RECORD_BYTES},
    code::Code,
    core::Core,
    failure::Broken,
    frame::{self, HEAD_BYTES, Head, flag, kind},
    stream::Sending,
};

/// Memory for control frames that a connection keeps which has none to send.
const CONTROL_BYTES_KEPT: usize = 512;
/// A payload that would end a TLS record is not cut to less than this.
const PAYLOAD_BYTES_LEAST: usize = 1 << 10;

impl Core {
    /// Fills an empty batch with what is to be sent next. It stays empty where there is nothing.
    pub(crate) fn transmit(&mut self, batch: &mut Batch) {
        if !self.control.is_empty() {
            batch.put(|own| own.append(&mut self.control));
            if self.control.capacity() > CONTROL_BYTES_KEPT {
                self.control = Vec::new();
            }
        }
        // Those that the connection's window does not let go are passed over, once.
        let mut passed = 0;
        while batch.bytes() < BATCH_BYTES && passed < self.turns.order.len() {
            let Some(number) = self.turns.order.pop_front() else { break };
            if self.send_window <= 0 && self.streams.get(&number).is_some_and(|stream| !stream.queued.is_empty()) {
                self.turns.order.push_back(number);
                passed += 1;
            } else {
                self.transmit_frame(number, batch);
            }
        }
    }

    /// One DATA frame of a stream, or its end, or its reset.
    fn transmit_frame(&mut self, number: u32, batch: &mut Batch) {
        let next = self.turns.order.front().and_then(|next| self.streams.get(next));
        let patient = next.is_none_or(|next| next.queued.bytes() >= BATCH_BYTES);
        let most = payload_most(batch.bytes(), patient).min(self.peer.frame_bytes);
        let Some(stream) = self.streams.get_mut(&number) else { return };
        stream.in_turn = false;
        if !stream.has_turn() {
            return;
        }
        let window = usize::try_from(stream.send_window.min(self.send_window)).unwrap_or(0);
        let payload = stream.queued.bytes().min(window).min(most);
        let last = payload == stream.queued.bytes();
        let end = last && stream.sending == Sending::Finishing;
        if payload > 0 || end {
            let flags = if end { flag::END_STREAM } else { 0 };
            batch.put(|own| Head::new(kind::DATA, flags, number, payload).write(own));
        }
        let mut left = payload;
        while left > 0 {
            let Some(piece) = stream.queued.pop_most(left) else { break };
            left -= piece.len();
            batch.put_payload(piece);
        }
        stream.send_window -= payload as i64;
        if end {
            stream.sending = Sending::Ended;
        }
        if stream.queued.bytes() <= self.config.queue_bytes / 2 && stream.room(self.config.queue_bytes) > 0 {
            self.wakes.extend(stream.writer.take());
        }
        let reset = stream.reset_after.filter(|_| last && !stream.is_over());
        self.send_window -= payload as i64;
        self.turns.count(stream);
        if let Some(code) = reset {
            batch.put(|own| frame::put_reset(number, code, own));
            self.reset_by_us(number, code);
        } else if end {
            self.note_end(number);
            self.settle(number);
        } else {
            self.stirred |= self.turns.enter(number, stream);
        }
    }

    /// A stream is over because we said so.
    pub(super) fn reset_by_us(&mut self, number: u32, code: Code) {
        self.remember(number, true);
        self.break_off(number, Broken::Reset(code));
    }
}

/// How long a payload may be so that its frame ends where a TLS record does: one record where somebody waits for a turn
/// who has little to say, all that a batch takes where nobody does. Who has much gains by that too: a reader gets few
/// large pieces, each of which it writes by one call of the kernel.
fn payload_most(before: usize, patient: bool) -> usize {
    let begun = (before + HEAD_BYTES) % RECORD_BYTES;
    let mut most = RECORD_BYTES - begun;
    if most < PAYLOAD_BYTES_LEAST {
        most += RECORD_BYTES;
    }
    if patient {
        most = most.max(BATCH_BYTES.saturating_sub(before + HEAD_BYTES));
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_end_where_records_do() {
        for (before, patient, payload) in [
            (0, false, 16_384 - 9),
            (0, true, 4 * 16_384 - 9),
            (13, false, 16_384 - 22),
            (13, true, 4 * 16_384 - 22),
            (16_384, true, 3 * 16_384 - 9),
            (16_000, false, 16_384 + 384 - 9),
            (15_000, false, 1384 - 9),
            (4 * 16_384 - 20, true, 16_384 + 11),
        ] {
            assert_eq!(payload_most(before, patient), payload, "after {before}");
        }
    }
}
