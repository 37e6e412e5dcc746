//! Builds again what is marked, and says what is different.

use super::{
    Index,
    binding::{Binding, Words},
    difference::{difference, differs, sort},
    guard::{Guard, Guards},
    policies::{self, Demand},
    rules::Target,
    services,
    told::{Name, Owner, Source},
    workloads,
};
use crate::facts::{Labels, Resolution, Service, ServiceEntry, ServicePort, SliceEndpoint, TargetPort};
use litemap::LiteMap;
use mesh::{Change, Policy, ServiceKey, Str, Workload, policy::PolicyScope, workload::PortMap};
use std::collections::{BTreeMap, BTreeSet};
use xds::server::Publication;

/// A workload, and what guards it.
type Built = (Workload, Guards);

impl Index {
    pub(super) fn settle(&mut self) -> Vec<Publication> {
        let (mut added, mut removed) = (Vec::new(), Vec::new());
        while let Some(source) = self.marked.sources.pop_first() {
            self.rebind(&source);
        }
        for key in std::mem::take(&mut self.marked.policies) {
            let new = self.policy(&key);
            let differs = differs(&mut self.policies, key.clone(), new);
            sort(differs, Change::Policy, || Change::RemovePolicy(key), &mut added, &mut removed);
        }
        let mut refer = Vec::new();
        // Building a service may move the address or the ownership of another, which is marked then.
        while let Some(key) = self.marked.services.pop_first() {
            let new = self.service_now(&key);
            // Its ports' names are not published, but rules go by them.
            self.rules.mark_service(&key);
            let differs = differs(&mut self.services, key.clone(), new);
            if differs.is_some() {
                self.published_service_changed(&key);
            }
            sort(differs, Change::Service, || Change::RemoveAddress(key.to_string().into()), &mut refer, &mut removed);
        }
        let mut members = BTreeSet::new();
        for owner in std::mem::take(&mut self.marked.owners) {
            if let Owner::WorkloadEntry(name) = &owner {
                self.say_of_entry(name);
            }
            let built = self.workloads_of(&owner).into_iter();
            let mut new: BTreeMap<_, _> =
                built.map(|(workload, guards)| (workload.uid.clone(), (workload, guards))).collect();
            let published = self.workloads.remove(&owner).unwrap_or_default();
            let mut now = LiteMap::with_capacity(new.len());
            let uids: BTreeSet<Str> = published.keys().chain(new.keys()).cloned().collect();
            for uid in uids {
                let of = |workload: &Workload| workload.services.keys().cloned().collect::<Vec<_>>();
                let (workload, guards) = new.remove(&uid).unzip();
                self.guard(&uid, guards.unwrap_or_default());
                let (before, after) = (published.get(&uid).map(|workload| of(workload)), workload.as_ref().map(of));
                let differs = difference(published.get(&uid), workload);
                if let Some(workload) = differs.as_ref().map_or_else(|| published.get(&uid), Option::as_ref) {
                    now.insert(uid.clone(), workload.clone());
                }
                // Labels are not published, but subsets go by them.
                members.extend(before.into_iter().chain(after).flatten());
                sort(differs, Change::Workload, || Change::RemoveAddress(uid), &mut refer, &mut removed);
            }
            if !now.is_empty() {
                self.workloads.insert(owner, now);
            }
        }
        for guard in std::mem::take(&mut self.marked.guards) {
            let new = self.guarded.policy(&guard, |guard| self.callers(guard));
            let differs = differs(&mut self.policies, guard.key(), new);
            sort(differs, Change::Policy, || Change::RemovePolicy(guard.key()), &mut added, &mut removed);
        }
        for key in members {
            self.target_changed(&Target::Members(key));
        }
        // A workload that names a policy which is not there yet would do without it.
        added.append(&mut refer);
        let mut added = added.into_iter().map(Publication::from).collect();
        let mut removed = removed.into_iter().map(Publication::from).collect();
        self.settle_rules(&mut added, &mut removed);
        added.append(&mut removed);
        added
    }

    /// Notes what guards a workload now.
    fn guard(&mut self, uid: &Str, new: Guards) {
        let old = self.guards.remove(uid).unwrap_or_default();
        self.marked.guards.append(&mut self.guarded.change(&old, &new));
        if !new.is_empty() {
            self.guards.insert(uid.clone(), new);
        }
    }

    fn policy(&self, key: &Str) -> Option<Policy> {
        let root = &self.mesh.root_namespace;
        if *key == policies::strict_key(root) {
            return (!self.told.peers.is_empty()).then(|| policies::strict(root));
        }
        let (namespace, name) = key.split_once('/')?;
        // An underscore is in no name of Kubernetes, so this is never somebody's own policy.
        if let Some(peer) = name.strip_prefix("converted_peer_authentication_") {
            let own = self.told.peers.get(&(namespace.into(), peer.into()))?;
            return policies::by_port(own, self.strict(&own.meta.namespace)).filter(|_| !own.selector.is_empty());
        }
        policies::convert(self.told.authorization.get(&(namespace.into(), name.into()))?, root)
    }

    /// The service of a key as it should be published now.
    fn service_now(&mut self, key: &ServiceKey) -> Option<mesh::Service> {
        let winner = self.claims.get(key).and_then(|all| all.first()).map(|(r, s)| (r.clone(), s.clone()));
        let earlier = self.winners.get(key).cloned();
        if winner != earlier {
            for (_, source) in winner.iter().chain(&earlier) {
                self.mark_around(source);
            }
            self.own_host(key, earlier.as_ref().map(|(rank, _)| rank), winner.as_ref().map(|(rank, _)| rank));
            match &winner {
                Some(winner) => drop(self.winners.insert(key.clone(), winner.clone())),
                None => drop(self.winners.remove(key)),
            }
        }
        let source = winner.map(|(_, source)| source);
        let entry = match &source {
            Some(Source::ServiceEntry(name)) => self.told.service_entries.get(name),
            _ => None,
        };
        let wants = entry.is_some_and(|entry| {
            entry.auto_allocate && entry.vips.is_empty() && !entry.allocated.contains_key(&key.hostname)
        });
        let mut moved = if wants { self.vips.want(key) } else { self.vips.release(key) };
        moved.remove(key);
        self.marked.services.append(&mut moved);

        let owner = self.hosts.get(&key.hostname).and_then(|all| all.first()).map(|(_, owner)| owner);
        let (network, unbound) = (self.network(), Binding::default());
        let mut around = services::Surroundings {
            mesh: &self.mesh,
            network: &network,
            namespace: self.told.namespace(&key.namespace),
            binding: source.as_ref().and_then(|source| self.bindings.get(source)).unwrap_or(&unbound),
            canonical: owner == Some(key),
            allocated: Vec::new(),
        };
        match source? {
            Source::Service(name) => Some(services::of_service(self.told.services.get(&name)?, &around)),
            Source::ServiceEntry(name) => {
                let entry = self.told.service_entries.get(&name)?;
                around.allocated = match entry.allocated.get(&key.hostname) {
                    Some(allocated) if entry.vips.is_empty() => allocated.clone(),
                    _ => self.vips.of(key),
                };
                Some(services::of_entry(entry, &key.hostname, &around))
            }
        }
    }

    fn own_host(&mut self, key: &ServiceKey, earlier: Option<&super::Rank>, now: Option<&super::Rank>) {
        let all = self.hosts.entry(key.hostname.clone()).or_insert_with(|| LiteMap::with_capacity(1));
        let first = |all: &LiteMap<_, ServiceKey>| all.first().map(|(_, owner)| owner.clone());
        let before = first(all);
        if let Some(rank) = earlier {
            all.remove(&(rank.clone(), key.namespace.clone()));
        }
        if let Some(rank) = now {
            all.insert((rank.clone(), key.namespace.clone()), key.clone());
        }
        let after = first(all);
        if all.is_empty() {
            self.hosts.remove(&key.hostname);
        }
        if before != after {
            self.marked.services.extend([before, after].into_iter().flatten().filter(|other| other != key));
        }
    }

    fn workloads_of(&self, owner: &Owner) -> Vec<Built> {
        let network = self.network();
        match owner {
            Owner::Pod(name) => self.pod_workload(name, &network).into_iter().collect(),
            Owner::WorkloadEntry(name) => self.entry_workload(name, &network).into_iter().collect(),
            Owner::ServiceEntry(name) => self.inline_workloads(name, &network),
            Owner::Slice(name) => self.slice_workloads(name, &network),
        }
    }

    fn pod_workload(&self, name: &Name, network: &Str) -> Option<Built> {
        let pod = self.told.pods.get(name)?;
        let node = self.told.nodes.get(&(Str::default(), pod.node.clone()));
        let port = |port: &ServicePort| match &port.target {
            TargetPort::Number(number) => Some(*number),
            TargetPort::Name(name) => pod.ports.get(name).copied(),
        };
        let mut services = self.services_selecting(&name.0, &pod.meta.labels, port);
        for slice in self.told.slices_with(name) {
            let of = (name.0.clone(), slice.service.clone());
            let service = self.told.services.get(&of).filter(|service| service.selector.is_empty());
            if let Some((key, ports)) = service.and_then(|service| self.through_slice(service, &slice.ports)) {
                services.entry(key).or_insert(ports);
            }
        }
        let own = Words { labels: &pod.meta.labels, annotations: &pod.meta.annotations };
        let (around, guards) = self.around(network, &name.0, own, services);
        let locality = node.map(|node| node.locality.clone()).unwrap_or_default();
        Some((workloads::of_pod(pod, workloads::Surroundings { locality, ..around })?, guards))
    }

    fn entry_workload(&self, name: &Name, network: &Str) -> Option<Built> {
        let fact = self.told.workload_entries.get(name)?;
        let entry = &fact.entry;
        let services = self.services_selecting(&name.0, &entry.labels, |port| entry_port(&entry.ports, port));
        let own = Words { labels: &entry.labels, annotations: &fact.meta.annotations };
        let (around, guards) = self.around(network, &name.0, own, services);
        let around = workloads::Surroundings { locality: entry.locality.clone(), ..around };
        let uid = format!("{}/networking.istio.io/WorkloadEntry/{}/{}", self.mesh.cluster_id, name.0, name.1);
        Some((workloads::of_entry(&uid, &fact.meta, entry, around), guards))
    }

    /// The endpoints that are written in a service entry; of one that is resolved and has none, its hosts.
    fn inline_workloads(&self, name: &Name, network: &Str) -> Vec<Built> {
        let Some(fact) = self.told.service_entries.get(name) else { return Vec::new() };
        let own: Vec<(Str, ServiceKey)> = self.own_keys(name, fact);
        let prefix = format!("{}/networking.istio.io/ServiceEntry/{}/{}", self.mesh.cluster_id, name.0, name.1);
        // Where they are nobody asks about policies.
        let around = |labels: &Labels, services| {
            let own = Words { labels, annotations: &Labels::new() };
            workloads::Surroundings { policies: Vec::new(), ..self.around(network, &name.0, own, services).0 }
        };
        let written = fact.endpoints.iter().map(|entry| {
            let ports: PortMap =
                fact.ports.iter().filter_map(|port| Some((port.port, entry_port(&entry.ports, port)?))).collect();
            let services = own.iter().map(|(_, key)| (key.clone(), ports.clone())).collect();
            let around =
                workloads::Surroundings { locality: entry.locality.clone(), ..around(&entry.labels, services) };
            let address = entry.address.to_string();
            workloads::of_entry(&format!("{prefix}/{address}"), &fact.meta, entry, around)
        });
        let resolved = fact.resolution == Resolution::Dns && fact.endpoints.is_empty() && fact.selector.is_empty();
        let implied = own.iter().filter(|_| resolved).map(|(host, key)| {
            let ports: PortMap =
                fact.ports.iter().filter_map(|port| Some((port.port, entry_port(&BTreeMap::new(), port)?))).collect();
            let entry = crate::facts::Entry::named(host);
            let around = around(&entry.labels, [(key.clone(), ports)].into());
            workloads::of_entry(&format!("{prefix}/{host}"), &fact.meta, &entry, around)
        });
        let mut seen = BTreeSet::new();
        let all = written.chain(implied).filter(|workload| seen.insert(workload.uid.clone()));
        all.map(|workload| (workload, Guards::new())).collect()
    }

    fn slice_workloads(&self, name: &Name, network: &Str) -> Vec<Built> {
        let Some(slice) = self.told.slices.get(name) else { return Vec::new() };
        let service = self.told.services.get(&(name.0.clone(), slice.service.clone()));
        let Some((key, ports)) = service.and_then(|service| self.through_slice(service, &slice.ports)) else {
            return Vec::new();
        };
        let services = BTreeMap::from([(key, ports)]);
        let mut seen = BTreeSet::new();
        let build = |endpoint: &SliceEndpoint| {
            let address = endpoint.addresses.first()?;
            let uid =
                format!("{}/discovery.k8s.io/EndpointSlice/{}/{}/{address}", self.mesh.cluster_id, name.0, name.1);
            let around = workloads::Surroundings {
                mesh: &self.mesh,
                network,
                locality: Default::default(),
                services: services.clone(),
                policies: Vec::new(),
                waypoint: None,
            };
            seen.insert(uid.clone()).then(|| workloads::of_endpoint(&uid, &slice.meta, endpoint, around))
        };
        let bare = slice.endpoints.iter().filter(|endpoint| endpoint.pod.is_none());
        bare.filter_map(build).map(|workload| (workload, Guards::new())).collect()
    }

    fn around<'a>(
        &'a self,
        network: &'a Str,
        namespace: &Str,
        own: Words<'_>,
        services: BTreeMap<ServiceKey, PortMap>,
    ) -> (workloads::Surroundings<'a>, Guards) {
        let (bound, guards) = self.passage(namespace, own, &services);
        let mut policies = self.policies_for(namespace, own.labels);
        policies.extend(guards.keys().map(Guard::key));
        policies.sort();
        let waypoint = bound.waypoint;
        let locality = Default::default();
        (workloads::Surroundings { mesh: &self.mesh, network, locality, services, policies, waypoint }, guards)
    }

    /// The services that select something with these labels, and the ports it serves them on.
    fn services_selecting(
        &self,
        namespace: &Str,
        labels: &Labels,
        port: impl Fn(&ServicePort) -> Option<u16>,
    ) -> BTreeMap<ServiceKey, PortMap> {
        let mut found = BTreeMap::new();
        for source in self.told.services_selecting.selecting(namespace, labels) {
            let (keys, ports) = match &source {
                Source::Service(name) => {
                    let Some(service) = self.told.services.get(name) else { continue };
                    (self.own_key(name, service).into_iter().collect(), &service.ports)
                }
                Source::ServiceEntry(name) => {
                    let Some(entry) = self.told.service_entries.get(name) else { continue };
                    (self.own_keys(name, entry), &entry.ports)
                }
            };
            let ports: PortMap = ports.iter().filter_map(|one| Some((one.port, port(one)?))).collect();
            found.extend(keys.into_iter().map(|(_, key)| (key, ports.clone())));
        }
        found
    }

    /// The ports of a service that a slice has by name.
    fn through_slice(&self, service: &Service, ports: &BTreeMap<Str, u16>) -> Option<(ServiceKey, PortMap)> {
        let name = (service.meta.namespace.clone(), service.meta.name.clone());
        let (_, key) = self.own_key(&name, service)?;
        let found = service.ports.iter().filter_map(|port| Some((port.port, *ports.get(&port.name)?)));
        Some((key, found.collect()))
    }

    /// The key that a service publishes, if it is the one that does.
    fn own_key(&self, name: &Name, service: &Service) -> Option<(Str, ServiceKey)> {
        let hostname = services::hostname(&self.mesh, &name.0, &service.meta.name);
        self.published(Source::Service(name.clone()), &name.0, &hostname)
    }

    /// The hosts that a service entry publishes, of those for which it is the one that does.
    fn own_keys(&self, name: &Name, entry: &ServiceEntry) -> Vec<(Str, ServiceKey)> {
        let source = Source::ServiceEntry(name.clone());
        entry.hosts.iter().filter_map(|host| self.published(source.clone(), &name.0, host)).collect()
    }

    fn published(&self, source: Source, namespace: &Str, host: &Str) -> Option<(Str, ServiceKey)> {
        let key = ServiceKey { namespace: namespace.clone(), hostname: host.clone() };
        let winner = self.winners.get(&key).is_some_and(|(_, winner)| *winner == source);
        winner.then(|| (host.clone(), key))
    }

    /// The keys of the policies that select something with these labels, sorted.
    fn policies_for(&self, namespace: &Str, labels: &Labels) -> Vec<Str> {
        let root = &self.mesh.root_namespace;
        let mut names = self.told.policies_selecting.selecting(namespace, labels);
        names.append(&mut self.told.policies_selecting.selecting(root, labels));
        let keys = names.iter().map(|(namespace, name)| Str::from(format!("{namespace}/{name}")));
        let selected = |key: &Str| self.policies.get(key).is_some_and(|it| it.scope == PolicyScope::WorkloadSelector);
        let mut keys: BTreeSet<Str> = keys.filter(selected).collect();

        let own = self.told.peers_selecting.selecting(namespace, labels);
        let own = own.iter().filter_map(|name| self.told.peers.get(name)).min_by_key(|policy| policy.meta.age());
        match (policies::demand(own, self.strict(namespace)), own) {
            (Demand::Nothing, _) => {}
            (Demand::ByPort, Some(own)) => drop(keys.insert(policies::by_port_key(own))),
            (Demand::Strict | Demand::ByPort, _) => drop(keys.insert(policies::strict_key(root))),
        }
        keys.into_iter().collect()
    }
}

/// The port of an entry for a service's port: its own by name, else the target.
fn entry_port(own: &BTreeMap<Str, u16>, port: &ServicePort) -> Option<u16> {
    let target = match &port.target {
        TargetPort::Number(number) => Some(*number),
        TargetPort::Name(name) => own.get(name).copied(),
    };
    own.get(&port.name).copied().or(target)
}
