//! What the lab tells the mesh about pods, nodes and endpoints: documents of
//! the configuration directory, as kubelet and the endpoint controller write
//! them to the API server. What a document says is decided purely; only
//! [`Writer`] touches files, and only those whose content has changed.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::manifest::{Key, Objects};
use super::plan::services::{self, Slice};
use super::plan::{NETNS, NodePlan, Plan, PodPlan, ledger};
use super::pod::state::{Phase, PodState};
use super::rundir::RunDir;

/// The endpoints of every service, from the pods as they are now.
pub(crate) fn slices(plan: &Plan, objects: &Objects, states: &BTreeMap<Key, PodState>) -> Vec<Slice> {
    let ready = |pod: &PodPlan| {
        let state = states.get(&pod.key)?;
        let over = matches!(state.phase(pod.spec.restart_policy), Phase::Succeeded | Phase::Failed);
        (!over).then(|| state.is_ready())
    };
    let made = plan.services.values().flat_map(|service| services::slices(service, plan.pods.values(), ready));
    let described = objects.values().filter(|object| object.kind == "EndpointSlice");
    made.chain(described.filter_map(|object| Slice::read(object))).collect()
}

/// Everything below the configuration directory that the lab writes, by path
/// relative to it.
pub(crate) fn documents(
    plan: &Plan,
    slices: &[Slice],
    states: &BTreeMap<Key, PodState>,
    netns: impl Fn(&PodPlan) -> PathBuf,
) -> BTreeMap<PathBuf, Value> {
    let manifests = Path::new("manifests");
    let overlays = Path::new("status/kubelet");
    let mut documents: BTreeMap<_, _> =
        plan.files.iter().map(|(name, value)| (manifests.join(name), value.clone())).collect();
    for slice in slices {
        let key = Key::new("EndpointSlice", &slice.service.namespace, &slice.name);
        documents.entry(manifests.join(key.file_name())).or_insert_with(|| slice.object());
    }
    for pod in plan.pods.values() {
        let Some(state) = states.get(&pod.key).filter(|state| state.networked) else { continue };
        documents.insert(overlays.join(pod.key.file_name()), pod_overlay(pod, state, &netns(pod)));
    }
    for node in &plan.nodes {
        let key = Key::new("Node", "", &node.name);
        documents.insert(overlays.join(key.file_name()), node_overlay(node));
    }
    documents
}

fn pod_overlay(pod: &PodPlan, state: &PodState, netns: &Path) -> Value {
    let node_ip = ledger::node_addresses(pod.node_number)[0].to_string();
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "namespace": pod.key.namespace,
            "name": pod.key.name,
            "annotations": { NETNS: netns },
        },
        "status": state.status(pod, &node_ip),
    })
}

fn node_overlay(node: &NodePlan) -> Value {
    let mut addresses: Vec<_> = ledger::node_addresses(node.number)
        .iter()
        .map(|address| json!({ "type": "InternalIP", "address": address }))
        .collect();
    addresses.push(json!({ "type": "Hostname", "address": node.name }));
    let networks = ledger::pod_networks(node.number);
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": { "name": node.name },
        "spec": { "podCIDR": networks[0], "podCIDRs": networks },
        "status": { "addresses": addresses, "conditions": [{ "type": "Ready", "status": "True" }] },
    })
}

/// Keeps files as [`documents`] wants them.
#[derive(Debug)]
pub(crate) struct Writer {
    root: PathBuf,
    written: BTreeMap<PathBuf, Value>,
}

impl Writer {
    pub(crate) fn new(run_dir: &RunDir) -> Self {
        Self { root: run_dir.config(), written: BTreeMap::new() }
    }

    /// Writes what has changed and removes what is not wanted any more.
    pub(crate) fn write(&mut self, documents: BTreeMap<PathBuf, Value>) -> io::Result<()> {
        // First what is new, then what is gone: a reader in between sees a
        // thing twice rather than not at all.
        for (path, value) in in_order(&documents) {
            if self.written.get(path) != Some(value) {
                // JSON is YAML, and quotes what needs it.
                let text = serde_json::to_string_pretty(value).map_err(io::Error::other)?;
                chassis::objects::write(&self.root.join(path), &text)?;
            }
        }
        for path in self.written.keys().filter(|path| !documents.contains_key(*path)) {
            match std::fs::remove_file(self.root.join(path)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        self.written = documents;
        Ok(())
    }
}

/// What is ending comes last: in a cluster a pod ends after the one is ready that takes its place.
fn in_order(documents: &BTreeMap<PathBuf, Value>) -> impl Iterator<Item = (&PathBuf, &Value)> {
    let is_ending = |value: &Value| value.pointer("/metadata/deletionTimestamp").is_some();
    let of = move |ending: bool| documents.iter().filter(move |(_, value)| is_ending(value) == ending);
    of(false).chain(of(true))
}

/// Adds the documents of a pod that is ending.
pub(crate) fn leaving(documents: &mut BTreeMap<PathBuf, Value>, pod: &PodPlan, state: &PodState, netns: &Path) {
    let name = pod.key.file_name();
    let mut base = pod.object.clone();
    // The moment does not matter to anybody, that there is one does.
    base["metadata"]["deletionTimestamp"] = "1970-01-01T00:00:00Z".into();
    documents.insert(Path::new("manifests").join(&name), base);
    documents.insert(Path::new("status/kubelet").join(&name), pod_overlay(pod, state, netns));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ending_is_written_after_what_takes_its_place() {
        let documents = [
            (
                "manifests/old.yaml",
                json!({ "metadata": { "name": "old", "deletionTimestamp": "1970-01-01T00:00:00Z" } }),
            ),
            ("manifests/new.yaml", json!({ "metadata": { "name": "new" } })),
            ("status/kubelet/new.yaml", json!({ "metadata": { "name": "new" }, "status": {} })),
        ];
        let documents = documents.map(|(path, value)| (PathBuf::from(path), value)).into();
        let order: Vec<_> = in_order(&documents).map(|(path, _)| path.to_str().unwrap_or_default()).collect();
        assert_eq!(order, ["manifests/new.yaml", "status/kubelet/new.yaml", "manifests/old.yaml"]);
    }
}
