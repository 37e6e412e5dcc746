//! Whether waypoints could use what was read: it is compiled as they do, alone.
//!
//! Otherwise a mistake in one object (an expression that is none) would show only where it stands
//! together with others, and all of those would stay as they were.

use crate::{
    facts::{
        AuthorizationPolicy, DestinationRule, PolicyRule, Reach, Sections, Telemetry, Term, TrafficPolicy,
        VirtualService, by_name,
    },
    files::field::Field,
};
use mesh::{
    policy::{Clause, Rule},
    route::{
        Compiled, HttpRoute, ServiceRules, Traffic,
        guard::{GuardAction, GuardPolicy},
        http::Precedence,
    },
};

pub(super) fn virtual_service(object: &Field<'_>, it: &VirtualService) {
    let route = HttpRoute {
        name: "http".into(),
        created: None,
        ports: Vec::new(),
        callers: None,
        precedence: Precedence::Listed,
        rules: it.http.iter().map(|route| route.rule.clone()).collect(),
    };
    check(object, ServiceRules { http: vec![route], ..empty() });
}

pub(super) fn destination_rule(object: &Field<'_>, it: &DestinationRule) {
    let all = it.subsets.iter().map(|subset| &subset.reach).chain([&it.reach]);
    check(object, ServiceRules { traffic: all.flat_map(reached).collect(), ..empty() });
}

pub(super) fn traffic_policy(object: &Field<'_>, it: &TrafficPolicy) {
    let (limits, faults) = (it.limits.clone(), it.faults.clone());
    check(object, ServiceRules { limits, faults, traffic: vec![traffic(&it.sections)], ..empty() });
}

pub(super) fn telemetry(object: &Field<'_>, it: &Telemetry) {
    let mut rules = empty();
    rules.telemetry.access_log.clone_from(&it.access_log);
    check(object, rules);
}

/// The same for a policy for waypoints.
pub(in crate::files) fn authorization(object: &Field<'_>, it: &AuthorizationPolicy) {
    if !it.for_waypoint() {
        return;
    }
    let clause = |terms: &Vec<Term>| Clause { matches: terms.iter().map(|term| term.l4.clone()).collect() };
    let rule = |rule: &PolicyRule| Rule { clauses: rule.clauses.iter().map(clause).collect() };
    let mut rules = empty();
    rules.guards.policies.push(GuardPolicy {
        namespace: it.meta.namespace.clone(),
        name: it.meta.name.clone(),
        action: GuardAction::Deny,
        dry_run: false,
        rules: it.rules.iter().map(rule).collect(),
    });
    check(object, rules);
}

fn empty() -> ServiceRules {
    ServiceRules::of(by_name("trial", "trial"))
}

fn check(object: &Field<'_>, rules: ServiceRules) {
    if let Err(unusable) = Compiled::new(rules) {
        object.at("spec").note(unusable.to_string());
    }
}

fn reached(reach: &Reach) -> impl Iterator<Item = Traffic> {
    reach.ports.values().chain([&reach.all]).map(traffic)
}

/// What of it could be more than waypoints bear.
fn traffic(sections: &Sections) -> Traffic {
    Traffic {
        name: "trafficPolicy".into(),
        balance: sections.balancing.clone().map(|it| it.balance).unwrap_or_default(),
        outlier: sections.outlier.clone(),
        adaptive: sections.adaptive,
        ..Traffic::default()
    }
}
