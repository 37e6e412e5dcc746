//! What a node proxy can decide of a policy, and what the rest of it becomes.
//!
//! Node proxies see no HTTP. An ALLOW rule that asks for some is dropped: it allows nothing. A DENY
//! rule keeps what else it asks for, so it denies at least what was asked. Either way a policy may
//! become stricter here, and never weaker; its [`PolicyCondition`](crate::facts::PolicyCondition) says so.

use crate::facts::{
    AuthorizationPolicy, Condition, MtlsMode, PeerAuthentication, PolicyAction, PolicyCondition, PolicyRule, Term,
};
use mesh::{
    Policy, Str,
    policy::{Action, Clause, Match, PolicyScope, Rule, StringMatch, Values},
};

/// The policy for node proxies, if it is one for them.
pub(super) fn convert(policy: &AuthorizationPolicy, root_namespace: &str) -> Option<Policy> {
    let action = match policy.action {
        _ if policy.for_waypoint() => return None,
        PolicyAction::Allow => Action::Allow,
        PolicyAction::Deny => Action::Deny,
        PolicyAction::Audit | PolicyAction::Custom => return None,
    };
    let rules = match action {
        Action::Allow => policy.rules.iter().filter_map(allow_rule).collect(),
        Action::Deny => policy.rules.iter().map(deny_rule).collect(),
    };
    let scope = match (policy.selector.is_empty(), &*policy.meta.namespace == root_namespace) {
        (true, true) => PolicyScope::Global,
        (true, false) => PolicyScope::Namespace,
        (false, _) => PolicyScope::WorkloadSelector,
    };
    let (name, namespace) = (policy.meta.name.clone(), policy.meta.namespace.clone());
    Some(Policy { name, namespace, scope, action, rules, dry_run: policy.dry_run })
}

/// The condition that says what node proxies make of a policy.
pub(super) const ACCEPTED: &str = "ZtunnelAccepted";

/// What is said of an authorization policy that is for node proxies; `refused` is why it cannot be
/// understood as it is now.
pub(super) fn accepted(policy: &AuthorizationPolicy, refused: &[Str]) -> Option<Condition> {
    match policy.condition() {
        PolicyCondition::ForWaypoint => None,
        _ if !refused.is_empty() => {
            let message = format!("{}; the last good version stays, or it is closed", refused.join("; "));
            Some(Condition::unmet(ACCEPTED, "UnsupportedValue", message))
        }
        PolicyCondition::Accepted => Some(Condition::met(ACCEPTED, "Accepted", "attached to ztunnel")),
        other => Some(Condition::unmet(ACCEPTED, "UnsupportedValue", other.to_string())),
    }
}

fn allow_rule(rule: &PolicyRule) -> Option<Rule> {
    let decidable = rule.clauses.iter().flatten().all(|term| term.unsupported.is_empty());
    decidable.then(|| Rule { clauses: rule.clauses.iter().map(|terms| clause(terms)).collect() })
}

fn deny_rule(rule: &PolicyRule) -> Rule {
    // A term without anything that can be decided may always match, and with it its clause.
    let open = |term: &Term| !term.unsupported.is_empty() && term.l4 == Match::default();
    let decidable = rule.clauses.iter().filter(|terms| !terms.iter().any(open));
    Rule { clauses: decidable.map(|terms| clause(terms)).collect() }
}

fn clause(terms: &[Term]) -> Clause {
    Clause { matches: terms.iter().map(|term| term.l4.clone()).collect() }
}

/// The name of the policy that demands an identity of every caller.
const STRICT: &str = "istio_converted_static_strict";

/// The key of the policy that demands an identity of every caller.
pub(super) fn strict_key(root_namespace: &str) -> Str {
    format!("{root_namespace}/{STRICT}").into()
}

/// The policy that demands an identity of every caller. Workloads that are STRICT name it.
pub(super) fn strict(root_namespace: &Str) -> Policy {
    let rules = vec![Rule { clauses: vec![Clause { matches: vec![anonymous()] }] }];
    deny(STRICT.into(), root_namespace.clone(), rules)
}

fn deny(name: Str, namespace: Str, rules: Vec<Rule>) -> Policy {
    Policy { name, namespace, scope: PolicyScope::WorkloadSelector, action: Action::Deny, rules, dry_run: false }
}

/// Matches a caller without identity.
fn anonymous() -> Match {
    Match { principals: Values { any_of: vec![], none_of: vec![StringMatch::Presence] }, ..Match::default() }
}

/// What peer authentication asks of a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Demand {
    /// Nothing.
    Nothing,
    /// An identity, on every port.
    Strict,
    /// An identity, on the ports that its own peer authentication says.
    ByPort,
}

/// What a workload's own peer authentication asks, where the wider scopes ask for `strict` or not.
pub(super) fn demand(own: Option<&PeerAuthentication>, strict: bool) -> Demand {
    let Some(own) = own else { return if strict { Demand::Strict } else { Demand::Nothing } };
    let strict = own.mode.map_or(strict, |mode| mode == MtlsMode::Strict);
    let differs = |mode: &Option<MtlsMode>| mode.is_some_and(|mode| (mode == MtlsMode::Strict) != strict);
    match (own.ports.values().any(differs), strict) {
        (true, _) => Demand::ByPort,
        (false, true) => Demand::Strict,
        (false, false) => Demand::Nothing,
    }
}

/// The key of the policy made of a peer authentication with ports.
pub(super) fn by_port_key(own: &PeerAuthentication) -> Str {
    format!("{}/{}", own.meta.namespace, by_port_name(own)).into()
}

fn by_port_name(own: &PeerAuthentication) -> String {
    format!("converted_peer_authentication_{}", own.meta.name)
}

/// The policy made of a peer authentication with ports, if it needs one.
pub(super) fn by_port(own: &PeerAuthentication, strict: bool) -> Option<Policy> {
    if demand(Some(own), strict) != Demand::ByPort {
        return None;
    }
    let strict = own.mode.map_or(strict, |mode| mode == MtlsMode::Strict);
    let modes = own.ports.iter().filter_map(|(port, mode)| Some((*port, (*mode)? == MtlsMode::Strict)));
    let differing = modes.filter(|(_, port_strict)| *port_strict != strict).map(|(port, _)| port);
    let rules = if strict {
        // Everybody must prove who he is, but for these ports.
        let but =
            |port| Match { destination_ports: Values { any_of: vec![], none_of: vec![port] }, ..Match::default() };
        let all = std::iter::once(anonymous()).chain(differing.map(but));
        vec![Rule { clauses: all.map(|one| Clause { matches: vec![one] }).collect() }]
    } else {
        let on = |port| Match { destination_ports: Values { any_of: vec![port], none_of: vec![] }, ..anonymous() };
        differing.map(|port| Rule { clauses: vec![Clause { matches: vec![on(port)] }] }).collect()
    };
    Some(deny(by_port_name(own).into(), own.meta.namespace.clone(), rules))
}
