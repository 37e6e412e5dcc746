//! Gateways that are waypoints: what they are for, whether they can be used, and who names them.

use super::{
    Index, Mesh,
    binding::{self, Addressed, Asker, Binding, HBONE_PORT, Serves, Waypoint, Words},
    guard::{Guard, Guards},
    naming::Namer,
    rules::Target,
    told::{Name, Owner, Source, Told},
};
use crate::facts::{
    Admits, Condition, FactKey, Gateway, GatewayAddress, GatewayClass, Kind, Labels, Listener, Namespace, Resolution,
};
use mesh::{
    Identity, ServiceKey, Str,
    workload::{self, Destination, NetworkAddress, PortMap},
};
use std::collections::{BTreeMap, BTreeSet};

/// The class of waypoints, and who serves it.
const CLASS: &str = "istio-waypoint";
const CONTROLLER: &str = "istio.io/mesh-controller";

impl Index {
    /// The waypoint that an identity is of: `namespace/name` of the Gateway of class
    /// `istio-waypoint` whose service account it is. Anybody else is none.
    pub fn gateway_of(&self, identity: &Identity) -> Option<Str> {
        let principal = identity.principal();
        let mut own = Told::within(&self.waypoints, identity.namespace());
        own.find(|(_, waypoint)| waypoint.principal.as_deref() == Some(&principal)).map(|(_, it)| it.key.clone())
    }

    /// The waypoints (`namespace/name` of their Gateways) that serve a service, or will when they
    /// are ready: two while a canary has its share.
    pub fn waypoint_of_service(&self, key: &ServiceKey) -> BTreeSet<Str> {
        self.binding_of_service(key).map(|(_, binding)| binding.gateways.clone()).unwrap_or_default()
    }

    /// Why traffic to a service goes through no waypoint that serves it, where it names one.
    pub(super) fn waypoint_trouble(&self, key: &ServiceKey) -> Option<&str> {
        let (_, binding) = self.binding_of_service(key)?;
        binding.condition.as_ref().filter(|condition| !condition.status).map(|condition| condition.message.as_str())
    }

    fn binding_of_service(&self, key: &ServiceKey) -> Option<(&Source, &Binding)> {
        let (_, source) = self.winners.get(key)?;
        Some((source, self.bindings.get(source)?))
    }

    pub(super) fn gateway(&mut self, name: &Name, new: Option<Gateway>) {
        if self.told.gateways.get(name) == new.as_ref() {
            return;
        }
        match new {
            Some(new) => drop(self.told.gateways.insert(name.clone(), new)),
            None => drop(self.told.gateways.remove(name)),
        }
        // Whether another of the namespace has the service account to itself may be different now.
        let beside = Told::within(&self.told.gateways, &name.0).map(|(name, _)| name.clone());
        let names: BTreeSet<Name> = beside.chain([name.clone()]).collect();
        self.look_at_gateways(names);
        let (namespace, name) = name.clone();
        self.object_changed(&FactKey { kind: Kind::Gateway, namespace, name });
    }

    pub(super) fn gateway_class(&mut self, name: &Name, new: Option<GatewayClass>) {
        if self.told.gateway_classes.get(name) == new.as_ref() {
            return;
        }
        if let Some(new) = &new {
            let ours = *new.controller == *CONTROLLER;
            let accepted = ours.then(|| Condition::met("Accepted", "Accepted", "Handled by Istio controller"));
            let key = FactKey { kind: Kind::GatewayClass, namespace: Str::default(), name: name.1.clone() };
            self.set_conditions(key, accepted.into_iter().collect());
        }
        match new {
            Some(new) => drop(self.told.gateway_classes.insert(name.clone(), new)),
            None => drop(self.told.gateway_classes.remove(name)),
        }
        // A class has few gateways, and changes once in a mesh's life.
        self.look_at_all_gateways();
    }

    pub(super) fn look_at_all_gateways(&mut self) {
        self.look_at_gateways(self.told.gateways.keys().cloned().collect());
    }

    /// Sees what gateways are now, and marks who names one that is different.
    pub(super) fn look_at_gateways(&mut self, names: BTreeSet<Name>) {
        let network = self.network();
        let mut others = false;
        for name in names {
            let seen = self.told.gateways.get(&name).filter(|gateway| self.is_waypoint(gateway)).map(|gateway| {
                let class = self.told.gateway_classes.get(&(Str::default(), gateway.class.clone()));
                see(gateway, class, self.shares_account(gateway), &self.mesh, &network)
            });
            let (waypoint, conditions) = seen.unzip();
            let key = FactKey { kind: Kind::Gateway, namespace: name.0.clone(), name: name.1.clone() };
            let mut conditions: Vec<Condition> = conditions.unwrap_or_default();
            if let ([first, ..], reasons @ [_, ..]) = (&mut conditions[..], self.refused(&key)) {
                // What was good before holds; what is written now does not.
                *first = Condition::unmet("Accepted", "ListenersNotValid", reasons.join("; "));
            }
            self.set_conditions(key, conditions);
            if self.waypoints.get(&name) == waypoint.as_ref() {
                continue;
            }
            others = true;
            self.rules.mark_gateway(&format!("{}/{}", name.0, name.1).into());
            match waypoint {
                Some(waypoint) => drop(self.waypoints.insert(name.clone(), waypoint)),
                None => drop(self.waypoints.remove(&name)),
            }
            for namer in self.told.naming.of(&name).cloned().collect::<Vec<_>>() {
                match namer {
                    Namer::Namespace(namespace) => self.mark_namespace(&namespace),
                    Namer::Source(source) => drop(self.marked.sources.insert(source)),
                    Namer::Owner(owner) => drop(self.marked.owners.insert(owner)),
                }
            }
            self.mark_guards(|_, waypoint| *waypoint == name);
        }
        if others {
            self.target_changed(&Target::Waypoints);
        }
    }

    fn is_waypoint(&self, gateway: &Gateway) -> bool {
        match self.told.gateway_classes.get(&(Str::default(), gateway.class.clone())) {
            Some(class) => *class.controller == *CONTROLLER,
            None => *gateway.class == *CLASS,
        }
    }

    /// The older waypoint that has the service account of this one. An identity must say which
    /// waypoint somebody is.
    fn shares_account(&self, gateway: &Gateway) -> Option<Str> {
        let same = |other: &&Gateway| self.is_waypoint(other) && service_account(other) == service_account(gateway);
        let all = Told::within(&self.told.gateways, &gateway.meta.namespace).map(|(_, other)| other);
        let first = all.filter(same).min_by_key(|other| other.meta.age())?;
        (first.meta.name != gateway.meta.name).then(|| first.meta.name.clone())
    }

    /// Marks what takes something from a namespace: its services and workloads.
    pub(super) fn mark_namespace(&mut self, namespace: &Str) {
        let services = Told::within(&self.told.services, namespace).map(|(name, _)| Source::Service(name.clone()));
        self.marked.sources.extend(services);
        let entries = Told::within(&self.told.service_entries, namespace).map(|(name, _)| name);
        for name in entries {
            self.marked.sources.insert(Source::ServiceEntry(name.clone()));
            self.marked.owners.insert(Owner::ServiceEntry(name.clone()));
        }
        self.marked.owners.extend(self.told.members.all(namespace).cloned());
        self.mark_guards(|of, _| of == namespace);
    }

    /// Marks the guards of workloads of a namespace and waypoint, and those that meet them.
    fn mark_guards(&mut self, changed: impl Fn(&Str, &Name) -> bool) {
        let is =
            |guard: &&Guard| matches!(guard, Guard::Workloads { namespace, waypoint } if changed(namespace, waypoint));
        let guards = self.guarded.of_workloads().filter(is);
        self.marked.guards.extend(guards.flat_map(|guard| self.guarded.around(guard)));
    }

    /// Binds a source of services again.
    pub(super) fn rebind(&mut self, source: &Source) {
        let bound = self.bind_source(source);
        let (binding, conditions) = bound.unzip();
        if let Some(conditions) = conditions {
            self.set_conditions(source_key(source), conditions);
        }
        if self.bindings.get(source) == binding.as_ref() {
            return;
        }
        match binding {
            Some(binding) => drop(self.bindings.insert(source.clone(), binding)),
            None => drop(self.bindings.remove(source)),
        }
        for key in self.keys_of(source) {
            self.marked.guards.extend(self.guarded.around(&guard_of(&key, source)));
            self.marked.services.insert(key);
        }
        self.mark_around(source);
    }

    fn bind_source(&self, source: &Source) -> Option<(Binding, Vec<Condition>)> {
        let (namespace, words) = self.words_of(source)?;
        let inherited = self.told.namespace(namespace).map(words_of_namespace);
        let named = binding::named(namespace, words, inherited);
        let binding = named.map(|named| self.bind(&named, Addressed::Service, namespace)).unwrap_or_default();
        let mut conditions: Vec<_> = binding.condition.clone().into_iter().collect();
        if let Source::ServiceEntry(name) = source
            && binding.waypoint.is_none()
            && self.told.service_entries.get(name).is_some_and(|entry| entry.resolution == Resolution::DynamicDns)
        {
            let message = "resolution DYNAMIC_DNS is done by a waypoint: name one by the label istio.io/use-waypoint";
            conditions.push(Condition::met("istio.io/WaypointMissing", "NoWaypointForWildcardService", message));
        }
        Some((binding, conditions))
    }

    fn bind(&self, named: &binding::Named, addressed: Addressed, namespace: &Str) -> Binding {
        self.asking(addressed, namespace, |asker| binding::bind(named, asker, |name| self.waypoints.get(name)))
    }

    fn asking<T>(&self, addressed: Addressed, namespace: &Str, ask: impl FnOnce(&Asker<'_>) -> T) -> T {
        let none = Labels::new();
        let namespace_labels = self.told.namespace(namespace).map_or(&none, |it| &it.meta.labels);
        ask(&Asker { addressed, namespace, namespace_labels, domain: &self.mesh.domain })
    }

    fn words_of<'a>(&'a self, source: &'a Source) -> Option<(&'a Str, Words<'a>)> {
        let (namespace, meta) = match source {
            Source::Service(name) => (&name.0, &self.told.services.get(name)?.meta),
            Source::ServiceEntry(name) => (&name.0, &self.told.service_entries.get(name)?.meta),
        };
        Some((namespace, Words { labels: &meta.labels, annotations: &meta.annotations }))
    }

    /// Says how a workload entry stands to the waypoint it names.
    pub(super) fn say_of_entry(&mut self, name: &Name) {
        let Some(fact) = self.told.workload_entries.get(name) else { return };
        let own = Words { labels: &fact.entry.labels, annotations: &fact.meta.annotations };
        let (bound, _) = self.passage(&name.0, own, &BTreeMap::new());
        let key = FactKey { kind: Kind::WorkloadEntry, namespace: name.0.clone(), name: name.1.clone() };
        self.set_conditions(key, bound.condition.into_iter().collect());
    }

    /// How a workload stands to the waypoints it names, and what guards it.
    pub(super) fn passage(
        &self,
        namespace: &Str,
        own: Words<'_>,
        services: &BTreeMap<ServiceKey, PortMap>,
    ) -> (Binding, Guards) {
        let inherited = self.told.namespace(namespace).map(words_of_namespace);
        let named = binding::named(namespace, own, inherited);
        let bound = named.as_ref().map(|named| self.bind(named, Addressed::Workload, namespace)).unwrap_or_default();
        let mut guards = Guards::new();
        if binding::may_go_around(own, None) == Some(true) {
            return (bound, guards);
        }
        for (key, ports) in services {
            let Some((source, binding)) = self.binding_of_service(key) else { continue };
            let ports: BTreeSet<u16> = ports.values().copied().filter(|port| *port != 0).collect();
            if binding.waypoint.is_some() && !ports.is_empty() && !self.may_go_around(source, inherited) {
                guards.insert(guard_of(key, source), ports);
            }
        }
        let around = binding::may_go_around(own, inherited).unwrap_or(self.mesh.allow_around_waypoint);
        if let Some(named) = named
            && bound.waypoint.is_some()
            && !around
        {
            let (namespace, waypoint) = (namespace.clone(), named.primary().clone());
            guards.insert(Guard::Workloads { namespace, waypoint }, BTreeSet::new());
        }
        (bound, guards)
    }

    fn may_go_around(&self, source: &Source, inherited: Option<Words<'_>>) -> bool {
        let said = self.words_of(source).and_then(|(_, own)| binding::may_go_around(own, inherited));
        said.unwrap_or(self.mesh.allow_around_waypoint)
    }

    /// Who may call what a guard guards.
    pub(super) fn callers(&self, guard: &Guard) -> BTreeSet<Str> {
        match guard {
            Guard::Service { key, .. } => {
                self.binding_of_service(key).map(|(_, binding)| binding.callers.clone()).unwrap_or_default()
            }
            Guard::Workloads { namespace, waypoint } => self.asking(Addressed::Workload, namespace, |asker| {
                binding::callers(waypoint, self.waypoints.get(waypoint), asker).unwrap_or_default()
            }),
        }
    }
}

pub(super) fn words_of_namespace(namespace: &Namespace) -> Words<'_> {
    Words { labels: &namespace.meta.labels, annotations: &namespace.meta.annotations }
}

fn guard_of(key: &ServiceKey, source: &Source) -> Guard {
    let name = match source {
        Source::Service(name) => Ok(name.1.clone()),
        Source::ServiceEntry(_) => Err(key.hostname.clone()),
    };
    Guard::Service { key: key.clone(), name }
}

fn source_key(source: &Source) -> FactKey {
    let (kind, name) = match source {
        Source::Service(name) => (Kind::Service, name),
        Source::ServiceEntry(name) => (Kind::ServiceEntry, name),
    };
    FactKey { kind, namespace: name.0.clone(), name: name.1.clone() }
}

fn service_account(gateway: &Gateway) -> &Str {
    gateway.meta.annotations.get("gateway.istio.io/service-account").unwrap_or(&gateway.meta.name)
}

/// What a gateway of a waypoint class is, and what is to be said of it.
fn see(
    gateway: &Gateway,
    class: Option<&GatewayClass>,
    account_of: Option<Str>,
    mesh: &Mesh,
    network: &Str,
) -> (Waypoint, Vec<Condition>) {
    let meta = &gateway.meta;
    let listener = gateway.listeners.iter().find(|listener| is_hbone(listener));
    let serves = serves(gateway, class);
    let identity = Identity::new(&mesh.trust_domain, &meta.namespace, service_account(gateway));
    let flaw = match (&serves, listener, &account_of, &identity) {
        (Err(text), ..) => Some((
            "InvalidParameters",
            format!("label istio.io/waypoint-for is {text:?} and none of service, workload, all, none"),
        )),
        (_, None, ..) => Some(("ListenersNotValid", WANTED.to_owned())),
        (_, _, Some(other), _) => Some((
            "ServiceAccountInUse",
            format!(
                "service account {} is that of waypoint {other}; an identity must be one waypoint's",
                service_account(gateway)
            ),
        )),
        (.., Err(error)) => Some(("InvalidParameters", format!("its service account cannot be an identity: {error}"))),
        _ => None,
    };
    let address = address(gateway, network);
    let mut conditions = Vec::new();
    conditions.push(match &flaw {
        None => Condition::met("Accepted", "Accepted", "Resource accepted"),
        Some((reason, message)) => Condition::unmet("Accepted", reason, message.clone()),
    });
    conditions.push(match &address {
        _ if flaw.is_some() => Condition::unmet("Programmed", "Invalid", "it is not accepted"),
        Ok(_) => Condition::met("Programmed", "Programmed", "Resource programmed"),
        Err(why) => Condition::unmet("Programmed", "AddressNotAssigned", why.clone()),
    });
    conditions.extend(gateway.listeners.iter().flat_map(conditions_of));
    let waypoint = Waypoint {
        key: format!("{}/{}", meta.namespace, meta.name).into(),
        serves: serves.unwrap_or(Serves::All),
        admits: listener.map_or(Admits::All, |listener| listener.admits.clone()),
        address,
        principal: identity.ok().filter(|_| flaw.is_none()).map(|identity| identity.principal().into()),
    };
    (waypoint, conditions)
}

const WANTED: &str = "Expected a single listener on port 15008 with protocol \"HBONE\"";

fn is_hbone(listener: &Listener) -> bool {
    listener.port == HBONE_PORT && &*listener.protocol == "HBONE"
}

fn conditions_of(listener: &Listener) -> Vec<Condition> {
    let about = |condition: Condition| condition.about(format!("listener {}", listener.name));
    let all = match is_hbone(listener) {
        true => vec![
            Condition::met("Accepted", "Accepted", "No errors found"),
            Condition::met("Programmed", "Programmed", "No errors found"),
        ],
        false => vec![
            Condition::unmet("Accepted", "UnsupportedProtocol", WANTED),
            Condition::unmet("Programmed", "Invalid", WANTED),
        ],
    };
    let resolved = Condition::met("ResolvedRefs", "ResolvedRefs", "No errors found");
    all.into_iter().chain([resolved]).map(about).collect()
}

/// What a waypoint is for: its own label, its class's, or services. What cannot be read comes back.
fn serves(gateway: &Gateway, class: Option<&GatewayClass>) -> Result<Serves, String> {
    const FOR: &str = "istio.io/waypoint-for";
    let said = gateway.meta.labels.get(FOR).or_else(|| class?.meta.labels.get(FOR));
    let unread = |text: &Str| text.chars().take(100).collect();
    said.map_or(Ok(Serves::Services), |text| Serves::of(text).ok_or_else(|| unread(text)))
}

/// Where whoever deployed a gateway says that it is: by name rather than by address.
fn address(gateway: &Gateway, network: &Str) -> Result<workload::GatewayAddress, String> {
    let first = gateway.addresses.iter().min().ok_or("none of its pods is ready (status.addresses is empty)")?;
    let destination = match first {
        GatewayAddress::Hostname(hostname) => {
            Destination::Service(ServiceKey { namespace: gateway.meta.namespace.clone(), hostname: hostname.clone() })
        }
        GatewayAddress::Ip(ip) => Destination::Address(NetworkAddress { network: network.clone(), address: *ip }),
    };
    Ok(workload::GatewayAddress { destination, hbone_mtls_port: HBONE_PORT })
}
