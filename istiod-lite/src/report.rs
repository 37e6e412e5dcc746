//! What is counted, under the names that Istio's dashboards know, and who is connected.
//!
//! istiod's counters lack the `_total` that OpenMetrics wants of a counter, so those are gauges
//! here that only rise: their names, and every query over them, stay what they are.

use crate::{facts::FactKey, publish::SharedIndex};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use xds::{Kind, Node, server::state::Event, wire::Response};

/// Everything that this process counts of its own, but for what the CA counts.
#[derive(Debug)]
pub struct Report {
    metrics: Metrics,
    sessions: Mutex<BTreeMap<u64, Session>>,
    started: SystemTime,
}

/// One connected proxy, for `/debug/connections` and `/debug/syncz`.
#[derive(Debug)]
struct Session {
    node: Node,
    since: SystemTime,
    kinds: [Progress; Kind::ALL.len()],
}

#[derive(Clone, Debug, Default)]
struct Progress {
    watched: bool,
    sent: u64,
    acked: u64,
    nacked: u64,
    refusal: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TypeLabel {
    r#type: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VersionLabel {
    version: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EventLabel {
    r#type: String,
}

type ByType<M> = Family<TypeLabel, M, fn() -> M>;

#[derive(Debug)]
struct Metrics {
    connected: Family<VersionLabel, Gauge>,
    pushes: Family<TypeLabel, Gauge>,
    convergence: Histogram,
    config_size: ByType<Histogram>,
    rejects: Family<TypeLabel, Gauge>,
    expired_nonces: Family<TypeLabel, Gauge>,
    events: Family<EventLabel, Gauge>,
    encodes: Gauge,
    services: Gauge,
    workloads: Gauge,
    policies: Gauge,
    uptime: Gauge,
    problems: Gauge,
    problems_total: Counter,
    root_expiry: Gauge,
    root_expires_in: Gauge,
}

/// Seconds from a change to its sending: Istio's buckets, and finer ones below for a mesh that
/// answers in milliseconds.
const CONVERGENCE_BUCKETS: [f64; 12] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1., 3., 5., 10., 20., 30.];

/// Bytes of one response, in Istio's buckets.
const SIZE_BUCKETS: [f64; 5] = [1., 10_000., 1_000_000., 4_000_000., 10_000_000.];

const VERSION: VersionLabel = VersionLabel { version: env!("CARGO_PKG_VERSION") };

impl Report {
    /// Counters that are shown in `registry`.
    pub fn register(registry: &mut Registry) -> Self {
        let report = Self { metrics: Metrics::new(), sessions: Mutex::default(), started: SystemTime::now() };
        let m = &report.metrics;
        m.connected.get_or_create(&VERSION).set(0);
        for kind in Kind::ALL {
            let label = TypeLabel { r#type: kind.short() };
            m.pushes.get_or_create(&label).set(0);
            m.rejects.get_or_create(&label).set(0);
        }
        let info = Family::<VersionLabel, Gauge>::default();
        info.get_or_create(&VERSION).set(1);
        registry.register("pilot_info", "Version of the control plane", info);
        registry.register("pilot_xds", "Proxies connected", m.connected.clone());
        registry.register("pilot_xds_pushes", "Responses sent", m.pushes.clone());
        registry.register(
            "pilot_proxy_convergence_time",
            "Seconds from a change to its sending",
            m.convergence.clone(),
        );
        registry.register("pilot_xds_config_size_bytes", "Bytes of resources in a response", m.config_size.clone());
        registry.register(
            "pilot_total_xds_rejects",
            "Responses that a proxy refused at least in part",
            m.rejects.clone(),
        );
        registry.register("pilot_xds_expired_nonce", "Requests that answer an old response", m.expired_nonces.clone());
        registry.register(
            "pilot_k8s_cfg_events",
            "Objects that were told of, new or changed or removed",
            m.events.clone(),
        );
        registry.register(
            "istiod_lite_xds_encodes",
            "Resources that were encoded; each is encoded once for all proxies",
            m.encodes.clone(),
        );
        registry.register("pilot_services", "Services that are published", m.services.clone());
        registry.register("istiod_lite_workloads", "Workloads that are published", m.workloads.clone());
        registry.register("istiod_lite_policies", "Policies that are published", m.policies.clone());
        registry.register("istiod_uptime_seconds", "Seconds since the process started", m.uptime.clone());
        registry.register(
            "istiod_lite_problems",
            "Parts of the configuration that cannot be used now",
            m.problems.clone(),
        );
        registry.register(
            "istiod_lite_config_errors",
            "Parts of the configuration that could not be used, ever",
            m.problems_total.clone(),
        );
        registry.register(
            "citadel_server_root_cert_expiry_timestamp",
            "Unix time at which the signing certificate ends",
            m.root_expiry.clone(),
        );
        registry.register(
            "citadel_server_root_cert_expiry_seconds",
            "Seconds until the signing certificate ends",
            m.root_expires_in.clone(),
        );
        report
    }

    /// An object was told of.
    pub fn fact(&self, key: &FactKey) {
        self.metrics.events.get_or_create_owned(&EventLabel { r#type: format!("{:?}", key.kind) }).inc();
    }

    /// Something in the configuration could not be used.
    pub fn problem(&self) {
        self.metrics.problems_total.inc();
    }

    /// So many resources were encoded, ever.
    pub fn encoded(&self, encodes: u64) {
        self.metrics.encodes.set(i64::try_from(encodes).unwrap_or(i64::MAX));
    }

    /// Brings up to date what is only known when asked.
    pub fn before_scrape(&self, index: &SharedIndex, problems: usize, root_ends: SystemTime) {
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        let seconds = |d: Duration| i64::try_from(d.as_secs()).unwrap_or(i64::MAX);
        let m = &self.metrics;
        {
            let index = index.read();
            m.services.set(count(index.services().count()));
            m.workloads.set(count(index.workloads().count()));
            m.policies.set(count(index.policies().count()));
        }
        m.problems.set(count(problems));
        m.uptime.set(seconds(self.started.elapsed().unwrap_or_default()));
        m.root_expiry.set(seconds(root_ends.duration_since(UNIX_EPOCH).unwrap_or_default()));
        m.root_expires_in.set(seconds(root_ends.duration_since(SystemTime::now()).unwrap_or_default()));
    }

    /// Who is connected.
    pub fn connections(&self) -> Value {
        let sessions = self.sessions();
        let shown = sessions.iter().map(|(id, session)| {
            json!({
                "connectionId": format!("{}-{id:x}", session.node.id),
                "connectedAt": seconds_of(session.since),
                "watches": watches(session, |progress| progress.watched),
            })
        });
        json!({ "totalClients": sessions.len(), "clients": shown.collect::<Vec<_>>() })
    }

    /// Who has been sent what, and took it.
    pub fn sync_status(&self) -> Value {
        let sessions = self.sessions();
        let shown = sessions.values().map(|session| {
            let kinds = expected(&session.node).iter().map(|kind| {
                let progress = &session.kinds[*kind as usize];
                let shown = json!({
                    "status": progress.status(),
                    "sent": progress.sent,
                    "acked": progress.acked,
                    "nacked": progress.nacked,
                    "refusal": progress.refusal,
                });
                (kind.short().to_owned(), shown)
            });
            json!({
                "proxy": session.node.id,
                "proxyType": session.node.proxy_type(),
                "clusterId": session.node.cluster,
                "configs": kinds.collect::<serde_json::Map<_, _>>(),
            })
        });
        Value::Array(shown.collect())
    }

    fn sessions(&self) -> MutexGuard<'_, BTreeMap<u64, Session>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn progress(&self, session: u64, kind: Kind, act: impl FnOnce(&mut Progress)) {
        if let Some(session) = self.sessions().get_mut(&session) {
            act(&mut session.kinds[kind as usize]);
        }
    }
}

impl xds::server::Report for Report {
    fn opened(&self, session: u64, node: &Node) {
        self.metrics.connected.get_or_create(&VERSION).inc();
        let state = Session { node: node.clone(), since: SystemTime::now(), kinds: Default::default() };
        self.sessions().insert(session, state);
    }

    fn sent(&self, session: u64, kind: Kind, response: &Response, waited: Option<Duration>) {
        let label = TypeLabel { r#type: kind.short() };
        self.metrics.pushes.get_or_create(&label).inc();
        let bytes: usize = response.resources.iter().map(bytes::Bytes::len).sum();
        self.metrics.config_size.get_or_create(&label).observe(bytes as f64);
        if let Some(waited) = waited {
            self.metrics.convergence.observe(waited.as_secs_f64());
        }
        self.progress(session, kind, |progress| progress.sent += 1);
    }

    fn heard(&self, session: u64, event: &Event) {
        match event {
            Event::Asked(kind) => self.progress(session, *kind, |progress| progress.watched = true),
            Event::Acked(kind) => self.progress(session, *kind, |progress| {
                progress.acked += 1;
                progress.refusal = None;
            }),
            Event::Nacked(kind, reason) => {
                self.metrics.rejects.get_or_create(&TypeLabel { r#type: kind.short() }).inc();
                self.progress(session, *kind, |progress| {
                    progress.nacked += 1;
                    progress.refusal = Some(reason.chars().take(500).collect());
                });
            }
            Event::Stale(kind) => {
                self.metrics.expired_nonces.get_or_create(&TypeLabel { r#type: kind.short() }).inc();
            }
            Event::Unserved(_) => {}
        }
    }

    fn closed(&self, session: u64) {
        self.metrics.connected.get_or_create(&VERSION).dec();
        self.sessions().remove(&session);
    }
}

impl Progress {
    /// The words of `istioctl proxy-status`.
    fn status(&self) -> &'static str {
        match () {
            () if !self.watched => "IGNORED",
            () if self.refusal.is_some() => "ERROR",
            () if self.sent == 0 => "NOT SENT",
            () if self.acked + self.nacked < self.sent => "STALE",
            () => "SYNCED",
        }
    }
}

impl Metrics {
    fn new() -> Self {
        let size: fn() -> Histogram = || Histogram::new(SIZE_BUCKETS);
        Self {
            connected: Family::default(),
            pushes: Family::default(),
            convergence: Histogram::new(CONVERGENCE_BUCKETS),
            config_size: Family::new_with_constructor(size),
            rejects: Family::default(),
            expired_nonces: Family::default(),
            events: Family::default(),
            encodes: Gauge::default(),
            services: Gauge::default(),
            workloads: Gauge::default(),
            policies: Gauge::default(),
            uptime: Gauge::default(),
            problems: Gauge::default(),
            problems_total: Counter::default(),
            root_expiry: Gauge::default(),
            root_expires_in: Gauge::default(),
        }
    }
}

/// The kinds that a proxy asks for, by what it says it is.
fn expected(node: &Node) -> &'static [Kind] {
    if node.proxy_type() == "waypoint" { Kind::WAYPOINT } else { Kind::NODE_PROXY }
}

fn watches(session: &Session, wanted: impl Fn(&Progress) -> bool) -> Vec<&'static str> {
    let kinds = Kind::ALL.into_iter().zip(&session.kinds);
    kinds.filter(|(_, progress)| wanted(progress)).map(|(kind, _)| kind.type_url()).collect()
}

fn seconds_of(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
