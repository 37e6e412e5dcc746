//! From manifests to what should be there: nodes, pods with addresses,
//! services with theirs. Pure: the same manifests and the same [`Ledger`]
//! give the same plan, and a pod that stays keeps its address, its node and
//! its uid, so that the difference of two plans is what has to be done.

pub(crate) mod ledger;
pub(crate) mod podspec;
pub(crate) mod services;
mod workloads;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde_json::{Value, json};

use self::ledger::{Ledger, NODES_MAX};
use self::podspec::PodSpec;
use self::services::ServicePlan;
use self::workloads::Wanted;
pub(crate) use self::workloads::replica_set;
use super::container::Root;
use super::control::protocol::Problem;
use super::manifest::{self, Key, Objects};

/// The file name under which the lab's own manifests are known.
pub(crate) const BUILT_IN: &str = "<lab>";
/// Which of the mesh's programs a built-in pod is.
pub(crate) const COMPONENT: &str = "lab.istiod-lite.io/component";
/// Where a pod's network namespace is, for the node agent.
pub(crate) const NETNS: &str = "lab.istiod-lite.io/netns";

/// Everything that should be there.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Plan {
    pub nodes: Vec<NodePlan>,
    pub pods: BTreeMap<Key, PodPlan>,
    pub services: BTreeMap<Key, ServicePlan>,
    /// Objects as the mesh reads them, by file name.
    pub files: BTreeMap<String, Value>,
    /// What could not be planned.
    pub problems: Vec<Problem>,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NodePlan {
    pub name: String,
    /// From 1; its addresses derive from it.
    pub number: u16,
}

/// A pod.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PodPlan {
    pub key: Key,
    pub node: String,
    pub node_number: u16,
    /// Different for every pod there ever was, also of the same name.
    pub uid: String,
    /// IPv4 first.
    pub addresses: Vec<IpAddr>,
    /// `None`: the pod is in its node's network.
    pub place: Option<u8>,
    pub labels: BTreeMap<String, String>,
    pub spec: PodSpec,
    pub service_account: String,
    /// The object that asked for it.
    pub owner: Key,
    /// One of the mesh's own programs.
    pub component: Option<String>,
    /// What its containers see of the file system.
    pub root: Root,
    /// The Pod object.
    pub object: Value,
}

/// What should be there, given the manifests. `nodes` is how many nodes to
/// make when no manifest describes one.
pub(crate) fn plan(objects: &Objects, nodes: u16, ledger: &mut Ledger) -> Plan {
    let mut plan = Plan::default();
    plan.nodes = plan_nodes(objects, nodes, ledger, &mut plan.problems);
    let names: Vec<_> = plan.nodes.iter().map(|node| node.name.clone()).collect();

    let mut wanted = Vec::new();
    for object in objects.values() {
        match workloads::pods_of(object, &names) {
            Ok(pods) => wanted.extend(pods),
            Err(problem) => plan.problems.push(problem),
        }
    }
    let keys: BTreeSet<_> = wanted.iter().map(|pod| pod.key.clone()).collect();
    ledger.keep(
        |node| names.iter().any(|name| name == node),
        |pod| keys.contains(pod),
        |key| objects.contains_key(key),
    );
    for pod in wanted {
        let (key, owner) = (pod.key.clone(), pod.owner.clone());
        match seat(pod, objects, &plan.nodes, ledger) {
            Ok(pod) => drop(plan.pods.insert(key, pod)),
            Err(reason) => {
                let origin = &objects[&owner].origin;
                plan.problems.push(manifest::problem(origin, format!("{} {}: {reason}", owner.kind, owner.name)));
            }
        }
    }
    for (key, object) in objects.iter().filter(|(key, _)| key.kind == "Service") {
        match services::service(object, ledger) {
            Ok(service) => drop(plan.services.insert(key.clone(), service)),
            Err(problem) => plan.problems.push(problem),
        }
    }
    plan.files = files(objects, &plan);
    plan
}

fn plan_nodes(objects: &Objects, count: u16, ledger: &mut Ledger, problems: &mut Vec<Problem>) -> Vec<NodePlan> {
    let described: Vec<_> = objects.values().filter(|object| object.kind == "Node").collect();
    let mut nodes = Vec::new();
    for object in &described {
        match ledger.node(&object.name) {
            Ok(number) => nodes.push(NodePlan { name: object.name.clone(), number }),
            Err(full) => problems.push(manifest::problem(&object.origin, format!("Node {}: {full}", object.name))),
        }
    }
    if described.is_empty() {
        for name in (1..=count.clamp(1, NODES_MAX)).map(|number| format!("node{number}")) {
            if let Ok(number) = ledger.node(&name) {
                nodes.push(NodePlan { name, number });
            }
        }
    }
    nodes.sort_by_key(|node| node.number);
    nodes
}

/// Chooses a node and addresses for a pod.
fn seat(wanted: Wanted, objects: &Objects, nodes: &[NodePlan], ledger: &mut Ledger) -> Result<PodPlan, String> {
    let own_address = !wanted.spec.host_network;
    let node = choose_node(&wanted, objects, nodes, ledger)?;
    let seat = ledger.pod(&wanted.key, &node.name, own_address, wanted.fingerprint).map_err(|full| full.to_string())?;
    let addresses = match seat.place {
        Some(place) => ledger::pod_addresses(node.number, place),
        None => ledger::node_addresses(node.number),
    };
    let mut object = wanted.pod;
    let uid = format!("1ab00000-0000-4000-8000-{:012x}", seat.serial);
    object["metadata"]["uid"] = uid.clone().into();
    object["spec"]["nodeName"] = node.name.clone().into();
    let labels = string_map(object.pointer("/metadata/labels"));
    let built_in = objects.get(&wanted.owner).is_some_and(|owner| owner.origin.file.as_os_str() == BUILT_IN);
    let component = labels.get(COMPONENT).filter(|_| built_in).cloned();
    Ok(PodPlan {
        node: node.name.clone(),
        node_number: node.number,
        uid,
        addresses: addresses.to_vec(),
        place: seat.place,
        labels,
        service_account: wanted.spec.service_account_name.clone().unwrap_or_else(|| "default".to_owned()),
        root: if component.as_deref() == Some("agent") { Root::Node } else { Root::Copy },
        component,
        key: wanted.key,
        spec: wanted.spec,
        owner: wanted.owner,
        object,
    })
}

/// The node a pod names; else the one it is on; else, of those its selector
/// allows, the one with the fewest pods.
fn choose_node<'a>(
    wanted: &Wanted,
    objects: &Objects,
    nodes: &'a [NodePlan],
    ledger: &Ledger,
) -> Result<&'a NodePlan, String> {
    if let Some(name) = &wanted.node {
        return nodes.iter().find(|node| node.name == *name).ok_or_else(|| format!("there is no node `{name}`"));
    }
    let fits = |node: &&NodePlan| {
        let object = objects.get(&Key::new("Node", "", &node.name));
        let mut labels = string_map(object.and_then(|object| object.value.pointer("/metadata/labels")));
        labels.entry("kubernetes.io/hostname".to_owned()).or_insert_with(|| node.name.clone());
        wanted.spec.node_selector.iter().all(|(key, value)| labels.get(key) == Some(value))
    };
    let seated = ledger.seat(&wanted.key).and_then(|seat| nodes.iter().find(|node| node.name == seat.node));
    seated
        .filter(fits)
        .or_else(|| nodes.iter().filter(fits).min_by_key(|node| (ledger.crowd(&node.name), node.number)))
        .ok_or_else(|| "no node has the labels of its nodeSelector".to_owned())
}

/// The base documents of the configuration directory.
fn files(objects: &Objects, plan: &Plan) -> BTreeMap<String, Value> {
    let mut files = BTreeMap::new();
    for (key, object) in objects {
        files.insert(key.file_name(), object.value.clone());
    }
    for pod in plan.pods.values() {
        files.insert(pod.key.file_name(), pod.object.clone());
    }
    for service in plan.services.values() {
        files.insert(service.key.file_name(), service.object.clone());
    }
    for node in &plan.nodes {
        let labels = json!({ "kubernetes.io/hostname": node.name });
        let made = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": node.name, "labels": labels } });
        files.entry(Key::new("Node", "", &node.name).file_name()).or_insert(made);
    }
    // Namespaces and service accounts that somebody lives in are there.
    let mut namespaces: BTreeSet<&str> = objects.keys().map(|key| key.namespace.as_str()).collect();
    namespaces.insert("default");
    namespaces.remove("");
    for namespace in namespaces {
        let name = json!({ "name": namespace });
        let made = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": name });
        files.entry(Key::new("Namespace", "", namespace).file_name()).or_insert(made);
    }
    for pod in plan.pods.values() {
        let (namespace, name) = (&pod.key.namespace, &pod.service_account);
        let made = json!({
            "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "namespace": namespace, "name": name },
        });
        files.entry(Key::new("ServiceAccount", namespace, name).file_name()).or_insert(made);
    }
    for value in files.values_mut().filter(|value| value["kind"] == "Namespace") {
        let name = value["metadata"]["name"].clone();
        let labels = &mut value["metadata"]["labels"];
        if !labels.is_object() {
            *labels = json!({});
        }
        labels["kubernetes.io/metadata.name"] = name;
    }
    files
}

/// An object's string entries; anything else is left out.
pub(crate) fn string_map(value: Option<&Value>) -> BTreeMap<String, String> {
    let entries = value.and_then(Value::as_object).into_iter().flatten();
    entries.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

/// In Kubernetes an entry that is null is an entry that is not there.
pub(crate) fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(entries) => {
            let kept = entries.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(kept.map(|(key, value)| (key, without_nulls(value))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(without_nulls).collect()),
        other => other,
    }
}

#[cfg(test)]
mod tests;
