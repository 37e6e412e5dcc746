//! How long to wait before trying again. Plain arithmetic: it never sleeps and never rolls dice itself.

use std::time::Duration;

/// Waits that grow from `min` by `factor` up to `max`, each shortened by up to the part `jitter`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    /// The first wait.
    pub min: Duration,
    /// The longest wait.
    pub max: Duration,
    /// What each wait is multiplied with to get the next.
    pub factor: f64,
    /// The part of a wait that chance may take away, 0 to 1, so that many clients do not return at once.
    pub jitter: f64,
    attempts: u32,
}

impl Backoff {
    /// Waits from `min` to `max` that double, with a jitter of one fifth.
    pub const fn new(min: Duration, max: Duration) -> Self {
        Self { min, max, factor: 2.0, jitter: 0.2, attempts: 0 }
    }

    /// The same with another jitter.
    #[must_use]
    pub const fn with_jitter(mut self, jitter: f64) -> Self {
        self.jitter = jitter;
        self
    }

    /// The next wait; `dice` is uniformly random in `0.0..1.0`.
    pub fn next(&mut self, dice: f64) -> Duration {
        let grown = self.min.as_secs_f64() * self.factor.max(1.0).powi(self.attempts.min(64) as i32);
        self.attempts = self.attempts.saturating_add(1);
        let whole = grown.min(self.max.as_secs_f64());
        Duration::from_secs_f64(whole * (1.0 - self.jitter.clamp(0.0, 1.0) * dice.clamp(0.0, 1.0)))
    }

    /// It worked: begin again with the shortest wait.
    pub const fn reset(&mut self) {
        self.attempts = 0;
    }

    /// How many waits were asked for since the last success.
    pub const fn attempts(&self) -> u32 {
        self.attempts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(mut backoff: Backoff, dice: f64, count: usize) -> Vec<u64> {
        (0..count).map(|_| backoff.next(dice).as_millis() as u64).collect()
    }

    #[test]
    fn waits_double_up_to_the_longest() {
        let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        assert_eq!(waits(backoff, 0.0, 6), [100, 200, 400, 800, 1000, 1000]);
    }

    #[test]
    fn jitter_only_shortens() {
        let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1)).with_jitter(0.5);
        assert_eq!(waits(backoff, 1.0, 3), [50, 100, 200]);
    }

    #[test]
    fn success_begins_again() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        backoff.next(0.0);
        backoff.next(0.0);
        backoff.reset();
        assert_eq!(waits(backoff, 0.0, 1), [100]);
    }

    #[test]
    fn years_of_failure_do_not_overflow() {
        let mut backoff = Backoff::new(Duration::from_millis(1), Duration::from_secs(15));
        for _ in 0..10_000 {
            assert!(backoff.next(0.3) <= Duration::from_secs(15));
        }
    }
}
