//! How often one caller may ask. Pure: the time comes in.
//!
//! A bucket for each caller: it fills with time and a request takes one from it. So a proxy that
//! starts may ask for all its pods at once, and one that runs wild harms only itself.

use std::{
    collections::HashMap,
    hash::Hash,
    time::{Duration, Instant},
};

/// Requests that a caller may make at once: a node has some hundreds of identities, and after a
/// restart its proxy asks for each.
pub const BURST: u32 = 1000;

/// And then so many in a second, for ever: far above renewals (1000 certificates in half a day).
pub const PER_SECOND: u32 = 50;

/// Callers remembered at once. Who has not asked for as long as a bucket takes to fill is
/// forgotten, so this many would have to ask within 20 s.
pub const CALLERS_MAX: usize = 20_000;

/// A bucket for each caller.
#[derive(Debug)]
pub struct Buckets<K> {
    buckets: HashMap<K, Bucket>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl<K: Hash + Eq> Default for Buckets<K> {
    fn default() -> Self {
        Self { buckets: HashMap::new() }
    }
}

impl<K: Hash + Eq> Buckets<K> {
    /// Whether the caller may ask now.
    pub fn take(&mut self, caller: K, now: Instant) -> bool {
        if self.buckets.len() >= CALLERS_MAX && !self.buckets.contains_key(&caller) {
            let fill = Duration::from_secs(u64::from(BURST / PER_SECOND));
            self.buckets.retain(|_, bucket| now.saturating_duration_since(bucket.at) < fill);
            if self.buckets.len() >= CALLERS_MAX {
                return false;
            }
        }
        let full = Bucket { left: f64::from(BURST), at: now };
        let bucket = self.buckets.entry(caller).or_insert_with(|| full);
        let gained = now.saturating_duration_since(bucket.at).as_secs_f64() * f64::from(PER_SECOND);
        *bucket = Bucket { left: (bucket.left + gained).min(f64::from(BURST)), at: now.max(bucket.at) };
        let allowed = bucket.left >= 1.0;
        if allowed {
            bucket.left -= 1.0;
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_has_a_burst_and_then_a_rate() {
        let mut buckets = Buckets::default();
        let start = Instant::now();
        let mut taken = |at: Duration, tries: u32| (0..tries).filter(|_| buckets.take("a", start + at)).count();
        assert_eq!(taken(Duration::ZERO, BURST + 10), BURST as usize);
        assert_eq!(taken(Duration::from_secs(1), 1000), PER_SECOND as usize);
        assert_eq!(taken(Duration::from_secs(3600), 5000), BURST as usize, "it never holds more than a burst");
    }

    #[test]
    fn one_caller_takes_nothing_from_another() {
        let mut buckets = Buckets::default();
        let now = Instant::now();
        while buckets.take("a", now) {}
        assert!(buckets.take("b", now));
    }

    #[test]
    fn callers_are_bounded_and_forgotten_in_time() {
        let mut buckets = Buckets::default();
        let now = Instant::now();
        assert!((0..CALLERS_MAX).all(|caller| buckets.take(caller, now)));
        assert!(!buckets.take(CALLERS_MAX, now));
        assert!(buckets.take(0, now), "who is known goes on");
        assert!(buckets.take(CALLERS_MAX, now + Duration::from_secs(60)));
    }
}
