//! How much work for nothing a peer has made: a bucket that leaks.
//!
//! What counts is never needed often: streams given up before they were looked at, streams that
//! had to be reset for what was sent on them, DATA and SETTINGS that say nothing.

use std::time::{Duration, Instant};

/// What a peer may have made at once: all streams of a full connection given up five times.
const MOST: u32 = 1000;
/// Of it, what is forgiven each second.
const FORGIVEN_PER_SECOND: u32 = 100;

/// The bucket of one connection.
#[derive(Debug, Default)]
pub(super) struct Nuisance {
    level: u32,
    /// When something was forgiven last.
    since: Option<Instant>,
}

impl Nuisance {
    /// Adds some; false when it is too much.
    pub(super) fn add(&mut self, cost: u32, now: Instant) -> bool {
        let since = *self.since.get_or_insert(now);
        let seconds = now.saturating_duration_since(since).as_secs();
        if seconds > 0 {
            let forgiven = u32::try_from(seconds).unwrap_or(u32::MAX).saturating_mul(FORGIVEN_PER_SECOND);
            self.level = self.level.saturating_sub(forgiven);
            self.since = Some(since + Duration::from_secs(seconds));
        }
        self.level = self.level.saturating_add(cost);
        self.level <= MOST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_borne_once_and_a_trickle_for_ever() {
        let begin = Instant::now();
        let mut nuisance = Nuisance::default();
        assert!((0..MOST).all(|_| nuisance.add(1, begin)));
        assert!(!nuisance.add(1, begin));
        let mut nuisance = Nuisance::default();
        for second in 0..1000 {
            assert!(nuisance.add(FORGIVEN_PER_SECOND, begin + Duration::from_secs(second)));
        }
    }
}
