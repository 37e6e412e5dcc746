//! What tunnels and requests ask of their connection.

use super::{
    code::Code,
    config::Role,
    core::{Asked, Core},
    failure::{Broken, Lost},
    frame,
    message::{self, Answer},
    stream::{Receiving, Sending, Stream, register},
};
use crate::head::{BadConnect, BaggageText, ConnectHead};
use bytes::Bytes;
use http::StatusCode;
use std::{
    sync::Arc,
    task::{Poll, Waker},
};

impl Asked {
    /// What was asked.
    pub(crate) fn into_head(self) -> Result<ConnectHead, BadConnect> {
        self.request.head
    }
}

impl Core {
    // of those who ask

    /// Asks for a tunnel; returns its stream, which the caller holds.
    pub(crate) fn ask(&mut self, head: &ConnectHead) -> Result<u32, Broken> {
        if !self.usable() {
            let gone = || Arc::new(Lost::Theirs(self.peer_goes.unwrap_or(Code::NO_ERROR)));
            return Err(Broken::Lost(self.lost.clone().unwrap_or_else(gone)));
        }
        let number = self.number();
        let mut block = Vec::with_capacity(128);
        message::put_request(head, &mut block);
        let (send_window, recv_window) = (self.peer.initial_window, self.grant.stream);
        let stream = Stream::new(Sending::NotYet, Receiving::Unanswered, send_window, recv_window);
        self.streams.insert(number, Box::new(stream));
        self.waiting.push_back((number, block));
        self.open_waiting();
        Ok(number)
    }

    /// Opens what the peer takes.
    pub(super) fn open_waiting(&mut self) {
        while self.active < self.streams_taken() as usize && self.lost.is_none() {
            let Some((number, request)) = self.waiting.pop_front() else { break };
            let Some(stream) = self.streams.get_mut(&number).filter(|stream| !stream.is_over()) else { continue };
            stream.sending = Sending::Open;
            stream.active = true;
            self.active += 1;
            let block = self.encoder.first(request);
            frame::put_headers(number, false, &block, self.peer.frame_bytes, &mut self.control);
            self.stir();
        }
    }

    pub(crate) fn poll_answer(&mut self, number: u32, waker: &Waker) -> Poll<Result<Answer, Broken>> {
        let Some(stream) = self.streams.get_mut(&number) else { return Poll::Ready(Err(self.unknown())) };
        if let Some(answer) = stream.answer.take() {
            return Poll::Ready(Ok(*answer));
        }
        if let Some(broken) = &stream.broken {
            return Poll::Ready(Err(broken.clone()));
        }
        stream.only_end = false;
        register(&mut stream.reader, waker);
        Poll::Pending
    }

    // of those who are asked

    /// The next request that somebody makes of us.
    pub(crate) fn next_asked(&mut self) -> Option<Asked> {
        self.asked.pop_front()
    }

    /// Answers; without a tunnel where `end` says so.
    pub(crate) fn answer(
        &mut self,
        number: u32,
        status: StatusCode,
        baggage: Option<&BaggageText>,
        end: bool,
    ) -> Result<(), Broken> {
        let unknown = self.unknown();
        let stream = self.streams.get_mut(&number).ok_or(unknown)?;
        if let Some(broken) = &stream.broken {
            return Err(broken.clone());
        }
        if end {
            stream.sending = Sending::Ended;
        }
        let mut block = Vec::with_capacity(64);
        message::put_answer(status, baggage, &mut block);
        let block = self.encoder.first(block);
        frame::put_headers(number, end, &block, self.peer.frame_bytes, &mut self.control);
        self.note_end(number);
        self.settle(number);
        self.stir();
        Ok(())
    }

    // of tunnels

    /// The next bytes; none at the end of the peer's direction. A stream that broke gives what came
    /// before that.
    pub(crate) fn poll_take(&mut self, number: u32, waker: &Waker) -> Poll<Result<Option<Bytes>, Broken>> {
        let Some(stream) = self.streams.get_mut(&number) else { return Poll::Ready(Err(self.unknown())) };
        if let Some(bytes) = stream.arrived.pop() {
            return Poll::Ready(Ok(Some(bytes)));
        }
        if stream.receiving == Receiving::Ended {
            return Poll::Ready(Ok(None));
        }
        if let Some(broken) = &stream.broken {
            return Poll::Ready(Err(broken.clone()));
        }
        stream.only_end = false;
        register(&mut stream.reader, waker);
        Poll::Pending
    }

    /// Puts back what was taken and not used.
    pub(crate) fn put_back(&mut self, number: u32, bytes: Bytes) {
        if let Some(stream) = self.streams.get_mut(&number) {
            stream.arrived.put_back(bytes);
        }
    }

    /// Ready when the stream broke.
    pub(crate) fn poll_broken(&mut self, number: u32, waker: &Waker) -> Poll<Broken> {
        let Some(stream) = self.streams.get_mut(&number) else { return Poll::Ready(self.unknown()) };
        if let Some(broken) = &stream.broken {
            return Poll::Ready(broken.clone());
        }
        stream.only_end = true;
        register(&mut stream.reader, waker);
        Poll::Pending
    }

    /// Ready with the bytes that may be given, at least one; none where we have ended our direction.
    pub(crate) fn poll_room(&mut self, number: u32, waker: &Waker) -> Poll<Result<Option<usize>, Broken>> {
        let room = self.room();
        let Some(stream) = self.streams.get_mut(&number) else { return Poll::Ready(Err(self.unknown())) };
        if let Some(broken) = &stream.broken {
            return Poll::Ready(Err(broken.clone()));
        }
        if stream.sending != Sending::Open {
            return Poll::Ready(Ok(None));
        }
        let of_stream = stream.room(self.config.queue_bytes);
        if of_stream.min(room) > 0 {
            return Poll::Ready(Ok(Some(of_stream.min(room))));
        }
        register(&mut stream.writer, waker);
        if of_stream > 0 && !std::mem::replace(&mut stream.starved, true) {
            self.starved.push(number);
        }
        Poll::Pending
    }

    /// Sends bytes, for which there is room.
    pub(crate) fn give(&mut self, number: u32, bytes: Bytes) {
        if let Some(stream) = self.streams.get_mut(&number) {
            stream.queued.push(bytes);
            self.stirred |= self.turns.enter(number, stream);
        }
    }

    /// Ends our direction.
    pub(crate) fn finish(&mut self, number: u32) -> Result<(), Broken> {
        let unknown = self.unknown();
        let stream = self.streams.get_mut(&number).ok_or(unknown)?;
        if let Some(broken) = &stream.broken {
            return Err(broken.clone());
        }
        if stream.sending == Sending::Open {
            stream.sending = Sending::Finishing;
            self.stirred |= self.turns.enter(number, stream);
        }
        Ok(())
    }

    /// Breaks a stream off at once, both ways.
    pub(crate) fn reset(&mut self, number: u32, code: Code) {
        let Some(stream) = self.streams.get_mut(&number) else { return };
        if stream.is_over() {
            return;
        }
        let on_wire = stream.sending != Sending::NotYet;
        if on_wire {
            frame::put_reset(number, code, &mut self.control);
        }
        self.reset_by_us(number, code);
        self.stir();
    }

    /// Nobody holds a stream any more. One that has not ended is reset, after what was given to it.
    pub(crate) fn release(&mut self, number: u32) {
        let Some(stream) = self.streams.get_mut(&number) else { return };
        stream.wanted = false;
        (stream.reader, stream.writer) = (None, None);
        let held = std::mem::take(&mut stream.held);
        stream.arrived = Default::default();
        let (over, sending, receiving, ordinary) =
            (stream.is_over(), stream.sending, stream.receiving, stream.ordinary);
        self.unhold(held);
        if over {
            return self.settle(number);
        }
        match (sending, receiving) {
            (Sending::NotYet, _) => {
                self.waiting.retain(|(waiting, _)| *waiting != number);
                self.reset(number, Code::CANCEL);
            }
            // All is said; the rest goes without us.
            (Sending::Finishing, Receiving::Ended) => {}
            // It was answered, and its body is for nobody: no more of it comes than one window, and what is wrong with
            // it the peer is still told, however its frames and our answer crossed.
            (Sending::Ended, Receiving::Open) if ordinary => {}
            _ => {
                let answered = sending == Sending::Ended && self.config.role == Role::Server;
                let code = if answered { Code::NO_ERROR } else { Code::CANCEL };
                if let Some(stream) = self.streams.get_mut(&number) {
                    stream.reset_after = Some(code);
                    self.stirred |= self.turns.enter(number, stream);
                }
            }
        }
    }

    fn unknown(&self) -> Broken {
        Broken::Lost(self.lost.clone().unwrap_or_else(|| Arc::new(Lost::Closed)))
    }
}
