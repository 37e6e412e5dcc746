//! Routes of Gateway API: HTTPRoute, GRPCRoute, TCPRoute, TLSRoute attached to services.
//!
//! A route in the namespace of its service is for every caller (a producer route); one of another
//! namespace is for callers of its own (a consumer route). HTTPRoutes and GRPCRoutes of one service
//! stand together, and the most specific match wins; of TCPRoutes for one port the oldest does.

use super::{Conditions, Reach, Scene, Target, attach, resolve};
use crate::{
    facts::{Condition, FactKey, Parent, Route, RouteKind, RouteRules},
    index::Index,
};
use mesh::{
    ServiceKey,
    route::{
        Destination, HttpRoute, HttpRule, ServiceRules, StreamRoute,
        http::{Action, Precedence},
    },
    service::AppProtocol,
};
use std::collections::BTreeSet;

const MISSING_LABEL: &str = "istio.io/use-waypoint label missing from parent and parent namespace; in ambient mode, route will not be respected";

fn route<'a>(index: &'a Index, object: &FactKey) -> Option<&'a Route> {
    index.told.routes.get(object)
}

pub(super) fn reach(index: &Index, object: &FactKey, reach: &mut Reach) {
    let Some(route) = route(index, object) else { return };
    attach::reach(index, route.parents.iter(), reach);
    for destination in destinations(route) {
        reach.point_to(&index.mesh, destination);
        if let Destination::Service { service, .. } = destination
            && !service.namespace.is_empty()
            && service.namespace != route.meta.namespace
        {
            reach.targets.insert(Target::Grants(service.namespace.clone()));
        }
    }
}

fn destinations(route: &Route) -> Vec<&Destination> {
    match &route.rules {
        None => Vec::new(),
        Some(RouteRules::Http(rules)) => rules.iter().flat_map(of_rule).collect(),
        Some(RouteRules::Stream { backends, .. }) => backends.iter().map(|(destination, _)| destination).collect(),
    }
}

fn of_rule(rule: &HttpRule) -> Vec<&Destination> {
    let mirrors = rule.filters.mirrors.iter().map(|mirror| &mirror.destination);
    match &rule.action {
        Action::Forward(backends) => backends.iter().map(|backend| &backend.destination).chain(mirrors).collect(),
        Action::Redirect(_) | Action::Respond(_) => mirrors.collect(),
    }
}

/// What is said of a route beside what its services say.
pub(super) fn of_object(index: &Index, object: &FactKey, conditions: &mut Conditions) {
    if let Some(route) = route(index, object) {
        attach::say_of_others(index, object, &route.parents, "NoMatchingParent", conditions);
        if route.parents.is_empty() {
            conditions.say(object, accepted(index, object, route));
        }
    }
}

pub(super) fn contribute(scene: &Scene<'_>, rules: &mut ServiceRules, conditions: &mut Conditions) {
    let mut tcp: Vec<(&Route, StreamRoute)> = Vec::new();
    let mut tls: Vec<(&Route, StreamRoute)> = Vec::new();
    for object in scene.objects {
        let Some(route) = route(scene.index, object) else { continue };
        let parents = attach::parents_of(scene.index, &route.parents, &rules.service);
        let ports = attached(scene, object, route, &rules.service, &parents, conditions);
        let (Some(ports), Some(said)) = (ports, &route.rules) else { continue };
        let callers = (route.meta.namespace != rules.service.namespace).then(|| route.meta.namespace.clone());
        let name = object.text();
        match said.clone() {
            RouteRules::Http(mut own) => {
                own.iter_mut().for_each(|rule| permit_rule(scene.index, object, rule, conditions));
                let created = route.meta.created.clone();
                let precedence = Precedence::Specific;
                rules.http.push(HttpRoute { name, created, ports, callers, precedence, rules: own });
            }
            RouteRules::Stream { server_names, mut backends } => {
                for (destination, _) in &mut backends {
                    permit(scene.index, object, destination, conditions);
                }
                let stream = StreamRoute { name, ports, callers, server_names, backends };
                if route.kind == RouteKind::Tls { &mut tls } else { &mut tcp }.push((route, stream));
            }
        }
    }
    rules.tls.extend(in_order(tls, conditions));
    rules.tcp.extend(in_order(tcp, conditions));
}

/// The ports of a service that a route is attached to (empty: all), or `None`; and the conditions of
/// each of its parents.
fn attached(
    scene: &Scene<'_>,
    object: &FactKey,
    route: &Route,
    service: &ServiceKey,
    parents: &[&Parent],
    conditions: &mut Conditions,
) -> Option<Vec<u16>> {
    let mut all: Option<BTreeSet<u16>> = None;
    let mut every = false;
    for parent in parents {
        let mut say = |condition: Condition| conditions.say(object, condition.about(parent.text()));
        let meant =
            attach::ports_meant(scene.index, service, parent).and_then(|ports| spoken(route.kind, parent, ports));
        match meant {
            Err(message) => say(Condition::unmet("Accepted", "NoMatchingParent", message)),
            Ok(ports) => {
                say(accepted(scene.index, object, route));
                every |= ports.is_empty();
                all.get_or_insert_default().extend(ports);
            }
        }
        let trouble = scene.index.waypoint_trouble(service);
        let missing = || if scene.waypoints.is_empty() { MISSING_LABEL } else { "All waypoints resolved" };
        say(Condition::met("ResolvedWaypoints", "ResolvedWaypoints", trouble.unwrap_or_else(missing)));
        say(Condition::met("ResolvedRefs", "ResolvedRefs", "All references resolved"));
        for remark in &route.remarks {
            say(Condition::unmet(remark.condition, remark.reason, &*remark.message));
        }
    }
    let ports = all?;
    Some(if every { Vec::new() } else { ports.into_iter().collect() })
}

/// Whether a route was understood. One that is not any more stays as it was.
fn accepted(index: &Index, object: &FactKey, route: &Route) -> Condition {
    match index.refused(object) {
        [] if route.unheeded.is_empty() => Condition::met("Accepted", "Accepted", "Route was valid"),
        [] => {
            let message = format!("Route was valid; not heeded for a service: {}", route.unheeded.join(", "));
            Condition::met("Accepted", "Accepted", message)
        }
        reasons => {
            let instead = if route.rules.is_some() { "the last good version stays" } else { "it is not attached" };
            Condition::unmet("Accepted", "UnsupportedValue", format!("{}; {instead}", reasons.join("; ")))
        }
    }
}

/// The ports on which a kind of route can be heeded. One that was asked for by name or number and
/// carries something else is an error; of all ports those that carry something else do not count.
fn spoken(kind: RouteKind, parent: &Parent, ports: Vec<crate::facts::ServicePort>) -> Result<Vec<u16>, String> {
    let http = matches!(kind, RouteKind::Http | RouteKind::Grpc);
    let opaque = |protocol: AppProtocol| matches!(protocol, AppProtocol::Tcp | AppProtocol::Tls);
    if let Some(port) = ports.iter().find(|port| http && opaque(port.app_protocol)) {
        let protocol = format!("{:?}", port.app_protocol).to_lowercase();
        return Err(format!("{}: port {} carries {protocol}, which is not read as HTTP", parent.text(), port.port));
    }
    Ok(ports.into_iter().map(|port| port.port).collect())
}

fn permit_rule(index: &Index, object: &FactKey, rule: &mut HttpRule, conditions: &mut Conditions) {
    if let Action::Forward(backends) = &mut rule.action {
        for backend in backends {
            permit(index, object, &mut backend.destination, conditions);
        }
    }
    for mirror in &mut rule.filters.mirrors {
        permit(index, object, &mut mirror.destination, conditions);
    }
}

/// A Service of another namespace may be sent to only where a ReferenceGrant of its own says so.
fn permit(index: &Index, object: &FactKey, destination: &mut Destination, conditions: &mut Conditions) {
    let Destination::Service { service, .. } = destination else { return };
    if service.namespace.is_empty() || service.namespace == object.namespace {
        return;
    }
    let name = service.hostname.split('.').next().unwrap_or_default();
    let kind = format!("{:?}", object.kind);
    let from = ("gateway.networking.k8s.io", &*kind, &*object.namespace);
    let mut grants = crate::index::told::Told::within(&index.told.grants, &service.namespace);
    if grants.any(|(_, grant)| grant.permits(from, ("", "Service", name))) {
        return;
    }
    let message = format!(
        "Service {}/{name} is in another namespace, and no ReferenceGrant there lets {kind} of {} send to it",
        service.namespace, object.namespace
    );
    conditions.fail(object, Condition::unmet("ResolvedRefs", "RefNotPermitted", message.clone()));
    *destination = Destination::Invalid { reason: message.into() };
}

/// Streams have no matches to choose by but their server name: those for some callers come first,
/// then the oldest. One that can never be reached for an older one is told so.
fn in_order(mut routes: Vec<(&Route, StreamRoute)>, conditions: &mut Conditions) -> Vec<StreamRoute> {
    let age = |route: &Route| (route.meta.created.is_none(), route.meta.created.clone(), route.meta.namespace.clone());
    routes.sort_by_key(|(route, stream)| (stream.callers.is_none(), age(route), route.meta.name.clone()));
    let mut placed: Vec<StreamRoute> = Vec::new();
    for (_, stream) in routes {
        let hides = |older: &&StreamRoute| {
            let ports = older.ports.is_empty()
                || (!stream.ports.is_empty() && stream.ports.iter().all(|port| older.ports.contains(port)));
            ports && older.callers == stream.callers && older.server_names == stream.server_names
        };
        match placed.iter().find(hides) {
            None => placed.push(stream),
            Some(older) => {
                let message = format!("{} is older and has the same ports", older.name);
                if let Some(object) = resolve::object(&stream.name) {
                    conditions.fail(&object, Condition::unmet("Accepted", "ParentRefConflict", message));
                }
            }
        }
    }
    placed
}
