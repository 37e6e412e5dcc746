//! Telemetry: what is told of requests, from the mesh down to one service.
//!
//! What holds for a waypoint is laid together from the configuration of the mesh, the root
//! namespace, the waypoint's class, its namespace and itself; what a service's own namespace and
//! the service itself say is laid over that. In each place the oldest counts.

use super::{Conditions, Reach, Scene, Target as Pointed, hosts, providers, reading, targets};
use crate::{
    facts::{Condition, FactKey, Kind, MeshConfig, Provider, TargetKind, Telemetry},
    index::{Index, told},
};
use mesh::{
    ServiceKey, Str,
    route::{
        self, GatewayRules, ServiceRules,
        telemetry::{AccessLog, Tracing},
    },
};

/// The condition that says what waypoints make of it.
const ACCEPTED: &str = "WaypointAccepted";

fn told<'a>(index: &'a Index, object: &FactKey) -> Option<&'a Telemetry> {
    let name = (object.namespace.clone(), object.name.clone());
    (object.kind == Kind::Telemetry).then(|| index.told.telemetries.get(&name))?
}

fn key(it: &Telemetry) -> FactKey {
    FactKey { kind: Kind::Telemetry, namespace: it.meta.namespace.clone(), name: it.meta.name.clone() }
}

fn gateways(index: &Index, namespace: Option<&Str>) -> Vec<Str> {
    let own = index.waypoints.keys().filter(|name| namespace.is_none_or(|namespace| name.0 == *namespace));
    own.map(|name| format!("{}/{}", name.0, name.1).into()).collect()
}

pub(super) fn reach(index: &Index, object: &FactKey, reach: &mut Reach) {
    if *object == providers::config_key(index) {
        reach.gateways.extend(gateways(index, None));
        reach.targets.insert(Pointed::Waypoints);
        if let Some(config) = providers::config(index) {
            config.providers.values().for_each(|provider| point_to(index, provider, reach));
        }
        return;
    }
    let Some(it) = told(index, object).filter(|it| !it.for_workloads) else { return };
    reach.targets.insert(Pointed::Object(providers::config_key(index)));
    // Who collects may be said by any that is laid under this one.
    let collectors = providers::config(index).into_iter().flat_map(|config| config.providers.values());
    collectors.filter(|it| matches!(it, Provider::Collector(_))).for_each(|it| point_to(index, it, reach));
    match &it.targets {
        Some(targets) => {
            targets::reach(index, &object.namespace, targets, reach);
            // What a service says is laid over what its waypoint says.
            reach.targets.insert(Pointed::Telemetries);
        }
        None if object.namespace == index.mesh.root_namespace => {
            reach.gateways.extend(gateways(index, None));
            reach.targets.insert(Pointed::Waypoints);
        }
        None => {
            reach.gateways.extend(gateways(index, Some(&object.namespace)));
            let from = ServiceKey { namespace: object.namespace.clone(), hostname: Str::default() };
            let own = index.services.range(from..).map(|(key, _)| key);
            reach.services.extend(own.take_while(|key| key.namespace == object.namespace).cloned());
            reach.targets.extend([Pointed::Waypoints, Pointed::Telemetries]);
        }
    }
}

fn point_to(index: &Index, provider: &Provider, reach: &mut Reach) {
    match provider {
        Provider::Collector(destination) => reach.point_to(&index.mesh, destination),
        Provider::Authorizer(authorizer) => reach.point_to(&index.mesh, &authorizer.destination),
        Provider::AccessLog | Provider::Prometheus | Provider::Unserved(_) => {}
    }
}

/// What is said of it beside what its targets say.
pub(super) fn of_object(index: &Index, object: &FactKey, conditions: &mut Conditions) {
    if *object == providers::config_key(index) {
        if let Some(config) = providers::config(index) {
            reading::say_of_reading(index, object, &config.unheeded, conditions);
        }
        return;
    }
    let Some(it) = told(index, object) else { return };
    reading::say_of_reading(index, object, &it.unheeded, conditions);
    targets::say_of_others(index, object, it.targets.as_deref().unwrap_or_default(), ACCEPTED, conditions);
    let asked = it.tracing.as_ref().and_then(|asked| asked.provider.as_ref());
    if let Some(name) = asked.filter(|name| !matches!(providers::find(index, name), Some(Provider::Collector(_)))) {
        let message = format!(
            "spec.tracing[0].providers: {name:?} of the mesh's extensionProviders collects no OTLP: nobody is told"
        );
        conditions.say(object, Condition::unmet("ResolvedRefs", "ProviderNotFound", message));
    }
}

pub(super) fn contribute_to_gateway(scene: &Scene<'_>, rules: &mut GatewayRules, conditions: &mut Conditions) {
    let gateway = rules.key();
    rules.telemetry = of_gateway(scene.index, &gateway, &mut |object, condition| conditions.say(object, condition));
}

pub(super) fn contribute(scene: &Scene<'_>, rules: &mut ServiceRules, conditions: &mut Conditions) {
    let index = scene.index;
    let Some(waypoint) = scene.waypoints.first() else {
        for object in scene.objects {
            let targets = told(index, object).and_then(|it| it.targets.as_deref()).unwrap_or_default();
            for target in targets::of_service(index, &object.namespace, targets, &rules.service) {
                conditions.say(object, targets::at_service(scene, &rules.service, ACCEPTED).about(target.to_string()));
            }
        }
        return;
    };
    let mut full = of_gateway(index, waypoint, &mut |_, _| {});
    let own_namespace = hosts::namespace_of(waypoint) == &*rules.service.namespace
        || rules.service.namespace == index.mesh.root_namespace
        || oldest(index, hosts::namespace_of(waypoint), |it| names_gateway(index, it, waypoint)).is_some();
    let mut layers: Vec<&Telemetry> = Vec::new();
    if !own_namespace {
        layers.extend(oldest(index, &rules.service.namespace, |it| it.targets.is_none()));
    }
    let at_service = |it: &Telemetry| {
        let targets = it.targets.as_deref().unwrap_or_default();
        !targets::of_service(index, &it.meta.namespace, targets, &rules.service).is_empty()
    };
    let first = oldest(index, &rules.service.namespace, at_service);
    for object in scene.objects {
        let Some(it) = told(index, object) else { continue };
        let targets = it.targets.as_deref().unwrap_or_default();
        for target in targets::of_service(index, &object.namespace, targets, &rules.service) {
            let condition = match first {
                Some(first) if key(first) != *object => conflict(first),
                _ => targets::at_service(scene, &rules.service, ACCEPTED),
            };
            conditions.say(object, condition.about(target.to_string()));
        }
    }
    layers.extend(first);
    for it in layers {
        lay(index, &mut full, it);
        if it.access_log.is_some() {
            rules.telemetry.access_log.clone_from(&full.access_log);
        }
        if !it.metrics.is_empty() {
            rules.telemetry.metrics.clone_from(&full.metrics);
        }
        if it.tracing.is_some() {
            rules.telemetry.tracing.clone_from(&full.tracing);
        }
    }
}

fn conflict(first: &Telemetry) -> Condition {
    Condition::unmet(ACCEPTED, "Conflicted", format!("{} is older and is for the same", key(first).text()))
}

fn names_gateway(index: &Index, it: &Telemetry, gateway: &str) -> bool {
    let of_kind = |kind| it.targets.iter().flatten().any(|target| target.kind == kind);
    let targets = it.targets.as_deref().unwrap_or_default();
    of_kind(TargetKind::Gateway) && !targets::of_gateway(index, &it.meta.namespace, targets, gateway).is_empty()
}

/// The oldest of a namespace that is for something.
fn oldest<'a>(index: &'a Index, namespace: &str, is: impl Fn(&Telemetry) -> bool) -> Option<&'a Telemetry> {
    let all = told::Told::within(&index.told.telemetries, &namespace.into()).map(|(_, it)| it);
    all.filter(|it| !it.for_workloads && it.refused.is_empty() && is(it)).min_by_key(|it| it.meta.age())
}

/// What holds for all requests of a waypoint.
fn of_gateway(index: &Index, gateway: &str, say: &mut impl FnMut(&FactKey, Condition)) -> route::Telemetry {
    let mut full = providers::config(index).map(by_default).unwrap_or_default();
    let root = index.mesh.root_namespace.clone();
    let own: Str = hosts::namespace_of(gateway).into();
    let wide = |it: &Telemetry| it.targets.is_none();
    let by_class = |it: &Telemetry| {
        let targets = it.targets.as_deref().unwrap_or_default();
        let found = targets::of_gateway(index, &it.meta.namespace, targets, gateway);
        found.iter().any(|target| target.kind == TargetKind::GatewayClass)
    };
    let layers = [
        (&root, "", oldest(index, &root, wide)),
        (&root, "class", oldest(index, &root, by_class)),
        (&own, "", oldest(index, &own, wide).filter(|_| own != root)),
        (&own, "gateway", oldest(index, &own, |it| names_gateway(index, it, gateway))),
    ];
    let at = targets::at_gateway(index, gateway, ACCEPTED);
    for (namespace, place, first) in layers {
        let Some(first) = first else { continue };
        lay(index, &mut full, first);
        let same = |it: &&Telemetry| match place {
            "" => wide(it),
            "class" => by_class(it),
            _ => names_gateway(index, it, gateway),
        };
        let all = told::Told::within(&index.told.telemetries, namespace).map(|(_, it)| it);
        for it in all.filter(|it| !it.for_workloads && it.refused.is_empty()).filter(same) {
            let condition = if key(it) == key(first) { at.clone() } else { conflict(first) };
            say(&key(it), condition.about(format!("Gateway/{gateway}")));
        }
    }
    full
}

/// What the configuration of the mesh says of every waypoint.
fn by_default(config: &MeshConfig) -> route::Telemetry {
    let log = |name: &Str| matches!(config.providers.get(name), Some(Provider::AccessLog)) || &**name == "envoy";
    let named = config.default_access_logging.iter().any(log);
    let collector = config.default_tracing.iter().find_map(|name| match config.providers.get(name) {
        Some(Provider::Collector(destination)) => Some(destination.clone()),
        _ => None,
    });
    let access_log = match (config.access_log, named) {
        (None, false) => None,
        (on, named) => Some(AccessLog { disabled: !(named || on == Some(true)), filter: None }),
    };
    let said = config.tracing.is_some() || config.sampling.is_some() || collector.is_some();
    let tracing = said.then(|| Tracing {
        disabled: config.tracing == Some(false),
        sampling: config.sampling,
        collector,
        tags: Vec::new(),
    });
    route::Telemetry { access_log, metrics: Vec::new(), tracing }
}

/// Lays what one says over what is said more widely.
fn lay(index: &Index, full: &mut route::Telemetry, it: &Telemetry) {
    if it.access_log.is_some() {
        full.access_log.clone_from(&it.access_log);
    }
    full.metrics.extend(it.metrics.iter().cloned());
    let Some(asked) = &it.tracing else { return };
    let tracing = full.tracing.get_or_insert_default();
    tracing.sampling = asked.tracing.sampling.or(tracing.sampling);
    if asked.said_disabled {
        tracing.disabled = asked.tracing.disabled;
    }
    if let Some(name) = &asked.provider {
        tracing.collector = match providers::find(index, name) {
            Some(Provider::Collector(destination)) => Some(destination.clone()),
            _ => None,
        };
    }
    for (name, value) in &asked.tracing.tags {
        tracing.tags.retain(|(other, _)| other != name);
        tracing.tags.push((name.clone(), value.clone()));
    }
}
