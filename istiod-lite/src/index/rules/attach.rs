//! What Gateway API's routes and policies attach to: which services, which of their ports.

use super::{Conditions, Reach, Target, full_key};
use crate::{
    facts::{Condition, FactKey, Kind, Parent, ParentTarget, ServicePort, by_name},
    index::{Index, told::Source},
};
use mesh::{ServiceKey, Str};

/// The services that a parent stands for, whether or not they are there.
pub(super) fn services(index: &Index, target: &ParentTarget) -> Vec<ServiceKey> {
    match target {
        ParentTarget::Service { namespace, name } => vec![full_key(&index.mesh, &by_name(namespace, name))],
        ParentTarget::ServiceEntry { namespace, name } => {
            let entry = index.told.service_entries.get(&(namespace.clone(), name.clone()));
            let key = |host: &Str| ServiceKey { namespace: namespace.clone(), hostname: host.clone() };
            entry.map(|entry| entry.hosts.iter().map(key).collect()).unwrap_or_default()
        }
        ParentTarget::Gateway { .. } | ParentTarget::Other(_) => Vec::new(),
    }
}

/// How far an object reaches through its parents.
pub(super) fn reach<'a>(index: &Index, parents: impl Iterator<Item = &'a Parent>, reach: &mut Reach) {
    for parent in parents {
        reach.services.extend(services(index, &parent.target));
        if let ParentTarget::ServiceEntry { namespace, name } = &parent.target {
            let (namespace, name) = (namespace.clone(), name.clone());
            reach.targets.insert(Target::Object(FactKey { kind: Kind::ServiceEntry, namespace, name }));
        }
    }
}

/// The parents of an object that are a service, each once.
pub(super) fn parents_of<'a>(index: &Index, parents: &'a [Parent], key: &ServiceKey) -> Vec<&'a Parent> {
    parents.iter().filter(|parent| services(index, &parent.target).contains(key)).collect()
}

/// The ports of a service as they were told, with their names; `None` if it is not published, or by
/// something else than the parent names.
pub(super) fn ports<'a>(index: &'a Index, key: &ServiceKey, target: &ParentTarget) -> Option<&'a [ServicePort]> {
    let (_, source) = index.winners.get(key).filter(|_| index.services.contains_key(key))?;
    match (source, target) {
        (Source::Service(name), ParentTarget::Service { .. }) => {
            index.told.services.get(name).map(|service| service.ports.as_slice())
        }
        (Source::ServiceEntry(source), ParentTarget::ServiceEntry { namespace, name }) => {
            let own = source.0 == *namespace && source.1 == *name;
            index.told.service_entries.get(source).filter(|_| own).map(|entry| entry.ports.as_slice())
        }
        _ => None,
    }
}

/// The ports that a parent means; empty: all. Otherwise why there are none.
pub(super) fn ports_meant(index: &Index, key: &ServiceKey, parent: &Parent) -> Result<Vec<ServicePort>, String> {
    let Some(all) = ports(index, key, &parent.target) else { return Err(format!("there is no {}", parent.target)) };
    if parent.port.is_none() && parent.section.is_none() {
        return Ok(Vec::new());
    }
    let number = |port: &&ServicePort| parent.port.is_none_or(|number| number == port.port);
    let name = |port: &&ServicePort| parent.section.as_ref().is_none_or(|name| *name == port.name);
    let meant: Vec<ServicePort> = all.iter().filter(number).filter(name).cloned().collect();
    match meant.is_empty() {
        true => Err(format!("{} has no such port", parent.text())),
        false => Ok(meant),
    }
}

/// Says of each parent that is nothing for this kind of object why it is none.
pub(super) fn say_of_others(
    index: &Index,
    object: &FactKey,
    parents: &[Parent],
    not_found: &str,
    conditions: &mut Conditions,
) {
    for parent in parents {
        let message = match &parent.target {
            ParentTarget::Gateway { .. } => "it is attached to services, not to the gateway that serves them".into(),
            ParentTarget::Other(kind) => format!("nothing is attached to {kind} here"),
            target if services(index, target).is_empty() => format!("there is no {target}"),
            _ => continue,
        };
        conditions.say(object, Condition::unmet("Accepted", not_found, message).about(parent.text()));
    }
}
