//! What is kept of a cluster when a scenario failed: enough to understand it without the cluster.

use super::{cluster::Cluster, install::NAMESPACE};
use std::path::Path;

/// Pages of the mesh's programs: which pods (by the start of their name), port, path.
const PAGES: &[(&str, u16, &str)] = &[
    ("ztunnel", 15000, "/config_dump"),
    ("ztunnel", 15020, "/metrics"),
    ("istiod", 8080, "/debug/status"),
    ("istiod", 15014, "/metrics"),
    ("istio-cni-node", 15014, "/metrics"),
    ("waypoint", 15000, "/config_dump"),
    ("waypoint", 15020, "/metrics"),
];

/// Keeps logs, objects, config dumps and metrics. What cannot be had is noted in its place.
pub(crate) fn save(cluster: &Cluster, folder: &Path) {
    if std::fs::create_dir_all(folder).is_err() {
        return;
    }
    let keep = |name: &str, text: anyhow::Result<String>| {
        let text = text.unwrap_or_else(|error| format!("cannot be had: {error:#}\n"));
        let _ = std::fs::write(folder.join(name), text);
    };
    let kinds = "nodes,pods,services,endpointslices,deployments,daemonsets";
    keep("objects.txt", cluster.kubectl(&["get", kinds, "--all-namespaces", "-o", "wide"]));
    keep("pods.yaml", cluster.kubectl(&["get", "pods", "--all-namespaces", "-o", "yaml"]));
    keep("events.txt", cluster.kubectl(&["get", "events", "--all-namespaces", "--sort-by=.lastTimestamp"]));
    let policies = "gateways,httproutes,grpcroutes,authorizationpolicies.security.istio.io";
    keep("policies.yaml", cluster.kubectl(&["get", policies, "--all-namespaces", "-o", "yaml"]));
    let Ok(status) = cluster.status() else { return };
    for pod in &status.pods {
        let (id, file) = (format!("{}/{}", pod.namespace, pod.name), format!("{}-{}", pod.namespace, pod.name));
        if pod.namespace == "kube-system" && !pod.name.starts_with("node") {
            continue;
        }
        keep(&format!("{file}.log"), cluster.logs(&id));
        if pod.restarts > 0 {
            let previous = ["logs", "--namespace", &pod.namespace, &pod.name, "--previous"];
            keep(&format!("{file}.previous.log"), cluster.kubectl(&previous));
        }
        if !pod.is_ready {
            keep(
                &format!("{file}.txt"),
                cluster.kubectl(&["describe", "pod", "--namespace", &pod.namespace, &pod.name]),
            );
        }
        for (start, port, path) in PAGES {
            if pod.is_ready && pod.name.starts_with(start) && (pod.namespace == NAMESPACE || *start == "waypoint") {
                keep(&format!("{file}{}", path.replace('/', "-")), cluster.page(&id, *port, path));
            }
        }
    }
}
