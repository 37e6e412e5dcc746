//! One connection without its socket: bytes in, commands in, bytes out. It never waits, knows no
//! clock, and wakes whoever waits for it.
//!
//! What comes is read in [`receive`](super::receive), what goes is framed in
//! [`transmit`](super::transmit), what may go and come is counted in [`credit`](super::credit), and
//! what tunnels and requests ask is in [`commands`](super::commands).

use super::{
    code::Code,
    config::{Config, Role},
    failure::{Broken, Fatal, Lost},
    frame,
    hpack::{Decoder, Encoder},
    message,
    nuisance::Nuisance,
    receive::{Block, Reading},
    settings::{self, Settings, WINDOW_FIRST},
    stream::{Sending, Stream, Turns},
};
use crate::credit::Grant;
use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasherDefault, Hasher},
    sync::Arc,
    task::Waker,
};

/// A stream that the peer has opened and that was not handed on yet.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) stream: u32,
    pub(super) request: message::Request,
}

/// How far our own farewell has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Farewell {
    NotYet,
    /// We said that we go, and wait until all that the peer had sent before it knew is here.
    Announced,
    /// We said which stream is the last that we take.
    Last(u32),
}

/// How many ids of streams that have ended are remembered: what the peer had on the way for them is
/// no mistake of it.
const ENDED_REMEMBERED: usize = 128;
/// The last number that a stream may have.
const STREAM_MAX: u32 = (1 << 31) - 1;
/// What an announced farewell is answered with.
pub(super) const FAREWELL_PING: [u8; 8] = *b"farewell";
/// What the question is answered with whether the peer is there.
const KEEP_PING: [u8; 8] = *b"alive?\0\0";

/// A hash of numbers that are small and few.
#[derive(Debug, Default)]
pub(super) struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    fn write_u32(&mut self, number: u32) {
        self.0 = (self.0 ^ u64::from(number)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

pub(super) type Streams = HashMap<u32, Box<Stream>, BuildHasherDefault<NumberHasher>>;

/// One connection.
#[derive(Debug)]
pub(crate) struct Core {
    pub(super) config: Config,
    pub(super) peer: Settings,
    /// The peer's first SETTINGS are here.
    pub(super) begun: bool,
    pub(super) streams: Streams,
    /// Those that count against the limit.
    pub(super) active: usize,
    /// The next of ours.
    next: u32,
    /// The last of the peer's.
    pub(super) last: u32,
    /// Streams that have ended lately, and whether we reset them.
    ended: VecDeque<(u32, bool)>,
    pub(super) asked: VecDeque<Asked>,
    /// Requests of ours that the peer does not take yet, by their streams and in order.
    pub(super) waiting: VecDeque<(u32, Vec<u8>)>,

    // what comes
    pub(super) reading: Reading,
    pub(super) block: Option<Box<Block>>,
    pub(super) decoder: Decoder,
    pub(super) nuisance: Nuisance,

    // what goes
    pub(super) encoder: Encoder,
    /// Frames that go before all DATA.
    pub(super) control: Vec<u8>,
    pub(super) turns: Turns,

    // windows
    pub(super) send_window: i64,
    pub(super) recv_window: i64,
    /// Bytes of all streams that have arrived and are not delivered.
    pub(super) held: usize,
    /// What the peer may send, as we told it last.
    pub(super) grant: Grant,
    /// What each stream could hold before, by SETTINGS that the peer has not acknowledged.
    pub(super) unacknowledged: VecDeque<u32>,
    /// Streams whose writers wait for the connection's window.
    pub(super) starved: Vec<u32>,

    // ends
    pub(super) farewell: Farewell,
    /// The peer said that it goes.
    pub(super) peer_goes: Option<Code>,
    /// Nobody asks for tunnels any more.
    abandoned: bool,
    pub(super) lost: Option<Arc<Lost>>,

    // who waits
    pub(super) wakes: Vec<Waker>,
    driver: Option<Waker>,
    pub(super) stirred: bool,
}

impl Core {
    pub(crate) fn new(config: Config) -> Self {
        let mut core = Self {
            config,
            peer: Settings::default(),
            begun: false,
            streams: Streams::default(),
            active: 0,
            next: 1,
            last: 0,
            ended: VecDeque::new(),
            asked: VecDeque::new(),
            waiting: VecDeque::new(),
            reading: if config.role == Role::Server { Reading::Preface } else { Reading::Head },
            block: None,
            decoder: Decoder::new(),
            nuisance: Nuisance::default(),
            encoder: Encoder::default(),
            control: Vec::new(),
            turns: Turns::default(),
            send_window: WINDOW_FIRST.into(),
            recv_window: WINDOW_FIRST.into(),
            held: 0,
            grant: config.grant,
            unacknowledged: VecDeque::from([WINDOW_FIRST]),
            starved: Vec::new(),
            farewell: Farewell::NotYet,
            peer_goes: None,
            abandoned: false,
            lost: None,
            wakes: Vec::new(),
            driver: None,
            stirred: false,
        };
        core.introduce();
        core
    }

    /// What each end says first.
    fn introduce(&mut self) {
        let config = &self.config;
        let first = match config.role {
            Role::Client => {
                self.control.extend(frame::PREFACE);
                (settings::ENABLE_PUSH, 0)
            }
            Role::Server => (settings::MAX_CONCURRENT_STREAMS, config.streams),
        };
        let others = [
            (settings::INITIAL_WINDOW_SIZE, config.grant.stream),
            (settings::MAX_FRAME_SIZE, config.frame_bytes as u32),
            (settings::MAX_HEADER_LIST_SIZE, config.header_bytes as u32),
        ];
        settings::put(&[&[first][..], &others].concat(), &mut self.control);
        self.replenish();
    }

    /// Whether the peer has begun as it should.
    pub(crate) fn begun(&self) -> bool {
        self.begun
    }

    /// Why the connection is no more.
    pub(crate) fn lost(&self) -> Option<&Arc<Lost>> {
        self.lost.as_ref()
    }

    /// Whether new tunnels may be asked for.
    pub(crate) fn usable(&self) -> bool {
        self.lost.is_none() && self.peer_goes.is_none() && self.next <= STREAM_MAX
    }

    /// How many streams of ours the peer takes.
    pub(crate) fn streams_taken(&self) -> u32 {
        self.peer.streams.unwrap_or(u32::MAX)
    }

    /// The number of a new stream of ours.
    pub(super) fn number(&mut self) -> u32 {
        let number = self.next;
        self.next += 2;
        number
    }

    /// The last stream of the peer's that we have taken up, or will.
    fn last_taken(&self) -> u32 {
        match self.farewell {
            Farewell::Last(last) => last,
            Farewell::NotYet | Farewell::Announced => self.last,
        }
    }

    /// Whether nothing was ever sent on a stream.
    pub(super) fn is_idle(&self, stream: u32) -> bool {
        match (self.config.role, stream % 2) {
            (Role::Client, 1) => {
                stream >= self.next || self.streams.get(&stream).is_some_and(|stream| stream.sending == Sending::NotYet)
            }
            (Role::Server, 1) => stream > self.last,
            // None that we would have pushed, or allowed to be.
            _ => true,
        }
    }

    /// Whether a stream has ended lately; then, whether we reset it.
    pub(super) fn ended(&self, stream: u32) -> Option<bool> {
        self.ended.iter().rev().find(|(ended, _)| *ended == stream).map(|(_, by_us)| *by_us)
    }

    pub(super) fn remember(&mut self, stream: u32, by_us: bool) {
        if self.ended.len() == ENDED_REMEMBERED {
            self.ended.pop_front();
        }
        self.ended.push_back((stream, by_us));
    }

    /// Asks whether the peer is there.
    pub(crate) fn ping(&mut self) {
        frame::put_ping(0, KEEP_PING, &mut self.control);
        self.stir();
    }

    /// Says that we go: what is open goes on, and what the peer sent before it knew is still taken.
    pub(crate) fn say_farewell(&mut self) {
        if self.farewell == Farewell::NotYet && self.lost.is_none() {
            self.farewell = Farewell::Announced;
            frame::put_go_away(STREAM_MAX, Code::NO_ERROR, &mut self.control);
            frame::put_ping(0, FAREWELL_PING, &mut self.control);
            self.stir();
        }
    }

    /// Nobody will ask for tunnels any more.
    pub(crate) fn abandon(&mut self) {
        self.abandoned = true;
        self.end_when_idle();
    }

    /// Ends the connection where nothing is left of it and nothing may come.
    pub(super) fn end_when_idle(&mut self) {
        if self.active > 0 || self.lost.is_some() {
            return;
        }
        let end = match (self.farewell, self.peer_goes) {
            (Farewell::Last(_), _) => Lost::Closed,
            (_, Some(Code::NO_ERROR)) => Lost::Closed,
            (_, Some(code)) => Lost::Theirs(code),
            _ if self.abandoned && self.streams.is_empty() => Lost::Closed,
            _ => return,
        };
        if !matches!(self.farewell, Farewell::Last(_)) {
            frame::put_go_away(self.last, Code::NO_ERROR, &mut self.control);
        }
        self.lose(end);
    }

    /// Ends the connection for what the peer did; it is told.
    pub(super) fn end_for(&mut self, fatal: Fatal) {
        self.give_up(fatal.code, Lost::Ours(fatal));
    }

    /// Ends the connection; the peer is told.
    pub(crate) fn give_up(&mut self, code: Code, lost: Lost) {
        if self.lost.is_none() {
            frame::put_go_away(self.last_taken(), code, &mut self.control);
            self.lose(lost);
        }
    }

    /// Ends the connection, and every stream with it.
    pub(crate) fn lose(&mut self, lost: Lost) {
        if self.lost.is_some() {
            return;
        }
        let lost = Arc::new(lost);
        self.lost = Some(lost.clone());
        let all: Vec<u32> = self.streams.keys().copied().collect();
        for stream in all {
            self.break_off(stream, Broken::Lost(lost.clone()));
        }
        self.asked.clear();
        self.turns.order = VecDeque::new();
        self.waiting = VecDeque::new();
        self.stir();
    }

    /// Ends one stream before its time, as far as we are concerned.
    pub(super) fn break_off(&mut self, number: u32, broken: Broken) {
        let Some(stream) = self.streams.get_mut(&number) else { return };
        if stream.is_over() {
            return;
        }
        stream.broken = Some(broken);
        stream.queued = Default::default();
        self.turns.count(stream);
        self.wakes.extend(stream.reader.take());
        self.wakes.extend(stream.writer.take());
        self.wake_starved();
        self.settle(number);
    }

    /// Lets go of what is over.
    pub(super) fn settle(&mut self, number: u32) {
        let Some(stream) = self.streams.get_mut(&number) else { return };
        if !stream.is_over() {
            return;
        }
        let was_active = std::mem::replace(&mut stream.active, false);
        if !stream.wanted {
            self.held -= stream.held;
            self.streams.remove(&number);
        }
        if was_active {
            self.active -= 1;
            self.open_waiting();
        }
        self.end_when_idle();
    }

    /// Has the driver look again.
    pub(super) fn stir(&mut self) {
        self.stirred = true;
    }

    /// The driver has nothing to do until it is woken.
    pub(crate) fn rest(&mut self, driver: &Waker) {
        self.stirred = false;
        super::stream::register(&mut self.driver, driver);
    }

    /// The driver, if it is to be woken.
    pub(crate) fn stirred(&mut self) -> Option<Waker> {
        if self.stirred { self.driver.take() } else { None }
    }

    /// Whether somebody asks for a tunnel.
    pub(crate) fn is_asked(&self) -> bool {
        !self.asked.is_empty()
    }

    /// What the peer would have to read before it is heard on.
    pub(crate) fn control_bytes(&self) -> usize {
        self.control.len()
    }
}
