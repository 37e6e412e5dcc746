//! The manifests of what every lab runs by itself: the cluster's name server,
//! and the mesh's own programs, as the charts would install them.

use std::path::Path;

use serde_json::{Value, json};

use super::manifest::{self, Objects};
use super::options::Options;
use super::plan::ledger::DNS_ADDRESS;
use super::plan::{BUILT_IN, COMPONENT};
use super::rundir::RunDir;

/// Where the mesh's own programs live.
pub(crate) const SYSTEM_NAMESPACE: &str = "istio-system";

/// One proxy of one node. A node has two while one is being replaced.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Proxy {
    pub node: String,
    /// From 1; later ones take over from earlier ones.
    pub generation: u32,
}

impl Proxy {
    pub(crate) fn pod_name(&self) -> String {
        match self.generation {
            1 => format!("ztunnel-{}", self.node),
            later => format!("ztunnel-{}-{later}", self.node),
        }
    }
}

/// Everything the lab adds to the user's objects.
pub(crate) fn objects(run_dir: &RunDir, options: &Options, nodes: &[String], proxies: &[Proxy]) -> Objects {
    let mut all = dns(run_dir);
    if options.mesh {
        all.extend(istiod(run_dir, options));
        for node in nodes {
            all.push(agent(run_dir, options, node));
        }
        for proxy in proxies {
            all.push(ztunnel(run_dir, options, proxy));
        }
    }
    let text = json!({ "apiVersion": "v1", "kind": "List", "items": all }).to_string();
    manifest::read(Path::new(BUILT_IN), &text).0
}

fn dns(run_dir: &RunDir) -> Vec<Value> {
    let config = run_dir.config();
    vec![
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "kube-system" } }),
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": { "name": "kube-dns", "namespace": "kube-system", "labels": { "k8s-app": "kube-dns" } },
            "spec": {
                "clusterIP": DNS_ADDRESS,
                "selector": { "k8s-app": "kube-dns" },
                "ports": [
                    { "name": "dns", "port": 53, "protocol": "UDP" },
                    { "name": "dns-tcp", "port": 53, "protocol": "TCP" },
                ],
            },
        }),
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": "coredns-0", "namespace": "kube-system",
                "labels": { "k8s-app": "kube-dns", COMPONENT: "dns" },
            },
            "spec": {
                "terminationGracePeriodSeconds": 0,
                "containers": [{
                    "name": "dns",
                    "command": ["meshctl", "app", "cluster-dns", "--config-dir", config],
                    "volumeMounts": [{ "name": "config", "mountPath": config }],
                    "readinessProbe": { "tcpSocket": { "port": 53 } },
                }],
                "volumes": [{ "name": "config", "hostPath": { "path": config } }],
            },
        }),
    ]
}

fn istiod(run_dir: &RunDir, options: &Options) -> Vec<Value> {
    let (config, state) = (run_dir.config(), run_dir.state());
    vec![
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": SYSTEM_NAMESPACE } }),
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": { "name": "istiod", "namespace": SYSTEM_NAMESPACE, "labels": { "app": "istiod" } },
            "spec": {
                "selector": { "app": "istiod" },
                "ports": [
                    { "name": "https-dns", "port": 15012, "protocol": "TCP" },
                    { "name": "http-monitoring", "port": 15014, "protocol": "TCP" },
                ],
            },
        }),
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": "istiod-0", "namespace": SYSTEM_NAMESPACE,
                "labels": { "app": "istiod", COMPONENT: "istiod" },
            },
            "spec": {
                "serviceAccountName": "istiod",
                "containers": [{
                    "name": "discovery",
                    "command": ["meshctl", "istiod", "discovery", "--config-dir", config, "--state-dir", state],
                    "env": environment(options, "istiod"),
                    "volumeMounts": [
                        { "name": "config", "mountPath": config },
                        { "name": "state", "mountPath": state },
                    ],
                    "readinessProbe": { "httpGet": { "port": 8080, "path": "/ready" } },
                }],
                "volumes": [
                    { "name": "config", "hostPath": { "path": config } },
                    { "name": "state", "hostPath": { "path": state } },
                ],
            },
        }),
    ]
}

fn agent(run_dir: &RunDir, options: &Options, node: &str) -> Value {
    let dir = run_dir.agent(node);
    let mut env = environment(options, "agent");
    env.extend([
        json!({ "name": "NODE_NAME", "value": node }),
        json!({ "name": "ZTUNNEL_UDS_ADDRESS", "value": dir.join("ztunnel.sock") }),
        json!({ "name": "CNI_AGENT_RUN_DIR", "value": dir }),
    ]);
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": format!("istio-cni-node-{node}"), "namespace": SYSTEM_NAMESPACE,
            "labels": { "k8s-app": "istio-cni-node", COMPONENT: "agent" },
        },
        "spec": {
            "serviceAccountName": "istio-cni",
            "hostNetwork": true,
            "nodeName": node,
            "containers": [{
                "name": "install-cni",
                "command": ["meshctl", "agent", "--config-dir", run_dir.config()],
                "env": env,
                "readinessProbe": { "httpGet": { "port": 8000, "path": "/readyz" } },
            }],
        },
    })
}

fn ztunnel(run_dir: &RunDir, options: &Options, proxy: &Proxy) -> Value {
    let dir = run_dir.agent(&proxy.node);
    let field = |name: &str, path: &str| json!({ "name": name, "valueFrom": { "fieldRef": { "fieldPath": path } } });
    let mut env = environment(options, "ztunnel");
    env.extend([
        json!({ "name": "XDS_ADDRESS", "value": "istiod.istio-system.svc:15012" }),
        json!({ "name": "CA_ADDRESS", "value": "istiod.istio-system.svc:15012" }),
        json!({ "name": "INPOD_UDS", "value": dir.join("ztunnel.sock") }),
        json!({ "name": "INPOD_ENABLED", "value": "true" }),
        json!({ "name": "ISTIO_META_CLUSTER_ID", "value": "Kubernetes" }),
        json!({ "name": "RUST_BACKTRACE", "value": "1" }),
        field("POD_NAME", "metadata.name"),
        field("POD_NAMESPACE", "metadata.namespace"),
        field("NODE_NAME", "spec.nodeName"),
        field("INSTANCE_IP", "status.podIP"),
        field("SERVICE_ACCOUNT", "spec.serviceAccountName"),
    ]);
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": proxy.pod_name(), "namespace": SYSTEM_NAMESPACE,
            "labels": { "app": "ztunnel", "istio.io/dataplane-mode": "none", COMPONENT: "ztunnel" },
            "annotations": { "prometheus.io/scrape": "true", "prometheus.io/port": "15020" },
        },
        "spec": {
            "serviceAccountName": "ztunnel",
            "nodeName": proxy.node,
            "terminationGracePeriodSeconds": 30,
            "containers": [{
                "name": "istio-proxy",
                "command": ["meshctl", "ztunnel", "proxy", "ztunnel"],
                "env": env,
                "volumeMounts": [
                    { "name": "sockets", "mountPath": dir },
                    { "name": "istio-token", "mountPath": "/var/run/secrets/tokens" },
                    { "name": "istiod-ca-cert", "mountPath": "/var/run/secrets/istio" },
                ],
                "readinessProbe": { "httpGet": { "port": 15021, "path": "/healthz/ready" } },
            }],
            "volumes": [
                { "name": "sockets", "hostPath": { "path": dir } },
                { "name": "istio-token", "projected": { "sources": [
                    { "serviceAccountToken": { "path": "istio-token", "audience": "istio-ca" } },
                ] } },
                { "name": "istiod-ca-cert", "configMap": { "name": "istio-ca-root-cert" } },
            ],
        },
    })
}

/// What the user adds to a component's environment; it comes first, so that
/// the lab's own settings win.
pub(crate) fn environment(options: &Options, component: &str) -> Vec<Value> {
    let mine = options.component_env.iter().filter(|(name, ..)| name == component);
    mine.map(|(_, key, value)| json!({ "name": key, "value": value })).collect()
}
