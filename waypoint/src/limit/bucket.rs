//! A bucket of tokens, exact: it never gives more than its rate and burst, to the token.
//!
//! Levels are whole numbers in units in which both a token and a nanosecond of refill are whole:
//! a token is `per` (in nanoseconds) of them, and a nanosecond brings `requests`. So nothing is
//! rounded, however long a bucket lives. Time comes in as what has passed since some start.

use mesh::route::RateLimit;
use std::time::Duration;

/// How a bucket is filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// So many tokens…
    pub requests: u32,
    /// …in this time.
    pub per: Duration,
    /// The most tokens.
    pub burst: u32,
}

impl Rate {
    /// Of a limit.
    pub fn of(limit: &RateLimit) -> Self {
        Self { requests: limit.requests, per: limit.per, burst: limit.burst }
    }

    /// The share of one of so many replicas that cannot ask each other. A replica gets at least one
    /// token at once, or nobody would pass.
    #[must_use]
    pub fn share(self, replicas: u32) -> Self {
        let replicas = replicas.max(1);
        let burst = if self.burst == 0 { 0 } else { (self.burst / replicas).max(1) };
        // A longer time instead of fewer requests: it is exact where they cannot be divided.
        Self { requests: self.requests, per: self.per.saturating_mul(replicas), burst }
    }

    /// Units of a token.
    fn token(self) -> u128 {
        self.per.as_nanos().max(1)
    }

    fn capacity(self) -> u128 {
        u128::from(self.burst) * self.token()
    }
}

/// A bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    level: u128,
    at: Duration,
    rate: Rate,
}

impl Bucket {
    /// A full one.
    pub fn full(rate: Rate, now: Duration) -> Self {
        Self { level: rate.capacity(), at: now, rate }
    }

    /// Takes as many tokens as there are, but no more than wanted; returns how many.
    pub fn take(&mut self, wanted: u32, now: Duration) -> u32 {
        self.fill(now);
        let taken = wanted.min(self.tokens());
        self.level -= u128::from(taken) * self.rate.token();
        taken
    }

    /// Takes back tokens that were not used.
    pub fn put_back(&mut self, tokens: u32) {
        self.level = (self.level + u128::from(tokens) * self.rate.token()).min(self.rate.capacity());
    }

    /// From now on it is filled otherwise; the tokens in it stay, as far as they have room.
    pub fn change(&mut self, rate: Rate, now: Duration) {
        if self.rate != rate {
            self.fill(now);
            let tokens = self.tokens();
            self.rate = rate;
            self.level = (u128::from(tokens) * rate.token()).min(rate.capacity());
        }
    }

    /// Whole tokens in it, as of the last time it was filled.
    pub fn tokens(&self) -> u32 {
        // Never more than the burst, which is a u32.
        (self.level / self.rate.token()) as u32
    }

    /// How long until there is a token more than now; none: never.
    pub fn next(&self) -> Option<Duration> {
        let missing = self.rate.token() - self.level % self.rate.token();
        self.time_for(missing)
    }

    /// How long until it is full; none: never.
    pub fn until_full(&self) -> Option<Duration> {
        self.time_for(self.rate.capacity() - self.level)
    }

    /// Whether it is as if it had never been used.
    pub fn is_full(&mut self, now: Duration) -> bool {
        self.fill(now);
        self.level == self.rate.capacity()
    }

    fn time_for(&self, units: u128) -> Option<Duration> {
        if units == 0 {
            return Some(Duration::ZERO);
        }
        (self.rate.requests > 0).then(|| {
            let nanos = units.div_ceil(u128::from(self.rate.requests));
            Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
        })
    }

    fn fill(&mut self, now: Duration) {
        // Times of several cores may come in another order than they were read.
        let Some(passed) = now.checked_sub(self.at) else { return };
        let brought = passed.as_nanos().saturating_mul(u128::from(self.rate.requests));
        self.level = self.level.saturating_add(brought).min(self.rate.capacity());
        self.at = now;
    }
}
