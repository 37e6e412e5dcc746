//! One workload as proxies are told of it.

use super::Mesh;
use crate::facts::{Entry, EntryAddress, Labels, Meta, Phase, Pod, SliceEndpoint};
use mesh::{
    ServiceKey, Str, Workload,
    workload::{GatewayAddress, Health, Locality, Memberships, PortMap, Protocol},
};
use std::collections::BTreeMap;

/// What a workload takes from around it.
pub(super) struct Surroundings<'a> {
    pub(super) mesh: &'a Mesh,
    pub(super) network: &'a Str,
    pub(super) locality: Locality,
    pub(super) services: BTreeMap<ServiceKey, PortMap>,
    pub(super) policies: Vec<Str>,
    pub(super) waypoint: Option<GatewayAddress>,
}

impl Surroundings<'_> {
    fn workload(self, uid: &str, namespace: &Str) -> Workload {
        // Of the size that it takes, for it stays.
        let mut services = Memberships::with_capacity(self.services.len());
        for (service, ports) in self.services {
            services.insert(service, ports);
        }
        Workload {
            namespace: namespace.clone(),
            network: self.network.clone(),
            trust_domain: self.mesh.trust_domain.clone(),
            cluster_id: self.mesh.cluster_id.clone(),
            locality: self.locality,
            services,
            authorization_policies: self.policies,
            waypoint: self.waypoint,
            ..Workload::named(uid)
        }
    }
}

/// A pod's workload; none before it has an address and after it ended.
pub(super) fn of_pod(pod: &Pod, around: Surroundings<'_>) -> Option<Workload> {
    if pod.addresses.is_empty() || matches!(pod.phase, Phase::Succeeded | Phase::Failed) {
        return None;
    }
    let Meta { namespace, name, labels, .. } = &pod.meta;
    let native = speaks_hbone(labels);
    let owner = owner(pod);
    let uid = format!("{}//Pod/{namespace}/{name}", around.mesh.cluster_id);
    Some(Workload {
        name: name.clone(),
        addresses: pod.addresses.clone(),
        protocol: if native || pod.captured { Protocol::Hbone } else { Protocol::Plain },
        native_tunnel: native,
        service_account: pod.service_account.clone(),
        node: pod.node.clone(),
        canonical_name: canonical_name(labels, &owner),
        canonical_revision: canonical_revision(labels),
        workload_name: owner,
        health: if pod.ready && !pod.terminating { Health::Healthy } else { Health::Unhealthy },
        host_network: pod.host_network,
        ..around.workload(&uid, namespace)
    })
}

/// The workload of an entry of its own, or of one that is written in a service entry.
pub(super) fn of_entry(uid: &str, meta: &Meta, entry: &Entry, around: Surroundings<'_>) -> Workload {
    let native = speaks_hbone(&entry.labels);
    let (addresses, hostname) = match &entry.address {
        EntryAddress::Ip(ip) => (vec![*ip], None),
        EntryAddress::Name(name) => (Vec::new(), Some(name.clone())),
    };
    let name = entry.labels.get(WORKLOAD_NAME).unwrap_or(&meta.name).clone();
    let network = entry.network.clone();
    let workload = around.workload(uid, &meta.namespace);
    Workload {
        name: meta.name.clone(),
        addresses,
        hostname,
        network: network.unwrap_or(workload.network),
        protocol: if native { Protocol::Hbone } else { Protocol::Plain },
        native_tunnel: native,
        service_account: entry.service_account.clone(),
        canonical_name: canonical_name(&entry.labels, &name),
        canonical_revision: canonical_revision(&entry.labels),
        workload_name: name,
        capacity: entry.weight,
        ..workload
    }
}

/// The workload of an endpoint that somebody wrote into a slice. Nothing but its address is known,
/// and that may be somebody else's too, so it is not found by it.
pub(super) fn of_endpoint(uid: &str, meta: &Meta, endpoint: &SliceEndpoint, around: Surroundings<'_>) -> Workload {
    Workload {
        name: meta.name.clone(),
        addresses: endpoint.addresses.clone(),
        health: if endpoint.ready { Health::Healthy } else { Health::Unhealthy },
        host_network: true,
        ..around.workload(uid, &meta.namespace)
    }
}

const WORKLOAD_NAME: &str = "service.istio.io/workload-name";

fn speaks_hbone(labels: &Labels) -> bool {
    labels.get("networking.istio.io/tunnel").is_some_and(|value| &**value == "http")
}

/// The name of what controls a pod; of a Deployment, whose replica sets have a hash behind its name.
fn owner(pod: &Pod) -> Str {
    if let Some(name) = pod.meta.labels.get(WORKLOAD_NAME) {
        return name.clone();
    }
    let Some((kind, name)) = &pod.owner else { return pod.meta.name.clone() };
    match &**kind {
        "ReplicaSet" => {
            let hash = pod.meta.labels.get("pod-template-hash");
            let stripped = hash.and_then(|hash| name.strip_suffix(&**hash)?.strip_suffix('-'));
            stripped.map_or_else(|| name.clone(), Into::into)
        }
        // A CronJob's jobs have the minute they were due behind its name.
        "Job" => match name.rsplit_once('-') {
            Some((cron, due)) if due.len() >= 8 && due.bytes().all(|b| b.is_ascii_digit()) => cron.into(),
            _ => name.clone(),
        },
        _ => name.clone(),
    }
}

fn canonical_name(labels: &Labels, owner: &Str) -> Str {
    first(labels, &["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"])
        .unwrap_or_else(|| owner.clone())
}

fn canonical_revision(labels: &Labels) -> Str {
    let found = first(labels, &["service.istio.io/canonical-revision", "app.kubernetes.io/version", "version"]);
    found.unwrap_or_else(|| "latest".into())
}

fn first(labels: &Labels, keys: &[&str]) -> Option<Str> {
    keys.iter().find_map(|key| labels.get(*key)).filter(|value| !value.is_empty()).cloned()
}
