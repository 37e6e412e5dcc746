//! Bytes on their way to the socket: many frames in one write, their payloads where they are.

use bytes::{Buf, Bytes};
use std::{collections::VecDeque, io::IoSlice};

/// What one batch aims at: four TLS records, as much as rustls takes at once.
pub(super) const BATCH_BYTES: usize = 4 * RECORD_BYTES;
/// The largest TLS record.
pub(super) const RECORD_BYTES: usize = 16 << 10;
/// Payloads below this are copied behind their frame's head: cheaper than one more part of a write.
const COPY_BELOW: usize = 512;
/// Parts of one write.
pub(super) const PARTS: usize = 32;
/// Memory that an empty batch keeps, of what was copied…
const ROOM_KEPT: usize = 1 << 10;
/// …and places for parts.
const PARTS_KEPT: usize = 8;

/// What is to be written next.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// Heads, small frames and small payloads, in order.
    own: Vec<u8>,
    /// So much of it is written.
    own_written: usize,
    parts: VecDeque<Part>,
    bytes: usize,
}

#[derive(Debug)]
enum Part {
    /// So many of `own`.
    Own(usize),
    Payload(Bytes),
}

impl Batch {
    /// That are not written yet.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Appends what `write` appends.
    pub(super) fn put(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let before = self.own.len();
        write(&mut self.own);
        let bytes = self.own.len() - before;
        self.bytes += bytes;
        match self.parts.back_mut() {
            Some(Part::Own(own)) => *own += bytes,
            _ if bytes > 0 => self.parts.push_back(Part::Own(bytes)),
            _ => {}
        }
    }

    /// Appends a payload, or a piece of one.
    pub(super) fn put_payload(&mut self, payload: Bytes) {
        if payload.len() < COPY_BELOW {
            return self.put(|own| own.extend_from_slice(&payload));
        }
        self.bytes += payload.len();
        self.parts.push_back(Part::Payload(payload));
    }

    /// What to write, as far as there is room for it. Returns the number of parts.
    pub(crate) fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut own = &self.own[self.own_written..];
        for (slice, part) in slices.iter_mut().zip(&self.parts) {
            *slice = IoSlice::new(match part {
                Part::Own(bytes) => {
                    let (first, rest) = own.split_at(*bytes);
                    own = rest;
                    first
                }
                Part::Payload(payload) => payload,
            });
        }
        slices.len().min(self.parts.len())
    }

    /// Forgets what was written.
    pub(crate) fn advance(&mut self, mut written: usize) {
        self.bytes = self.bytes.saturating_sub(written);
        while written > 0 {
            let Some(part) = self.parts.front_mut() else { break };
            let (taken, whole) = match part {
                Part::Own(bytes) => {
                    let taken = written.min(*bytes);
                    *bytes -= taken;
                    self.own_written += taken;
                    (taken, *bytes == 0)
                }
                Part::Payload(payload) => {
                    let taken = written.min(payload.len());
                    payload.advance(taken);
                    (taken, payload.is_empty())
                }
            };
            written -= taken;
            if whole {
                self.parts.pop_front();
            }
        }
        if self.parts.is_empty() {
            self.own.clear();
            self.own_written = 0;
            if self.own.capacity() > ROOM_KEPT {
                self.own = Vec::new();
            }
            if self.parts.capacity() > PARTS_KEPT {
                self.parts = VecDeque::new();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_put_is_written(
            script in prop::collection::vec((any::<bool>(), 0_usize..2000, 0_usize..3000), 1..100),
        ) {
            let (mut batch, mut put, mut written) = (Batch::default(), Vec::<u8>::new(), Vec::<u8>::new());
            let mut write = |batch: &mut Batch, most: usize| {
                let mut slices = [IoSlice::new(&[]); 4];
                let count = batch.slices(&mut slices);
                let mut left = most;
                for slice in &slices[..count] {
                    let take = left.min(slice.len());
                    written.extend(&slice[..take]);
                    left -= take;
                }
                batch.advance(most - left);
            };
            for (own, bytes, most) in script {
                let piece: Vec<u8> = (0..bytes).map(|at| (put.len() + at) as u8).collect();
                put.extend(&piece);
                match own {
                    true => batch.put(|own| own.extend(&piece)),
                    false => batch.put_payload(piece.into()),
                }
                write(&mut batch, most);
            }
            while !batch.is_empty() {
                write(&mut batch, 1 << 20);
            }
            prop_assert_eq!(written, put);
            prop_assert!(batch.own.is_empty() && batch.parts.is_empty());
        }
    }
}
