//! Which pods there should be: from Pods themselves and from the kinds that
//! make pods. Names follow Kubernetes, except that what is random there is
//! derived from the template here: the same manifests give the same pods.

use std::hash::{DefaultHasher, Hash, Hasher};

use chassis::objects::Object;
use serde_json::{Map, Value, json};

use super::podspec::PodSpec;
use crate::lab::control::protocol::Problem;
use crate::lab::manifest::{self, Key};

/// More replicas than this in one workload is taken for a slip of the pen.
const REPLICAS_MAX: u64 = 200;

/// A pod that should be there.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Wanted {
    pub key: Key,
    /// The whole Pod object, without node and addresses.
    pub pod: Value,
    pub spec: PodSpec,
    /// Where it must run, if that is not ours to choose.
    pub node: Option<String>,
    /// Changes when the pod must be made anew.
    pub fingerprint: u64,
    /// The object that asked for it, for messages: `Deployment/web`.
    pub owner: Key,
}

/// The pods that one object asks for, on these nodes.
pub(crate) fn pods_of(object: &Object, nodes: &[String]) -> Result<Vec<Wanted>, Problem> {
    let spec = object.value.get("spec").unwrap_or(&Value::Null);
    let replicas = spec.get("replicas").and_then(Value::as_u64).unwrap_or(1).min(REPLICAS_MAX);
    let template = spec.get("template").unwrap_or(&Value::Null);
    let hash = short_hash(template, 10);
    let replica_set = replica_set(object);
    let pods = match object.kind.as_str() {
        "Pod" => return Ok(vec![wanted(object, &object.name, object.value.clone(), None)?]),
        "Deployment" => (0..replicas)
            .map(|number| {
                let name = format!("{replica_set}-{}", short_hash(&json!([hash, number]), 5));
                let labels = json!({ "pod-template-hash": hash });
                (name, pod(object, template, ("ReplicaSet", &replica_set), labels), None)
            })
            .collect::<Vec<_>>(),
        "ReplicaSet" => (0..replicas)
            .map(|number| {
                let name = format!("{}-{}", object.name, short_hash(&json!([hash, number]), 5));
                (name, pod(object, template, ("ReplicaSet", &object.name), json!({})), None)
            })
            .collect(),
        "StatefulSet" => (0..replicas)
            .map(|number| {
                let name = format!("{}-{number}", object.name);
                let labels = json!({ "statefulset.kubernetes.io/pod-name": name });
                let made = pod(object, template, ("StatefulSet", &object.name), labels);
                (name, made, None)
            })
            .collect(),
        "DaemonSet" => nodes
            .iter()
            .map(|node| {
                let name = format!("{}-{}", object.name, short_hash(&json!([hash, node]), 5));
                (name, pod(object, template, ("DaemonSet", &object.name), json!({})), Some(node.clone()))
            })
            .collect(),
        "Job" => (0..spec.get("completions").and_then(Value::as_u64).unwrap_or(1).min(REPLICAS_MAX))
            .map(|number| {
                let name = format!("{}-{}", object.name, short_hash(&json!([hash, number]), 5));
                let labels = json!({ "job-name": object.name, "batch.kubernetes.io/job-name": object.name });
                (name, pod(object, template, ("Job", &object.name), labels), None)
            })
            .collect(),
        _ => Vec::new(),
    };
    pods.into_iter().map(|(name, pod, node)| wanted(object, &name, pod, node)).collect()
}

fn wanted(object: &Object, name: &str, mut pod: Value, node: Option<String>) -> Result<Wanted, Problem> {
    let key = Key::new("Pod", &object.namespace, name);
    let refuse = |reason| manifest::problem(&object.origin, format!("{} {}: {reason}", object.kind, object.name));
    pod["metadata"]["name"] = name.into();
    pod["metadata"]["namespace"] = object.namespace.clone().into();
    let raw = pod.get("spec").cloned().unwrap_or(Value::Null);
    let spec = PodSpec::read(&raw).map_err(refuse)?;
    if spec.service_account_name.is_none() {
        pod["spec"]["serviceAccountName"] = "default".into();
    }
    let node = node.or_else(|| spec.node_name.clone());
    let mut hasher = DefaultHasher::new();
    raw.to_string().hash(&mut hasher);
    let owner = Key::new(&object.kind, &object.namespace, &object.name);
    Ok(Wanted { key, pod, spec, node, fingerprint: hasher.finish(), owner })
}

/// The name of the ReplicaSet that a Deployment has for its template.
pub(crate) fn replica_set(deployment: &Object) -> String {
    let template = deployment.value.pointer("/spec/template").unwrap_or(&Value::Null);
    format!("{}-{}", deployment.name, short_hash(template, 10))
}

/// A pod made from a template.
fn pod(object: &Object, template: &Value, owner: (&str, &str), more_labels: Value) -> Value {
    let mut metadata = template.get("metadata").and_then(Value::as_object).cloned().unwrap_or_default();
    let mut labels = metadata.get("labels").and_then(Value::as_object).cloned().unwrap_or_default();
    labels.extend(more_labels.as_object().cloned().unwrap_or_default());
    metadata.insert("labels".to_owned(), Value::Object(labels));
    let group = if owner.0 == "Job" { "batch/v1" } else { "apps/v1" };
    let reference = json!([{
        "apiVersion": group, "kind": owner.0, "name": owner.1, "controller": true,
        "uid": format!("{}-{}", object.namespace, owner.1),
    }]);
    metadata.insert("ownerReferences".to_owned(), reference);
    let mut spec = template.get("spec").and_then(Value::as_object).cloned().unwrap_or_default();
    if owner.0 == "Job" && !spec.contains_key("restartPolicy") {
        spec.insert("restartPolicy".to_owned(), "Never".into());
    }
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": Map::from_iter(metadata), "spec": spec })
}

/// A hash in the letters Kubernetes uses in names: no vowels, no words.
fn short_hash(value: &Value, length: usize) -> String {
    const LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut hasher = DefaultHasher::new();
    value.to_string().hash(&mut hasher);
    let mut rest = hasher.finish();
    (0..length)
        .map(|_| {
            let letter = LETTERS[(rest % 27) as usize];
            rest /= 27;
            char::from(letter)
        })
        .collect()
}
