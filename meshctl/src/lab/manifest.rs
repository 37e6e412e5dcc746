//! What the lab makes of a YAML text: the objects it runs itself, the ones
//! the mesh reads, and a clear word about the ones it cannot take.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use chassis::objects::{Object, Origin};
use serde_json::Value;

use super::control::protocol::Problem;

/// Which object. API groups are left out: no two of the kinds below share a
/// name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    /// Kind.
    pub kind: String,
    /// Namespace; empty for kinds that have none.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl Key {
    pub(crate) fn new(kind: &str, namespace: &str, name: &str) -> Self {
        Self { kind: kind.to_owned(), namespace: namespace.to_owned(), name: name.to_owned() }
    }

    /// The file that holds this object's manifest, or overlay.
    pub(crate) fn file_name(&self) -> String {
        let Self { kind, namespace, name } = self;
        let namespace = if namespace.is_empty() { "-" } else { namespace };
        // Names of objects are DNS names; nothing else may reach a path.
        let plain = |text: &str| text.replace(['/', '\\'], "_");
        format!("{}.{}.{}.yaml", plain(namespace), kind.to_lowercase(), plain(name))
    }
}

impl std::fmt::Display for Key {
    /// `deployment/web`, as kubectl names objects.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}/{}", self.kind.to_lowercase(), self.name)
    }
}

/// The objects of a lab.
pub(crate) type Objects = BTreeMap<Key, Arc<Object>>;

/// Kinds the lab takes, and whether they live in a namespace.
const KINDS: [(&str, bool); 31] = [
    ("AuthorizationPolicy", true),
    ("BackendTLSPolicy", true),
    ("ConfigMap", true),
    ("DaemonSet", true),
    ("Deployment", true),
    ("DestinationRule", true),
    ("EndpointSlice", true),
    ("GRPCRoute", true),
    ("Gateway", true),
    ("GatewayClass", false),
    ("HTTPRoute", true),
    ("Job", true),
    ("Namespace", false),
    ("Node", false),
    ("PeerAuthentication", true),
    ("Pod", true),
    ("ReferenceGrant", true),
    ("ReplicaSet", true),
    ("RequestAuthentication", true),
    ("Secret", true),
    ("Service", true),
    ("ServiceAccount", true),
    ("ServiceEntry", true),
    ("StatefulSet", true),
    ("TCPRoute", true),
    ("TLSRoute", true),
    ("Telemetry", true),
    ("TrafficPolicy", true),
    ("VirtualService", true),
    ("WorkloadEntry", true),
    ("XBackendTrafficPolicy", true),
];

/// Longest text taken at once. The API server refuses objects above 1.5 MiB;
/// this is a whole directory's worth.
pub(crate) const TEXT_BYTES_MAX: usize = 16 << 20;

/// Reads a text. What cannot be taken is a problem; the rest is taken.
pub(crate) fn read(file: &Path, text: &str) -> (Objects, Vec<Problem>) {
    if text.len() > TEXT_BYTES_MAX {
        let reason = format!("is larger than {} MiB", TEXT_BYTES_MAX >> 20);
        return (Objects::new(), vec![Problem { file: file.display().to_string(), line: 0, reason }]);
    }
    let (parsed, problems) = chassis::objects::parse(file, text);
    let mut problems: Vec<_> = problems
        .into_iter()
        .map(|problem| Problem { file: problem.file.display().to_string(), line: problem.line, reason: problem.reason })
        .collect();
    let mut objects = Objects::new();
    for object in parsed {
        match accept(object) {
            Ok(object) => {
                let key = Key::new(&object.kind, &object.namespace, &object.name);
                if let Some(earlier) = objects.insert(key.clone(), Arc::new(object)) {
                    problems.push(problem(&earlier.origin, format!("{key} is described a second time further down")));
                }
            }
            Err(found) => problems.push(found),
        }
    }
    (objects, problems)
}

fn accept(mut object: Object) -> Result<Object, Problem> {
    let Some((_, namespaced)) = KINDS.iter().find(|(kind, _)| *kind == object.kind) else {
        let kinds: Vec<_> = KINDS.iter().map(|(kind, _)| *kind).collect();
        let reason = format!("kind {} is not one the lab can run (it runs {})", object.kind, kinds.join(", "));
        return Err(problem(&object.origin, reason));
    };
    if let Some(reason) = not_a_name(&object.name).or_else(|| not_a_name(&object.namespace)) {
        return Err(problem(&object.origin, format!("{}: {reason}", object.kind)));
    }
    object.namespace = match (namespaced, object.namespace.is_empty()) {
        (false, _) => String::new(),
        (true, true) => "default".to_owned(),
        (true, false) => object.namespace,
    };
    if *namespaced && let Some(metadata) = object.value.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("namespace".to_owned(), Value::String(object.namespace.clone()));
    }
    Ok(object)
}

/// Names become file names and host names: only those Kubernetes allows.
fn not_a_name(name: &str) -> Option<String> {
    let fits = name.len() <= 253
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.')
        && !name.starts_with('.');
    (!fits).then(|| format!("`{name}` is not a name: use a-z, 0-9, - and ."))
}

pub(crate) fn problem(origin: &Origin, reason: String) -> Problem {
    Problem { file: origin.file.display().to_string(), line: origin.line, reason }
}

#[cfg(test)]
mod tests;
