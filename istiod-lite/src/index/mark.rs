//! What a fact changes the ground of: the object is remembered, and what depends on it is marked.

use super::{
    Index, Rank, binding,
    naming::Namer,
    policies::{self, by_port_key, strict_key},
    rules::Target,
    services::hostname,
    told::{Name, Owner, Source, Told, pods_of, put, service_of},
};
use crate::facts::{
    AuthorizationPolicy, EndpointSlice, Fact, FactKey, Kind, Labels, MtlsMode, Namespace, Node, PeerAuthentication,
    Pod, ReferenceGrant, Route, Service, ServiceEntry, WorkloadEntry,
};
use litemap::LiteMap;
use mesh::{ServiceKey, Str};
use std::collections::BTreeSet;

impl Index {
    pub(super) fn tell(&mut self, fact: Fact) {
        let key = fact.key();
        if matches!(fact, Fact::Removed(_)) {
            self.conditions.remove(&key);
        }
        let name = (key.namespace.clone(), key.name.clone());
        match fact {
            Fact::Namespace(it) => self.namespace(&name, Some(it)),
            Fact::ServiceAccount(_) => {}
            Fact::Node(it) => self.node(&name, Some(it)),
            Fact::Pod(it) => self.pod(&name, Some(it)),
            Fact::Service(it) => self.service(&name, Some(*it)),
            Fact::EndpointSlice(it) => self.slice(&name, Some(*it)),
            Fact::ServiceEntry(it) => self.service_entry(&name, Some(*it)),
            Fact::WorkloadEntry(it) => self.workload_entry(&name, Some(*it)),
            Fact::AuthorizationPolicy(it) => self.authorization(&name, Some(*it)),
            Fact::PeerAuthentication(it) => self.peer(&name, Some(*it)),
            Fact::Route(it) => self.route(&key, Some(*it)),
            Fact::ReferenceGrant(it) => self.grant(&key, Some(*it)),
            Fact::BackendTlsPolicy(it) => self.tell_rules(&key, |told| put(&mut told.tls_policies, &name, Some(*it))),
            Fact::BackendTrafficPolicy(it) => {
                self.tell_rules(&key, |told| put(&mut told.backend_traffic_policies, &name, Some(*it)))
            }
            Fact::ConfigMap(it) => self.tell_rules(&key, |told| put(&mut told.config_maps, &name, Some(*it))),
            Fact::Gateway(it) => self.gateway(&name, Some(*it)),
            Fact::GatewayClass(it) => self.gateway_class(&name, Some(it)),
            Fact::VirtualService(it) => self.tell_rules(&key, |told| put(&mut told.virtual_services, &name, Some(*it))),
            Fact::DestinationRule(it) => {
                self.tell_rules(&key, |told| put(&mut told.destination_rules, &name, Some(*it)))
            }
            Fact::RequestAuthentication(it) => {
                self.tell_rules(&key, |told| put(&mut told.request_authentications, &name, Some(*it)))
            }
            Fact::Telemetry(it) => self.tell_of_telling(&key, |told| put(&mut told.telemetries, &name, Some(*it))),
            Fact::TrafficPolicy(it) => self.tell_rules(&key, |told| put(&mut told.traffic_policies, &name, Some(*it))),
            Fact::MeshConfig(it) => self.tell_of_telling(&key, |told| put(&mut told.mesh_configs, &name, Some(*it))),
            Fact::Otherwise(fact) => self.tell(*fact),
            Fact::Removed(_) => match key.kind {
                Kind::Namespace => self.namespace(&name, None),
                Kind::ServiceAccount => {}
                Kind::Node => self.node(&name, None),
                Kind::Pod => self.pod(&name, None),
                Kind::Service => self.service(&name, None),
                Kind::EndpointSlice => self.slice(&name, None),
                Kind::ServiceEntry => self.service_entry(&name, None),
                Kind::WorkloadEntry => self.workload_entry(&name, None),
                Kind::AuthorizationPolicy => self.authorization(&name, None),
                Kind::PeerAuthentication => self.peer(&name, None),
                Kind::HTTPRoute | Kind::GRPCRoute | Kind::TCPRoute | Kind::TLSRoute => self.route(&key, None),
                Kind::ReferenceGrant => self.grant(&key, None),
                Kind::BackendTLSPolicy => self.tell_rules(&key, |told| put(&mut told.tls_policies, &name, None)),
                Kind::XBackendTrafficPolicy => {
                    self.tell_rules(&key, |told| put(&mut told.backend_traffic_policies, &name, None))
                }
                Kind::Gateway => self.gateway(&name, None),
                Kind::GatewayClass => self.gateway_class(&name, None),
                Kind::ConfigMap => self.tell_of_telling(&key, |told| {
                    put(&mut told.config_maps, &name, None);
                    put(&mut told.mesh_configs, &name, None);
                }),
                Kind::VirtualService => self.tell_rules(&key, |told| put(&mut told.virtual_services, &name, None)),
                Kind::DestinationRule => self.tell_rules(&key, |told| put(&mut told.destination_rules, &name, None)),
                Kind::RequestAuthentication => {
                    self.tell_rules(&key, |told| put(&mut told.request_authentications, &name, None))
                }
                Kind::Telemetry => self.tell_of_telling(&key, |told| put(&mut told.telemetries, &name, None)),
                Kind::TrafficPolicy => self.tell_rules(&key, |told| put(&mut told.traffic_policies, &name, None)),
            },
        }
    }

    fn route(&mut self, key: &FactKey, new: Option<Route>) {
        if self.told.routes.get(key) != new.as_ref() {
            self.tell_rules(key, |told| put(&mut told.routes, key, new));
        }
    }

    fn grant(&mut self, key: &FactKey, new: Option<ReferenceGrant>) {
        let name = (key.namespace.clone(), key.name.clone());
        put(&mut self.told.grants, &name, new);
        self.target_changed(&Target::Grants(key.namespace.clone()));
    }

    /// Takes in something told of what is told of requests.
    fn tell_of_telling(&mut self, key: &FactKey, put: impl FnOnce(&mut Told)) {
        self.tell_rules(key, put);
        self.target_changed(&Target::Telemetries);
    }

    fn namespace(&mut self, name: &Name, new: Option<Namespace>) {
        let old = self.told.namespaces.get(name);
        if old == new.as_ref() {
            return;
        }
        let network = self.network();
        let labels = new.as_ref().map(|namespace| &namespace.meta.labels);
        self.told.name_gateways(Namer::Namespace(name.1.clone()), &name.1, labels);
        match new {
            Some(new) => drop(self.told.namespaces.insert(name.clone(), new)),
            None => drop(self.told.namespaces.remove(name)),
        }
        if self.network() != network {
            self.look_at_all_gateways();
            self.marked.services.extend(self.claims.keys().cloned());
            self.marked.owners.extend(self.workloads.keys().cloned());
        }
        // Any label may be one that a waypoint asks for when it admits.
        let from = ServiceKey { namespace: name.1.clone(), hostname: Str::default() };
        let own = self.claims.range(from..).map(|(key, _)| key).take_while(|key| key.namespace == name.1);
        self.marked.services.extend(own.cloned());
        self.mark_namespace(&name.1);
    }

    fn node(&mut self, name: &Name, new: Option<Node>) {
        let old = match new {
            Some(new) if self.told.nodes.get(name) == Some(&new) => return,
            Some(new) => self.told.nodes.insert(name.clone(), new),
            None => self.told.nodes.remove(name),
        };
        let new = self.told.nodes.get(name);
        if old.map(|node| node.locality) != new.map(|node| node.locality.clone()) {
            let pods = self.told.on_node.get(&name.1).into_iter().flatten();
            self.marked.owners.extend(pods.cloned().map(Owner::Pod));
        }
    }

    fn pod(&mut self, name: &Name, new: Option<Box<Pod>>) {
        if self.told.pods.get(name) != new.as_ref() {
            self.told.pod(name, new);
            self.marked.owners.insert(Owner::Pod(name.clone()));
        }
    }

    fn workload_entry(&mut self, name: &Name, new: Option<WorkloadEntry>) {
        if self.told.workload_entries.get(name) == new.as_ref() {
            return;
        }
        let owner = Owner::WorkloadEntry(name.clone());
        let labels = new.as_ref().map(|new| &new.entry.labels);
        self.told.name_gateways(Namer::Owner(owner.clone()), &name.0, labels);
        match new {
            Some(new) => {
                self.told.members.put(&name.0, owner.clone(), new.entry.labels.clone());
                self.told.workload_entries.insert(name.clone(), new);
            }
            None => {
                self.told.members.remove(&name.0, &owner);
                self.told.workload_entries.remove(name);
            }
        }
        self.marked.owners.insert(owner);
    }

    fn service(&mut self, name: &Name, new: Option<Service>) {
        if self.told.services.get(name) == new.as_ref() {
            return;
        }
        let source = Source::Service(name.clone());
        let labels = new.as_ref().map(|new| &new.meta.labels);
        self.told.name_gateways(Namer::Source(source.clone()), &name.0, labels);
        self.marked.sources.insert(source.clone());
        if let Some(old) = self.told.services.remove(name) {
            self.unclaim(&source, &old.selector, |mesh| service_claims(mesh, &old));
        }
        if let Some(new) = new {
            self.claim(&source, &new.selector, |mesh| service_claims(mesh, &new));
            self.told.services.insert(name.clone(), new);
        }
        self.mark_around(&source);
    }

    fn service_entry(&mut self, name: &Name, new: Option<ServiceEntry>) {
        if self.told.service_entries.get(name) == new.as_ref() {
            return;
        }
        let source = Source::ServiceEntry(name.clone());
        let labels = new.as_ref().map(|new| &new.meta.labels);
        self.told.name_gateways(Namer::Source(source.clone()), &name.0, labels);
        let inline = new.iter().flat_map(|new| &new.endpoints);
        let inline = inline.flat_map(|entry| binding::gateways_in(&name.0, &entry.labels)).collect();
        self.told.naming.put(Namer::Owner(Owner::ServiceEntry(name.clone())), inline);
        self.marked.sources.insert(source.clone());
        if let Some(old) = self.told.service_entries.remove(name) {
            self.unclaim(&source, &old.selector, |_| entry_claims(&old));
        }
        if let Some(new) = new {
            self.claim(&source, &new.selector, |_| entry_claims(&new));
            self.told.service_entries.insert(name.clone(), new);
        }
        self.mark_around(&source);
        let (namespace, name) = name.clone();
        self.object_changed(&FactKey { kind: Kind::ServiceEntry, namespace, name });
    }

    fn claim(&mut self, source: &Source, selector: &Labels, claims: impl Fn(&super::Mesh) -> Claims) {
        let namespace = source.namespace();
        self.told.services_selecting.put(namespace, source.clone(), selector.clone());
        self.marked.owners.extend(self.told.selected(namespace, selector));
        let (rank, keys) = claims(&self.mesh);
        for key in keys {
            self.claims
                .entry(key.clone())
                .or_insert_with(|| LiteMap::with_capacity(1))
                .insert(rank.clone(), source.clone());
            self.marked.services.insert(key);
        }
    }

    fn unclaim(&mut self, source: &Source, selector: &Labels, claims: impl Fn(&super::Mesh) -> Claims) {
        let namespace = source.namespace();
        self.told.services_selecting.remove(namespace, source, selector);
        self.marked.owners.extend(self.told.selected(namespace, selector));
        let (rank, keys) = claims(&self.mesh);
        for key in keys {
            if let Some(all) = self.claims.get_mut(&key) {
                all.remove(&rank);
                if all.is_empty() {
                    self.claims.remove(&key);
                }
            }
            self.marked.services.insert(key);
        }
    }

    /// The keys that a source of services claims.
    pub(super) fn keys_of(&self, source: &Source) -> Vec<ServiceKey> {
        let claims = match source {
            Source::Service(name) => self.told.services.get(name).map(|service| service_claims(&self.mesh, service)),
            Source::ServiceEntry(name) => self.told.service_entries.get(name).map(entry_claims),
        };
        claims.map(|(_, keys)| keys).unwrap_or_default()
    }

    /// Marks the workloads that take something from a source of services as it is now.
    pub(super) fn mark_around(&mut self, source: &Source) {
        match source {
            Source::Service(name) => {
                let selector = self.told.services.get(name).map(|service| &service.selector);
                self.marked.owners.extend(self.told.selected(&name.0, selector.unwrap_or(&Labels::new())));
                for (slice, fact) in self.told.slices_of(name) {
                    self.marked.owners.insert(Owner::Slice(slice.clone()));
                    self.marked.owners.extend(pods_of(fact).map(Owner::Pod));
                }
            }
            Source::ServiceEntry(name) => {
                let selector = self.told.service_entries.get(name).map(|entry| &entry.selector);
                self.marked.owners.extend(self.told.selected(&name.0, selector.unwrap_or(&Labels::new())));
                self.marked.owners.insert(Owner::ServiceEntry(name.clone()));
            }
        }
    }

    fn slice(&mut self, name: &Name, new: Option<EndpointSlice>) {
        let old = self.told.slices.get(name);
        if old == new.as_ref() {
            return;
        }
        for slice in old.into_iter().chain(&new) {
            // Where the service has a selector, that says which pods are behind it.
            let selects = |service: &Service| !service.selector.is_empty();
            if !self.told.services.get(&service_of(slice)).is_some_and(selects) {
                self.marked.owners.extend(pods_of(slice).map(Owner::Pod));
            }
        }
        self.told.slice(name, new);
        self.marked.owners.insert(Owner::Slice(name.clone()));
    }

    fn authorization(&mut self, name: &Name, new: Option<AuthorizationPolicy>) {
        if self.told.authorization.get(name) == new.as_ref() {
            return;
        }
        let mark = |index: &mut Self, policy: &AuthorizationPolicy| {
            let selected = index.told.selected_by_policy(&name.0, &policy.selector, &index.mesh.root_namespace);
            index.marked.owners.extend(selected);
        };
        self.touch(&policy_key(name));
        if let Some(old) = self.told.authorization.remove(name) {
            mark(self, &old);
            self.told.policies_selecting.remove(&name.0, name, &old.selector);
        }
        if let Some(new) = new {
            mark(self, &new);
            self.told.policies_selecting.put(&name.0, name.clone(), new.selector.clone());
            self.told.authorization.insert(name.clone(), new);
            self.say_of_policy(&policy_key(name));
        }
        self.touch(&policy_key(name));
        self.marked.policies.insert(format!("{}/{}", name.0, name.1).into());
    }

    /// Says what node proxies make of a policy.
    pub(super) fn say_of_policy(&mut self, key: &FactKey) {
        let Some(policy) = self.told.authorization.get(&(key.namespace.clone(), key.name.clone())) else { return };
        let own = policies::accepted(policy, self.refused(key));
        // What is said of it at waypoints is said by whoever builds their rules.
        let others = self.conditions.get(key).into_iter().flatten().filter(|it| &*it.kind != policies::ACCEPTED);
        let all = others.cloned().chain(own).collect();
        self.set_conditions(key.clone(), all);
    }

    fn peer(&mut self, name: &Name, new: Option<PeerAuthentication>) {
        if self.told.peers.get(name) == new.as_ref() {
            return;
        }
        let old = self.told.peers.get(name);
        let wide = old.into_iter().chain(&new).any(|policy| policy.selector.is_empty());
        let namespaces: BTreeSet<Str> = match wide && name.0 == self.mesh.root_namespace {
            true => self.told.members.namespaces().chain(self.told.peers.keys().map(|name| &name.0)).cloned().collect(),
            false => [name.0.clone()].into(),
        };
        let before: Vec<bool> = namespaces.iter().map(|namespace| self.strict(namespace)).collect();

        if let Some(old) = self.told.peers.remove(name) {
            self.marked.owners.extend(self.told.selected(&name.0, &old.selector));
            self.marked.policies.insert(by_port_key(&old));
            self.told.peers_selecting.remove(&name.0, name, &old.selector);
        }
        if let Some(new) = new {
            self.marked.owners.extend(self.told.selected(&name.0, &new.selector));
            self.marked.policies.insert(by_port_key(&new));
            self.told.peers_selecting.put(&name.0, name.clone(), new.selector.clone());
            self.told.peers.insert(name.clone(), new);
        }
        self.marked.policies.insert(strict_key(&self.mesh.root_namespace));

        for (namespace, before) in namespaces.iter().zip(before) {
            if self.strict(namespace) != before {
                self.marked.owners.extend(self.told.members.all(namespace).cloned());
                let own = Told::within(&self.told.peers, namespace);
                self.marked.policies.extend(own.map(|(_, policy)| by_port_key(policy)));
            }
        }
    }

    /// Whether callers of a namespace's workloads must have an identity, where nothing narrower says.
    pub(super) fn strict(&self, namespace: &Str) -> bool {
        let wide = |namespace: &Str| {
            let all = Told::within(&self.told.peers, namespace).map(|(_, policy)| policy);
            let oldest = all.filter(|policy| policy.selector.is_empty()).min_by_key(|policy| policy.meta.age());
            oldest.and_then(|policy| policy.mode)
        };
        wide(namespace).or_else(|| wide(&self.mesh.root_namespace)) == Some(MtlsMode::Strict)
    }
}

impl Source {
    fn namespace(&self) -> &Str {
        match self {
            Self::Service(name) | Self::ServiceEntry(name) => &name.0,
        }
    }
}

fn policy_key(name: &Name) -> FactKey {
    FactKey { kind: Kind::AuthorizationPolicy, namespace: name.0.clone(), name: name.1.clone() }
}

type Claims = (Rank, Vec<ServiceKey>);

fn service_claims(mesh: &super::Mesh, service: &Service) -> Claims {
    let meta = &service.meta;
    let key = ServiceKey { namespace: meta.namespace.clone(), hostname: hostname(mesh, &meta.namespace, &meta.name) };
    ((false, meta.age()), if service.alias { Vec::new() } else { vec![key] })
}

fn entry_claims(entry: &ServiceEntry) -> Claims {
    let key = |host: &Str| ServiceKey { namespace: entry.meta.namespace.clone(), hostname: host.clone() };
    ((true, entry.meta.age()), entry.hosts.iter().map(key).collect())
}
