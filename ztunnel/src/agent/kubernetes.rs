//! What the agent asks of a cluster, and what it writes there: each one call, or one watch.
//!
//! It may do little, because a node may be broken into: read pods and namespaces, say of a pod of
//! this node that it is in, see whether its own DaemonSet is still wanted, and take one taint off
//! its node if it is told to.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use chassis::objects::ObjectEvent;
use chassis::task::{self, Task};
use cluster::watch::{Kind, Watches};
use cluster::{CallError, Client, resource};
use serde_json::{Value, json};

use super::facts::{self, Labels, PodName};

/// The taint of a node that cannot take pods of the mesh yet.
const NOT_READY: &str = "cni.istio.io/not-ready";

/// A cluster, as the agent sees it. Clones are the same.
#[derive(Debug, Clone)]
pub struct Kubernetes {
    client: Client,
}

/// What became of our own DaemonSet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// It is there: the next agent comes.
    Yes,
    /// It is gone, or on its way.
    No(String),
    /// Nobody could be asked.
    Unknown(String),
}

impl Kubernetes {
    /// A cluster.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// The pods of a node, and the labels of all namespaces.
    pub fn watch(&self, node: &str) -> Watches {
        let pods = Kind::of(resource::POD).fields(&format!("spec.nodeName={node}")).trim(trim_pod);
        Watches::open(&self.client, vec![pods, Kind::of(resource::NAMESPACE).metadata_only()])
    }

    /// Sets or removes an annotation of a pod; with a uid only of that one. A pod that is gone is fine.
    pub async fn annotate(
        &self,
        pod: &PodName,
        uid: Option<&str>,
        key: &str,
        value: Option<&str>,
    ) -> Result<(), CallError> {
        let mut metadata = json!({ "annotations": { key: value } });
        if let Some(uid) = uid {
            metadata["uid"] = uid.into();
        }
        let patch = json!({ "metadata": metadata });
        match self.client.merge_patch(&resource::POD, &pod.namespace, &pod.name, "status", &patch).await {
            // Another pod has its name by now: there is nobody to say it of.
            Ok(_) | Err(CallError::NotFound(_) | CallError::Conflict(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The labels of a namespace at this moment; `None` if there is none.
    pub async fn namespace(&self, name: &str) -> Result<Option<Labels>, CallError> {
        match self.client.get(&resource::NAMESPACE, "", name).await {
            Ok(namespace) => Ok(Some(facts::labels(&namespace, "/metadata/labels"))),
            Err(CallError::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Begins to look whether our DaemonSet goes. Once it has, we may not be able to ask any more;
    /// a watch that was begun before goes on, whatever becomes of role and account.
    pub fn follow(&self, namespace: &str, daemon_set: &str) -> Sight {
        let kind = Kind::of(resource::DAEMON_SET).in_namespace(namespace).metadata_only();
        let mut watches = Watches::open(&self.client, vec![kind.fields(&format!("metadata.name={daemon_set}"))]);
        let gone = Arc::new(AtomicBool::new(false));
        let seen = gone.clone();
        let follow = async move {
            loop {
                for event in watches.next().await {
                    match event {
                        ObjectEvent::Applied(object) => seen.store(is_going(&object.value), Ordering::Relaxed),
                        ObjectEvent::Removed(_) => seen.store(true, Ordering::Relaxed),
                        ObjectEvent::Problem(_) => {}
                    }
                }
            }
        };
        Sight { gone, _task: task::spawn("own daemon set", follow) }
    }

    /// Whether our DaemonSet is still wanted.
    pub async fn wanted(&self, namespace: &str, daemon_set: &str) -> Wanted {
        judge(self.client.get(&resource::DAEMON_SET, namespace, daemon_set).await)
    }

    /// Takes the taint off a node that says it takes no pods of the mesh.
    pub async fn untaint(&self, node: &str) -> Result<bool, CallError> {
        let found = self.client.get(&resource::NODE, "", node).await?;
        let Some(patch) = without_taint(&found) else { return Ok(false) };
        self.client.merge_patch(&resource::NODE, "", node, "", &patch).await?;
        Ok(true)
    }
}

/// What was seen of our DaemonSet.
#[derive(Debug)]
pub struct Sight {
    gone: Arc<AtomicBool>,
    _task: Task<()>,
}

impl Sight {
    /// Whether it was seen to go.
    pub fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }
}

/// Keeps of a pod what [`facts::PodFacts`] reads: of its containers only whether they run, for the rest of their
/// states changes often and says nothing here.
fn trim_pod(pod: &mut Value) {
    if let Some(spec) = pod.pointer_mut("/spec").and_then(Value::as_object_mut) {
        spec.retain(|key, _| matches!(key.as_str(), "nodeName" | "serviceAccountName" | "hostNetwork"));
    }
    if let Some(status) = pod.pointer_mut("/status").and_then(Value::as_object_mut) {
        let of_containers = |key: &str| matches!(key, "containerStatuses" | "initContainerStatuses");
        status.retain(|key, _| matches!(key.as_str(), "phase" | "podIP" | "podIPs") || of_containers(key));
        let lists = status.iter_mut().filter(|(key, _)| of_containers(key)).filter_map(|(_, list)| list.as_array_mut());
        for container in lists.flatten() {
            *container = if facts::runs(container) { json!({"state": {"running": {}}}) } else { json!({}) };
        }
    }
}

/// Only word of the DaemonSet itself is an answer. Not to be known (401) also happens to an agent
/// whose pod was deleted by force, and not to be allowed (403) to one whose role was forgotten or whose
/// server cannot look roles up: then, as in silence, nothing may become weaker. When they are taken
/// away together with the DaemonSet, the watch that is open has said so.
fn judge(found: Result<Value, CallError>) -> Wanted {
    match found {
        Ok(set) if is_going(&set) => Wanted::No("it is being deleted".to_owned()),
        Ok(_) => Wanted::Yes,
        Err(error @ CallError::NotFound(_)) => Wanted::No(error.to_string()),
        Err(error) => Wanted::Unknown(error.to_string()),
    }
}

fn is_going(object: &Value) -> bool {
    object.pointer("/metadata/deletionTimestamp").is_some_and(|at| !at.is_null())
}

/// The patch that takes the taint away, if it is there. Lists are replaced whole, so it holds only
/// for the version that was read.
fn without_taint(node: &Value) -> Option<Value> {
    let taints = node.pointer("/spec/taints")?.as_array()?;
    let left: Vec<&Value> =
        taints.iter().filter(|taint| taint.get("key").and_then(Value::as_str) != Some(NOT_READY)).collect();
    (left.len() < taints.len()).then(|| {
        json!({
            "metadata": { "resourceVersion": node.pointer("/metadata/resourceVersion") },
            "spec": { "taints": left },
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_ends_the_mesh_on_a_node() {
        let there = json!({"metadata": {"name": "istio-cni-node"}});
        let going = json!({"metadata": {"name": "istio-cni-node", "deletionTimestamp": "2026-01-01T00:00:00Z"}});
        let text = || "x".to_owned();
        let no = |found| matches!(judge(found), Wanted::No(_));
        assert_eq!(judge(Ok(there)), Wanted::Yes);
        assert!(no(Ok(going)));
        assert!(no(Err(CallError::NotFound(text()))));
        for silence in [
            CallError::Forbidden(text()),
            CallError::Unauthorized(text()),
            CallError::Unreachable(text()),
            CallError::Unavailable { status: 503, reason: text(), after: None },
            CallError::Unusable(text()),
        ] {
            assert!(matches!(judge(Err(silence.clone())), Wanted::Unknown(_)), "{silence}");
        }
    }

    #[test]
    fn only_our_taint_goes() {
        let node = |taints: Value| json!({"metadata": {"resourceVersion": "7"}, "spec": {"taints": taints}});
        let other = json!({"key": "dedicated", "value": "x", "effect": "NoSchedule"});
        let ours = json!({"key": NOT_READY, "effect": "NoSchedule"});
        assert_eq!(without_taint(&node(json!([other]))), None);
        assert_eq!(without_taint(&json!({"spec": {}})), None);
        let expected = json!({"metadata": {"resourceVersion": "7"}, "spec": {"taints": [other]}});
        assert_eq!(without_taint(&node(json!([ours, other, ours]))), Some(expected));
    }

    #[test]
    fn a_trimmed_pod_says_the_same() {
        let mut pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": "shop", "uid": "u"},
            "spec": {"nodeName": "n", "serviceAccountName": "s", "hostNetwork": true, "containers": [{}]},
            "status": {"phase": "Running", "podIPs": [{"ip": "10.0.0.1"}],
                "containerStatuses": [{"name": "a", "state": {"running": {"startedAt": "now"}}}, {"state": {"waiting": {}}}]},
        });
        let read = |pod: &Value| {
            facts::PodFacts::of(&chassis::objects::Object {
                api_version: "v1".into(),
                kind: "Pod".into(),
                namespace: "shop".into(),
                name: "web".into(),
                value: pod.clone(),
                origin: chassis::objects::Origin { file: std::path::Path::new("x").into(), line: 0 },
            })
        };
        let before = read(&pod);
        trim_pod(&mut pod);
        assert_eq!(read(&pod), before);
        assert!(before.running, "{before:?}");
        assert!(pod.pointer("/spec/containers").is_none());
        assert_eq!(pod["status"]["containerStatuses"], json!([{"state": {"running": {}}}, {}]));
    }
}
