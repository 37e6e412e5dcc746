//! TrafficPolicy, which is of our own making: limits, faults, and how a service is reached.
//!
//! Of several that say the same part of the same target the oldest counts. What it says of how a
//! service is reached is laid over what a DestinationRule says.

use super::{Conditions, Reach, Scene, attach, reading, resolve, sections, targets};
use crate::{
    facts::{Condition, FactKey, Kind, Parent, Sections, Target, TargetKind, TrafficPolicy},
    index::Index,
};
use mesh::{
    Str,
    route::{GatewayRules, HttpRule, ServiceRules, Traffic, limit::LimitScope},
};
use std::collections::BTreeMap;

const ACCEPTED: &str = "Accepted";

fn told<'a>(index: &'a Index, object: &FactKey) -> Option<&'a TrafficPolicy> {
    let name = (object.namespace.clone(), object.name.clone());
    (object.kind == Kind::TrafficPolicy).then(|| index.told.traffic_policies.get(&name))?
}

pub(super) fn reach(index: &Index, object: &FactKey, reach: &mut Reach) {
    let Some(it) = told(index, object) else { return };
    targets::reach(index, &object.namespace, &it.targets, reach);
    for limit in &it.limits {
        if let LimitScope::Service { destination, .. } = &limit.scope {
            reach.point_to(&index.mesh, destination);
        }
    }
}

/// What is said of it beside what its targets say.
pub(super) fn of_object(index: &Index, object: &FactKey, conditions: &mut Conditions) {
    let Some(it) = told(index, object) else { return };
    reading::say_of_reading(index, object, &it.unheeded, conditions);
    targets::say_of_others(index, object, &it.targets, ACCEPTED, conditions);
}

/// Policies that reach what is built, oldest first.
fn policies<'a>(scene: &Scene<'a>) -> Vec<(&'a FactKey, &'a TrafficPolicy)> {
    let found = scene.objects.iter().filter_map(|object| Some((object, told(scene.index, object)?)));
    let mut found: Vec<_> = found.collect();
    found.sort_by_key(|(_, it)| it.meta.age());
    found
}

/// Which policy has which part of what.
#[derive(Default)]
struct Taken<'a> {
    by: BTreeMap<(String, &'static str), &'a FactKey>,
}

impl<'a> Taken<'a> {
    /// Takes a part for a policy; otherwise it gives who has it.
    fn take(&mut self, place: &str, part: &'static str, object: &'a FactKey) -> Result<(), &'a FactKey> {
        let holder = *self.by.entry((place.to_owned(), part)).or_insert(object);
        if holder == object { Ok(()) } else { Err(holder) }
    }
}

fn conflict(part: &str, holder: &FactKey) -> Condition {
    Condition::unmet(ACCEPTED, "Conflicted", format!("spec.{part}: {} is older and says it of the same", holder.text()))
}

pub(super) fn contribute(scene: &Scene<'_>, rules: &mut ServiceRules, conditions: &mut Conditions) {
    let mut taken = Taken::default();
    for (object, it) in policies(scene) {
        for target in targets::of_service(scene.index, &object.namespace, &it.targets, &rules.service) {
            let mut say = |condition: Condition| conditions.say(object, condition.about(target.to_string()));
            say(targets::at_service(scene, &rules.service, ACCEPTED));
            match ports(scene.index, rules, object, target) {
                Err(message) => say(Condition::unmet(ACCEPTED, "TargetNotFound", message)),
                Ok(ports) => {
                    if !ports.is_empty() && (!it.limits.is_empty() || !it.faults.is_empty()) {
                        let message =
                            "rateLimit and fault are for a whole service or a rule of a route, not for a port";
                        say(Condition::unmet(ACCEPTED, "UnsupportedValue", message));
                    }
                    let mut own = it.clone();
                    if !ports.is_empty() {
                        own.limits.clear();
                        own.faults.clear();
                    }
                    at_service(rules, object, &own, &ports, &mut taken, conditions, target);
                }
            }
        }
        for target in it.targets.iter().filter(|target| is_route(target)) {
            at_route(scene, rules, object, it, target, &mut taken, conditions);
        }
    }
}

fn is_route(target: &Target) -> bool {
    matches!(target.kind, TargetKind::HttpRoute | TargetKind::GrpcRoute)
}

/// The ports that a target means; empty: all.
fn ports(index: &Index, rules: &ServiceRules, object: &FactKey, target: &Target) -> Result<Vec<u16>, String> {
    let Some(parent) = targets::parent(&object.namespace, target) else { return Ok(Vec::new()) };
    let parent = Parent { target: parent, port: None, section: target.section.clone() };
    let meant = attach::ports_meant(index, &rules.service, &parent)?;
    Ok(meant.iter().map(|port| port.port).collect())
}

fn at_service<'a>(
    rules: &mut ServiceRules,
    object: &'a FactKey,
    it: &TrafficPolicy,
    ports: &[u16],
    taken: &mut Taken<'a>,
    conditions: &mut Conditions,
    target: &Target,
) {
    let mut own = it.sections.clone();
    // Of policies for a port, each port is a place of its own.
    let place = target.section.as_deref().unwrap_or_default();
    let mut lost = Vec::new();
    let mut have = |part: &'static str, said: bool| match said.then(|| taken.take(place, part, object)) {
        None => false,
        Some(Ok(())) => true,
        Some(Err(holder)) => {
            lost.push(conflict(part, holder));
            false
        }
    };
    if have("rateLimit", !it.limits.is_empty()) {
        rules.limits.extend(it.limits.iter().cloned());
    }
    if have("fault", !it.faults.is_empty()) {
        rules.faults.extend(it.faults.iter().cloned());
    }
    own.balancing = own.balancing.filter(|_| have("loadBalancer", true));
    own.pool = own.pool.filter(|_| have("circuitBreaker", true));
    own.outlier = own.outlier.filter(|_| have("outlierDetection", true));
    own.retry_budget = own.retry_budget.filter(|_| have("retryBudget", true));
    own.adaptive = own.adaptive.filter(|_| have("adaptiveConcurrency", true));
    for condition in lost {
        conditions.say(object, condition.about(target.to_string()));
    }
    let mut overridden = reach_by(&mut rules.traffic, &own, ports, &object.text());
    // A subset that says nothing of its own is reached as the service is.
    for subset in rules.subsets.iter_mut().filter(|subset| !subset.traffic.is_empty()) {
        overridden.extend(reach_by(&mut subset.traffic, &own, ports, &object.text()));
    }
    for (rule, parts) in overridden {
        let message = format!("{} says {}, and counts", object.text(), parts.join(", "));
        conditions.say(&rule, Condition::unmet(ACCEPTED, "Overridden", message).about(rules.service.hostname.clone()));
    }
}

/// Lays sections over the entries of ports (empty: of all). It gives the DestinationRules of which
/// something was overridden.
fn reach_by(all: &mut Vec<Traffic>, own: &Sections, ports: &[u16], name: &Str) -> Vec<(FactKey, Vec<&'static str>)> {
    if *own == Sections::default() {
        return Vec::new();
    }
    let wanted: Vec<Option<u16>> = if ports.is_empty() { vec![None] } else { ports.iter().map(|p| Some(*p)).collect() };
    for port in wanted {
        if !all.iter().any(|traffic| traffic.port == port) {
            let wider = all.iter().find(|traffic| traffic.port.is_none()).cloned().unwrap_or_default();
            all.push(Traffic { port, ..wider });
        }
    }
    let meant = |traffic: &&mut Traffic| ports.is_empty() || traffic.port.is_some_and(|port| ports.contains(&port));
    let mut overridden = Vec::new();
    for traffic in all.iter_mut().filter(meant) {
        let parts = sections::lay(traffic, own);
        let rule = resolve::object(&traffic.name).filter(|key| key.kind == Kind::DestinationRule);
        overridden.extend(rule.filter(|_| !parts.is_empty()).map(|rule| (rule, parts)));
        if traffic.name.is_empty() {
            traffic.name = name.clone();
        }
    }
    overridden
}

fn at_route<'a>(
    scene: &Scene<'_>,
    rules: &mut ServiceRules,
    object: &'a FactKey,
    it: &TrafficPolicy,
    target: &Target,
    taken: &mut Taken<'a>,
    conditions: &mut Conditions,
) {
    let name = targets::route_key(&object.namespace, target).text();
    let mut found = false;
    let mut lost = Vec::new();
    let about = |section: &str| format!("{name}#{section}");
    for rule in rules.http.iter_mut().filter(|route| route.name == name).flat_map(|route| &mut route.rules) {
        if target.section.as_ref().is_some_and(|section| *section != rule.name) {
            continue;
        }
        found = true;
        add(rule, it, |part| match taken.take(&about(&rule_name(target)), part, object) {
            Ok(()) => true,
            Err(holder) => {
                lost.push(conflict(part, holder));
                false
            }
        });
    }
    let attached = scene.index.told.routes.contains_key(&targets::route_key(&object.namespace, target));
    if !attached {
        return;
    }
    let mut say = |condition: Condition| conditions.say(object, condition.about(target.to_string()));
    match (found, scene.waypoints) {
        (false, _) => say(Condition::unmet(ACCEPTED, "TargetNotFound", format!("{target} has no such rule"))),
        (true, []) => say(Condition::unmet(ACCEPTED, "AncestorNotBound", "its service is not behind a waypoint")),
        (true, all) => say(Condition::met(ACCEPTED, "Accepted", format!("carried out by waypoint {}", all.join(", ")))),
    }
    lost.into_iter().for_each(&mut say);
    if it.sections != Sections::default() {
        say(Condition::unmet(ACCEPTED, "UnsupportedValue", "only rateLimit and fault can be said of a route"));
    }
}

fn rule_name(target: &Target) -> String {
    target.section.as_deref().unwrap_or_default().to_owned()
}

fn add(rule: &mut HttpRule, it: &TrafficPolicy, mut have: impl FnMut(&'static str) -> bool) {
    if !it.limits.is_empty() && have("rateLimit") {
        rule.limits.extend(it.limits.iter().cloned());
    }
    if !it.faults.is_empty() && have("fault") {
        rule.faults.extend(it.faults.iter().cloned());
    }
}

pub(super) fn contribute_to_gateway(scene: &Scene<'_>, rules: &mut GatewayRules, conditions: &mut Conditions) {
    let gateway = rules.key();
    let mut taken = Taken::default();
    for (object, it) in policies(scene) {
        for target in targets::of_gateway(scene.index, &object.namespace, &it.targets, &gateway) {
            let condition = targets::at_gateway(scene.index, &gateway, ACCEPTED);
            let there = condition.status;
            let mut say = |condition: Condition| conditions.say(object, condition.about(target.to_string()));
            say(condition);
            let mut have = |part: &'static str, said: bool| match said.then(|| taken.take("", part, object)) {
                None => false,
                Some(Ok(())) => there,
                Some(Err(holder)) => {
                    say(conflict(part, holder));
                    false
                }
            };
            if have("rateLimit", !it.limits.is_empty()) {
                rules.limits.extend(it.limits.iter().cloned());
            }
            if have("fault", !it.faults.is_empty()) {
                rules.faults.extend(it.faults.iter().cloned());
            }
            if it.sections != Sections::default() {
                say(Condition::unmet(
                    ACCEPTED,
                    "UnsupportedValue",
                    "only rateLimit and fault can be said of a Gateway",
                ));
            }
        }
    }
}
