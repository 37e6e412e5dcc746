//! What the agent counts.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    r#type: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Response {
    response_code: u16,
}

/// The agent's metrics. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct Report {
    connected: Gauge,
    pods: Gauge,
    events: Family<Kind, Counter>,
    requests: Family<Response, Counter>,
    healed: Counter,
    failures: Counter,
    installs: Counter,
    install_ready: Gauge,
}

impl Report {
    /// Makes and registers them.
    pub fn new(registry: &mut Registry) -> Self {
        let report = Self::default();
        registry.register("ztunnel_connected", "Connected node proxies", report.connected.clone());
        registry.register("nodeagent_pods", "Pods of this node that are in the mesh", report.pods.clone());
        registry.register(
            "nodeagent_reconcile_events",
            "Changes of pods and namespaces that were acted upon, by type",
            report.events.clone(),
        );
        registry.register("istio_cni_plugin_requests", "Announcements of new pods, by answer", report.requests.clone());
        registry.register(
            "nodeagent_rules_healed",
            "Pods whose redirection was changed by somebody else and put right",
            report.healed.clone(),
        );
        registry.register(
            "nodeagent_failures",
            "Steps of taking a pod in or out that failed and are tried again",
            report.failures.clone(),
        );
        registry.register(
            "istio_cni_installs",
            "Times that the CNI plugin was installed, or put right after somebody else",
            report.installs.clone(),
        );
        registry.register(
            "istio_cni_install_ready",
            "Whether new pods come by the CNI plugin",
            report.install_ready.clone(),
        );
        report
    }

    /// The CNI plugin was installed or put right.
    pub fn installed(&self) {
        self.installs.inc();
    }

    /// Whether new pods come by the CNI plugin.
    pub fn install_ready(&self, ready: bool) {
        self.install_ready.set(ready.into());
    }

    /// How many proxies are connected.
    pub fn connected(&self, count: usize) {
        self.connected.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// A pod came in (`+1`) or left (`-1`).
    pub fn pods(&self, by: i64) {
        self.pods.inc_by(by);
    }

    /// A change was acted upon: `add`, `update` or `delete`.
    pub fn event(&self, kind: &'static str) {
        self.events.get_or_create(&Kind { r#type: kind }).inc();
    }

    /// A new pod was announced and this was the answer.
    pub fn announced(&self, response_code: u16) {
        self.requests.get_or_create(&Response { response_code }).inc();
    }

    /// The rules of a pod were put right.
    pub fn healed(&self) {
        self.healed.inc();
    }

    /// A step failed.
    pub fn failed(&self) {
        self.failures.inc();
    }
}
