//! What must hold of a connection whatever was done to it, and a trial of that by bytes: for the
//! fuzzer, which chooses them.

use super::{
    batch::Batch,
    code::Code,
    config::{Config, Role},
    core::Core,
    frame::PREFACE,
};
use crate::{
    credit::Grant,
    head::{Authority, ConnectHead},
    limits,
};
use bytes::{Bytes, BytesMut};
use http::StatusCode;
use std::{
    task::{Poll, Waker},
    time::{Duration, Instant},
};

/// The windows of a trial: small, so that their ends are met.
const GRANT: Grant = Grant { connection: 1 << 17, stream: 1 << 16 };
const STREAMS: u32 = 8;
/// Bytes of ours that wait for one stream.
const QUEUE_BYTES: usize = 1 << 12;
/// What one batch of control frames may come to: what 128 bytes ask for is less.
const CONTROL_BYTES_MAX: usize = 1 << 16;

impl Core {
    /// Panics where the connection contradicts itself.
    pub(super) fn check(&self) {
        let streams = self.streams.values();
        assert_eq!(self.held, streams.clone().map(|stream| stream.held).sum::<usize>(), "what is held");
        assert_eq!(
            self.turns.promised,
            streams.clone().map(|stream| stream.promised).sum::<usize>(),
            "what is promised"
        );
        assert_eq!(self.active, streams.clone().filter(|stream| stream.active).count(), "what is active");
        assert!(self.recv_window <= i64::from(self.config.grant.connection).max(65_535), "the connection's window");
        for (number, stream) in &self.streams {
            assert!(!stream.is_over() || stream.wanted, "{number} is over and nobody wants it");
            assert!(!stream.is_over() || !stream.active, "{number} is over and counts");
            assert_eq!(stream.in_turn, self.turns.order.contains(number), "the turn of {number}");
            assert!(self.lost.is_none() || stream.is_over(), "{number} lives and its connection does not");
            let stuck = stream.has_turn() && !stream.in_turn;
            assert!(!stuck, "{number} has something to send and no turn");
            let hungry = stream.writer.is_some()
                && stream.broken.is_none()
                && stream.queued.is_empty()
                && stream.room(self.config.queue_bytes).min(self.room()) > 0;
            assert!(!hungry, "the writer of {number} waits and there is room");
            let window = i64::from(self.grant.stream);
            assert!(stream.recv_window + stream.held as i64 <= window.max(65_535), "the window of {number}");
        }
    }
}

/// Does to a connection what the bytes say: the first one says at which end we are, each further one
/// what is done next, most often that some of those that follow come from the peer.
pub fn trial(input: &[u8]) {
    let Some((first, mut rest)) = input.split_first() else { return };
    let role = if first & 1 == 0 { Role::Server } else { Role::Client };
    let config = Config {
        role,
        grant: GRANT,
        frame_bytes: 1 << 20,
        streams: STREAMS,
        header_bytes: limits::CLIENT_HEADER_BYTES as usize,
        queue_bytes: QUEUE_BYTES,
    };
    let mut trial = Trial { core: Core::new(config), unread: BytesMut::new(), held: Vec::new(), now: Instant::now() };
    if role == Role::Server && first & 2 == 0 {
        trial.feed(PREFACE);
    }
    if first & 4 == 0 {
        trial.feed(&[0, 0, 0, 4, 0, 0, 0, 0, 0]);
    }
    while let Some((act, after)) = rest.split_first() {
        rest = after;
        if act & 0x80 == 0 {
            // So many bytes come.
            let (bytes, after) = rest.split_at(rest.len().min(usize::from(*act) + 1));
            rest = after;
            trial.feed(bytes);
        } else {
            trial.act(*act & 0x0f, usize::from(act >> 4 & 7));
        }
        trial.core.check();
    }
    trial.end();
}

struct Trial {
    core: Core,
    unread: BytesMut,
    /// Streams that we hold.
    held: Vec<u32>,
    now: Instant,
}

impl Trial {
    fn feed(&mut self, bytes: &[u8]) {
        self.unread.extend_from_slice(bytes);
        self.core.receive(&mut self.unread, self.now);
        assert!(self.core.control_bytes() <= CONTROL_BYTES_MAX, "answers without end");
        assert!(self.core.streams.len() <= STREAMS as usize + self.held.len() + 1, "streams without end");
        self.send();
    }

    fn send(&mut self) {
        let mut batch = Batch::default();
        loop {
            self.core.transmit(&mut batch);
            if batch.is_empty() {
                break;
            }
            batch.advance(batch.bytes());
        }
    }

    fn act(&mut self, act: u8, which: usize) {
        let waker = Waker::noop();
        let stream = self.held.get(which % self.held.len().max(1)).copied();
        match (act, stream) {
            (0, _) => self.now += Duration::from_secs(1),
            (1, _) => {
                let client = self.core.config.role == Role::Client;
                if client && self.held.len() < 2 * STREAMS as usize {
                    let authority = Authority::Address(([10, 0, 0, 1], 80).into());
                    self.held.extend(self.core.ask(&ConnectHead::to(authority)));
                }
            }
            (2, _) => {
                if let Some(asked) = self.core.next_asked() {
                    let number = asked.stream;
                    self.held.push(number);
                    let _ = asked.into_head();
                    let _ = self.core.answer(number, StatusCode::OK, None, which == 0);
                }
            }
            (3, _) => self.core.say_farewell(),
            (4, _) => self.core.ping(),
            (5, Some(number)) => {
                self.held.retain(|held| *held != number);
                self.core.release(number);
            }
            (6, Some(number)) => self.core.reset(number, Code::CONNECT_ERROR),
            (7, Some(number)) => drop(self.core.finish(number)),
            (8, Some(number)) => drop(self.core.poll_answer(number, waker)),
            (9, Some(number)) => drop(self.core.poll_broken(number, waker)),
            (10..=12, Some(number)) => {
                if let Poll::Ready(Ok(Some(mut bytes))) = self.core.poll_take(number, waker) {
                    let back = bytes.split_off(bytes.len() / 2);
                    self.core.put_back(number, back);
                    self.core.delivered(number, bytes.len());
                }
            }
            (13..=15, Some(number)) => {
                if let Poll::Ready(Ok(Some(room))) = self.core.poll_room(number, waker) {
                    self.core.give(number, Bytes::from(vec![act; room.min(100 * which + 1)]));
                }
            }
            _ => {}
        }
        self.send();
    }

    fn end(mut self) {
        for number in std::mem::take(&mut self.held) {
            self.core.release(number);
            self.core.check();
        }
        self.core.receive_end();
        while self.core.next_asked().is_some() {}
        self.core.check();
    }
}
