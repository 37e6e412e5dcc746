//! BackendTLSPolicy: TLS from the waypoint to the endpoints of a service.
//!
//! It comes last, so that what others say of how a service is reached (DestinationRule) is there to
//! be completed: a policy for one port takes over what holds for all ports, and adds its TLS.

use super::{Conditions, Reach, Scene, Target, attach};
use crate::{
    facts::{Authorities, BackendTlsPolicy, Condition, ConfigMap, FactKey, Kind, Parent, ServicePort},
    index::Index,
};
use mesh::{
    Str,
    route::{
        ServiceRules, Traffic,
        traffic::{TlsOrigination, TlsRoots},
    },
};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use std::collections::BTreeMap;

fn policy<'a>(index: &'a Index, object: &FactKey) -> Option<&'a BackendTlsPolicy> {
    (object.kind == Kind::BackendTLSPolicy).then(|| index.told.tls_policies.get(&name(object)))?
}

fn name(object: &FactKey) -> (Str, Str) {
    (object.namespace.clone(), object.name.clone())
}

pub(super) fn reach(index: &Index, object: &FactKey, reach: &mut Reach) {
    let Some(policy) = policy(index, object) else { return };
    attach::reach(index, policy.targets.iter(), reach);
    if let Authorities::ConfigMaps(names) = &policy.authorities {
        let map =
            |name: &Str| FactKey { kind: Kind::ConfigMap, namespace: object.namespace.clone(), name: name.clone() };
        reach.targets.extend(names.iter().map(|name| Target::Object(map(name))));
    }
}

/// What is said of a policy beside what its services say.
pub(super) fn of_object(index: &Index, object: &FactKey, conditions: &mut Conditions) {
    if let Some(policy) = policy(index, object) {
        attach::say_of_others(index, object, &policy.targets, "TargetNotFound", conditions);
    }
}

pub(super) fn contribute(scene: &Scene<'_>, rules: &mut ServiceRules, conditions: &mut Conditions) {
    let mut policies: Vec<(&FactKey, &BackendTlsPolicy)> =
        scene.objects.iter().filter_map(|object| Some((object, policy(scene.index, object)?))).collect();
    policies.sort_by_key(|(_, policy)| policy.meta.age());
    // Which policy has which port; none: all ports that no other has.
    let mut taken: BTreeMap<Option<u16>, (&FactKey, TlsOrigination)> = BTreeMap::new();
    for (object, policy) in policies {
        let (tls, found) = origination(scene.index, object, policy);
        for parent in attach::parents_of(scene.index, &policy.targets, &rules.service) {
            let mut say = |condition: Condition| conditions.say(object, condition.about(parent.text()));
            found.iter().cloned().for_each(&mut say);
            match attach::ports_meant(scene.index, &rules.service, parent) {
                Err(message) => say(Condition::unmet("Accepted", "TargetNotFound", message)),
                Ok(ports) => match place(&mut taken, parent, &ports, object, &tls) {
                    Ok(()) => say(Condition::met("Accepted", "Accepted", "Policy has been accepted")),
                    Err(message) => say(Condition::unmet("Accepted", "Conflicted", message)),
                },
            }
        }
    }
    for (port, (object, tls)) in taken {
        // A subset that says nothing of its own is reached as the service is.
        for subset in rules.subsets.iter_mut().filter(|subset| !subset.traffic.is_empty()) {
            apply(&mut subset.traffic, port, &object.text(), tls.clone());
        }
        apply(&mut rules.traffic, port, &object.text(), tls);
    }
}

fn place<'a>(
    taken: &mut BTreeMap<Option<u16>, (&'a FactKey, TlsOrigination)>,
    parent: &Parent,
    ports: &[ServicePort],
    object: &'a FactKey,
    tls: &TlsOrigination,
) -> Result<(), String> {
    let wanted: Vec<Option<u16>> = match ports {
        [] => vec![None],
        ports => ports.iter().map(|port| Some(port.port)).collect(),
    };
    if let Some((older, _)) = wanted.iter().find_map(|port| taken.get(port)) {
        return Err(format!("{} is older and is for {}, too", older.text(), parent.text()));
    }
    taken.extend(wanted.into_iter().map(|port| (port, (object, tls.clone()))));
    Ok(())
}

/// Ports come after all ports, so that what one port says is not overwritten by what all say.
fn apply(all: &mut Vec<Traffic>, port: Option<u16>, name: &str, tls: TlsOrigination) {
    if port.is_none() {
        all.iter_mut().for_each(|traffic| traffic.tls = Some(tls.clone()));
    }
    if let Some(own) = all.iter_mut().find(|traffic| traffic.port == port) {
        own.tls = Some(tls);
        return;
    }
    let wider = all.iter().find(|traffic| traffic.port.is_none()).cloned();
    let wider = wider.unwrap_or_else(|| Traffic { name: name.into(), ..Traffic::default() });
    all.push(Traffic { port, tls: Some(tls), ..wider });
}

/// The TLS that a policy asks for, and what is to be said of it. Whoever cannot be believed is not:
/// then no connection comes about.
fn origination(index: &Index, object: &FactKey, policy: &BackendTlsPolicy) -> (TlsOrigination, Vec<Condition>) {
    let mut found = vec![Condition::met("ResolvedRefs", "ResolvedRefs", "All references resolved")];
    found.extend(policy.remarks.iter().map(|it| Condition::unmet(it.condition, it.reason, &*it.message)));
    let refused = index.refused(object);
    if !refused.is_empty() {
        let instead =
            if policy.refused.is_empty() { "the last good version stays" } else { "no connection comes about" };
        found.push(Condition::unmet("Accepted", "Invalid", format!("{}; {instead}", refused.join("; "))));
    }
    let roots = match &policy.authorities {
        _ if !policy.refused.is_empty() => TlsRoots::Missing { reason: policy.refused.join("; ").into() },
        Authorities::System => TlsRoots::System,
        Authorities::Unknown => TlsRoots::Missing { reason: "the policy names no authority that is known".into() },
        Authorities::ConfigMaps(names) => from_maps(index, object, names, &mut found),
    };
    let server_name = Some(policy.hostname.clone()).filter(|name| !name.is_empty());
    (TlsOrigination { server_name, subject_alt_names: policy.subject_alt_names.clone(), roots, client: None }, found)
}

fn from_maps(index: &Index, object: &FactKey, names: &[Str], found: &mut Vec<Condition>) -> TlsRoots {
    let mut pem = String::new();
    let mut last = String::new();
    for map in names {
        match authority(index.told.config_maps.get(&(object.namespace.clone(), map.clone())), map) {
            Ok(text) => {
                pem.push_str(text);
                pem.push('\n');
            }
            Err(message) => {
                found.push(Condition::unmet("ResolvedRefs", "InvalidCACertificateRef", message.clone()));
                last = message;
            }
        }
    }
    if pem.is_empty() {
        let message = format!("{last}; no connection comes about");
        found.push(Condition::unmet("Accepted", "NoValidCACertificate", message));
        return TlsRoots::Missing { reason: last.into() };
    }
    TlsRoots::Pem(pem.into())
}

fn authority<'a>(map: Option<&'a ConfigMap>, name: &str) -> Result<&'a str, String> {
    let map = map.ok_or_else(|| format!("there is no ConfigMap {name}"))?;
    let text = map.entries.get("ca.crt").ok_or_else(|| format!("ConfigMap {name} has no ca.crt"))?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(text),
        Ok(_) => Err(format!("ca.crt of ConfigMap {name} holds no certificate")),
        Err(error) => Err(format!("ca.crt of ConfigMap {name} is not PEM: {error}")),
    }
}
