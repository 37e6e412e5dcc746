//! What time it is, in both senses, from one place that tests can replace.
//!
//! Certificates are dated by the wall clock; waiting is measured by the monotonic one. A
//! suspended machine or a corrected clock moves the first and not the second, so whoever
//! plans a renewal must look at both.

use rustls_pki_types::UnixTime;
use std::{
    fmt,
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};
use tokio::time::Instant;

/// One reading of both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// The date. It may jump either way.
    pub wall: SystemTime,
    /// Only grows, and stands still while the machine sleeps.
    pub monotonic: Instant,
}

/// A source of time.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// Both clocks, read together.
    fn now(&self) -> Now;
}

/// The clocks of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Now {
        Now { wall: SystemTime::now(), monotonic: Instant::now() }
    }
}

/// A clock for tests: the date starts where it is told, goes on with (possibly paused) tokio
/// time, and can be set. Setting it is what a suspend or a clock correction looks like.
#[derive(Debug)]
pub struct SettableClock {
    anchor: Mutex<Now>,
}

impl SettableClock {
    /// A clock whose date is `wall` now.
    pub fn new(wall: SystemTime) -> Self {
        Self { anchor: Mutex::new(Now { wall, monotonic: Instant::now() }) }
    }

    /// The date is `wall` from here on.
    pub fn set(&self, wall: SystemTime) {
        *self.anchor.lock().unwrap_or_else(PoisonError::into_inner) = Now { wall, monotonic: Instant::now() };
    }

    /// The date jumps forward, as it does for a process that was suspended.
    pub fn jump(&self, by: Duration) {
        self.set(self.now().wall + by);
    }

    /// The date jumps back, as it does when a fast clock is corrected.
    pub fn jump_back(&self, by: Duration) {
        self.set(self.now().wall - by);
    }
}

impl Clock for SettableClock {
    fn now(&self) -> Now {
        let anchor = *self.anchor.lock().unwrap_or_else(PoisonError::into_inner);
        let monotonic = Instant::now();
        Now { wall: anchor.wall + (monotonic - anchor.monotonic), monotonic }
    }
}

/// Lets rustls read the date from a [`Clock`].
#[derive(Debug)]
pub(crate) struct TlsTime(pub(crate) std::sync::Arc<dyn Clock>);

impl rustls::time_provider::TimeProvider for TlsTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(unix_time(self.0.now().wall))
    }
}

/// The date as TLS libraries count it. What is before 1970 counts as 1970, when nothing was valid.
pub(crate) fn unix_time(wall: SystemTime) -> UnixTime {
    UnixTime::since_unix_epoch(wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
}
