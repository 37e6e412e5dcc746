//! Guards against a peer that opens streams only to reset them (CVE-2023-44487 and its kin).
//!
//! h2 bounds the streams that are open and those reset before we saw them. What it does not see is
//! our work for a stream that was reset after we took it up; that is bounded here.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::time::Instant;

/// Requests of one connection that we have taken up and not answered: twice what may be open, so
/// that a client which gave up on all of them may ask again at once.
const UNANSWERED_PER_STREAM: usize = 2;
/// Wasted streams that a connection may have at once: every tunnel of a full connection given up
/// five times.
const WASTED_MAX: u32 = 1000;
/// Wasted streams forgiven each second; an application that gives up on every connect does less.
const FORGIVEN_PER_SECOND: u32 = 100;

/// What is counted for one connection, by it and by its requests.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    unanswered: AtomicUsize,
    wasted: AtomicU32,
}

/// A request that was taken up. Dropped when it was answered, or never will be.
#[derive(Debug)]
pub(crate) struct Unanswered(Arc<Tally>);

impl Unanswered {
    /// The peer gave up before it was answered.
    pub(crate) fn wasted(&self) {
        self.0.wasted.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        self.0.unanswered.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What to do with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Take it up.
    Take,
    /// Refuse it; it may come again.
    Refuse,
    /// End the connection.
    End,
}

/// Judges the requests of one connection.
#[derive(Debug)]
pub(crate) struct Flood {
    tally: Arc<Tally>,
    unanswered_max: usize,
    level: u32,
    forgiven_at: Instant,
}

impl Flood {
    pub(crate) fn new(streams: u32, now: Instant) -> Self {
        let unanswered_max = UNANSWERED_PER_STREAM * streams as usize;
        Self { tally: Arc::default(), unanswered_max, level: 0, forgiven_at: now }
    }

    /// Judges a request that has come.
    pub(crate) fn judge(&mut self, now: Instant) -> Verdict {
        let full = self.tally.unanswered.load(Ordering::Relaxed) >= self.unanswered_max;
        let wasted = self.tally.wasted.swap(0, Ordering::Relaxed);
        self.forgive(now);
        self.level = self.level.saturating_add(wasted).saturating_add(u32::from(full));
        match full {
            _ if self.level > WASTED_MAX => Verdict::End,
            true => Verdict::Refuse,
            false => Verdict::Take,
        }
    }

    /// Counts a request that is taken up.
    pub(crate) fn take(&self) -> Unanswered {
        self.tally.unanswered.fetch_add(1, Ordering::Relaxed);
        Unanswered(self.tally.clone())
    }

    fn forgive(&mut self, now: Instant) {
        let seconds = now.saturating_duration_since(self.forgiven_at).as_secs();
        if seconds > 0 {
            let forgiven = u32::try_from(seconds).unwrap_or(u32::MAX).saturating_mul(FORGIVEN_PER_SECOND);
            self.level = self.level.saturating_sub(forgiven);
            self.forgiven_at += Duration::from_secs(seconds);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_only_wastes_streams_is_cut_off() {
        let now = Instant::now();
        let mut flood = Flood::new(200, now);
        for _ in 0..WASTED_MAX {
            assert_eq!(flood.judge(now), Verdict::Take);
            flood.take().wasted();
        }
        assert_eq!(flood.judge(now), Verdict::Take);
        flood.take().wasted();
        assert_eq!(flood.judge(now), Verdict::End);
    }

    #[test]
    fn a_peer_that_wastes_a_few_each_second_is_not() {
        let begin = Instant::now();
        let mut flood = Flood::new(200, begin);
        for second in 0..100 {
            for _ in 0..FORGIVEN_PER_SECOND {
                assert_eq!(flood.judge(begin + Duration::from_secs(second)), Verdict::Take);
                flood.take().wasted();
            }
        }
    }

    #[test]
    fn only_so_many_requests_wait_for_an_answer() {
        let now = Instant::now();
        let mut flood = Flood::new(2, now);
        let taken: Vec<_> = (0..4).map(|_| flood.take()).collect();
        assert_eq!(flood.judge(now), Verdict::Refuse);
        drop(taken);
        assert_eq!(flood.judge(now), Verdict::Take);
    }
}
