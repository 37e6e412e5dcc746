//! The counts of requests and connections: one series a set of labels.
//!
//! A request finds its series by a hash of a few words (the parties are hashed already) under a
//! lock for reading that is one of several; only a set of labels that is new writes.

use super::{
    flags::Flags,
    outcome::{Outcome, Protocol, Security},
    party::{Asked, Party, Shared},
    shape::Changed,
};
use foldhash::quality::RandomState;
use hbone::relay::Meter;
use std::{
    collections::HashMap,
    hash::{BuildHasher, Hash, Hasher},
    sync::{
        Arc, LazyLock, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// The most series. One takes about 1 KiB here and, with its three histograms, 66 lines of 900
/// bytes in a scrape: 2,000 are 2 MB of memory and 120 MB of text at the very worst, which a
/// Prometheus still takes. What comes later is counted under `overflow`.
const SERIES_MAX: usize = 2_000;

/// Cores look for series at the same time, each with its own lock most of the time.
const SHARDS: usize = 16;

/// What one series is found by: everything that tells it from others, and the hash of that, which is asked for twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    hash: u64,
    labels: Labels,
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl std::ops::Deref for Key {
    type Target = Labels;

    fn deref(&self) -> &Labels {
        &self.labels
    }
}

/// Everything that tells one series from another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Labels {
    pub(super) source: Party,
    pub(super) destination: Party,
    pub(super) service: Shared<Asked>,
    pub(super) protocol: &'static str,
    /// Status and gRPC's; none: TCP.
    pub(super) code: Option<(u16, Option<u32>)>,
    pub(super) flags: Flags,
    pub(super) security: Security,
    /// Changes of labels, and the values they need.
    pub(super) shape: Option<Changed>,
}

impl Key {
    /// The series of a request or connection.
    pub(super) fn of(outcome: &Outcome, shape: Option<Changed>) -> Self {
        let http = outcome.protocol != Protocol::Tcp;
        Self::new(Labels {
            source: outcome.source.clone(),
            destination: outcome.destination.clone(),
            service: outcome.service.clone(),
            protocol: outcome.request_protocol(),
            code: http.then_some((outcome.status, outcome.grpc_status.filter(|_| outcome.grpc))),
            flags: outcome.flags,
            security: outcome.security,
            shape,
        })
    }

    fn new(labels: Labels) -> Self {
        Self { hash: HASHES.hash_one(&labels), labels }
    }

    fn overflow(&self) -> Self {
        Self::new(Labels {
            source: Party::overflow(),
            destination: Party::overflow(),
            service: Shared::<Asked>::overflow(),
            protocol: self.protocol,
            code: self.code.map(|_| (0, None)),
            flags: Flags::NONE,
            security: Security::Unknown,
            shape: None,
        })
    }
}

/// The counts of one set of labels.
#[derive(Debug, Default)]
pub(super) struct Series {
    pub(super) requests: AtomicU64,
    pub(super) duration: Histogram,
    pub(super) request_bytes: Histogram,
    pub(super) response_bytes: Histogram,
    pub(super) request_messages: AtomicU64,
    pub(super) response_messages: AtomicU64,
    pub(super) opened: AtomicU64,
    pub(super) closed: AtomicU64,
    pub(super) received: AtomicU64,
    pub(super) sent: AtomicU64,
}

impl Series {
    /// One more request.
    pub(super) fn request(&self, o: &Outcome) {
        self.requests.fetch_add(1, Relaxed);
        self.duration.observe(o.duration.as_micros().try_into().unwrap_or(u64::MAX));
        self.request_bytes.observe((o.received_bytes + o.request_head_bytes).saturating_mul(THOUSAND));
        self.response_bytes.observe((o.sent_bytes + o.response_head_bytes).saturating_mul(THOUSAND));
        if o.grpc {
            self.request_messages.fetch_add(o.request_messages, Relaxed);
            self.response_messages.fetch_add(o.response_messages, Relaxed);
        }
    }
}

/// Values are kept in thousandths.
const THOUSAND: u64 = 1_000;

/// Envoy's default buckets.
pub(super) const BUCKETS: [f64; 19] = [
    0.5, 1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 5000.0, 10000.0, 30000.0, 60000.0, 300000.0,
    600000.0, 1800000.0, 3600000.0,
];

/// How often values were in which bucket.
#[derive(Debug, Default)]
pub(super) struct Histogram {
    /// One a bucket, and one for what is above all.
    counts: [AtomicU64; BUCKETS.len() + 1],
    /// In thousandths.
    sum: AtomicU64,
}

impl Histogram {
    fn observe(&self, thousandths: u64) {
        let value = thousandths as f64 / THOUSAND as f64;
        self.counts[BUCKETS.partition_point(|upper| *upper < value)].fetch_add(1, Relaxed);
        self.sum.fetch_add(thousandths, Relaxed);
    }

    /// Adds what it holds.
    pub(super) fn add_to(&self, total: &mut Seen) {
        for (count, into) in self.counts.iter().zip(&mut total.counts) {
            *into += count.load(Relaxed);
        }
        total.sum += self.sum.load(Relaxed) as f64 / THOUSAND as f64;
    }
}

/// What a histogram, or several together, held at one instant.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub(super) counts: [u64; BUCKETS.len() + 1],
    pub(super) sum: f64,
}

/// All series. Cloning shares them.
#[derive(Clone, Debug, Default)]
pub(super) struct AllSeries {
    shared: Arc<Room>,
}

/// A part of the series.
type Shard = HashMap<Key, Arc<Series>, RandomState>;

/// What labels are hashed with: seeds that nobody outside knows.
static HASHES: LazyLock<RandomState> = LazyLock::new(RandomState::default);

#[derive(Debug, Default)]
struct Room {
    shards: [RwLock<Shard>; SHARDS],
    open: [RwLock<HashMap<u64, Arc<Open>>>; SHARDS],
    next: AtomicU64,
}

/// A connection whose bytes still move.
#[derive(Debug)]
struct Open {
    meter: Arc<Meter>,
    series: Arc<Series>,
    counted: [AtomicU64; 2],
}

impl Open {
    /// Adds what moved since the last time. Two at once add nothing twice.
    fn count(&self) {
        let totals = [&self.series.received, &self.series.sent];
        for ((now, counted), total) in
            [&self.meter.sent, &self.meter.received].into_iter().zip(&self.counted).zip(totals)
        {
            let now = now.load(Relaxed);
            total.fetch_add(now.saturating_sub(counted.fetch_max(now, Relaxed)), Relaxed);
        }
    }
}

/// A connection that is counted while it is open; dropping it counts it as closed.
#[derive(Debug)]
#[must_use = "a connection that is dropped at once is counted as closed"]
pub struct OpenConnection {
    number: u64,
    shared: Arc<Room>,
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        let shard = &self.shared.open[self.number as usize % SHARDS];
        let open = shard.write().unwrap_or_else(PoisonError::into_inner).remove(&self.number);
        if let Some(open) = open {
            open.count();
            open.series.closed.fetch_add(1, Relaxed);
        }
    }
}

impl AllSeries {
    /// The series of a key. Beyond the most there is one for all.
    pub(super) fn of(&self, key: Key) -> Arc<Series> {
        let shard = self.shard(&key);
        if let Some(found) = shard.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return found.clone();
        }
        let mut all = shard.write().unwrap_or_else(PoisonError::into_inner);
        if all.len() < SERIES_MAX / SHARDS || all.contains_key(&key) {
            return all.entry(key).or_default().clone();
        }
        drop(all);
        let key = key.overflow();
        let mut all = self.shard(&key).write().unwrap_or_else(PoisonError::into_inner);
        all.entry(key).or_default().clone()
    }

    fn shard(&self, key: &Key) -> &RwLock<Shard> {
        &self.shared.shards[key.hash as usize % SHARDS]
    }

    /// A connection is open.
    pub(super) fn open(&self, key: Key, meter: Arc<Meter>) -> OpenConnection {
        let series = self.of(key);
        series.opened.fetch_add(1, Relaxed);
        let number = self.shared.next.fetch_add(1, Relaxed);
        let open = Arc::new(Open { meter, series, counted: Default::default() });
        let shard = &self.shared.open[number as usize % SHARDS];
        shard.write().unwrap_or_else(PoisonError::into_inner).insert(number, open);
        OpenConnection { number, shared: self.shared.clone() }
    }

    /// Every series as it is now; copied out, so that a scrape does not hold up requests.
    pub(super) fn now(&self) -> Vec<(Key, Arc<Series>)> {
        for shard in &self.shared.open {
            shard.read().unwrap_or_else(PoisonError::into_inner).values().for_each(|open| open.count());
        }
        let all = self.shared.shards.iter().flat_map(|shard| {
            let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
            shard.iter().map(|(key, series)| (key.clone(), series.clone())).collect::<Vec<_>>()
        });
        all.collect()
    }
}
