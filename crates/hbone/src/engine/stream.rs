//! One stream, as far as its connection knows it.

use super::{code::Code, failure::Broken, message::Answer, pieces::Queue};
use std::{collections::VecDeque, task::Waker};

/// Our direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sending {
    /// It waits until the peer takes one more stream. Nothing of it is on the wire.
    NotYet,
    /// More may come.
    Open,
    /// Nothing more comes; what is queued and the word of the end are still to be sent.
    Finishing,
    /// All of it is.
    Ended,
}

/// The peer's direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Receiving {
    /// Our request is not answered yet.
    Unanswered,
    Open,
    Ended,
}

#[derive(Debug)]
pub(super) struct Stream {
    pub(super) sending: Sending,
    pub(super) receiving: Receiving,
    /// It ended before its time: nothing is sent or taken in any more.
    pub(super) broken: Option<Broken>,
    /// Somebody holds it, or will: it is not forgotten before.
    pub(super) wanted: bool,
    /// It counts against the limit of streams.
    pub(super) active: bool,
    /// It waits for its turn to send.
    pub(super) in_turn: bool,
    /// The writer waits for the connection's window.
    pub(super) starved: bool,
    /// Nobody holds it any more: to be reset once what is queued has gone.
    pub(super) reset_after: Option<Code>,
    /// What the peer still lets us send. Negative where it made its windows smaller.
    pub(super) send_window: i64,
    /// What we still let the peer send. Negative where we made ours smaller.
    pub(super) recv_window: i64,
    pub(super) queued: Queue,
    /// What of that may be sent as far as this stream is concerned, and is counted against the
    /// connection's window.
    pub(super) promised: usize,
    pub(super) arrived: Queue,
    /// Bytes that have arrived and are not delivered.
    pub(super) held: usize,
    /// It asked for something else than a tunnel.
    pub(super) ordinary: bool,
    /// Bytes of the body that must still follow, of requests that say so.
    pub(super) content_left: Option<u64>,
    pub(super) answer: Option<Box<Answer>>,
    /// Who waits for what comes, or for the end.
    pub(super) reader: Option<Waker>,
    /// The reader waits for the end only.
    pub(super) only_end: bool,
    /// Who waits for room.
    pub(super) writer: Option<Waker>,
}

impl Stream {
    pub(super) fn new(sending: Sending, receiving: Receiving, send_window: u32, recv_window: u32) -> Self {
        Self {
            sending,
            receiving,
            broken: None,
            wanted: true,
            active: false,
            in_turn: false,
            starved: false,
            reset_after: None,
            send_window: send_window.into(),
            recv_window: recv_window.into(),
            queued: Queue::default(),
            promised: 0,
            arrived: Queue::default(),
            held: 0,
            ordinary: false,
            content_left: None,
            answer: None,
            reader: None,
            only_end: false,
            writer: None,
        }
    }

    /// Nothing more will be sent or come.
    pub(super) fn is_over(&self) -> bool {
        self.broken.is_some() || (self.sending == Sending::Ended && self.receiving == Receiving::Ended)
    }

    /// Whether what comes is a part of it.
    pub(super) fn takes(&self) -> bool {
        self.receiving == Receiving::Open && self.broken.is_none()
    }

    /// Whether there is something to send that may be sent.
    pub(super) fn has_turn(&self) -> bool {
        let nothing_left = self.queued.is_empty() && (self.sending == Sending::Finishing || self.reset_after.is_some());
        self.broken.is_none() && (nothing_left || (!self.queued.is_empty() && self.send_window > 0))
    }

    /// What is missing of a window that is to be this large, once that is half of it.
    pub(super) fn missing(&self, window: u32) -> Option<u32> {
        let window = i64::from(window);
        let missing = window - self.recv_window - self.held as i64;
        let lives = self.broken.is_none() && self.receiving != Receiving::Ended && self.sending != Sending::NotYet;
        (lives && missing >= (window / 2).max(1)).then_some(missing as u32)
    }

    /// What a writer may give, as far as this stream is concerned.
    pub(super) fn room(&self, queue_bytes_max: usize) -> usize {
        let queued = self.queued.bytes();
        let window = usize::try_from(self.send_window).unwrap_or(0).saturating_sub(queued);
        window.min(queue_bytes_max.saturating_sub(queued))
    }
}

/// Streams that have something to send.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// In turn.
    pub(super) order: VecDeque<u32>,
    /// Bytes that wait in all streams and may be sent, if the connection's window lets them.
    pub(super) promised: usize,
}

impl Turns {
    /// Counts what of a stream's queue may be sent against the connection's window: all of it, but
    /// where the peer has made the stream's own window smaller than what was queued. What may not
    /// go must not keep others from going.
    pub(super) fn count(&mut self, stream: &mut Stream) {
        let now = stream.queued.bytes().min(usize::try_from(stream.send_window).unwrap_or(0));
        self.promised = self.promised + now - std::mem::replace(&mut stream.promised, now);
    }

    /// Counts it, and queues it for its turn where it has something to send that may be sent; true
    /// if it was not queued before.
    pub(super) fn enter(&mut self, number: u32, stream: &mut Stream) -> bool {
        self.count(stream);
        let enters = !stream.in_turn && stream.has_turn();
        if enters {
            stream.in_turn = true;
            self.order.push_back(number);
        }
        enters
    }
}

/// Registers who waits, without a clone where it is the same.
pub(super) fn register(slot: &mut Option<Waker>, waker: &Waker) {
    match slot {
        Some(registered) => registered.clone_from(waker),
        None => *slot = Some(waker.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten thousand idle tunnels are twenty thousand of these, one at each end.
    #[test]
    fn an_idle_stream_is_small() {
        assert!(size_of::<Stream>() <= 232, "{}", size_of::<Stream>());
    }
}
