//! Frames as bytes (RFC 9113 §4 and §6): their heads, and the small ones whole.

use super::code::Code;

/// What a client says first.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes of a frame before its payload.
pub(super) const HEAD_BYTES: usize = 9;
/// The largest payload that every peer takes.
pub(super) const PAYLOAD_BYTES_LEAST: usize = 1 << 14;

pub(super) mod kind {
    pub(crate) const DATA: u8 = 0;
    pub(crate) const HEADERS: u8 = 1;
    pub(crate) const PRIORITY: u8 = 2;
    pub(crate) const RST_STREAM: u8 = 3;
    pub(crate) const SETTINGS: u8 = 4;
    pub(crate) const PUSH_PROMISE: u8 = 5;
    pub(crate) const PING: u8 = 6;
    pub(crate) const GOAWAY: u8 = 7;
    pub(crate) const WINDOW_UPDATE: u8 = 8;
    pub(crate) const CONTINUATION: u8 = 9;
}

pub(super) mod flag {
    pub(crate) const ACK: u8 = 0x1;
    pub(crate) const END_STREAM: u8 = 0x1;
    pub(crate) const END_HEADERS: u8 = 0x4;
    pub(crate) const PADDED: u8 = 0x8;
    pub(crate) const PRIORITY: u8 = 0x20;
}

/// What stands before each payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Of the payload.
    pub(super) length: usize,
    pub(super) kind: u8,
    pub(super) flags: u8,
    /// 0 is the connection.
    pub(super) stream: u32,
}

impl Head {
    pub(super) fn new(kind: u8, flags: u8, stream: u32, length: usize) -> Self {
        Self { length, kind, flags, stream }
    }

    pub(super) fn read(bytes: &[u8; HEAD_BYTES]) -> Self {
        let [a, b, c, kind, flags, s, t, r, m] = *bytes;
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        // The first bit is reserved, and to be ignored.
        Self { length, kind, flags, stream: u32::from_be_bytes([s, t, r, m]) & 0x7fff_ffff }
    }

    pub(super) fn write(&self, into: &mut Vec<u8>) {
        let [_, a, b, c] = (self.length as u32).to_be_bytes();
        let [s, t, r, m] = self.stream.to_be_bytes();
        into.extend([a, b, c, self.kind, self.flags, s, t, r, m]);
    }

    pub(super) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

pub(super) fn put_reset(stream: u32, code: Code, into: &mut Vec<u8>) {
    Head::new(kind::RST_STREAM, 0, stream, 4).write(into);
    into.extend(code.0.to_be_bytes());
}

pub(super) fn put_ping(flags: u8, opaque: [u8; 8], into: &mut Vec<u8>) {
    Head::new(kind::PING, flags, 0, 8).write(into);
    into.extend(opaque);
}

pub(super) fn put_go_away(last: u32, code: Code, into: &mut Vec<u8>) {
    Head::new(kind::GOAWAY, 0, 0, 8).write(into);
    into.extend(last.to_be_bytes());
    into.extend(code.0.to_be_bytes());
}

pub(super) fn put_window_update(stream: u32, bytes: u32, into: &mut Vec<u8>) {
    Head::new(kind::WINDOW_UPDATE, 0, stream, 4).write(into);
    into.extend(bytes.to_be_bytes());
}

/// Appends a header block, in as many frames as the peer's largest asks for.
pub(super) fn put_headers(stream: u32, end_stream: bool, block: &[u8], payload_max: usize, into: &mut Vec<u8>) {
    let mut kind = kind::HEADERS;
    let mut flags = if end_stream { flag::END_STREAM } else { 0 };
    let mut rest = block;
    loop {
        let (payload, after) = rest.split_at(rest.len().min(payload_max));
        if after.is_empty() {
            flags |= flag::END_HEADERS;
        }
        Head::new(kind, flags, stream, payload.len()).write(into);
        into.extend(payload);
        if after.is_empty() {
            return;
        }
        (kind, flags, rest) = (kind::CONTINUATION, 0, after);
    }
}

/// A number at the front of a payload; the caller knows that it is there.
pub(super) fn number(payload: &[u8]) -> u32 {
    payload.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_read_as_they_were_written() {
        for head in [Head::new(0, 1, 1, 0), Head::new(9, 4, 0x7fff_ffff, 0xff_ffff), Head::new(255, 255, 2, 16_375)] {
            let mut bytes = Vec::new();
            head.write(&mut bytes);
            assert_eq!(Head::read(bytes.first_chunk().expect("nine bytes")), head);
        }
        assert_eq!(
            Head::read(&[0, 0, 1, 0, 0, 0xff, 0xff, 0xff, 0xff]).stream,
            0x7fff_ffff,
            "the first bit is no part"
        );
    }

    #[test]
    fn a_long_block_is_continued() {
        for (bytes, frames) in [(0, 1), (10, 1), (11, 2), (20, 2), (21, 3)] {
            let (mut out, block) = (Vec::new(), vec![7; bytes]);
            put_headers(5, true, &block, 10, &mut out);
            let (mut rest, mut kinds, mut read) = (out.as_slice(), Vec::new(), Vec::<u8>::new());
            while let Some((head, after)) = rest.split_first_chunk() {
                let head = Head::read(head);
                read.extend(&after[..head.length]);
                rest = &after[head.length..];
                kinds.push((head.kind, head.has(flag::END_HEADERS)));
            }
            assert_eq!((kinds.len(), read.len()), (frames, bytes));
            assert!(kinds.iter().enumerate().all(|(at, (kind, end))| {
                (*kind == if at == 0 { kind::HEADERS } else { kind::CONTINUATION }) && *end == (at + 1 == frames)
            }));
        }
    }
}
