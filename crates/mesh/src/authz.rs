//! May this connection pass? One engine, asked by the node proxy (and, with more attributes, by the waypoint).
//!
//! The order: dry-run policies are looked at for the log only; a DENY policy that hits refuses; if
//! no ALLOW policy is for the workload the connection passes; an ALLOW policy that hits lets it
//! pass; else it is refused.
//!
//! What hits: a policy when one of its rules does (none at all never); a rule when all its clauses
//! do (none at all always); a clause when one of its matches does (none at all always); a match
//! when every field that says something agrees (nothing said never).

use crate::{
    Identity, Policy, Str, View, Workload,
    policy::{Action, Clause, Match, Rule, ServiceAccountMatch, StringMatch, Values, canonical_net},
};
use ipnet::IpNet;
use std::{net::IpAddr, sync::Arc};

/// What is known of a connection when it is judged.
#[derive(Clone, Debug)]
pub struct Attributes<'a> {
    /// The caller, as its certificate proved it; `None` for plaintext.
    pub source: Option<&'a Identity>,
    /// The caller's address.
    pub source_ip: IpAddr,
    /// Address of the pod that is called.
    pub destination_ip: IpAddr,
    /// Port of the pod that is called, after any mapping.
    pub destination_port: u16,
}

/// The answer.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// Whether it may pass.
    pub allowed: bool,
    /// Why.
    pub reason: Reason,
    /// Dry-run policies that would have hit, for the log.
    pub dry_run: Vec<Arc<Policy>>,
    /// Policies the workload names and the view does not have. They are skipped, as Istio does; the caller warns.
    pub missing: Vec<Str>,
}

/// Why a connection may or may not pass.
#[derive(Clone, Debug)]
pub enum Reason {
    /// No ALLOW policy is for this workload, and no DENY policy hit.
    NoPolicy,
    /// This ALLOW policy hit.
    AllowedBy(Arc<Policy>),
    /// This DENY policy hit.
    DeniedBy(Arc<Policy>),
    /// There are ALLOW policies, and none hit.
    NothingAllows,
}

/// Judges one connection to `destination` by the policies of `view`.
pub fn decide(view: &View, destination: &Workload, attributes: &Attributes<'_>) -> Verdict {
    let asked = Asked::of(attributes);
    let (mut denied, mut allowed, mut any_allow, mut dry_run) = (None, None, false, Vec::new());
    for policy in view.policies_for(destination) {
        let hit = asked.policy(policy);
        match policy.action {
            _ if policy.dry_run => dry_run.extend(hit.then(|| policy.clone())),
            Action::Deny if hit && denied.is_none() => denied = Some(policy.clone()),
            Action::Deny => {}
            Action::Allow => {
                any_allow = true;
                if hit && allowed.is_none() {
                    allowed = Some(policy.clone());
                }
            }
        }
    }
    let reason = match (denied, allowed) {
        (Some(policy), _) => Reason::DeniedBy(policy),
        (None, Some(policy)) => Reason::AllowedBy(policy),
        (None, None) if any_allow => Reason::NothingAllows,
        (None, None) => Reason::NoPolicy,
    };
    let named = destination.authorization_policies.iter();
    Verdict {
        allowed: matches!(reason, Reason::NoPolicy | Reason::AllowedBy(_)),
        reason,
        dry_run,
        missing: named.filter(|key| view.policy(key).is_none()).cloned().collect(),
    }
}

/// The attributes in the form that matches compare with. Without an identity every text is "".
struct Asked<'a> {
    principal: String,
    namespace: &'a str,
    service_account: &'a str,
    source_ip: IpAddr,
    destination_ip: IpAddr,
    destination_port: u16,
}

impl<'a> Asked<'a> {
    fn of(attributes: &Attributes<'a>) -> Self {
        let source = attributes.source;
        Self {
            principal: source.map(Identity::principal).unwrap_or_default(),
            namespace: source.map_or("", |id| id.namespace()),
            service_account: source.map_or("", |id| id.service_account()),
            source_ip: attributes.source_ip.to_canonical(),
            destination_ip: attributes.destination_ip.to_canonical(),
            destination_port: attributes.destination_port,
        }
    }

    fn policy(&self, policy: &Policy) -> bool {
        policy.rules.iter().any(|rule| self.rule(rule))
    }

    fn rule(&self, rule: &Rule) -> bool {
        rule.clauses.iter().all(|clause| self.clause(clause))
    }

    fn clause(&self, clause: &Clause) -> bool {
        clause.matches.is_empty() || clause.matches.iter().any(|one| self.one(one))
    }

    fn one(&self, one: &Match) -> bool {
        // Every field is taken apart here, so that a new one cannot be forgotten.
        let Match { namespaces, principals, service_accounts, source_ips, destination_ips, destination_ports, request } =
            one;
        let fields = [
            agrees(namespaces, |wanted| text(wanted, self.namespace)),
            agrees(principals, |wanted| text(wanted, &self.principal)),
            agrees(service_accounts, |wanted| self.account(wanted)),
            agrees(source_ips, |net| contains(net, self.source_ip)),
            agrees(destination_ips, |net| contains(net, self.destination_ip)),
            agrees(destination_ports, |port| *port == self.destination_port),
            // Nothing is known of a request here, so whatever is asked of it does not agree.
            request.as_ref().map(|_| false),
        ];
        fields.iter().any(Option::is_some) && fields.iter().flatten().all(|agrees| *agrees)
    }

    fn account(&self, wanted: &ServiceAccountMatch) -> bool {
        *wanted.namespace == *self.namespace && *wanted.service_account == *self.service_account
    }
}

/// Whether a field agrees; `None` when it says nothing.
fn agrees<T>(field: &Values<T>, is: impl Fn(&T) -> bool) -> Option<bool> {
    let Values { any_of, none_of } = field;
    let said = !any_of.is_empty() || !none_of.is_empty();
    said.then(|| (any_of.is_empty() || any_of.iter().any(&is)) && !none_of.iter().any(&is))
}

fn text(wanted: &StringMatch, found: &str) -> bool {
    match wanted {
        StringMatch::Exact(wanted) => found == &**wanted,
        StringMatch::Prefix(prefix) => found.starts_with(&**prefix),
        StringMatch::Suffix(suffix) => found.ends_with(&**suffix),
        StringMatch::Presence => !found.is_empty(),
    }
}

fn contains(net: &IpNet, address: IpAddr) -> bool {
    canonical_net(*net).contains(&address)
}

#[cfg(test)]
mod tests;
