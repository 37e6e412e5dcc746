//! When a remote set of keys is fetched. Plain arithmetic: time comes in as an argument.

use chassis::backoff::Backoff;
use std::time::Duration;

/// How old keys get before they are fetched again; Istio's own.
pub(super) const REFRESH: Duration = Duration::from_secs(20 * 60);

/// The first wait after a failure, and the longest.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Tokens with keys that are not known make us fetch no more often than this: anybody can write such a token.
const WANTED_EVERY: Duration = Duration::from_secs(10);

/// When to fetch.
#[derive(Debug)]
pub(super) struct Schedule {
    due: Duration,
    last: Option<Duration>,
    waits: Backoff,
}

impl Schedule {
    /// At once.
    pub(super) fn new(now: Duration) -> Self {
        Self { due: now, last: None, waits: Backoff::new(RETRY.0, RETRY.1) }
    }

    /// When the next fetch is.
    pub(super) fn due(&self) -> Duration {
        self.due
    }

    /// A fetch begins.
    pub(super) fn begins(&mut self, now: Duration) {
        self.last = Some(now);
    }

    /// It brought keys.
    pub(super) fn fetched(&mut self, now: Duration) {
        self.waits.reset();
        self.due = now + REFRESH;
    }

    /// It did not; `dice` is random in `0.0..1.0`.
    pub(super) fn failed(&mut self, now: Duration, dice: f64) {
        self.due = now + self.waits.next(dice);
    }

    /// Somebody needs a key that is not there. Whether a fetch is due because of it, or already.
    pub(super) fn wanted(&mut self, now: Duration) -> bool {
        if self.last.is_some_and(|last| now < last + WANTED_EVERY) {
            return self.due <= now;
        }
        self.due = self.due.min(now);
        true
    }
}
