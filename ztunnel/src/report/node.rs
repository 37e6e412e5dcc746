//! The counts that are not of connections: DNS, pods, and the control plane's messages.

use super::labels::pair;
use chassis::metrics::Registry;
use mesh::Workload;
use prometheus_client::{
    encoding::{EncodeLabelSet, LabelSetEncoder},
    metrics::{
        counter::Counter,
        family::{Family, MetricConstructor},
        gauge::Gauge,
        histogram::Histogram,
    },
};
use std::{
    fmt,
    hash::Hash,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

/// The most sets of labels of one metric here; a node has 250 pods of fewer kinds, which ask over two protocols
/// for a dozen types.
const FAMILY_MAX: usize = 4096;

/// Counts of the DNS proxy. Cloning shares them.
#[derive(Clone, Debug)]
pub struct DnsMetrics {
    requests: Capped<DnsLabels, Counter>,
    upstream_requests: Capped<DnsLabels, Counter>,
    upstream_failures: Capped<DnsLabels, Counter>,
    upstream_duration: Capped<DnsLabels, Histogram, fn() -> Histogram>,
}

/// What a question is counted under.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DnsLabels {
    query_type: &'static str,
    protocol: &'static str,
    canonical_service: mesh::Str,
    canonical_revision: mesh::Str,
}

impl DnsLabels {
    /// `query_type` and `protocol` must be of few kinds, and not the peer's text.
    pub fn new(query_type: &'static str, protocol: &'static str, client: Option<&Workload>) -> Self {
        let unknown = |text: Option<&mesh::Str>| match text {
            Some(text) if !text.is_empty() => text.clone(),
            _ => "unknown".into(),
        };
        Self {
            query_type,
            protocol,
            canonical_service: unknown(client.map(|workload| &workload.canonical_name)),
            canonical_revision: unknown(client.map(|workload| &workload.canonical_revision)),
        }
    }
}

impl EncodeLabelSet for DnsLabels {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        pair(encoder, "request_query_type", self.query_type)?;
        pair(encoder, "request_protocol", self.protocol)?;
        pair(encoder, "source_canonical_service", &self.canonical_service)?;
        pair(encoder, "source_canonical_revision", &self.canonical_revision)
    }
}

impl Default for DnsMetrics {
    fn default() -> Self {
        let histogram: fn() -> Histogram = || Histogram::new([0.0005, 0.001, 0.01, 0.1, 1.0, 5.0]);
        Self {
            requests: Capped::default(),
            upstream_requests: Capped::default(),
            upstream_failures: Capped::default(),
            upstream_duration: Capped { family: Family::new_with_constructor(histogram), known: Arc::default() },
        }
    }
}

impl DnsMetrics {
    /// Registers them.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register("istio_dns_requests", "Total number of DNS requests", metrics.requests.family.clone());
        registry.register(
            "istio_dns_upstream_requests",
            "Total number of DNS requests forwarded to upstream",
            metrics.upstream_requests.family.clone(),
        );
        registry.register(
            "istio_dns_upstream_failures",
            "Total number of DNS requests that upstream did not answer",
            metrics.upstream_failures.family.clone(),
        );
        registry.register(
            "istio_dns_upstream_request_duration_seconds",
            "Time until upstream answered, in seconds",
            metrics.upstream_duration.family.clone(),
        );
        metrics
    }

    /// A question was asked.
    pub fn asked(&self, labels: &DnsLabels) {
        self.requests.with(labels, Counter::inc);
    }

    /// It was forwarded, and was answered within `took`, or not.
    pub fn forwarded(&self, labels: &DnsLabels, took: Duration, answered: bool) {
        self.upstream_requests.with(labels, Counter::inc);
        if !answered {
            self.upstream_failures.with(labels, Counter::inc);
        }
        self.upstream_duration.with(labels, |histogram| histogram.observe(took.as_secs_f64()));
    }
}

/// A family that has at most [`FAMILY_MAX`] sets of labels; what would be one more is not counted.
#[derive(Debug)]
pub(super) struct Capped<L, M, C = fn() -> M> {
    pub(super) family: Family<L, M, C>,
    known: Arc<AtomicUsize>,
}

impl<L, M, C: Clone> Clone for Capped<L, M, C> {
    fn clone(&self) -> Self {
        Self { family: self.family.clone(), known: self.known.clone() }
    }
}

impl<L: Clone + Eq + Hash, M: Default> Default for Capped<L, M> {
    fn default() -> Self {
        Self { family: Family::default(), known: Arc::default() }
    }
}

impl<L: Clone + Eq + Hash, M: Clone, C: MetricConstructor<M>> Capped<L, M, C> {
    pub(super) fn with<T>(&self, labels: &L, act: impl FnOnce(&M) -> T) {
        if let Some(metric) = self.family.get(labels) {
            act(&metric);
        } else if self.known.fetch_add(1, Relaxed) < FAMILY_MAX {
            act(&self.family.get_or_create(labels));
        }
    }
}

/// Counts of pods and of the control plane's messages: `workload_manager_*` and `istio_xds_*`.
#[derive(Clone, Debug, Default)]
pub struct NodeMetrics {
    active: Gauge,
    pending: Gauge,
    started: Counter,
    stopped: Counter,
    terminations: Family<[(&'static str, &'static str); 1], Counter>,
    messages: Family<[(&'static str, &'static str); 1], Counter>,
    message_bytes: Family<[(&'static str, &'static str); 1], Counter>,
    refused: Family<[(&'static str, &'static str); 1], Counter>,
    connected: Gauge,
}

impl NodeMetrics {
    /// Registers them.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let Self { active, pending, started, stopped, terminations, messages, message_bytes, refused, connected } =
            metrics.clone();
        registry.register("workload_manager_active_proxy_count", "Pods that are proxied", active);
        registry.register("workload_manager_pending_proxy_count", "Pods whose listeners are not open yet", pending);
        registry.register("workload_manager_proxies_started", "Pods whose listeners were opened", started);
        registry.register("workload_manager_proxies_stopped", "Pods whose listeners were closed", stopped);
        registry.register(
            "istio_xds_connection_terminations",
            "The total number of completed connections to xds server",
            terminations,
        );
        registry.register("istio_xds_message", "Total number of messages received", messages);
        registry.register("istio_xds_message_bytes", "Total number of bytes received", message_bytes);
        registry.register("istio_xds_refused", "Resources that could not be read and were refused", refused);
        registry.register("istio_xds_connected", "Whether there is a stream to the control plane", connected);
        metrics
    }

    /// How many pods have listeners, and how many wait for them.
    pub fn pods(&self, active: usize, pending: usize) {
        self.active.set(active as i64);
        self.pending.set(pending as i64);
    }

    /// The listeners of a pod were opened.
    pub fn pod_started(&self) {
        self.started.inc();
    }

    /// The listeners of a pod were closed.
    pub fn pod_stopped(&self) {
        self.stopped.inc();
    }
}

impl xds::client::Report for NodeMetrics {
    fn message(&self, kind: xds::Kind, bytes: usize) {
        self.messages.get_or_create(&[("url", kind.type_url())]).inc();
        self.message_bytes.get_or_create(&[("url", kind.type_url())]).inc_by(bytes as u64);
    }

    fn refused(&self, kind: xds::Kind) {
        self.refused.get_or_create(&[("url", kind.type_url())]).inc();
    }

    fn connected(&self, up: bool) {
        self.connected.set(up.into());
    }

    fn terminated(&self, reason: xds::client::Termination) {
        use xds::client::Termination;
        let reason = match reason {
            Termination::ConnectionError => "ConnectionError",
            Termination::Error => "Error",
            Termination::Reconnect => "Reconnect",
            Termination::Complete => "Complete",
        };
        self.terminations.get_or_create(&[("reason", reason)]).inc();
    }
}
