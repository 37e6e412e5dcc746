//! When the next round to a session may go. Pure.
//!
//! The first change after some quiet goes at once. While changes keep coming, the pause between
//! rounds grows from 5 to 100 ms, so that a rollout costs tens of rounds and not thousands.

use crate::limits::{PACE_MAX, PACE_MIN};
use std::time::Instant;

/// The rhythm of one session.
#[derive(Debug)]
pub(super) struct Pace {
    pause: std::time::Duration,
    last: Option<Instant>,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self { pause: PACE_MIN, last: None }
    }

    /// From when on changes that may wait are sent.
    pub(super) fn due(&self) -> Option<Instant> {
        Some(self.last? + self.pause)
    }

    /// A round went out.
    pub(super) fn sent(&mut self, now: Instant) {
        // As long again as the pause without a change is quiet.
        let busy = self.last.is_some_and(|last| now < last + self.pause * 2);
        self.pause = if busy { (self.pause * 2).min(PACE_MAX) } else { PACE_MIN };
        self.last = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// Rounds of a session to which there is always something to tell, in ms after the first.
    fn rounds_under_constant_change(count: usize) -> Vec<u128> {
        let start = Instant::now();
        let (mut pace, mut now) = (Pace::new(), start);
        let mut rounds = Vec::new();
        for _ in 0..count {
            now = now.max(pace.due().unwrap_or(now));
            pace.sent(now);
            rounds.push((now - start).as_millis());
        }
        rounds
    }

    #[test]
    fn the_first_change_goes_at_once_and_later_ones_wait_ever_longer() {
        assert_eq!(rounds_under_constant_change(8), [0, 5, 15, 35, 75, 155, 255, 355]);
    }

    #[test]
    fn after_some_quiet_a_change_goes_at_once_again() {
        let start = Instant::now();
        let mut pace = Pace::new();
        for ms in [0, 5, 15, 35] {
            pace.sent(start + Duration::from_millis(ms));
        }
        let later = start + Duration::from_secs(1);
        assert!(pace.due().is_some_and(|due| due < later));
        pace.sent(later);
        assert_eq!(pace.due(), Some(later + PACE_MIN));
    }
}
