//! Tokens of one bucket, used by several replicas: who owns a key, how it lends tokens, and how the
//! others use them. Pure.
//!
//! Every key has one owner among the replicas (rendezvous hashing). Only the owner has the bucket.
//! Others take tokens from it in lots, ahead of need, so that most requests wait for nobody. Lots
//! grow while they are used up quickly and shrink when they are not. Tokens that are not used in
//! time are void. When the owner does not answer, each replica limits by its own share.

use super::{
    bucket::{Bucket, Rate},
    limits::{ALONE, LEASE, LOT_MAX, LOT_TIME},
};
use mesh::{Str, route::hash};
use std::time::Duration;

/// Who owns a key: the replica with the highest hash of both, the same for all who know the same replicas.
pub fn owner<'a>(replicas: &'a [Str], limit: &str, key: &str) -> Option<&'a Str> {
    replicas.iter().max_by_key(|replica| (hash::of(&format!("{replica}\0{limit}\0{key}")), *replica))
}

/// How many of the tokens in a bucket are lent to somebody who wants so many: at most half, so that
/// who asks next finds some too.
pub fn lent(tokens: u32, wanted: u32) -> u32 {
    wanted.min(tokens.div_ceil(2))
}

/// The largest lot: all lots that lie about are at most half a burst.
pub fn lot_max(rate: Rate, replicas: u32) -> u32 {
    (rate.burst / (2 * replicas.max(1))).clamp(1, LOT_MAX)
}

/// The tokens of one key that somebody else lent us.
#[derive(Debug)]
pub struct Borrower {
    rate: Rate,
    replicas: u32,
    tokens: u32,
    /// When they are void.
    until: Duration,
    /// How many are asked for.
    lot: u32,
    got: Duration,
    asking: bool,
    /// Until when the owner is not asked again, and when it said that there are more tokens.
    refused_until: Duration,
    more_at: Option<Duration>,
    /// Since the owner did not answer: until when it is not asked, and our own share.
    alone: Option<(Duration, Bucket)>,
    /// When it was last used, to forget who is not.
    used: Duration,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It passes. Some: the owner is to be asked for so many, without waiting.
    Pass(Option<u32>),
    /// It waits for the owner. Some: which is to be asked for so many; none: it is already.
    Wait(Option<u32>),
    /// It is refused; how long until it is worth another try.
    Refuse(Option<Duration>),
}

impl Borrower {
    /// Nothing is lent yet.
    pub fn new(rate: Rate, replicas: u32, now: Duration) -> Self {
        let zero = Duration::ZERO;
        Self {
            rate,
            replicas,
            tokens: 0,
            until: zero,
            lot: 1,
            got: now,
            asking: false,
            refused_until: zero,
            more_at: None,
            alone: None,
            used: now,
        }
    }

    /// The limit, or the number of replicas, is (perhaps) another now.
    pub fn change(&mut self, rate: Rate, replicas: u32) {
        if (self.rate, self.replicas) != (rate, replicas) {
            (self.rate, self.replicas) = (rate, replicas);
            self.lot = self.lot.min(lot_max(rate, replicas));
            self.alone = None;
        }
    }

    /// One request.
    pub fn take(&mut self, now: Duration) -> Step {
        self.used = now;
        if now >= self.until && self.tokens > 0 {
            // More was lent than was used.
            (self.tokens, self.lot) = (0, (self.lot / 2).max(1));
        }
        if self.tokens > 0 {
            self.tokens -= 1;
            let ahead = self.tokens < self.lot / 4 && now >= self.refused_until;
            return Step::Pass(if ahead { self.ask() } else { None });
        }
        match &mut self.alone {
            Some((until, share)) if now < *until => match share.take(1, now) {
                1 => Step::Pass(None),
                _ => Step::Refuse(share.next()),
            },
            _ if now < self.refused_until => Step::Refuse(self.more_at.map(|at| at.saturating_sub(now))),
            _ => Step::Wait(self.ask()),
        }
    }

    fn ask(&mut self) -> Option<u32> {
        let free = !std::mem::replace(&mut self.asking, true);
        free.then_some(self.lot)
    }

    /// The owner answered: so many are lent; of none, how long until there are some.
    pub fn granted(&mut self, tokens: u32, next: Option<Duration>, now: Duration) {
        self.asking = false;
        if let Some((until, _)) = &mut self.alone {
            // The share is kept as it is: an owner that comes and goes must not renew it.
            *until = now;
        }
        if tokens == 0 {
            // Never and at once are both asked again: the first in a while, the second soon.
            let wait = next.unwrap_or(ALONE).clamp(Duration::from_millis(1), ALONE);
            self.refused_until = now + wait;
            self.more_at = next.map(|next| now.saturating_add(next));
            return;
        }
        if now < self.got + LOT_TIME {
            self.lot = self.lot.saturating_mul(2).min(lot_max(self.rate, self.replicas));
        }
        self.got = now;
        self.tokens = self.tokens.saturating_add(tokens);
        self.until = now + LEASE;
    }

    /// The owner did not answer.
    pub fn failed(&mut self, now: Duration) {
        self.asking = false;
        let share = match self.alone.take() {
            // The share goes on being used up; a new one each second would be no limit.
            Some((_, share)) => share,
            None => Bucket::full(self.rate.share(self.replicas), now),
        };
        self.alone = Some((now + ALONE, share));
    }

    /// A token was not needed after all.
    pub fn put_back(&mut self) {
        self.tokens += 1;
    }

    /// Tokens that are here.
    pub fn tokens(&self) -> u32 {
        self.tokens
    }

    /// Whether nothing is lost when it is forgotten.
    pub fn is_idle(&self, now: Duration) -> bool {
        let share = self.alone.map(|(_, mut share)| share.is_full(now)).unwrap_or(true);
        !self.asking && now >= self.until && share && now >= self.used + LEASE
    }
}
