//! What we know of pods and namespaces, read from Kubernetes objects. Plain data.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use chassis::objects::Object;
use serde_json::Value;

/// Where a pod's network namespace is, as the lab's kubelet says.
const NETNS_ANNOTATION: &str = "lab.istiod-lite.io/netns";

/// On the object of a static pod: the uid that the kubelet gave the pod itself.
const MIRROR_ANNOTATION: &str = "kubernetes.io/config.mirror";

/// Labels, or annotations.
pub type Labels = BTreeMap<String, String>;

/// Which pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodName {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl std::fmt::Display for PodName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What matters of a Pod.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PodFacts {
    /// Which incarnation of the name.
    pub uid: String,
    /// The node it runs on.
    pub node: String,
    /// Its service account.
    pub service_account: String,
    /// It uses its node's network.
    pub host_network: bool,
    /// It has ended and will not run again.
    pub ended: bool,
    /// Something runs in it.
    pub running: bool,
    /// Its labels.
    pub labels: Labels,
    /// Its annotations.
    pub annotations: Labels,
    /// Its addresses, as far as known.
    pub addresses: Vec<IpAddr>,
}

impl PodFacts {
    /// Reads a Pod. What is missing or of a wrong type counts as not said.
    pub fn of(object: &Object) -> Self {
        let value = &object.value;
        let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let phase = text("/status/phase");
        let account = text("/spec/serviceAccountName");
        Self {
            uid: text("/metadata/uid"),
            node: text("/spec/nodeName"),
            service_account: if account.is_empty() { "default".to_owned() } else { account },
            host_network: value.pointer("/spec/hostNetwork").and_then(Value::as_bool).unwrap_or(false),
            ended: phase == "Succeeded" || phase == "Failed",
            running: running(value),
            labels: labels(value, "/metadata/labels"),
            annotations: labels(value, "/metadata/annotations"),
            addresses: addresses(value),
        }
    }

    /// The uid by which the kubelet knows it: a static pod's is not that of its object.
    pub fn given_uid(&self) -> &str {
        self.annotations.get(MIRROR_ANNOTATION).filter(|uid| !uid.is_empty()).unwrap_or(&self.uid)
    }

    /// Where its network namespace is, as far as the Pod says.
    pub fn netns(&self) -> Option<PathBuf> {
        self.annotations.get(NETNS_ANNOTATION).filter(|path| !path.is_empty()).map(PathBuf::from)
    }
}

/// The labels of a Namespace.
pub fn namespace_labels(object: &Object) -> Labels {
    labels(&object.value, "/metadata/labels")
}

/// The labels, or annotations, at a place of an object.
pub(super) fn labels(value: &Value, pointer: &str) -> Labels {
    let entries = value.pointer(pointer).and_then(Value::as_object).into_iter().flatten();
    entries.filter_map(|(key, value)| Some((key.clone(), scalar(value)?))).collect()
}

/// YAML users write `true` where Kubernetes wants `"true"`.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        _ => None,
    }
}

/// Whether one of its containers runs, of those that run first too.
fn running(value: &Value) -> bool {
    let lists = ["/status/containerStatuses", "/status/initContainerStatuses"].map(|list| value.pointer(list));
    let mut containers = lists.into_iter().flatten().filter_map(Value::as_array).flatten();
    containers.any(runs)
}

/// Whether a container runs, by its status.
pub(super) fn runs(container: &Value) -> bool {
    container.pointer("/state/running").is_some_and(Value::is_object)
}

fn addresses(value: &Value) -> Vec<IpAddr> {
    let list = value.pointer("/status/podIPs").and_then(Value::as_array).into_iter().flatten();
    let listed = list.filter_map(|entry| entry.get("ip").and_then(Value::as_str));
    let single = value.pointer("/status/podIP").and_then(Value::as_str);
    let mut addresses: Vec<IpAddr> = listed.chain(single).filter_map(|ip| ip.parse().ok()).collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}
