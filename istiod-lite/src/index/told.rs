//! What the index was told, as it was told, and who is where in it.

use super::{
    binding,
    labels::{Labelled, Selectors},
    naming::{Namer, Naming},
};
use crate::facts::{
    AuthorizationPolicy, BackendTlsPolicy, BackendTrafficPolicy, ConfigMap, DestinationRule, EndpointSlice, FactKey,
    Gateway, GatewayClass, Kind, Labels, MeshConfig, Namespace, Node, PeerAuthentication, Phase, Pod, ReferenceGrant,
    RequestAuthentication, Route, Service, ServiceEntry, Telemetry, TrafficPolicy, VirtualService, WorkloadEntry,
};
use mesh::Str;
use std::collections::{BTreeMap, BTreeSet};

/// (namespace, name); the namespace is "" for kinds that are in none.
pub(super) type Name = (Str, Str);

/// What publishes workloads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Owner {
    Pod(Name),
    WorkloadEntry(Name),
    /// The endpoints written in it.
    ServiceEntry(Name),
    /// The endpoints of it that are no pods.
    Slice(Name),
}

/// What publishes services. A `Service` has precedence.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    Service(Name),
    ServiceEntry(Name),
}

/// What the index was told.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) namespaces: BTreeMap<Name, Namespace>,
    pub(super) nodes: BTreeMap<Name, Node>,
    pub(super) pods: BTreeMap<Name, Box<Pod>>,
    pub(super) services: BTreeMap<Name, Service>,
    pub(super) slices: BTreeMap<Name, EndpointSlice>,
    pub(super) service_entries: BTreeMap<Name, ServiceEntry>,
    pub(super) workload_entries: BTreeMap<Name, WorkloadEntry>,
    pub(super) authorization: BTreeMap<Name, AuthorizationPolicy>,
    pub(super) peers: BTreeMap<Name, PeerAuthentication>,
    /// The routes of Gateway API, of all its kinds.
    pub(super) routes: BTreeMap<FactKey, Route>,
    pub(super) grants: BTreeMap<Name, ReferenceGrant>,
    pub(super) tls_policies: BTreeMap<Name, BackendTlsPolicy>,
    pub(super) backend_traffic_policies: BTreeMap<Name, BackendTrafficPolicy>,
    pub(super) config_maps: BTreeMap<Name, ConfigMap>,
    pub(super) gateways: BTreeMap<Name, Gateway>,
    pub(super) gateway_classes: BTreeMap<Name, GatewayClass>,
    /// Who names which gateway as his waypoint.
    pub(super) naming: Naming,
    pub(super) virtual_services: BTreeMap<Name, VirtualService>,
    pub(super) destination_rules: BTreeMap<Name, DestinationRule>,
    pub(super) request_authentications: BTreeMap<Name, RequestAuthentication>,
    pub(super) telemetries: BTreeMap<Name, Telemetry>,
    pub(super) traffic_policies: BTreeMap<Name, TrafficPolicy>,
    pub(super) mesh_configs: BTreeMap<Name, MeshConfig>,
    /// Pods and workload entries by label.
    pub(super) members: Labelled<Owner>,
    pub(super) services_selecting: Selectors<Source>,
    pub(super) policies_selecting: Selectors<Name>,
    pub(super) peers_selecting: Selectors<Name>,
    /// Node → its pods.
    pub(super) on_node: BTreeMap<Str, BTreeSet<Name>>,
    /// (node, namespace, service account) → how many pods that have not failed.
    pub(super) accounts: BTreeMap<(Str, Str, Str), usize>,
    /// (namespace, service) → its slices.
    pub(super) slices_of: BTreeMap<Name, BTreeSet<Name>>,
    /// Pod → the slices that name it.
    pub(super) slices_with: BTreeMap<Name, BTreeSet<Name>>,
}

impl Told {
    pub(super) fn knows(&self, key: &FactKey) -> bool {
        let name = (key.namespace.clone(), key.name.clone());
        match key.kind {
            Kind::Namespace => self.namespaces.contains_key(&name),
            Kind::ServiceAccount => false,
            Kind::Node => self.nodes.contains_key(&name),
            Kind::Pod => self.pods.contains_key(&name),
            Kind::Service => self.services.contains_key(&name),
            Kind::EndpointSlice => self.slices.contains_key(&name),
            Kind::ServiceEntry => self.service_entries.contains_key(&name),
            Kind::WorkloadEntry => self.workload_entries.contains_key(&name),
            Kind::AuthorizationPolicy => self.authorization.contains_key(&name),
            Kind::PeerAuthentication => self.peers.contains_key(&name),
            Kind::HTTPRoute | Kind::GRPCRoute | Kind::TCPRoute | Kind::TLSRoute => self.routes.contains_key(key),
            Kind::ReferenceGrant => self.grants.contains_key(&name),
            Kind::BackendTLSPolicy => self.tls_policies.contains_key(&name),
            Kind::XBackendTrafficPolicy => self.backend_traffic_policies.contains_key(&name),
            Kind::Gateway => self.gateways.contains_key(&name),
            Kind::GatewayClass => self.gateway_classes.contains_key(&name),
            Kind::ConfigMap => self.config_maps.contains_key(&name) || self.mesh_configs.contains_key(&name),
            Kind::VirtualService => self.virtual_services.contains_key(&name),
            Kind::DestinationRule => self.destination_rules.contains_key(&name),
            Kind::RequestAuthentication => self.request_authentications.contains_key(&name),
            Kind::Telemetry => self.telemetries.contains_key(&name),
            Kind::TrafficPolicy => self.traffic_policies.contains_key(&name),
        }
    }

    pub(super) fn namespace(&self, name: &Str) -> Option<&Namespace> {
        self.namespaces.get(&(Str::default(), name.clone()))
    }

    /// Notes which gateways somebody's labels name as his waypoint; `None`: he is gone.
    pub(super) fn name_gateways(&mut self, namer: Namer, namespace: &Str, labels: Option<&Labels>) {
        self.naming.put(namer, labels.map(|labels| binding::gateways_in(namespace, labels)).unwrap_or_default());
    }

    pub(super) fn pod(&mut self, name: &Name, new: Option<Box<Pod>>) {
        if let Some(old) = self.pods.remove(name) {
            self.members.remove(&name.0, &Owner::Pod(name.clone()));
            take(&mut self.on_node, &old.node, name);
            if let Some(account) = account(&old)
                && let Some(count) = self.accounts.get_mut(&account)
            {
                *count -= 1;
                if *count == 0 {
                    self.accounts.remove(&account);
                }
            }
        }
        let labels = new.as_ref().map(|pod| &pod.meta.labels);
        self.name_gateways(Namer::Owner(Owner::Pod(name.clone())), &name.0, labels);
        if let Some(new) = new {
            self.members.put(&name.0, Owner::Pod(name.clone()), new.meta.labels.clone());
            self.on_node.entry(new.node.clone()).or_default().insert(name.clone());
            if let Some(account) = account(&new) {
                *self.accounts.entry(account).or_default() += 1;
            }
            self.pods.insert(name.clone(), new);
        }
    }

    pub(super) fn slice(&mut self, name: &Name, new: Option<EndpointSlice>) {
        if let Some(old) = self.slices.remove(name) {
            take(&mut self.slices_of, &service_of(&old), name);
            for pod in pods_of(&old) {
                take(&mut self.slices_with, &pod, name);
            }
        }
        if let Some(new) = new {
            self.slices_of.entry(service_of(&new)).or_default().insert(name.clone());
            for pod in pods_of(&new) {
                self.slices_with.entry(pod).or_default().insert(name.clone());
            }
            self.slices.insert(name.clone(), new);
        }
    }

    pub(super) fn slices_of<'a>(
        &'a self,
        service: &Name,
    ) -> impl Iterator<Item = (&'a Name, &'a EndpointSlice)> + use<'a> {
        self.slices_of.get(service).into_iter().flatten().filter_map(|name| self.slices.get_key_value(name))
    }

    pub(super) fn slices_with<'a>(&'a self, pod: &Name) -> impl Iterator<Item = &'a EndpointSlice> + use<'a> {
        self.slices_with.get(pod).into_iter().flatten().filter_map(|name| self.slices.get(name))
    }

    /// The members that a service selects.
    pub(super) fn selected(&self, namespace: &Str, selector: &Labels) -> Vec<Owner> {
        self.members.selected(namespace, selector)
    }

    /// The members that a policy selects: those of the root namespace select in all.
    pub(super) fn selected_by_policy(&self, namespace: &Str, selector: &Labels, root: &str) -> Vec<Owner> {
        if **namespace != *root {
            return self.members.selected(namespace, selector);
        }
        self.members.namespaces().flat_map(|namespace| self.members.selected(namespace, selector)).collect()
    }

    /// The entries of a table that are in a namespace.
    pub(super) fn within<'a, T>(
        table: &'a BTreeMap<Name, T>,
        namespace: &Str,
    ) -> impl Iterator<Item = (&'a Name, &'a T)> + use<'a, T> {
        let from = (namespace.clone(), Str::default());
        let namespace = namespace.clone();
        table.range(from..).take_while(move |(name, _)| name.0 == namespace)
    }
}

/// Puts what was told of an object in its place, or takes it out.
pub(super) fn put<K: Ord + Clone, V>(table: &mut BTreeMap<K, V>, key: &K, new: Option<V>) {
    match new {
        Some(new) => drop(table.insert(key.clone(), new)),
        None => drop(table.remove(key)),
    }
}

/// The service that a slice is of.
pub(super) fn service_of(slice: &EndpointSlice) -> Name {
    (slice.meta.namespace.clone(), slice.service.clone())
}

/// The pods that a slice names.
pub(super) fn pods_of(slice: &EndpointSlice) -> impl Iterator<Item = Name> {
    let names = slice.endpoints.iter().filter_map(|endpoint| endpoint.pod.clone());
    names.map(|pod| (slice.meta.namespace.clone(), pod))
}

fn account(pod: &Pod) -> Option<(Str, Str, Str)> {
    let there = pod.phase != Phase::Failed && !pod.node.is_empty();
    there.then(|| (pod.node.clone(), pod.meta.namespace.clone(), pod.service_account.clone()))
}

fn take<K: Ord, V: Ord>(map: &mut BTreeMap<K, BTreeSet<V>>, key: &K, value: &V) {
    if let Some(all) = map.get_mut(key) {
        all.remove(value);
        if all.is_empty() {
            map.remove(key);
        }
    }
}
