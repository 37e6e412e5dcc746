//! The counts of connections: one series a set of labels, found once for each connection, and
//! brought up to date from the open ones before each scrape.

use super::{
    labels::{Flagged, Labels, reporter_label},
    table::Flag,
};
use crate::connection::{Connection, Direction};
use crate::live::let_go;
use foldhash::fast::RandomState;
use hbone::relay::Meter;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};
use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// The most series. One takes about 600 bytes here and five lines in a scrape: 10,000 are 6 MB and
/// 50,000 lines. What comes later is counted under `overflow`.
const SERIES_MAX: usize = 10_000;

/// All series, and the connections that are open. Cloning shares them.
#[derive(Clone, Debug, Default)]
pub(super) struct Traffic {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    series: Mutex<HashMap<Labels, Arc<Series>, RandomState>>,
    open: [Mutex<HashMap<u64, Arc<Live>, RandomState>>; SHARDS],
    next: AtomicU64,
}

/// Connections come and go on several threads, each with its own lock most of the time.
const SHARDS: usize = 16;

/// The counts of one set of labels.
#[derive(Debug, Default)]
pub(super) struct Series {
    opened: AtomicU64,
    closed: AtomicU64,
    /// Request bytes: from the client to the server, whoever reports.
    received: AtomicU64,
    /// Response bytes.
    sent: AtomicU64,
    failed: [AtomicU64; Flag::ALL.len()],
}

/// An open connection.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) connection: Connection,
    pub(super) meter: Arc<Meter>,
    number: u64,
    series: Arc<Series>,
    counted_requests: AtomicU64,
    counted_responses: AtomicU64,
}

impl Live {
    /// Adds to the series what moved since the last time. Two at once add nothing twice.
    fn count(&self) {
        for (now, counted, total) in [
            (&self.meter.sent, &self.counted_requests, &self.series.received),
            (&self.meter.received, &self.counted_responses, &self.series.sent),
        ] {
            let now = now.load(Relaxed);
            total.fetch_add(now.saturating_sub(counted.fetch_max(now, Relaxed)), Relaxed);
        }
    }
}

impl Traffic {
    /// A connection is open.
    pub(super) fn open(&self, connection: Connection, meter: Arc<Meter>) -> Arc<Live> {
        let series = self.series(Labels::of(&connection));
        series.opened.fetch_add(1, Relaxed);
        let number = self.shared.next.fetch_add(1, Relaxed);
        let (counted_requests, counted_responses) = (AtomicU64::new(0), AtomicU64::new(0));
        let live = Arc::new(Live { connection, meter, number, series, counted_requests, counted_responses });
        lock(self.shard(number)).insert(number, live.clone());
        live
    }

    /// It ended.
    pub(super) fn close(&self, live: &Live, failed: Option<Flag>) {
        let mut shard = lock(self.shard(live.number));
        shard.remove(&live.number);
        let_go(&mut shard);
        drop(shard);
        live.count();
        live.series.closed.fetch_add(1, Relaxed);
        if let Some(flag) = failed {
            live.series.failed[flag.index()].fetch_add(1, Relaxed);
        }
    }

    /// It failed before bytes could move. `known`: both ends were, so that it counts as opened and closed.
    pub(super) fn fail(&self, connection: &Connection, flag: Flag, known: bool) {
        let series = self.series(Labels::of(connection));
        series.failed[flag.index()].fetch_add(1, Relaxed);
        if known {
            series.opened.fetch_add(1, Relaxed);
            series.closed.fetch_add(1, Relaxed);
        }
    }

    /// Every open connection, in the order in which they were opened.
    pub(super) fn connections(&self) -> Vec<Arc<Live>> {
        let mut all: Vec<Arc<Live>> =
            self.shared.open.iter().flat_map(|shard| lock(shard).values().cloned().collect::<Vec<_>>()).collect();
        all.sort_by_key(|live| live.number);
        all
    }

    fn shard(&self, number: u64) -> &Mutex<HashMap<u64, Arc<Live>, RandomState>> {
        &self.shared.open[number as usize % SHARDS]
    }

    fn series(&self, labels: Labels) -> Arc<Series> {
        let mut series = lock(&self.shared.series);
        if let Some(found) = series.get(&labels) {
            return found.clone();
        }
        let labels = if series.len() < SERIES_MAX { labels } else { Labels::overflow(labels.reporter) };
        series.entry(labels).or_default().clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing under these locks can be left half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Collector for Traffic {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut open = [0i64; 2];
        for shard in &self.shared.open {
            for live in lock(shard).values() {
                live.count();
                open[usize::from(live.connection.direction == Direction::Inbound)] += 1;
            }
        }
        // Copied out, so that a scrape does not hold up new connections.
        let series: Vec<(Labels, Arc<Series>)> =
            lock(&self.shared.series).iter().map(|(labels, series)| (labels.clone(), series.clone())).collect();
        type Count = fn(&Series) -> &AtomicU64;
        let counts: [(&str, &str, Count); 4] = [
            ("istio_tcp_connections_opened", "The total number of TCP connections opened", |s| &s.opened),
            ("istio_tcp_connections_closed", "The total number of TCP connections closed", |s| &s.closed),
            (
                "istio_tcp_received_bytes",
                "The size of total bytes received during request in case of a TCP connection",
                |s| &s.received,
            ),
            ("istio_tcp_sent_bytes", "The size of total bytes sent during response in case of a TCP connection", |s| {
                &s.sent
            }),
        ];
        for (name, help, count) in counts {
            if series.is_empty() {
                break;
            }
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (labels, series) in &series {
                let labels = Flagged { labels, flag: Flag::None.label() };
                ConstCounter::new(count(series).load(Relaxed)).encode(family.encode_family(&labels)?)?;
            }
        }
        let failed = |series: &Series, flag: Flag| series.failed[flag.index()].load(Relaxed);
        if series.iter().any(|(_, series)| Flag::ALL.iter().any(|flag| failed(series, *flag) > 0)) {
            let help = "The total number of TCP connections that failed (unstable)";
            let mut family =
                encoder.encode_descriptor("istio_tcp_connections_failed", help, None, MetricType::Counter)?;
            for (labels, series) in &series {
                for flag in Flag::ALL.into_iter().filter(|flag| failed(series, *flag) > 0) {
                    let labels = Flagged { labels, flag: flag.label() };
                    ConstCounter::new(failed(series, flag)).encode(family.encode_family(&labels)?)?;
                }
            }
        }
        let help = "The number of connections that are open";
        let mut family = encoder.encode_descriptor("istio_tcp_sockets_open", help, None, MetricType::Gauge)?;
        for (direction, count) in [Direction::Outbound, Direction::Inbound].into_iter().zip(open) {
            ConstGauge::new(count).encode(family.encode_family(&[("reporter", reporter_label(direction))])?)?;
        }
        Ok(())
    }
}
