//! Buckets by limit and key: as many as there is room for, shared by the cores.
//!
//! A full bucket says nothing, so it is forgotten when room is needed. Where there is no room even
//! so, all further keys of a limit share one bucket: whoever invents keys is limited as one.

use super::{
    bucket::{Bucket, Rate},
    limits::{KEY_BYTES_MAX, KEYS_MAX, SHARDS, SWEEP_EVERY},
};
use mesh::Str;
use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// What is in a bucket after it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Left {
    /// How many tokens were taken.
    pub(super) taken: u32,
    /// Whole tokens that are left.
    pub(super) tokens: u32,
    /// How long until there is one more; none: never.
    pub(super) next: Option<Duration>,
    /// How long until all are there again; none: never.
    pub(super) full: Option<Duration>,
}

/// The buckets.
#[derive(Debug)]
pub(super) struct Table {
    shards: [Mutex<Shard>; SHARDS],
    /// Random, so that nobody can aim keys at one shard.
    hasher: RandomState,
}

#[derive(Debug, Default)]
struct Shard {
    limits: HashMap<Str, HashMap<Box<str>, Bucket>>,
    count: usize,
    swept: Duration,
}

/// The key of all who found no room. No key of a request has this character.
const OVERFLOW: &str = "\0overflow";

impl Default for Table {
    fn default() -> Self {
        Self { shards: std::array::from_fn(|_| Mutex::default()), hasher: RandomState::new() }
    }
}

/// A key no longer than keys may be; longer ones that begin alike are counted together.
pub(super) fn cut(key: &str) -> &str {
    &key[..key.floor_char_boundary(KEY_BYTES_MAX)]
}

impl Table {
    /// Takes up to `wanted` tokens from the bucket of a key; `lend` says how many of those in it.
    pub(super) fn take(
        &self,
        limit: &Str,
        rate: Rate,
        key: &str,
        now: Duration,
        wanted: impl FnOnce(u32) -> u32,
    ) -> Left {
        self.with(limit, rate, key, now, |bucket| {
            bucket.change(rate, now);
            bucket.take(0, now);
            let taken = bucket.take(wanted(bucket.tokens()), now);
            Left { taken, tokens: bucket.tokens(), next: bucket.next(), full: bucket.until_full() }
        })
    }

    /// Gives back a token that was taken for a request that was refused for another reason.
    pub(super) fn put_back(&self, limit: &Str, rate: Rate, key: &str, now: Duration) {
        self.with(limit, rate, key, now, |bucket| bucket.put_back(1));
    }

    fn with<T>(&self, limit: &Str, rate: Rate, key: &str, now: Duration, act: impl FnOnce(&mut Bucket) -> T) -> T {
        let key = cut(key);
        let mut shard = self.shard(key);
        if let Some(bucket) = shard.limits.get_mut(limit).and_then(|buckets| buckets.get_mut(key)) {
            return act(bucket);
        }
        if shard.count >= KEYS_MAX / SHARDS {
            shard.sweep(now);
        }
        let key = if shard.count < KEYS_MAX / SHARDS { key } else { OVERFLOW };
        let buckets = shard.limits.entry(limit.clone()).or_default();
        let before = buckets.len();
        let result = act(buckets.entry(key.into()).or_insert_with(|| Bucket::full(rate, now)));
        let added = buckets.len() - before;
        shard.count += added;
        result
    }

    fn shard(&self, key: &str) -> MutexGuard<'_, Shard> {
        let at = self.hasher.hash_one(key) as usize % SHARDS;
        self.shards[at].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many buckets there are.
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner).count).sum()
    }
}

impl Shard {
    /// Forgets full buckets, but not so often that looking for them becomes the work.
    fn sweep(&mut self, now: Duration) {
        if now < self.swept + SWEEP_EVERY {
            return;
        }
        self.swept = now;
        for buckets in self.limits.values_mut() {
            buckets.retain(|_, bucket| !bucket.is_full(now));
        }
        self.limits.retain(|_, buckets| !buckets.is_empty());
        self.count = self.limits.values().map(HashMap::len).sum();
    }
}
