//! What `kubectl get -o json` shows, in the lab's words; nothing here asks anything.

use meshctl::lab::control::protocol::{NodeReport, PodReport, ServiceReport, StatusReport};
use serde_json::Value;

/// Says how a cluster is, from a list of its nodes, pods and services.
pub(crate) fn report(name: &str, list: &Value, workers: &[String; 2]) -> StatusReport {
    let mut all = StatusReport { name: name.into(), ready: true, ..StatusReport::default() };
    for object in list["items"].as_array().into_iter().flatten() {
        match object["kind"].as_str() {
            Some("Node") => all.nodes.push(node(object, workers)),
            Some("Pod") => all.pods.push(pod(object, workers)),
            Some("Service") => all.services.push(service(object)),
            _ => {}
        }
    }
    all
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn texts<'a>(list: &'a Value, of: impl Fn(&'a Value) -> &'a Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(|item| of(item).as_str()).map(str::to_owned).collect()
}

/// A node as scenarios call it.
fn called(node: &str, workers: &[String; 2]) -> String {
    match workers.iter().position(|worker| worker == node) {
        Some(n) => format!("node{}", n + 1),
        None => node.to_owned(),
    }
}

fn node(object: &Value, workers: &[String; 2]) -> NodeReport {
    let addresses = object["status"]["addresses"].as_array().into_iter().flatten();
    let internal = addresses.filter(|address| address["type"] == "InternalIP");
    NodeReport {
        name: called(&text(&object["metadata"]["name"]), workers),
        addresses: internal.map(|address| text(&address["address"])).collect(),
        ..NodeReport::default()
    }
}

/// One pod.
pub(crate) fn pod(object: &Value, workers: &[String; 2]) -> PodReport {
    let (metadata, status) = (&object["metadata"], &object["status"]);
    let containers: Vec<&Value> = status["containerStatuses"].as_array().into_iter().flatten().collect();
    let ready = containers.iter().filter(|container| container["ready"] == true).count();
    let conditions = status["conditions"].as_array();
    let is_ready = conditions.into_iter().flatten().any(|c| c["type"] == "Ready" && c["status"] == "True");
    let going = !metadata["deletionTimestamp"].is_null();
    let mut addresses = texts(&status["podIPs"], |address| &address["ip"]);
    addresses.sort_by_key(|address| address.contains(':'));
    PodReport {
        namespace: text(&metadata["namespace"]),
        name: text(&metadata["name"]),
        node: called(&text(&object["spec"]["nodeName"]), workers),
        addresses,
        phase: text(&status["phase"]),
        status: if going { "Terminating".into() } else { text(&status["phase"]) },
        ready: ready as u32,
        containers: object["spec"]["containers"].as_array().map_or(0, Vec::len) as u32,
        restarts: containers.iter().filter_map(|container| container["restartCount"].as_u64()).sum::<u64>() as u32,
        is_ready: !going && (is_ready || status["phase"] == "Succeeded"),
        redirection: metadata["annotations"]["ambient.istio.io/redirection"].as_str().map(str::to_owned),
    }
}

fn service(object: &Value) -> ServiceReport {
    let addresses = texts(&object["spec"]["clusterIPs"], |address| address);
    ServiceReport {
        namespace: text(&object["metadata"]["namespace"]),
        name: text(&object["metadata"]["name"]),
        cluster_ips: addresses.into_iter().filter(|address| address != "None").collect(),
        ..ServiceReport::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pod_is_ready_when_it_says_so_and_is_not_going() {
        let workers = ["c-worker".to_owned(), "c-worker2".to_owned()];
        let mut object = json!({
            "kind": "Pod",
            "metadata": { "namespace": "n", "name": "p", "annotations": { "ambient.istio.io/redirection": "enabled" } },
            "spec": { "nodeName": "c-worker2", "containers": [{}, {}] },
            "status": {
                "phase": "Running", "podIPs": [{ "ip": "fd00::1" }, { "ip": "10.0.0.1" }],
                "conditions": [{ "type": "Ready", "status": "True" }],
                "containerStatuses": [{ "ready": true, "restartCount": 2 }, { "ready": true, "restartCount": 1 }]
            }
        });
        let seen = pod(&object, &workers);
        assert_eq!((seen.node.as_str(), seen.ready, seen.containers, seen.restarts), ("node2", 2, 2, 3));
        assert_eq!(seen.addresses, ["10.0.0.1", "fd00::1"]);
        assert_eq!(seen.redirection.as_deref(), Some("enabled"));
        assert!(seen.is_ready);
        object["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        assert!(!pod(&object, &workers).is_ready);
    }

    #[test]
    fn a_headless_service_has_no_address() {
        let list = json!({ "items": [
            { "kind": "Service", "metadata": { "namespace": "n", "name": "h" }, "spec": { "clusterIPs": ["None"] } },
            { "kind": "Service", "metadata": { "namespace": "n", "name": "s" }, "spec": { "clusterIPs": ["10.96.0.1"] } },
        ] });
        let all = report("c", &list, &Default::default());
        assert_eq!(all.services[0].cluster_ips, Vec::<String>::new());
        assert_eq!(all.services[1].cluster_ips, ["10.96.0.1"]);
    }
}
