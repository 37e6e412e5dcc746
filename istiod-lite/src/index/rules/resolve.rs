//! What destinations are: names become services that are there, or the reason why not.

use super::Scene;
use crate::facts::{Condition, FactKey, Kind};
use mesh::{
    Service, ServiceKey, Str,
    route::{
        Destination, GatewayRules, Guards, RateLimit, ServiceRules, Telemetry, guard::GuardAction, http::Action,
        limit::LimitScope,
    },
};
use std::collections::BTreeSet;

/// Why a destination is none: the reason of a condition, and a message for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::index) struct Unresolved {
    pub(in crate::index) reason: &'static str,
    pub(in crate::index) message: String,
}

/// Finds out what the destinations of a service's rules are. It gives the services they send to.
pub(super) fn service(
    scene: &Scene<'_>,
    rules: &mut ServiceRules,
    say: &mut impl FnMut(&str, Condition),
) -> BTreeSet<ServiceKey> {
    let namespace = rules.service.namespace.clone();
    let mut sends_to = BTreeSet::new();
    visit_service(rules, &mut |from, destination| {
        sends_to.extend(place(scene, &namespace, from, destination, say));
    });
    sends_to.remove(&rules.service);
    sends_to
}

/// The same for the rules of a Gateway.
pub(super) fn gateway(
    scene: &Scene<'_>,
    rules: &mut GatewayRules,
    say: &mut impl FnMut(&str, Condition),
) -> BTreeSet<ServiceKey> {
    let namespace = rules.namespace.clone();
    let mut sends_to = BTreeSet::new();
    visit_gateway(rules, &mut |from, destination| {
        sends_to.extend(place(scene, &namespace, from, destination, say));
    });
    sends_to
}

fn place(
    scene: &Scene<'_>,
    otherwise: &Str,
    from: &str,
    destination: &mut Destination,
    say: &mut impl FnMut(&str, Condition),
) -> Option<ServiceKey> {
    // A bare hostname is first looked for where the object that names it is.
    let namespace = object(from).map_or_else(|| otherwise.clone(), |key| key.namespace);
    match resolve(scene, &namespace, destination) {
        Ok(resolved) => *destination = resolved,
        Err(Unresolved { reason, message }) => {
            say(from, Condition::unmet("ResolvedRefs", reason, message.clone()));
            *destination = Destination::Invalid { reason: message.into() };
        }
    }
    match destination {
        Destination::Service { service, .. } => Some(service.clone()),
        Destination::Invalid { .. } => None,
    }
}

/// What a destination is, as seen from a namespace.
pub(in crate::index) fn resolve(
    scene: &Scene<'_>,
    namespace: &Str,
    destination: &Destination,
) -> Result<Destination, Unresolved> {
    let Destination::Service { service, port, subset } = destination else { return Ok(destination.clone()) };
    let not_found = |message: String| Unresolved { reason: "BackendNotFound", message };
    let found = find(scene, namespace, service).ok_or_else(|| not_found(format!("there is no {}", shown(service))))?;
    let port = match (*port, found.ports.len()) {
        (0, 1) => found.ports.keys().next().copied().unwrap_or_default(),
        (0, n) => {
            return Err(not_found(format!("{} has {n} ports, and none of them is named", shown(service))));
        }
        (port, _) if found.ports.contains_key(&port) => port,
        (port, _) => return Err(not_found(format!("{} has no port {port}", shown(service)))),
    };
    Ok(Destination::Service { service: found.key(), port, subset: subset.clone() })
}

/// The service that a key of [`crate::facts::by_name`] or [`crate::facts::by_host`] is of.
pub(in crate::index) fn find<'a>(scene: &Scene<'a>, namespace: &Str, key: &ServiceKey) -> Option<&'a Service> {
    let index = scene.index;
    if !key.namespace.is_empty() {
        return index.services.get(&super::full_key(&index.mesh, key)).map(|service| &**service);
    }
    let own = ServiceKey { namespace: namespace.clone(), hostname: key.hostname.clone() };
    let owner = || index.hosts.get(&key.hostname)?.values().next();
    index.services.get(&own).or_else(|| index.services.get(owner()?)).map(|service| &**service)
}

fn shown(key: &ServiceKey) -> String {
    match key.hostname.strip_suffix(&format!(".{}.svc", key.namespace)) {
        Some(name) => format!("Service {}/{name}", key.namespace),
        None => format!("service {}", key.hostname),
    }
}

/// The object that a name of rules (`Kind/namespace/name`) is of.
pub(super) fn object(name: &str) -> Option<FactKey> {
    let mut parts = name.splitn(4, '/');
    let (kind, namespace, name) = (parts.next()?, parts.next()?, parts.next()?);
    let kind = Kind::RULES.into_iter().find(|known| format!("{known:?}") == kind)?;
    Some(FactKey { kind, namespace: namespace.into(), name: name.into() })
}

/// Every destination of a service's rules, with the name of what it is in.
pub(super) fn visit_service(rules: &mut ServiceRules, visit: &mut impl FnMut(&str, &mut Destination)) {
    for route in &mut rules.http {
        for rule in &mut route.rules {
            if let Action::Forward(backends) = &mut rule.action {
                backends.iter_mut().for_each(|backend| visit(&route.name, &mut backend.destination));
            }
            rule.filters.mirrors.iter_mut().for_each(|mirror| visit(&route.name, &mut mirror.destination));
            limits(&mut rule.limits, visit);
        }
    }
    for route in rules.tls.iter_mut().chain(&mut rules.tcp) {
        route.backends.iter_mut().for_each(|(destination, _)| visit(&route.name, destination));
    }
    around(&mut rules.guards, &mut rules.limits, &mut rules.telemetry, visit);
}

/// The rules with every destination taken for one that is not there.
pub(crate) fn without_destinations(rules: &mut ServiceRules) {
    visit_service(rules, &mut |_, destination| *destination = Destination::Invalid { reason: "not looked up".into() });
}

/// The services that rules send to, whose destinations were looked up before.
pub(super) fn sends_to(rules: &mut ServiceRules) -> BTreeSet<ServiceKey> {
    let mut found = BTreeSet::new();
    visit_service(rules, &mut |_, destination| {
        if let Destination::Service { service, .. } = destination {
            found.insert(service.clone());
        }
    });
    found.remove(&rules.service);
    found
}

/// Every destination of a Gateway's rules.
pub(super) fn visit_gateway(rules: &mut GatewayRules, visit: &mut impl FnMut(&str, &mut Destination)) {
    around(&mut rules.guards, &mut rules.limits, &mut rules.telemetry, visit);
}

fn around(
    guards: &mut Guards,
    all: &mut [RateLimit],
    telemetry: &mut Telemetry,
    visit: &mut impl FnMut(&str, &mut Destination),
) {
    for policy in &mut guards.policies {
        if let GuardAction::Custom(authorizer) = &mut policy.action {
            let name = format!("AuthorizationPolicy/{}/{}", policy.namespace, policy.name);
            visit(&name, &mut authorizer.destination);
        }
    }
    limits(all, visit);
    if let Some(collector) = telemetry.tracing.as_mut().and_then(|tracing| tracing.collector.as_mut()) {
        visit("Telemetry", collector);
    }
}

fn limits(limits: &mut [RateLimit], visit: &mut impl FnMut(&str, &mut Destination)) {
    for limit in limits {
        if let LimitScope::Service { destination, .. } = &mut limit.scope {
            visit(&limit.name, destination);
        }
    }
}
