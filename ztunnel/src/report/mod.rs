//! The access log and the metrics of connections: exactly one line and one count for each, told at
//! its end.
//!
//! Rooms: `table` (how it ended → what the outside sees) · `labels` (a connection → labels) ·
//! `traffic` (the counts, and which connections are open) · `access` (the line) · `node` (counts
//! of DNS, pods and the control plane).

use std::sync::Arc;

use hbone::relay::Meter;
use prometheus_client::metrics::{counter::Counter, family::Family};
use std::sync::atomic::Ordering::Relaxed;
use tokio::time::Instant;

use crate::connection::{Connection, Direction, End};
use chassis::metrics::Registry;
use mesh::Workload;

mod access;
mod labels;
mod node;
mod table;
mod traffic;

pub use node::{DnsLabels, DnsMetrics, NodeMetrics};

/// Where connections are told of. Cloning it is cheap, and all that an open one keeps of it.
#[derive(Clone, Debug, Default)]
pub struct Reporter(Arc<Counts>);

/// What is counted there.
#[derive(Debug, Default)]
struct Counts {
    traffic: traffic::Traffic,
    resolved: node::Capped<labels::Resolved, Counter>,
    /// By reporter and by who could have done better.
    faults: Family<[(&'static str, &'static str); 2], Counter>,
    /// Connections that were refused or broken off because a certificate is revoked, by reporter.
    revoked: Family<[(&'static str, &'static str); 1], Counter>,
}

/// A connection that is open. Dropping it without [`Open::finish`] is a mistake, and tells it all the same.
#[derive(Debug)]
#[must_use = "a connection that is dropped at once is told of as lost"]
pub struct Open {
    reporter: Reporter,
    live: Arc<traffic::Live>,
    /// None once its end was told.
    since: Option<Instant>,
}

impl Reporter {
    /// A reporter whose counts are in `registry`.
    pub fn new(registry: &mut Registry) -> Self {
        let counts = Counts::default();
        registry.register_collector(Box::new(counts.traffic.clone()));
        registry.register(
            "istio_on_demand_dns",
            "The total number of names that were resolved for a connection",
            counts.resolved.family.clone(),
        );
        registry.register(
            "istio_tcp_connection_faults",
            "The total number of TCP connections that failed, by who could have done better",
            counts.faults.clone(),
        );
        // A connection whose peer could not be told from the lists is none here: the second stays at 0.
        let unwatched = Family::<[(&'static str, &'static str); 1], Counter>::default();
        for direction in [Direction::Outbound, Direction::Inbound] {
            let of = [("reporter", labels::reporter_label(direction))];
            drop(counts.revoked.get_or_create(&of));
            drop(unwatched.get_or_create(&of));
        }
        registry.register(
            "istio_crl_policy_rejections",
            "The total number of connections that were refused or closed for a revoked certificate",
            counts.revoked.clone(),
        );
        registry.register(
            "istio_crl_untracked_connections",
            "The total number of connections that revocation lists cannot close",
            unwatched,
        );
        Self(Arc::new(counts))
    }

    fn blame(&self, connection: &Connection, row: &table::Row) {
        let reporter = labels::reporter_label(connection.direction);
        if row.flag == table::Flag::Revoked {
            self.0.revoked.get_or_create(&[("reporter", reporter)]).inc();
        }
        if row.error.is_some() {
            self.0.faults.get_or_create(&[("reporter", reporter), ("fault", row.fault.label())]).inc();
        }
    }

    /// A name of an endpoint was resolved for a connection of `source`.
    pub fn resolved(&self, source: &Workload, hostname: &str) {
        self.0.resolved.with(&labels::Resolved::of(source, hostname), Counter::inc);
    }

    /// A connection is open.
    pub fn opened(&self, connection: Connection) -> Open {
        self.opened_with(connection, Arc::default())
    }

    /// A connection is open whose bytes are counted already: the other end of one that is told of too.
    pub fn opened_with(&self, connection: Connection, meter: Arc<Meter>) -> Open {
        access::opened(&connection);
        let live = self.0.traffic.open(connection, meter);
        Open { reporter: self.clone(), live, since: Some(Instant::now()) }
    }

    /// A connection that never was open.
    pub fn failed(&self, connection: &Connection, end: &End) {
        let row = table::Row::of(end);
        self.blame(connection, &row);
        self.0.traffic.fail(connection, row.flag, row.told == table::Told::Complete);
        access::ended(connection, &row, access::Moved::default(), std::time::Duration::ZERO);
    }

    /// Calls `see` with every connection that is open, in the order in which they were opened.
    pub fn connections(&self, mut see: impl FnMut(&Connection, &Meter)) {
        for live in self.0.traffic.connections() {
            see(&live.connection, &live.meter);
        }
    }
}

impl Open {
    /// What is told of.
    pub fn connection(&self) -> &Connection {
        &self.live.connection
    }

    /// What counts its bytes.
    pub fn meter(&self) -> &Arc<Meter> {
        &self.live.meter
    }

    /// It ended.
    pub fn finish(mut self, end: &End) {
        self.tell(&table::Row::of(end));
    }

    /// Tells of it; only the first end counts.
    fn tell(&mut self, row: &table::Row) {
        let Some(since) = self.since.take() else { return };
        self.reporter.blame(&self.live.connection, row);
        self.reporter.0.traffic.close(&self.live, row.error.is_some().then_some(row.flag));
        let meter = &self.live.meter;
        let moved = access::Moved { requests: meter.sent.load(Relaxed), responses: meter.received.load(Relaxed) };
        access::ended(&self.live.connection, row, moved, since.elapsed());
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if self.since.is_some() {
            self.tell(&table::Row::lost());
        }
    }
}

#[cfg(test)]
mod tests;
