//! Header blocks in, as what they are: requests, answers, and what stands at the end of a stream.

use super::{
    code::Code,
    config::Role,
    core::{Asked, Core, Farewell},
    failure::Fatal,
    frame,
    message::{self, Fields},
    stream::{Receiving, Sending, Stream},
};
use crate::head::BadConnect;
use http::StatusCode;
use std::time::Instant;

/// A list of fields beyond our limit costs us as much as many streams given up.
const TOO_LARGE_COST: u32 = 10;

impl Core {
    /// Takes a whole header block. It is read in any case: the table of those that follow depends
    /// on it.
    pub(super) fn take_block(
        &mut self,
        number: u32,
        end: bool,
        depends_on_itself: bool,
        block: &[u8],
        now: Instant,
    ) -> Result<(), Fatal> {
        let mut fields = Fields::new(self.config.header_bytes);
        let flow = self
            .decoder
            .decode(block, |name, value| fields.take(name, value))
            .map_err(|_| Fatal::new(Code::COMPRESSION_ERROR, "a header block that is none"))?;
        if flow.is_break() {
            return Err(Fatal::new(Code::ENHANCE_YOUR_CALM, "a list of fields beyond reason"));
        }
        match self.streams.get(&number) {
            // What was on its way when the stream was reset.
            Some(stream) if stream.broken.is_some() => Ok(()),
            Some(stream) if stream.sending == Sending::NotYet => Err(Self::never_opened()),
            Some(stream) => match stream.receiving {
                Receiving::Unanswered => self.take_answer(number, end, fields, now),
                Receiving::Open if end && fields.are_trailers() && !depends_on_itself => {
                    self.ended_by_peer(number, now)
                }
                Receiving::Open => self.refuse(number, Code::PROTOCOL_ERROR, now),
                Receiving::Ended => self.refuse(number, Code::STREAM_CLOSED, now),
            },
            None if self.config.role == Role::Client && !self.is_idle(number) => Ok(()),
            None if self.config.role == Role::Client => Err(Self::never_opened()),
            None => self.take_request(number, end, depends_on_itself, fields, now),
        }
    }

    fn never_opened() -> Fatal {
        Fatal::new(Code::PROTOCOL_ERROR, "HEADERS on a stream that was never opened")
    }

    fn take_request(
        &mut self,
        number: u32,
        end: bool,
        depends_on_itself: bool,
        fields: Fields,
        now: Instant,
    ) -> Result<(), Fatal> {
        if number.is_multiple_of(2) {
            return Err(Self::never_opened());
        }
        if number <= self.last {
            return match self.ended(number) {
                Some(true) => Ok(()),
                Some(false) => Err(Fatal::new(Code::STREAM_CLOSED, "HEADERS on a stream that has ended")),
                None => Err(Fatal::new(Code::PROTOCOL_ERROR, "a stream whose number is less than the last one's")),
            };
        }
        if matches!(self.farewell, Farewell::Last(_)) {
            // It was sent before the peer knew that it is not taken any more, and so is what follows it.
            self.last = number;
            self.remember(number, true);
            return Ok(());
        }
        self.last = number;
        if depends_on_itself {
            return self.refuse(number, Code::PROTOCOL_ERROR, now);
        }
        if self.active >= self.config.streams as usize {
            return self.refuse(number, Code::REFUSED_STREAM, now);
        }
        if fields.too_large() {
            self.answer_at_once(number, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
            return self.annoyed(TOO_LARGE_COST, now);
        }
        let Ok(request) = fields.into_request() else { return self.refuse(number, Code::PROTOCOL_ERROR, now) };
        let receiving = if end { Receiving::Ended } else { Receiving::Open };
        if end && request.content_length.is_some_and(|length| length > 0) {
            return self.refuse(number, Code::PROTOCOL_ERROR, now);
        }
        let mut stream = Stream::new(Sending::Open, receiving, self.peer.initial_window, self.grant.stream);
        stream.ordinary = matches!(request.head, Err(BadConnect::Method(_)));
        stream.content_left = request.content_length;
        stream.active = true;
        self.active += 1;
        self.streams.insert(number, Box::new(stream));
        self.asked.push_back(Asked { stream: number, request });
        Ok(())
    }

    /// Answers a request that nobody will see.
    fn answer_at_once(&mut self, number: u32, status: StatusCode) {
        let mut block = Vec::new();
        message::put_answer(status, None, &mut block);
        let block = self.encoder.first(block);
        frame::put_headers(number, true, &block, self.peer.frame_bytes, &mut self.control);
        frame::put_reset(number, Code::NO_ERROR, &mut self.control);
        self.remember(number, true);
    }

    fn take_answer(&mut self, number: u32, end: bool, fields: Fields, now: Instant) -> Result<(), Fatal> {
        let Ok(answer) = fields.into_answer() else { return self.refuse(number, Code::PROTOCOL_ERROR, now) };
        if answer.status.is_informational() {
            // Others may follow, and then the answer.
            return match end {
                true => self.refuse(number, Code::PROTOCOL_ERROR, now),
                false => self.annoyed(1, now),
            };
        }
        let Some(stream) = self.streams.get_mut(&number) else { return Ok(()) };
        stream.answer = Some(Box::new(answer));
        stream.receiving = if end { Receiving::Ended } else { Receiving::Open };
        self.wakes.extend(stream.reader.take());
        self.note_end(number);
        self.settle(number);
        Ok(())
    }
}
