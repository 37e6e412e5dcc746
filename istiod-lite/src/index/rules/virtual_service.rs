//! VirtualService: routes of the services that its hosts name.
//!
//! It counts in the namespace of the service and in that of the service's waypoint. Its rules are
//! tried one after the other, after the routes of Gateway API; of several the oldest comes first.

use super::{Conditions, Reach, Scene, Target, delegate, hosts, reading, resolve};
use crate::{
    facts::{Condition, FactKey, Kind, VirtualService},
    index::{Index, told::Told},
};
use mesh::{
    Service, ServiceKey, Str,
    route::{
        Destination, HttpRoute, HttpRule, ServiceRules, StreamRoute,
        http::{Action, Precedence},
    },
};
use std::collections::BTreeSet;

fn told<'a>(index: &'a Index, object: &FactKey) -> Option<&'a VirtualService> {
    let name = (object.namespace.clone(), object.name.clone());
    (object.kind == Kind::VirtualService).then(|| index.told.virtual_services.get(&name))?
}

fn key(namespace: &Str, name: &Str) -> FactKey {
    FactKey { kind: Kind::VirtualService, namespace: namespace.clone(), name: name.clone() }
}

pub(super) fn reach(index: &Index, object: &FactKey, reach: &mut Reach) {
    let Some(it) = told(index, object) else { return };
    for host in &it.hosts {
        let host = hosts::whole(&index.mesh, &it.meta.namespace, host);
        reach.services.extend(hosts::services(index, &host));
        reach.targets.insert(Target::Host(host));
    }
    if it.hosts.is_empty() {
        return;
    }
    for_each_route(index, it, &mut |route| {
        let delegate = route.delegate.as_ref();
        reach.targets.extend(delegate.map(|(namespace, name)| Target::Object(key(namespace, name))));
    });
    for destination in destinations(index, it) {
        reach.point_to(&index.mesh, destination);
    }
}

fn for_each_route<'a>(
    index: &'a Index,
    it: &'a VirtualService,
    visit: &mut impl FnMut(&'a crate::facts::VirtualRoute),
) {
    for route in &it.http {
        visit(route);
        let other = route.delegate.as_ref().and_then(|name| index.told.virtual_services.get(name));
        other.iter().flat_map(|other| &other.http).for_each(&mut *visit);
    }
}

/// Where its routes send, and those it delegates to.
fn destinations<'a>(index: &'a Index, it: &'a VirtualService) -> Vec<&'a Destination> {
    let mut all = Vec::new();
    for_each_route(index, it, &mut |route| all.extend(of_rule(&route.rule)));
    let streams = it.tls.iter().chain(&it.tcp).flat_map(|route| &route.backends);
    all.extend(streams.map(|(destination, _)| destination));
    all
}

fn of_rule(rule: &HttpRule) -> impl Iterator<Item = &Destination> {
    let backends = match &rule.action {
        Action::Forward(backends) => &backends[..],
        Action::Redirect(_) | Action::Respond(_) => &[],
    };
    let mirrors = rule.filters.mirrors.iter().map(|mirror| &mirror.destination);
    backends.iter().map(|backend| &backend.destination).chain(mirrors)
}

/// What is said of it beside what its services say.
pub(super) fn of_object(index: &Index, object: &FactKey, conditions: &mut Conditions) {
    let Some(it) = told(index, object) else { return };
    reading::say_of_reading(index, object, &it.unheeded, conditions);
    if it.hosts.is_empty() && it.refused.is_empty() {
        conditions.say(object, Condition::met("Accepted", "Accepted", "it is for others that delegate to it"));
    }
    for host in &it.hosts {
        let whole = hosts::whole(&index.mesh, &it.meta.namespace, host);
        if hosts::services(index, &whole).next().is_none() {
            let message = format!("there is no service {whole}");
            conditions.say(object, Condition::unmet("Accepted", "TargetNotFound", message).about(host.clone()));
        }
    }
}

pub(super) fn contribute(scene: &Scene<'_>, rules: &mut ServiceRules, conditions: &mut Conditions) {
    let Some(service) = scene.service(&rules.service) else { return };
    let mut found: Vec<&VirtualService> = candidates(scene, &rules.service);
    found.sort_by_key(|it| it.meta.age());
    for it in found {
        let object = key(&it.meta.namespace, &it.meta.name);
        let about = rules.service.hostname.clone();
        conditions.say(&object, accepted(scene, rules, it).about(about.clone()));
        let own = http(scene.index, it, &object, &mut |condition| {
            conditions.say(&object, condition.about(about.clone()));
        });
        rules.http.extend(on_ports(scene, service, it, &object, own));
        rules.tls.extend(it.tls.iter().flat_map(|route| stream_on_ports(scene, service, it, route)));
        rules.tcp.extend(it.tcp.iter().flat_map(|route| stream_on_ports(scene, service, it, route)));
    }
}

/// Those that count for a service.
fn candidates<'a>(scene: &Scene<'a>, service: &ServiceKey) -> Vec<&'a VirtualService> {
    let index = scene.index;
    let waypoints = scene.waypoints.iter().map(|waypoint| hosts::namespace_of(waypoint));
    let namespaces: BTreeSet<&str> = waypoints.chain([&*service.namespace]).collect();
    let own = namespaces.into_iter().flat_map(|namespace| {
        Told::within(&index.told.virtual_services, &namespace.into()).map(|(_, it)| it).collect::<Vec<_>>()
    });
    own.filter(|it| it.for_mesh && names(index, it, service) && exported(scene, &service.namespace, it)).collect()
}

fn names(index: &Index, it: &VirtualService, service: &ServiceKey) -> bool {
    let whole = |host: &Str| hosts::whole(&index.mesh, &it.meta.namespace, host);
    it.hosts.iter().any(|host| hosts::closeness(&whole(host), &service.hostname).is_some())
}

/// Whoever carries it out is the waypoint; without one it is nobody, and the service's side is told.
fn exported(scene: &Scene<'_>, namespace: &str, it: &VirtualService) -> bool {
    match scene.waypoints {
        [] => it.exports.reach(namespace),
        all => all.iter().any(|waypoint| it.exports.reach(hosts::namespace_of(waypoint))),
    }
}

fn accepted(scene: &Scene<'_>, rules: &ServiceRules, it: &VirtualService) -> Condition {
    if scene.waypoints.is_empty() {
        return Condition::unmet("Accepted", "AncestorNotBound", "the service is not behind a waypoint");
    }
    let specific = |route: &&HttpRoute| route.precedence == Precedence::Specific && route.callers.is_none();
    let first: Vec<&str> = rules.http.iter().filter(specific).map(|route| &*route.name).collect();
    if !first.is_empty() && !it.http.is_empty() {
        let message = format!("{} is attached to the same service, and comes first", first.join(", "));
        return Condition::unmet("Accepted", "Overridden", message);
    }
    Condition::met("Accepted", "Accepted", format!("carried out by waypoint {}", scene.waypoints.join(", ")))
}

/// Its rules, with those it delegates to in their places.
fn http(index: &Index, it: &VirtualService, object: &FactKey, say: &mut impl FnMut(Condition)) -> Vec<HttpRule> {
    let mut all = Vec::new();
    for route in &it.http {
        let Some(name) = &route.delegate else {
            all.push(route.rule.clone());
            continue;
        };
        let shown = format!("VirtualService {}/{}", name.0, name.1);
        let found = index.told.virtual_services.get(name);
        let Some(other) = found.filter(|it| it.hosts.is_empty() && it.exports.reach(&object.namespace)) else {
            let message =
                format!("http {}: there is no {shown} without hosts that may be used; left out", route.rule.name);
            say(Condition::unmet("ResolvedRefs", "DelegateNotFound", message));
            continue;
        };
        if other.http.iter().any(|route| route.delegate.is_some()) {
            let message =
                format!("http {}: {shown} delegates itself, which is not followed; left out", route.rule.name);
            say(Condition::unmet("ResolvedRefs", "DelegateNotFound", message));
            continue;
        }
        let (mut merged, conflicts) = delegate::merge(&route.rule, &other.http);
        all.append(&mut merged);
        if !conflicts.is_empty() {
            let message = format!(
                "http {}: {} of {shown} asks for what it does not; left out",
                route.rule.name,
                conflicts.join(", ")
            );
            say(Condition::unmet("ResolvedRefs", "DelegateConflict", message));
        }
    }
    all
}

/// A route for all ports, or one for each where a destination without a port is another on each.
fn on_ports(
    scene: &Scene<'_>,
    service: &Service,
    it: &VirtualService,
    object: &FactKey,
    rules: Vec<HttpRule>,
) -> Vec<HttpRoute> {
    if rules.is_empty() {
        return Vec::new();
    }
    let route = |ports: Vec<u16>, rules| HttpRoute {
        name: object.text(),
        created: it.meta.created.clone(),
        ports,
        callers: None,
        precedence: Precedence::Listed,
        rules,
    };
    let placed = |port: u16| {
        let mut rules = rules.clone();
        for rule in &mut rules {
            if let Action::Forward(backends) = &mut rule.action {
                backends.iter_mut().for_each(|one| place(scene, &it.meta.namespace, port, &mut one.destination));
            }
            rule.filters
                .mirrors
                .iter_mut()
                .for_each(|one| place(scene, &it.meta.namespace, port, &mut one.destination));
        }
        rules
    };
    let each: Vec<(u16, Vec<HttpRule>)> = service.ports.keys().map(|port| (*port, placed(*port))).collect();
    match &each[..] {
        [(_, first), others @ ..] if others.iter().all(|(_, other)| other == first) => {
            vec![route(Vec::new(), first.clone())]
        }
        [] => vec![route(Vec::new(), rules)],
        _ => each.into_iter().map(|(port, rules)| route(vec![port], rules)).collect(),
    }
}

fn stream_on_ports(scene: &Scene<'_>, service: &Service, it: &VirtualService, route: &StreamRoute) -> Vec<StreamRoute> {
    let placed = |port: u16| {
        let mut route = route.clone();
        route.backends.iter_mut().for_each(|(one, _)| place(scene, &it.meta.namespace, port, one));
        route
    };
    let meant = |port: &&u16| route.ports.is_empty() || route.ports.contains(port);
    let each: Vec<(u16, StreamRoute)> = service.ports.keys().filter(meant).map(|port| (*port, placed(*port))).collect();
    match &each[..] {
        [(_, first), others @ ..] if others.iter().all(|(_, other)| other == first) => vec![first.clone()],
        [] => vec![route.clone()],
        _ => each.into_iter().map(|(port, route)| StreamRoute { ports: vec![port], ..route }).collect(),
    }
}

/// The port of a destination that names none and has several: the one that was asked for.
fn place(scene: &Scene<'_>, namespace: &Str, asked: u16, destination: &mut Destination) {
    if let Destination::Service { service, port: port @ 0, .. } = destination {
        let found = resolve::find(scene, namespace, service);
        if found.is_some_and(|found| found.ports.len() > 1 && found.ports.contains_key(&asked)) {
            *port = asked;
        }
    }
}
