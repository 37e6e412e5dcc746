//! AuthorizationPolicy with `targetRefs`, and RequestAuthentication: who may ask at a waypoint.
//!
//! What cannot be understood or found never makes a policy weaker: a policy closes where it was
//! read, and one that would ask somebody who is not there refuses instead.

use super::{Conditions, Reach, Scene, Target as Pointed, providers, reading, targets};
use crate::{
    facts::{AuthorizationPolicy, Authorizer, Condition, FactKey, Kind, PolicyAction, Provider, Target},
    index::Index,
};
use mesh::{
    policy::{Clause, Rule},
    route::{
        GatewayRules, Guards, ServiceRules,
        guard::{Authentication, ExternalAuthorizer, GuardAction, GuardPolicy},
    },
};

/// The condition that says what waypoints make of a policy.
const ACCEPTED: &str = "WaypointAccepted";

/// A policy of either kind.
enum Told<'a> {
    Authorization(&'a AuthorizationPolicy),
    Authentication(&'a crate::facts::RequestAuthentication),
}

impl<'a> Told<'a> {
    fn of(index: &'a Index, object: &FactKey) -> Option<Self> {
        let name = (object.namespace.clone(), object.name.clone());
        match object.kind {
            Kind::AuthorizationPolicy => {
                let found = index.told.authorization.get(&name).filter(|policy| policy.for_waypoint());
                found.map(Self::Authorization)
            }
            Kind::RequestAuthentication => index.told.request_authentications.get(&name).map(Self::Authentication),
            _ => None,
        }
    }

    fn targets(&self) -> &'a [Target] {
        match self {
            Self::Authorization(it) => it.targets.as_deref().unwrap_or_default(),
            Self::Authentication(it) => &it.targets,
        }
    }
}

pub(super) fn reach(index: &Index, object: &FactKey, reach: &mut Reach) {
    let Some(it) = Told::of(index, object) else { return };
    targets::reach(index, &object.namespace, it.targets(), reach);
    let Told::Authorization(AuthorizationPolicy { provider: Some(name), .. }) = it else { return };
    reach.targets.insert(Pointed::Object(providers::config_key(index)));
    if let Some(Provider::Authorizer(authorizer)) = providers::find(index, name) {
        reach.point_to(&index.mesh, &authorizer.destination);
    }
}

/// What is said of a policy beside what its targets say.
pub(super) fn of_object(index: &Index, object: &FactKey, conditions: &mut Conditions) {
    let Some(it) = Told::of(index, object) else { return };
    targets::say_of_others(index, object, it.targets(), ACCEPTED, conditions);
    let unheeded = match it {
        Told::Authorization(_) => &[][..],
        Told::Authentication(it) => &it.unheeded,
    };
    reading::say_of_fields(object, unheeded, conditions);
    if it.targets().is_empty()
        && let Told::Authentication(_) = it
    {
        let message = "it names no targetRefs, and waypoints do not use it";
        conditions.say(object, Condition::unmet(ACCEPTED, "TargetNotFound", message));
    }
    if let Some(condition) = refusal(index, object) {
        conditions.say(object, condition);
    }
}

/// Why a policy as it is now cannot be understood.
fn refusal(index: &Index, object: &FactKey) -> Option<Condition> {
    let refused = index.refused(object);
    let message = || format!("{}; the last good version stays, or it is closed", refused.join("; "));
    (!refused.is_empty()).then(|| Condition::unmet(ACCEPTED, "PartiallyInvalid", message()))
}

pub(super) fn contribute(scene: &Scene<'_>, rules: &mut ServiceRules, conditions: &mut Conditions) {
    for object in scene.objects {
        let Some(it) = Told::of(scene.index, object) else { continue };
        let attached = targets::of_service(scene.index, &object.namespace, it.targets(), &rules.service);
        for target in &attached {
            let condition = targets::at_service(scene, &rules.service, ACCEPTED);
            let condition = refusal(scene.index, object).unwrap_or(condition);
            conditions.say(object, condition.about(target.to_string()));
        }
        if !attached.is_empty() && scene.service(&rules.service).is_some() {
            add(scene.index, object, &it, &attached, &mut rules.guards, conditions);
        }
    }
}

pub(super) fn contribute_to_gateway(scene: &Scene<'_>, rules: &mut GatewayRules, conditions: &mut Conditions) {
    let gateway = rules.key();
    for object in scene.objects {
        let Some(it) = Told::of(scene.index, object) else { continue };
        let attached = targets::of_gateway(scene.index, &object.namespace, it.targets(), &gateway);
        let condition = targets::at_gateway(scene.index, &gateway, ACCEPTED);
        for target in &attached {
            let condition = refusal(scene.index, object).unwrap_or_else(|| condition.clone());
            conditions.say(object, condition.about(target.to_string()));
        }
        if !attached.is_empty() && condition.status {
            add(scene.index, object, &it, &attached, &mut rules.guards, conditions);
        }
    }
}

fn add(
    index: &Index,
    object: &FactKey,
    it: &Told<'_>,
    attached: &[&Target],
    guards: &mut Guards,
    conditions: &mut Conditions,
) {
    match it {
        Told::Authentication(it) => guards.authentications.push(Authentication {
            name: format!("{}/{}", object.namespace, object.name).into(),
            issuers: it.issuers.clone(),
        }),
        Told::Authorization(it) => {
            let (action, problem) = action(index, it);
            for target in attached.iter().filter(|_| problem.is_some()) {
                let message = problem.clone().unwrap_or_default();
                conditions.say(object, Condition::unmet(ACCEPTED, "Invalid", message).about(target.to_string()));
            }
            guards.policies.push(GuardPolicy {
                namespace: object.namespace.clone(),
                name: object.name.clone(),
                action,
                dry_run: it.dry_run,
                rules: rules(it),
            });
        }
    }
}

fn rules(it: &AuthorizationPolicy) -> Vec<Rule> {
    let clause =
        |terms: &Vec<crate::facts::Term>| Clause { matches: terms.iter().map(|term| term.l4.clone()).collect() };
    it.rules.iter().map(|rule| Rule { clauses: rule.clauses.iter().map(clause).collect() }).collect()
}

/// What a hit does; and why that is not what was asked for.
fn action(index: &Index, it: &AuthorizationPolicy) -> (GuardAction, Option<String>) {
    match it.action {
        PolicyAction::Allow => (GuardAction::Allow, None),
        PolicyAction::Deny => (GuardAction::Deny, None),
        PolicyAction::Audit => (GuardAction::Audit, None),
        PolicyAction::Custom => {
            let name = it.provider.clone().unwrap_or_default();
            match providers::find(index, &name) {
                Some(Provider::Authorizer(found)) => {
                    (GuardAction::Custom(Box::new(authorizer(name, found.clone()))), None)
                }
                found => {
                    let what = if found.is_some() { "decides nothing" } else { "is not there" };
                    let message =
                        format!("spec.provider: {name:?} of the mesh's extensionProviders {what}; it refuses instead");
                    (GuardAction::Deny, Some(message))
                }
            }
        }
    }
}

fn authorizer(name: mesh::Str, found: Authorizer) -> ExternalAuthorizer {
    let Authorizer { destination, protocol, timeout, fail_open, status_on_error, body } = found;
    ExternalAuthorizer { name, destination, protocol, timeout, fail_open, status_on_error, body }
}
