//! Bytes both ways between two ends, counted as they are delivered.
//!
//! An end of one direction is an end of one direction at the other side; a reset is a reset. While
//! nothing moves no buffer is held.

mod wire;

pub use wire::{Tcp, Wire};

use bytes::Bytes;
use std::{
    borrow::Borrow,
    io,
    pin::Pin,
    sync::atomic::{AtomicU64, Ordering},
    task::{Context, Poll, ready},
};

/// Reads are small at first, so that the many connections that only say a few words stay cheap,
/// and grow with what a direction has already moved.
const READ_BYTES: [(u32, usize); 3] = [(0, 1 << 10), (128 << 10, 16 << 10), (10 << 20, 256 << 10)];
/// What one direction moves before others get their turn: four of the largest reads…
const TURN_BYTES: usize = 1 << 20;
/// …or this many small ones.
const TURN_ROUNDS: usize = 64;

/// Bytes that were delivered so far; may be read while they move.
#[derive(Debug, Default)]
pub struct Meter {
    /// From downstream (who asked) to upstream (who was asked).
    pub sent: AtomicU64,
    /// From upstream to downstream.
    pub received: AtomicU64,
}

/// One of the two ends of a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Who asked.
    Downstream,
    /// Who was asked.
    Upstream,
}

/// How a relay ended.
#[derive(Debug)]
pub enum RelayEnd {
    /// Both directions ended in order.
    Closed {
        /// Who ended first.
        first: Side,
    },
    /// One side broke off, and so the other was.
    Broken {
        /// Which side.
        by: Side,
        /// With what; `ConnectionReset` for a reset.
        error: io::Error,
    },
    /// We broke off both, because we were told to.
    Cancelled,
}

/// Moves bytes until both directions have ended, one side breaks off, or `cancel` is ready.
///
/// Dropping the future drops both ends; a tunnel is reset by that, a TCP connection closed.
pub fn relay<D, U, M, C>(downstream: D, upstream: U, meter: M, cancel: C) -> Relay<D, U, M, C> {
    let (sending, receiving) = Default::default();
    Relay { downstream, upstream, meter, cancel, sending, receiving, first: None }
}

/// What [`relay`] makes. It is no `async` block: ten thousand idle connections are ten thousand of these,
/// and a block would keep a reference to each of its variables beside them.
#[must_use = "no byte moves unless it is polled"]
pub struct Relay<D, U, M, C> {
    downstream: D,
    upstream: U,
    meter: M,
    cancel: C,
    sending: Direction,
    receiving: Direction,
    /// Who ended first.
    first: Option<Side>,
}

impl<D, U, M, C> Future for Relay<D, U, M, C>
where
    D: Wire,
    U: Wire,
    M: Borrow<Meter> + Unpin,
    C: Future<Output = ()> + Unpin,
{
    type Output = RelayEnd;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<RelayEnd> {
        let relay = self.get_mut();
        let end = ready!(relay.poll_both(cx));
        if !matches!(end, RelayEnd::Closed { .. }) {
            relay.downstream.reset();
            relay.upstream.reset();
        }
        Poll::Ready(end)
    }
}

impl<D, U, M, C> Relay<D, U, M, C>
where
    D: Wire,
    U: Wire,
    M: Borrow<Meter>,
    C: Future<Output = ()> + Unpin,
{
    fn poll_both(&mut self, cx: &mut Context<'_>) -> Poll<RelayEnd> {
        if Pin::new(&mut self.cancel).poll(cx).is_ready() {
            return Poll::Ready(RelayEnd::Cancelled);
        }
        let (downstream, upstream, meter) = (&mut self.downstream, &mut self.upstream, self.meter.borrow());
        let sent = self.sending.poll(cx, downstream, upstream, &meter.sent);
        if let Poll::Ready(Err(broken)) = sent {
            return Poll::Ready(broken.named(Side::Downstream, Side::Upstream));
        }
        let received = self.receiving.poll(cx, upstream, downstream, &meter.received);
        if let Poll::Ready(Err(broken)) = received {
            return Poll::Ready(broken.named(Side::Upstream, Side::Downstream));
        }
        if self.sending.ended && !self.receiving.ended {
            self.first.get_or_insert(Side::Downstream);
        } else if self.receiving.ended {
            self.first.get_or_insert(Side::Upstream);
        }
        match (sent, received, self.first) {
            (Poll::Ready(_), Poll::Ready(_), Some(first)) => Poll::Ready(RelayEnd::Closed { first }),
            _ => Poll::Pending,
        }
    }
}

/// One of the two ways.
#[derive(Default)]
struct Direction {
    /// Taken from the source, not yet given to the sink.
    underway: Bytes,
    /// Up to the last size of a read; what comes after that makes no difference.
    moved: u32,
    /// The source said that nothing more comes.
    ended: bool,
    /// And the sink has been told.
    finished: bool,
}

/// Which end of a direction broke off.
enum Broken {
    Source(io::Error),
    Sink(io::Error),
}

impl Broken {
    fn named(self, source: Side, sink: Side) -> RelayEnd {
        match self {
            Self::Source(error) => RelayEnd::Broken { by: source, error },
            Self::Sink(error) => RelayEnd::Broken { by: sink, error },
        }
    }
}

impl Direction {
    /// Moves what can be moved. Ready when the source has ended and the sink knows, or one broke.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut impl Wire,
        sink: &mut impl Wire,
        count: &AtomicU64,
    ) -> Poll<Result<(), Broken>> {
        let mut bytes = 0;
        for _ in 0..TURN_ROUNDS {
            while !self.underway.is_empty() {
                match sink.poll_give(cx, &mut self.underway) {
                    Poll::Ready(Ok(given)) => {
                        self.moved = self.moved.saturating_add(u32::try_from(given).unwrap_or(u32::MAX));
                        bytes += given;
                        count.fetch_add(given as u64, Ordering::Relaxed);
                        source.delivered(given);
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(Broken::Sink(error))),
                    Poll::Pending => return stalled(source, cx),
                }
            }
            // An empty Bytes may still hold a large buffer.
            self.underway = Bytes::new();
            if self.ended {
                return self.finish(cx, source, sink);
            }
            if bytes >= TURN_BYTES {
                break;
            }
            match source.poll_take(cx, read_bytes(self.moved)) {
                Poll::Ready(Ok(Some(taken))) => self.underway = taken,
                Poll::Ready(Ok(None)) => self.ended = true,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Broken::Source(error))),
                Poll::Pending => return Poll::Pending,
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn finish(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut impl Wire,
        sink: &mut impl Wire,
    ) -> Poll<Result<(), Broken>> {
        if !self.finished {
            self.finished = true;
            if let Err(error) = sink.finish() {
                return Poll::Ready(Err(Broken::Sink(error)));
            }
        }
        // The other way may go on for long; whoever ended this one may still break off.
        match source.poll_stall(cx) {
            Poll::Ready(error) => Poll::Ready(Err(Broken::Source(error))),
            Poll::Pending => Poll::Ready(Ok(())),
        }
    }
}

fn stalled(source: &mut impl Wire, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
    source.poll_stall(cx).map(|error| Err(Broken::Source(error)))
}

fn read_bytes(moved: u32) -> usize {
    READ_BYTES.iter().rev().find(|(from, _)| moved >= *from).map_or(READ_BYTES[0].1, |(_, bytes)| *bytes)
}
