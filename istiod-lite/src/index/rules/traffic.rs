//! XBackendTrafficPolicy: how many of the requests to a service may be further tries.
//!
//! It completes what others say of how a service is reached, and changes nothing that they said.

use super::{Conditions, Reach, Scene, attach};
use crate::{
    facts::{BackendTrafficPolicy, Condition, FactKey, Kind},
    index::Index,
};
use mesh::route::{ServiceRules, Traffic};

fn policy<'a>(index: &'a Index, object: &FactKey) -> Option<&'a BackendTrafficPolicy> {
    let name = (object.namespace.clone(), object.name.clone());
    (object.kind == Kind::XBackendTrafficPolicy).then(|| index.told.backend_traffic_policies.get(&name))?
}

pub(super) fn reach(index: &Index, object: &FactKey, reach: &mut Reach) {
    if let Some(policy) = policy(index, object) {
        attach::reach(index, policy.targets.iter(), reach);
    }
}

/// What is said of a policy beside what its services say.
pub(super) fn of_object(index: &Index, object: &FactKey, conditions: &mut Conditions) {
    if let Some(policy) = policy(index, object) {
        attach::say_of_others(index, object, &policy.targets, "TargetNotFound", conditions);
    }
}

pub(super) fn contribute(scene: &Scene<'_>, rules: &mut ServiceRules, conditions: &mut Conditions) {
    let mut policies: Vec<(&FactKey, &BackendTrafficPolicy)> =
        scene.objects.iter().filter_map(|object| Some((object, policy(scene.index, object)?))).collect();
    policies.sort_by_key(|(_, policy)| policy.meta.age());
    let mut oldest: Option<&FactKey> = None;
    for (object, policy) in policies {
        let refused = scene.index.refused(object);
        let budget = policy.retry_budget;
        for parent in attach::parents_of(scene.index, &policy.targets, &rules.service) {
            let mut say = |condition: Condition| conditions.say(object, condition.about(parent.text()));
            match attach::ports_meant(scene.index, &rules.service, parent) {
                Err(message) => say(Condition::unmet("Accepted", "TargetNotFound", message)),
                Ok(_) => say(Condition::met("Accepted", "Accepted", "Policy has been accepted")),
            }
            if let Some(older) = oldest {
                let message = format!("{} is older and is for {}, too", older.text(), parent.text());
                say(Condition::unmet("Accepted", "Conflicted", message));
            }
            if !refused.is_empty() {
                let instead = if policy.refused.is_empty() { "the last good version stays" } else { "it says nothing" };
                say(Condition::unmet("Accepted", "Invalid", format!("{}; {instead}", refused.join("; "))));
            }
            for remark in &policy.remarks {
                say(Condition::unmet(remark.condition, remark.reason, &*remark.message));
            }
        }
        if let (None, Some(budget)) = (oldest, budget) {
            if !rules.traffic.iter().any(|traffic| traffic.port.is_none()) {
                rules.traffic.push(Traffic { name: object.text(), ..Traffic::default() });
            }
            for traffic in &mut rules.traffic {
                traffic.retry_budget.get_or_insert(budget);
            }
        }
        oldest = oldest.or_else(|| budget.map(|_| object));
    }
}
