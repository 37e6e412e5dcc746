//! Bytes in: frames, one after the other, as far as they are here. Payloads of DATA are taken as they
//! come, whole or not.

use super::{
    code::Code,
    config::Role,
    core::{Core, FAREWELL_PING, Farewell},
    failure::{Broken, Fatal, Lost},
    frame::{self, HEAD_BYTES, Head, PREFACE, flag, kind, number},
    settings,
};
use bytes::{Buf, BytesMut};
use std::{sync::Arc, time::Instant};

/// The largest SETTINGS that we take: 2,730 of them.
const SETTINGS_BYTES_MAX: usize = 1 << 14;
/// Frames that one header block may come in: sixteen times the smallest limit of a frame is four
/// times what we take.
const CONTINUATIONS_MAX: u32 = 16;
/// A block is never this much larger than the list of fields in it, but by mischief.
const BLOCK_FACTOR: usize = 2;
/// What of a GOAWAY concerns us; words for people may follow.
const GOAWAY_BYTES: usize = 8;

/// What comes next.
#[derive(Clone, Copy, Debug)]
pub(super) enum Reading {
    /// What a client says first.
    Preface,
    Head,
    /// How much of a DATA frame is padding.
    PadLength(Head),
    /// The payload of a DATA frame, and what is not for anybody after it.
    Data {
        stream: u32,
        left: usize,
        padding: usize,
        end: bool,
    },
    /// So much of a payload is needed in one piece.
    Payload {
        head: Head,
        needed: usize,
    },
    /// So much is of no use.
    Skip(usize),
}

/// A header block that has not come to its end.
#[derive(Debug)]
pub(super) struct Block {
    stream: u32,
    end_stream: bool,
    depends_on_itself: bool,
    continuations: u32,
    bytes: Vec<u8>,
}

impl Core {
    /// Takes what has come off the front of a buffer; what is left of it needs more.
    pub(crate) fn receive(&mut self, buffer: &mut BytesMut, now: Instant) {
        while self.lost.is_none() {
            match self.step(buffer, now) {
                Ok(true) => {}
                Ok(false) => return,
                Err(fatal) => self.end_for(fatal),
            }
        }
        buffer.clear();
    }

    /// Nothing more will come.
    pub(crate) fn receive_end(&mut self) {
        let end = match self.peer_goes {
            Some(Code::NO_ERROR) => Lost::Closed,
            Some(code) => Lost::Theirs(code),
            None => Lost::Vanished,
        };
        self.lose(end);
    }

    /// One step; false when it needs more than is here.
    fn step(&mut self, buffer: &mut BytesMut, now: Instant) -> Result<bool, Fatal> {
        match self.reading {
            Reading::Head => {
                let Some(head) = buffer.first_chunk::<HEAD_BYTES>() else { return Ok(false) };
                let head = Head::read(head);
                buffer.advance(HEAD_BYTES);
                self.reading = self.judge(head, now)?;
            }
            Reading::Data { stream, left: 0, padding, end } => {
                self.unused(padding);
                self.reading = Reading::Skip(padding);
                if end {
                    self.ended_by_peer(stream, now)?;
                }
            }
            Reading::Data { stream, ref mut left, .. } => {
                if buffer.is_empty() {
                    return Ok(false);
                }
                let bytes = buffer.len().min(*left);
                *left -= bytes;
                self.take_data(stream, buffer, bytes, now)?;
            }
            Reading::Skip(0) => self.reading = Reading::Head,
            Reading::Skip(left) => {
                if buffer.is_empty() {
                    return Ok(false);
                }
                let bytes = buffer.len().min(left);
                buffer.advance(bytes);
                self.reading = Reading::Skip(left - bytes);
            }
            Reading::Payload { head, needed } => {
                let Some(payload) = buffer.get(..needed) else { return Ok(false) };
                self.reading = Reading::Skip(head.length - needed);
                self.take_payload(head, payload, now)?;
                buffer.advance(needed);
            }
            Reading::PadLength(head) => {
                let Some(padding) = buffer.first().copied().map(usize::from) else { return Ok(false) };
                if padding >= head.length {
                    return Err(Fatal::new(Code::PROTOCOL_ERROR, "more padding than payload"));
                }
                buffer.advance(1);
                self.unused(1);
                self.reading = self.begin_data(head, head.length - 1 - padding, padding, now)?;
            }
            Reading::Preface => {
                let here = buffer.len().min(PREFACE.len());
                if buffer[..here] != PREFACE[..here] {
                    return Err(Fatal::new(Code::PROTOCOL_ERROR, "no preface of HTTP/2"));
                }
                if here < PREFACE.len() {
                    return Ok(false);
                }
                buffer.advance(here);
                self.reading = Reading::Head;
            }
        }
        Ok(true)
    }

    /// What is to be done with a frame, by its head.
    fn judge(&mut self, head: Head, now: Instant) -> Result<Reading, Fatal> {
        if head.length > self.config.frame_bytes {
            return Err(Fatal::new(Code::FRAME_SIZE_ERROR, "a frame larger than we take"));
        }
        if !self.begun && (head.kind != kind::SETTINGS || head.has(flag::ACK)) {
            return Err(Fatal::new(Code::PROTOCOL_ERROR, "a first frame that is not SETTINGS"));
        }
        let continued = self.block.as_ref().map(|block| block.stream);
        if continued.is_some() != (head.kind == kind::CONTINUATION) || continued.is_some_and(|id| id != head.stream) {
            return Err(Fatal::new(
                Code::PROTOCOL_ERROR,
                "a header block without its end, or an end without its block",
            ));
        }
        let of_connection = match head.kind {
            kind::SETTINGS | kind::PING | kind::GOAWAY => Some(true),
            kind::DATA | kind::HEADERS | kind::PRIORITY | kind::RST_STREAM | kind::CONTINUATION => Some(false),
            _ => None,
        };
        if of_connection.is_some_and(|of_connection| of_connection != (head.stream == 0)) {
            return Err(Fatal::new(
                Code::PROTOCOL_ERROR,
                "a frame of a stream on the connection, or the other way round",
            ));
        }
        let whole = Reading::Payload { head, needed: head.length };
        let sized = |good: bool| match good {
            true => Ok(whole),
            false => Err(Fatal::new(Code::FRAME_SIZE_ERROR, "a frame of a length that its kind does not have")),
        };
        match head.kind {
            kind::DATA if head.has(flag::PADDED) => Ok(Reading::PadLength(head)),
            kind::DATA => self.begin_data(head, head.length, 0, now),
            kind::HEADERS | kind::CONTINUATION if head.length > self.config.header_bytes * BLOCK_FACTOR => {
                Err(Fatal::new(Code::ENHANCE_YOUR_CALM, "a header block beyond reason"))
            }
            kind::HEADERS | kind::CONTINUATION => Ok(whole),
            kind::PRIORITY if head.length != 5 => {
                self.refuse(head.stream, Code::FRAME_SIZE_ERROR, now)?;
                Ok(Reading::Skip(head.length))
            }
            kind::PRIORITY => Ok(whole),
            kind::SETTINGS if head.has(flag::ACK) => sized(head.length == 0),
            kind::SETTINGS if head.length > SETTINGS_BYTES_MAX => {
                Err(Fatal::new(Code::ENHANCE_YOUR_CALM, "SETTINGS beyond reason"))
            }
            kind::SETTINGS => Ok(whole),
            kind::RST_STREAM | kind::WINDOW_UPDATE => sized(head.length == 4),
            kind::PING => sized(head.length == 8),
            kind::GOAWAY => sized(head.length >= GOAWAY_BYTES).map(|_| Reading::Payload { head, needed: GOAWAY_BYTES }),
            kind::PUSH_PROMISE => Err(Fatal::new(Code::PROTOCOL_ERROR, "a stream that was pushed")),
            // Unknown ones are to be ignored.
            _ => Ok(Reading::Skip(head.length)),
        }
    }

    fn take_payload(&mut self, head: Head, payload: &[u8], now: Instant) -> Result<(), Fatal> {
        match head.kind {
            kind::HEADERS => self.begin_block(head, payload, now),
            kind::CONTINUATION => self.go_on_with_block(head, payload, now),
            kind::PRIORITY => match number(payload) & 0x7fff_ffff == head.stream {
                true => self.refuse(head.stream, Code::PROTOCOL_ERROR, now),
                false => Ok(()),
            },
            kind::RST_STREAM => self.reset_by_peer(head.stream, Code(number(payload)), now),
            kind::SETTINGS if head.has(flag::ACK) => self.acknowledged(),
            kind::SETTINGS => self.take_settings(payload, now),
            kind::PING => self.take_ping(head, payload),
            kind::GOAWAY => self.take_go_away(number(payload), Code(number(&payload[4..]))),
            _ => self.take_window_update(head.stream, number(payload) & 0x7fff_ffff, now),
        }
    }

    fn begin_block(&mut self, head: Head, payload: &[u8], now: Instant) -> Result<(), Fatal> {
        let broken = Fatal::new(Code::PROTOCOL_ERROR, "more padding than payload");
        let short = Fatal::new(Code::FRAME_SIZE_ERROR, "HEADERS that are shorter than they say");
        let mut block = payload;
        if head.has(flag::PADDED) {
            let (padding, rest) = block.split_first().ok_or(short)?;
            block = rest.len().checked_sub(usize::from(*padding)).map(|length| &rest[..length]).ok_or(broken)?;
        }
        let mut depends_on_itself = false;
        if head.has(flag::PRIORITY) {
            depends_on_itself = number(block) & 0x7fff_ffff == head.stream;
            block = block.get(5..).ok_or(short)?;
        }
        let end_stream = head.has(flag::END_STREAM);
        if head.has(flag::END_HEADERS) {
            return self.take_block(head.stream, end_stream, depends_on_itself, block, now);
        }
        let bytes = block.to_vec();
        self.block =
            Some(Box::new(Block { stream: head.stream, end_stream, depends_on_itself, continuations: 0, bytes }));
        Ok(())
    }

    fn go_on_with_block(&mut self, head: Head, payload: &[u8], now: Instant) -> Result<(), Fatal> {
        let Some(mut block) = self.block.take() else { return Ok(()) };
        block.continuations += 1;
        block.bytes.extend(payload);
        if block.continuations > CONTINUATIONS_MAX || block.bytes.len() > self.config.header_bytes * BLOCK_FACTOR {
            return Err(Fatal::new(Code::ENHANCE_YOUR_CALM, "a header block beyond reason"));
        }
        if head.has(flag::END_HEADERS) {
            return self.take_block(block.stream, block.end_stream, block.depends_on_itself, &block.bytes, now);
        }
        self.block = Some(block);
        Ok(())
    }

    fn reset_by_peer(&mut self, number: u32, code: Code, now: Instant) -> Result<(), Fatal> {
        if self.is_idle(number) {
            return Err(Fatal::new(Code::PROTOCOL_ERROR, "a reset of a stream that was never opened"));
        }
        self.remember(number, false);
        let unseen = self.forget_unseen(number);
        self.break_off(number, Broken::Reset(code));
        // One that was taken up counts with whoever took it, once it is known to have been in vain.
        if unseen { self.annoyed(1, now) } else { Ok(()) }
    }

    fn take_settings(&mut self, payload: &[u8], now: Instant) -> Result<(), Fatal> {
        if self.begun {
            self.annoyed(1, now)?;
        }
        self.begun = true;
        let before = self.peer;
        self.peer.read(payload, self.config.role == Role::Client)?;
        settings::put_acknowledgement(&mut self.control);
        self.shift_windows(i64::from(self.peer.initial_window) - i64::from(before.initial_window))?;
        self.open_waiting();
        Ok(())
    }

    fn take_ping(&mut self, head: Head, payload: &[u8]) -> Result<(), Fatal> {
        let opaque = payload.first_chunk().copied().unwrap_or_default();
        if !head.has(flag::ACK) {
            frame::put_ping(flag::ACK, opaque, &mut self.control);
        } else if opaque == FAREWELL_PING && self.farewell == Farewell::Announced {
            self.farewell = Farewell::Last(self.last);
            frame::put_go_away(self.last, Code::NO_ERROR, &mut self.control);
            self.end_when_idle();
        }
        Ok(())
    }

    fn take_go_away(&mut self, last: u32, code: Code) -> Result<(), Fatal> {
        self.peer_goes = Some(code);
        if self.config.role == Role::Client {
            let lost = Arc::new(Lost::Theirs(code));
            let last = last & 0x7fff_ffff;
            let mut left: Vec<u32> = self.streams.keys().copied().filter(|number| *number > last).collect();
            left.extend(self.waiting.drain(..).map(|(number, _)| number));
            for number in left {
                self.break_off(number, Broken::Lost(lost.clone()));
            }
        }
        self.end_when_idle();
        Ok(())
    }

    fn take_window_update(&mut self, number: u32, bytes: u32, now: Instant) -> Result<(), Fatal> {
        if number != 0 && self.is_idle(number) {
            return Err(Fatal::new(Code::PROTOCOL_ERROR, "a window of a stream that was never opened"));
        }
        match self.widen(number, bytes)? {
            Ok(()) => Ok(()),
            Err(code) => self.refuse(number, code, now),
        }
    }
}
