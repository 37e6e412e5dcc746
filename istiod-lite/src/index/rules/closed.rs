//! What goes out in place of rules that cannot be used: the last good ones, or that nobody may ask.
//!
//! A policy that cannot be used and never could is never left out: then nobody may ask.

use mesh::{
    ServiceKey, Str,
    policy::Rule,
    route::{
        Compiled, CompiledGateway, GatewayRules, Guards, ServiceRules,
        guard::{GuardAction, GuardPolicy},
    },
};
use std::sync::Arc;

/// The last good rules of a service with those who may ask now; none: nothing good can stand for them.
pub(super) fn guarded(last: &Arc<Compiled>, guards: Guards) -> Option<Arc<Compiled>> {
    let old = &last.rules().guards;
    let stays = covers(old, &guards).then(|| last.clone());
    if *old == guards {
        return stays;
    }
    Compiled::new(ServiceRules { guards, ..last.rules().clone() }).map_or(stays, |new| Some(Arc::new(new)))
}

/// The same for a Gateway.
pub(super) fn guarded_gateway(last: &Arc<CompiledGateway>, guards: Guards) -> Option<Arc<CompiledGateway>> {
    let old = &last.rules().guards;
    let stays = covers(old, &guards).then(|| last.clone());
    if *old == guards {
        return stays;
    }
    CompiledGateway::new(GatewayRules { guards, ..last.rules().clone() }).map_or(stays, |new| Some(Arc::new(new)))
}

/// Nobody may ask for this service. Without rules at all a waypoint refuses it, too.
pub(super) fn service(key: &ServiceKey) -> Option<Arc<Compiled>> {
    let guards = nobody(&key.namespace);
    Compiled::new(ServiceRules { guards, ..ServiceRules::of(key.clone()) }).ok().map(Arc::new)
}

/// Nobody may ask for anything at this waypoint.
pub(super) fn gateway(namespace: Str, name: Str) -> Option<Arc<CompiledGateway>> {
    let guards = nobody(&namespace);
    CompiledGateway::new(GatewayRules { guards, ..GatewayRules::of(namespace, name) }).ok().map(Arc::new)
}

/// Whether each object that has a say now had one before. One that is new has no last good version.
fn covers(old: &Guards, new: &Guards) -> bool {
    let policy = |one: &GuardPolicy| {
        old.policies.iter().any(|other| (&other.namespace, &other.name) == (&one.namespace, &one.name))
    };
    let named = |name: &Str| old.authentications.iter().any(|other| other.name == *name);
    new.policies.iter().all(policy) && new.authentications.iter().all(|one| named(&one.name))
}

fn nobody(namespace: &Str) -> Guards {
    let policy = GuardPolicy {
        namespace: namespace.clone(),
        name: "unusable".into(),
        action: GuardAction::Deny,
        dry_run: false,
        rules: vec![Rule::default()],
    };
    Guards { policies: vec![policy], ..Guards::default() }
}
