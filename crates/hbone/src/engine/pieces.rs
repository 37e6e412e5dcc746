//! Bytes in the order they came, in pieces that are not copied: one of them, most of the time.

use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;

/// A queue that holds one piece without memory of its own.
#[derive(Debug, Default)]
struct Pieces {
    first: Bytes,
    /// Nothing but a null for most streams, most of the time.
    #[expect(clippy::box_collection, reason = "a queue in a stream is two dozen bytes, and there are many of either")]
    rest: Option<Box<VecDeque<Bytes>>>,
    bytes: usize,
}

/// Room for pieces that an empty queue keeps.
const ROOM_KEPT: usize = 8;

impl Pieces {
    /// Of all pieces.
    fn bytes(&self) -> usize {
        self.bytes
    }

    fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    fn push(&mut self, piece: Bytes) {
        if piece.is_empty() {
            return;
        }
        self.bytes += piece.len();
        match self.first.is_empty() {
            true => self.first = piece,
            false => self.rest.get_or_insert_default().push_back(piece),
        }
    }

    fn pop(&mut self) -> Option<Bytes> {
        if self.first.is_empty() {
            return None;
        }
        let next = self.next();
        let piece = std::mem::replace(&mut self.first, next);
        self.bytes -= piece.len();
        Some(piece)
    }

    /// Takes so many bytes off the front; fewer if the first piece is smaller.
    fn pop_most(&mut self, bytes: usize) -> Option<Bytes> {
        if self.first.len() <= bytes {
            return self.pop();
        }
        self.bytes -= bytes;
        Some(self.first.split_to(bytes))
    }

    /// Puts what is left of a piece back to the front.
    fn put_back(&mut self, piece: Bytes) {
        if piece.is_empty() {
            return;
        }
        self.bytes += piece.len();
        let second = std::mem::replace(&mut self.first, piece);
        if !second.is_empty() {
            self.rest.get_or_insert_default().push_front(second);
        }
    }

    fn next(&mut self) -> Bytes {
        let Some(rest) = &mut self.rest else { return Bytes::new() };
        let next = rest.pop_front().unwrap_or_default();
        if rest.is_empty() && rest.capacity() > ROOM_KEPT {
            self.rest = None;
        }
        next
    }
}

/// The first piece that waits for its reader is copied if it is smaller: it would keep a whole read
/// buffer in memory.
const COPY_BELOW: usize = 4 << 10;
/// And so are later ones that are smaller than a TLS record, where somebody does not keep up: an eighth
/// of the largest read buffer is what the others hold at least.
const COPY_BELOW_WAITING: usize = 15 << 10;
/// Small pieces that are given behind others are copied together, if they are smaller than this: many
/// would cost more than they hold.
const JOIN_BELOW: usize = 1 << 10;
/// What copies are collected in.
const JOINED_BYTES: usize = 64 << 10;

/// What has come from somebody and waits for somebody else, perhaps for long.
#[derive(Debug, Default)]
pub(super) struct Queue {
    pieces: Pieces,
    /// The last piece, while it grows.
    joining: Option<Box<BytesMut>>,
}

impl Queue {
    pub(super) fn bytes(&self) -> usize {
        self.pieces.bytes() + self.joining.as_ref().map_or(0, |joining| joining.len())
    }

    /// Takes so many bytes off the front of a read buffer.
    pub(super) fn take_from(&mut self, buffer: &mut BytesMut, bytes: usize) {
        let waiting = !self.pieces.is_empty();
        if bytes >= if waiting { COPY_BELOW_WAITING } else { COPY_BELOW } {
            self.seal();
            self.pieces.push(buffer.split_to(bytes).freeze());
            return;
        }
        match waiting {
            true => self.join(&buffer[..bytes]),
            false => self.pieces.push(Bytes::copy_from_slice(&buffer[..bytes])),
        }
        bytes::Buf::advance(buffer, bytes);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Takes a piece in.
    pub(super) fn push(&mut self, piece: Bytes) {
        if piece.len() < JOIN_BELOW && !self.pieces.is_empty() {
            return self.join(&piece);
        }
        self.seal();
        self.pieces.push(piece);
    }

    pub(super) fn pop(&mut self) -> Option<Bytes> {
        self.pop_most(usize::MAX)
    }

    /// Takes so many bytes off the front; fewer if the first piece is smaller.
    pub(super) fn pop_most(&mut self, bytes: usize) -> Option<Bytes> {
        let piece = self.pieces.pop_most(bytes)?;
        if self.pieces.is_empty() {
            self.seal();
        }
        Some(piece)
    }

    /// Puts what is left of a piece back to the front.
    pub(super) fn put_back(&mut self, piece: Bytes) {
        self.pieces.put_back(piece);
    }

    fn join(&mut self, bytes: &[u8]) {
        let joining = self.joining.get_or_insert_default();
        joining.extend_from_slice(bytes);
        if joining.len() >= JOINED_BYTES {
            self.seal();
        }
    }

    fn seal(&mut self) {
        if let Some(joined) = self.joining.take() {
            self.pieces.push(joined.freeze());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bytes_leave_in_the_order_they_came(
            script in prop::collection::vec((1_usize..100_000, any::<bool>(), 0_usize..4, 0_usize..5_000), 1..60),
        ) {
            let (mut queue, mut came, mut left) = (Queue::default(), 0_u64, 0_u64);
            for (bytes, read, pops, put_back) in script {
                let bytes = if read { bytes } else { bytes % 3000 + 1 };
                let mut buffer: BytesMut = (came..came + bytes as u64).map(|at| (at % 251) as u8).collect();
                match read {
                    true => queue.take_from(&mut buffer, bytes),
                    false => queue.push(buffer.split().freeze()),
                }
                prop_assert!(buffer.is_empty());
                came += bytes as u64;
                for _ in 0..pops {
                    let Some(mut piece) = queue.pop() else { break };
                    let back = piece.split_off(piece.len() - put_back.min(piece.len() - 1));
                    queue.put_back(back);
                    for byte in piece {
                        prop_assert_eq!(byte, (left % 251) as u8);
                        left += 1;
                    }
                }
                prop_assert_eq!(queue.bytes() as u64, came - left);
            }
            while let Some(piece) = queue.pop() {
                left += piece.len() as u64;
            }
            prop_assert_eq!(left, came);
        }
    }

    #[test]
    fn small_pieces_that_wait_cost_what_they_hold() {
        let (mut arrived, mut given) = (Queue::default(), Queue::default());
        for _ in 0..100_000 {
            arrived.take_from(&mut BytesMut::from(&b"x"[..]), 1);
            given.push(Bytes::from_static(b"x"));
        }
        for mut queue in [arrived, given] {
            let pieces = std::iter::from_fn(|| queue.pop()).count();
            assert_eq!(pieces, 1 + 100_000_usize.div_ceil(JOINED_BYTES));
        }
    }

    #[test]
    fn an_empty_queue_keeps_little() {
        let mut pieces = Pieces::default();
        (0..1000).for_each(|_| pieces.push(Bytes::from_static(b"x")));
        assert_eq!(pieces.pop_most(5).map(|piece| piece.len()), Some(1));
        while pieces.pop().is_some() {}
        assert!(pieces.rest.is_none_or(|rest| rest.capacity() <= ROOM_KEPT));
    }
}
