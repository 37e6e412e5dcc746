//! What policies with `targetRefs` are attached to: services, waypoints, routes.

use super::{Conditions, Reach, Scene, Target as Pointed, attach};
use crate::{
    facts::{Condition, FactKey, Kind, ParentTarget, Target, TargetKind},
    index::Index,
};
use mesh::{ServiceKey, Str};

/// How far a policy reaches through what it is attached to.
pub(super) fn reach(index: &Index, namespace: &Str, targets: &[Target], reach: &mut Reach) {
    for target in targets {
        match target.kind {
            TargetKind::Service => reach.services.extend(services(index, namespace, target)),
            TargetKind::ServiceEntry => {
                reach.services.extend(services(index, namespace, target));
                reach.targets.insert(Pointed::Object(key(Kind::ServiceEntry, namespace, &target.name)));
            }
            TargetKind::Gateway => {
                reach.gateways.insert(format!("{namespace}/{}", target.name).into());
                reach.targets.insert(Pointed::Waypoints);
            }
            TargetKind::GatewayClass => {
                reach.gateways.extend(gateways(index, namespace, target));
                reach.targets.insert(Pointed::Waypoints);
            }
            TargetKind::HttpRoute | TargetKind::GrpcRoute => {
                let route = route_key(namespace, target);
                if let Some(route) = index.told.routes.get(&route) {
                    attach::reach(index, route.parents.iter(), reach);
                }
                reach.targets.insert(Pointed::Object(route));
            }
        }
    }
}

fn key(kind: Kind, namespace: &Str, name: &Str) -> FactKey {
    FactKey { kind, namespace: namespace.clone(), name: name.clone() }
}

/// The route that a policy is attached to.
pub(super) fn route_key(namespace: &Str, target: &Target) -> FactKey {
    let kind = if target.kind == TargetKind::GrpcRoute { Kind::GRPCRoute } else { Kind::HTTPRoute };
    key(kind, namespace, &target.name)
}

/// A service, or a service entry, as routes name it.
pub(super) fn parent(namespace: &Str, target: &Target) -> Option<ParentTarget> {
    let (namespace, name) = (namespace.clone(), target.name.clone());
    match target.kind {
        TargetKind::Service => Some(ParentTarget::Service { namespace, name }),
        TargetKind::ServiceEntry => Some(ParentTarget::ServiceEntry { namespace, name }),
        _ => None,
    }
}

fn services(index: &Index, namespace: &Str, target: &Target) -> Vec<ServiceKey> {
    parent(namespace, target).map(|parent| attach::services(index, &parent)).unwrap_or_default()
}

/// The waypoints that a policy is for as a whole.
fn gateways(index: &Index, namespace: &Str, target: &Target) -> Vec<Str> {
    match target.kind {
        TargetKind::Gateway => vec![format!("{namespace}/{}", target.name).into()],
        TargetKind::GatewayClass if *namespace == index.mesh.root_namespace => {
            let of_class =
                |name: &&(Str, Str)| index.told.gateways.get(*name).is_some_and(|it| it.class == target.name);
            index.waypoints.keys().filter(of_class).map(|name| format!("{}/{}", name.0, name.1).into()).collect()
        }
        _ => Vec::new(),
    }
}

/// Those of a policy's targets that are a service.
pub(super) fn of_service<'a>(
    index: &Index,
    namespace: &Str,
    targets: &'a [Target],
    key: &ServiceKey,
) -> Vec<&'a Target> {
    targets.iter().filter(|target| services(index, namespace, target).contains(key)).collect()
}

/// Those of a policy's targets that are a waypoint.
pub(super) fn of_gateway<'a>(index: &Index, namespace: &Str, targets: &'a [Target], gateway: &str) -> Vec<&'a Target> {
    let is = |target: &&Target| gateways(index, namespace, target).iter().any(|one| &**one == gateway);
    targets.iter().filter(is).collect()
}

/// What becomes of a policy at a service that it is for.
pub(super) fn at_service(scene: &Scene<'_>, key: &ServiceKey, condition: &str) -> Condition {
    match (scene.service(key), scene.waypoints) {
        (None, _) => Condition::unmet(condition, "TargetNotFound", format!("there is no service {}", key.hostname)),
        (_, []) => Condition::unmet(condition, "AncestorNotBound", "the service is not behind a waypoint"),
        (_, all) => Condition::met(condition, "Accepted", format!("bound to waypoint {}", all.join(", "))),
    }
}

/// What becomes of a policy at a waypoint that it is for.
pub(super) fn at_gateway(index: &Index, gateway: &str, condition: &str) -> Condition {
    let there = gateway
        .split_once('/')
        .is_some_and(|(namespace, name)| index.waypoints.contains_key(&(Str::from(namespace), Str::from(name))));
    match there {
        true => Condition::met(condition, "Accepted", format!("bound to waypoint {gateway}")),
        false => Condition::unmet(condition, "TargetNotFound", format!("there is no waypoint {gateway}")),
    }
}

/// Says of each target that nobody else says anything of why it is none.
pub(super) fn say_of_others(
    index: &Index,
    object: &FactKey,
    targets: &[Target],
    condition: &str,
    conditions: &mut Conditions,
) {
    for target in targets {
        let message = match target.kind {
            TargetKind::GatewayClass if object.namespace != index.mesh.root_namespace => {
                format!("policies for a GatewayClass belong into the namespace {}", index.mesh.root_namespace)
            }
            TargetKind::GatewayClass if gateways(index, &object.namespace, target).is_empty() => {
                format!("there is no waypoint of class {}", target.name)
            }
            TargetKind::ServiceEntry if services(index, &object.namespace, target).is_empty() => {
                format!("there is no {target}")
            }
            TargetKind::HttpRoute | TargetKind::GrpcRoute => {
                match index.told.routes.contains_key(&route_key(&object.namespace, target)) {
                    true => continue,
                    false => format!("there is no {target}"),
                }
            }
            _ => continue,
        };
        conditions.say(object, Condition::unmet(condition, "TargetNotFound", message).about(target.to_string()));
    }
}
