//! DestinationRule: how a service is reached, and its named parts.
//!
//! Of those that name the service, those of the waypoint's namespace come first, then those of the
//! service's, then those of the root namespace; there the closest host counts, and of several for
//! one host the oldest says how it is reached, and each may name parts.

use super::{Conditions, Reach, Scene, Target, hosts, reading, sections};
use crate::{
    facts::{Condition, DestinationRule, FactKey, Kind, Labels},
    index::{
        Index,
        told::{Name, Owner, Source, Told},
    },
};
use mesh::{
    ServiceKey, Str,
    route::{ServiceRules, Subset},
};
use std::collections::BTreeSet;

fn told<'a>(index: &'a Index, object: &FactKey) -> Option<&'a DestinationRule> {
    let name = (object.namespace.clone(), object.name.clone());
    (object.kind == Kind::DestinationRule).then(|| index.told.destination_rules.get(&name))?
}

fn key(it: &DestinationRule) -> FactKey {
    FactKey { kind: Kind::DestinationRule, namespace: it.meta.namespace.clone(), name: it.meta.name.clone() }
}

fn host(index: &Index, it: &DestinationRule) -> Str {
    hosts::whole(&index.mesh, &it.meta.namespace, &it.host)
}

pub(super) fn reach(index: &Index, object: &FactKey, reach: &mut Reach) {
    let Some(it) = told(index, object) else { return };
    let host = host(index, it);
    let services: BTreeSet<ServiceKey> = hosts::services(index, &host).collect();
    if !it.subsets.is_empty() {
        reach.targets.extend(services.iter().cloned().map(Target::Members));
    }
    reach.services.extend(services);
    reach.targets.insert(Target::Host(host));
}

/// What is said of it beside what its services say.
pub(super) fn of_object(index: &Index, object: &FactKey, conditions: &mut Conditions) {
    let Some(it) = told(index, object) else { return };
    reading::say_of_reading(index, object, &it.unheeded, conditions);
    let host = host(index, it);
    if it.only_some_callers {
        let message = "spec.workloadSelector: waypoints cannot tell callers by label: the whole rule is not used";
        conditions.say(object, Condition::unmet("Accepted", "UnsupportedValue", message));
    } else if it.refused.is_empty() && hosts::services(index, &host).next().is_none() {
        let message = format!("there is no service {host}");
        conditions.say(object, Condition::unmet("Accepted", "TargetNotFound", message));
    }
}

pub(super) fn contribute(scene: &Scene<'_>, rules: &mut ServiceRules, conditions: &mut Conditions) {
    let (chosen, others) = choose(scene, &rules.service);
    let about = rules.service.hostname.clone();
    let Some(first) = chosen.first() else { return };
    for it in &others {
        let message = format!("{} comes first", key(first).text());
        conditions.say(&key(it), Condition::unmet("Accepted", "Overridden", message).about(about.clone()));
    }
    let says = chosen.iter().find(|it| it.reach != Default::default()).unwrap_or(first);
    rules.traffic = match says.reach == Default::default() {
        true => Vec::new(),
        false => sections::entries(&says.reach, None, &key(says).text()),
    };
    for it in &chosen {
        conditions.say(&key(it), accepted(scene, says, it).about(about.clone()));
        for subset in &it.subsets {
            if rules.subsets.iter().any(|other| other.name == subset.name) {
                let message = format!("an older one has a subset {}, too", subset.name);
                conditions.say(&key(it), Condition::unmet("Accepted", "Conflicted", message).about(about.clone()));
                continue;
            }
            let own = subset.reach != Default::default();
            rules.subsets.push(Subset {
                name: subset.name.clone(),
                members: members(scene.index, &rules.service, &subset.labels),
                traffic: match own {
                    true => sections::entries(&says.reach, Some(&subset.reach), &key(it).text()),
                    false => Vec::new(),
                },
            });
        }
    }
}

fn accepted(scene: &Scene<'_>, says: &DestinationRule, it: &DestinationRule) -> Condition {
    if it.reach != Default::default() && key(says) != key(it) {
        let message = format!("{} is older and says how the host is reached", key(says).text());
        return Condition::unmet("Accepted", "Conflicted", message);
    }
    match scene.waypoints {
        [] => {
            let message = "the service is not behind a waypoint; it counts for those that send to it";
            Condition::unmet("Accepted", "AncestorNotBound", message)
        }
        all => Condition::met("Accepted", "Accepted", format!("carried out by waypoint {}", all.join(", "))),
    }
}

/// Those that count for a service, oldest first; and those that would if the others did not.
fn choose<'a>(scene: &Scene<'a>, service: &ServiceKey) -> (Vec<&'a DestinationRule>, Vec<&'a DestinationRule>) {
    let index = scene.index;
    let waypoints: Vec<&str> = scene.waypoints.iter().map(|waypoint| hosts::namespace_of(waypoint)).collect();
    let mut namespaces: Vec<&str> = Vec::new();
    for namespace in waypoints.iter().copied().chain([&*service.namespace, &*index.mesh.root_namespace]) {
        if !namespaces.contains(&namespace) {
            namespaces.push(namespace);
        }
    }
    let exported = |it: &DestinationRule| match waypoints[..] {
        [] => it.exports.reach(&service.namespace),
        _ => waypoints.iter().any(|namespace| it.exports.reach(namespace)),
    };
    let (mut chosen, mut others): (Vec<&DestinationRule>, Vec<_>) = (Vec::new(), Vec::new());
    for namespace in namespaces {
        let all = Told::within(&index.told.destination_rules, &namespace.into()).map(|(_, it)| it);
        let near = all.filter_map(|it| Some((hosts::closeness(&host(index, it), &service.hostname)?, it)));
        let mut near: Vec<_> = near.filter(|(_, it)| !it.only_some_callers && exported(it)).collect();
        near.sort_by_key(|(closeness, it)| (std::cmp::Reverse(*closeness), it.meta.age()));
        let closest = near.first().map(|(closeness, _)| *closeness);
        let decided = !chosen.is_empty();
        for (closeness, it) in near {
            if decided || Some(closeness) != closest { &mut others } else { &mut chosen }.push(it);
        }
    }
    (chosen, others)
}

/// The workloads behind a service that have these labels, by uid, sorted.
fn members(index: &Index, service: &ServiceKey, labels: &Labels) -> Vec<Str> {
    let Some((_, source)) = index.winners.get(service) else { return Vec::new() };
    let mut owners: BTreeSet<Owner> = BTreeSet::new();
    let mut found: BTreeSet<Str> = BTreeSet::new();
    match source {
        Source::Service(name) => match index.told.services.get(name) {
            Some(it) if it.selector.is_empty() => owners.extend(in_slices(index, name, labels)),
            Some(it) => owners.extend(selected(index, &name.0, &it.selector, labels)),
            None => {}
        },
        Source::ServiceEntry(name) => {
            let Some(it) = index.told.service_entries.get(name) else { return Vec::new() };
            owners.extend(selected(index, &name.0, &it.selector, labels));
            let prefix = format!("{}/networking.istio.io/ServiceEntry/{}/{}", index.mesh.cluster_id, name.0, name.1);
            let own = it.endpoints.iter().filter(|endpoint| agree(&endpoint.labels, labels));
            found.extend(own.map(|endpoint| format!("{prefix}/{}", endpoint.address).into()));
        }
    }
    let published = owners.iter().filter_map(|owner| index.workloads.get(owner)).flatten();
    let behind = published.filter(|(_, workload)| workload.services.contains_key(service));
    found.extend(behind.map(|(uid, _)| uid.clone()));
    found.into_iter().collect()
}

fn agree(labels: &Labels, asked: &Labels) -> bool {
    asked.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// Whoever a service selects and has these labels beside; nobody when the two contradict each other.
fn selected(index: &Index, namespace: &Str, selector: &Labels, labels: &Labels) -> Vec<Owner> {
    let contradict = labels.iter().any(|(key, value)| selector.get(key).is_some_and(|other| other != value));
    if selector.is_empty() || contradict {
        return Vec::new();
    }
    let both: Labels = selector.iter().chain(labels).map(|(key, value)| (key.clone(), value.clone())).collect();
    index.told.selected(namespace, &both)
}

/// The pods that the slices of a service name, of those with these labels.
fn in_slices(index: &Index, service: &Name, labels: &Labels) -> Vec<Owner> {
    let pods = index.told.slices_of(service).flat_map(|(_, slice)| crate::index::told::pods_of(slice));
    let with = |name: &Name| index.told.pods.get(name).is_some_and(|pod| agree(&pod.meta.labels, labels));
    pods.filter(with).map(Owner::Pod).collect()
}
