//! What runs, and where: Namespace, Node, Pod, and entries for what runs elsewhere.

use super::field::Field;
use crate::facts::{Entry, EntryAddress, Meta, Namespace, Node, Phase, Pod, WorkloadEntry};
use mesh::{Str, workload::Locality};
use std::{collections::BTreeMap, net::IpAddr};

pub(super) fn namespace(object: &Field<'_>, meta: Meta) -> Namespace {
    let distribution = object.at("metadata").at("annotations").key(super::services::DISTRIBUTION);
    Namespace { meta, distribution: super::services::distribution(&distribution) }
}

pub(super) fn node(meta: Meta) -> Node {
    let label = |key: &str| meta.labels.get(key).cloned().unwrap_or_default();
    let locality = Locality {
        region: label("topology.kubernetes.io/region"),
        zone: label("topology.kubernetes.io/zone"),
        subzone: label("topology.istio.io/subzone"),
    };
    Node { meta, locality }
}

pub(super) fn pod(object: &Field<'_>, meta: Meta) -> Pod {
    let (metadata, spec, status) = (object.at("metadata"), object.at("spec"), object.at("status"));
    let phase = [
        ("Pending", Phase::Pending),
        ("Running", Phase::Running),
        ("Succeeded", Phase::Succeeded),
        ("Failed", Phase::Failed),
        ("Unknown", Phase::Pending),
    ];
    let redirection = metadata.at("annotations").key("ambient.istio.io/redirection");
    Pod {
        uid: metadata.at("uid").text().unwrap_or_default(),
        node: spec.at("nodeName").text().unwrap_or_default(),
        service_account: account(&spec.at("serviceAccountName")),
        addresses: pod_addresses(&status),
        phase: status.at("phase").one_of(&phase).unwrap_or_default(),
        ready: condition(&status, "Ready"),
        terminating: metadata.at("deletionTimestamp").is_there(),
        host_network: spec.at("hostNetwork").flag().unwrap_or(false),
        captured: redirection.text().as_deref() == Some("enabled"),
        ports: container_ports(&spec),
        owner: owner(&metadata),
        meta,
    }
}

/// A service account; the default one when there is none.
fn account(field: &Field<'_>) -> Str {
    field.text().filter(|name| !name.is_empty()).unwrap_or_else(|| "default".into())
}

pub(super) fn ip(field: &Field<'_>) -> Option<IpAddr> {
    field.parsed::<IpAddr>("an IP address").map(|ip| ip.to_canonical())
}

fn pod_addresses(status: &Field<'_>) -> Vec<IpAddr> {
    let all: Vec<_> = status.at("podIPs").list().iter().filter_map(|item| ip(&item.at("ip"))).collect();
    if all.is_empty() { ip(&status.at("podIP")).into_iter().collect() } else { all }
}

fn condition(status: &Field<'_>, kind: &str) -> bool {
    let conditions = status.at("conditions").list();
    let found = conditions.iter().find(|condition| condition.at("type").text().as_deref() == Some(kind));
    found.is_some_and(|condition| {
        condition.at("status").loose_text().is_some_and(|status| status.eq_ignore_ascii_case("true"))
    })
}

fn container_ports(spec: &Field<'_>) -> BTreeMap<Str, u16> {
    // An init container that restarts always is a sidecar, and its ports count.
    let sidecars = spec.at("initContainers").list().into_iter();
    let sidecars = sidecars.filter(|container| container.at("restartPolicy").text().as_deref() == Some("Always"));
    let containers = spec.at("containers").list().into_iter().chain(sidecars);
    let ports = containers.flat_map(|container| container.at("ports").list());
    let named = ports.filter(tcp).filter_map(|port| Some((port.at("name").text()?, port.at("containerPort").port()?)));
    let mut found = BTreeMap::new();
    for (name, port) in named {
        // The first container of a name has it, as in Kubernetes.
        found.entry(name).or_insert(port);
    }
    found
}

/// Whether a port is for TCP, which it is when nobody says.
pub(super) fn tcp(port: &Field<'_>) -> bool {
    port.at("protocol").text().is_none_or(|protocol| &*protocol == "TCP")
}

fn owner(metadata: &Field<'_>) -> Option<(Str, Str)> {
    let owners = metadata.at("ownerReferences").list();
    let owner = owners.iter().find(|owner| owner.at("controller").flag() == Some(true))?;
    Some((owner.at("kind").text()?, owner.at("name").text()?))
}

pub(super) fn workload_entry(object: &Field<'_>, meta: Meta) -> Option<WorkloadEntry> {
    let mut entry = entry(&object.at("spec"), None)?;
    // Labels of the object select as those of its spec do, and come before them.
    entry.labels.extend(meta.labels.clone());
    Some(WorkloadEntry { meta, entry })
}

/// An entry; `otherwise` is its address if it names none.
pub(super) fn entry(field: &Field<'_>, otherwise: Option<&Str>) -> Option<Entry> {
    let address = field.at("address");
    let text = address.text().filter(|text| !text.is_empty()).or_else(|| otherwise.cloned());
    let Some(text) = text else {
        address.note("says nothing; the endpoint is left out");
        return None;
    };
    if text.starts_with("unix:") {
        address.note("is a unix socket, which is not on the network; the endpoint is left out");
        return None;
    }
    let hostname = |text: &Str| EntryAddress::Name(text.to_ascii_lowercase().into());
    Some(Entry {
        address: text.parse().map_or_else(|_| hostname(&text), |ip: IpAddr| EntryAddress::Ip(ip.to_canonical())),
        labels: field.at("labels").labels(),
        ports: field.at("ports").members().into_iter().filter_map(|(name, port)| Some((name, port.port()?))).collect(),
        network: field.at("network").text().filter(|network| !network.is_empty()),
        locality: locality(&field.at("locality").text().unwrap_or_default()),
        weight: field.at("weight").number().filter(|weight| *weight > 0).unwrap_or(1),
        service_account: account(&field.at("serviceAccount")),
    })
}

/// `region/zone/subzone`.
fn locality(text: &str) -> Locality {
    let mut parts = text.splitn(3, '/').map(Str::from);
    let mut part = || parts.next().unwrap_or_default();
    Locality { region: part(), zone: part(), subzone: part() }
}
