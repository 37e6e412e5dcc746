//! May this connection pass? One engine, asked by the node proxy ([`decide`]) and, with what a
//! request says, by the waypoint ([`judge`]).
//!
//! The order: dry-run policies are looked at for the log only; a DENY policy that hits refuses; if
//! no ALLOW policy is for the workload the connection passes; an ALLOW policy that hits lets it
//! pass; else it is refused.
//!
//! What hits: a policy when one of its rules does (none at all never); a rule when all its clauses
//! do (none at all always); a clause when one of its matches does (none at all always); a match
//! when every field that says something agrees (nothing said never).

mod guards;
mod request;

pub use guards::{GuardReason, GuardVerdict, judge};
pub use request::check_templates;

use crate::{
    Identity, Policy, Str, View, Workload,
    policy::{Action, Clause, Match, Rule, ServiceAccountMatch, StringMatch, Values, canonical_net},
    route::head::Head,
};
use ipnet::IpNet;
use std::{cell::OnceCell, net::IpAddr, sync::Arc};

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
    /// Name in the handshake of a TLS connection that is passed through.
    pub server_name: Option<&'a str>,
    /// What is asked; none on a connection that is not read as HTTP.
    pub request: Option<&'a Head<'a>>,
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
        let unseen = match policy.action {
            Action::Allow => Unseen::NeverHits,
            Action::Deny => Unseen::Agrees,
        };
        let hit = asked.rules(&policy.rules, unseen);
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

/// How a rule that asks about a request is read where there is none to be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unseen {
    /// The rule never hits.
    NeverHits,
    /// What cannot be seen agrees.
    Agrees,
}

/// The attributes in the form that matches compare with. Without an identity every text is "".
struct Asked<'a> {
    source: Option<&'a Identity>,
    /// Made when it is first asked for: most policies do not.
    principal: OnceCell<String>,
    source_ip: IpAddr,
    destination_ip: IpAddr,
    destination_port: u16,
    server_name: &'a str,
    request: Option<&'a Head<'a>>,
}

impl<'a> Asked<'a> {
    fn of(attributes: &Attributes<'a>) -> Self {
        Self {
            source: attributes.source,
            principal: OnceCell::new(),
            source_ip: attributes.source_ip.to_canonical(),
            destination_ip: attributes.destination_ip.to_canonical(),
            destination_port: attributes.destination_port,
            server_name: attributes.server_name.unwrap_or_default(),
            request: attributes.request,
        }
    }

    fn rules(&self, rules: &[Rule], unseen: Unseen) -> bool {
        rules.iter().any(|rule| self.rule(rule, unseen))
    }

    fn rule(&self, rule: &Rule, unseen: Unseen) -> bool {
        let cannot_hit = self.request.is_none() && unseen == Unseen::NeverHits && asks_request(rule);
        !cannot_hit && rule.clauses.iter().all(|clause| self.clause(clause, unseen))
    }

    fn clause(&self, clause: &Clause, unseen: Unseen) -> bool {
        clause.matches.is_empty() || clause.matches.iter().any(|one| self.one(one, unseen))
    }

    fn one(&self, one: &Match, unseen: Unseen) -> bool {
        // Every field is taken apart here, so that a new one cannot be forgotten.
        let Match { namespaces, principals, service_accounts, source_ips, destination_ips, destination_ports, request } =
            one;
        let namespace = self.source.map_or("", |source| source.namespace());
        let agreement = all([
            agrees(namespaces, |wanted| text(wanted, namespace)),
            agrees(principals, |wanted| text(wanted, self.principal())),
            agrees(service_accounts, |wanted| self.account(wanted)),
            agrees(source_ips, |net| contains(net, self.source_ip)),
            agrees(destination_ips, |net| contains(net, self.destination_ip)),
            agrees(destination_ports, |port| *port == self.destination_port),
            request.as_ref().and_then(|wanted| request::agreement(wanted, self, unseen)),
        ]);
        agreement.unwrap_or(false)
    }

    fn principal(&self) -> &str {
        self.principal.get_or_init(|| self.source.map(Identity::principal).unwrap_or_default())
    }

    fn account(&self, wanted: &ServiceAccountMatch) -> bool {
        self.source.is_some_and(|source| {
            wanted.namespace == *source.namespace() && wanted.service_account == *source.service_account()
        })
    }
}

/// Whether any match of a rule asks for something that only a request has.
fn asks_request(rule: &Rule) -> bool {
    let mut matches = rule.clauses.iter().flat_map(|clause| &clause.matches);
    matches.any(|one| one.request.as_deref().is_some_and(request::asks_request))
}

/// Whether all fields agree that say something; `None` where none does.
fn all(fields: impl IntoIterator<Item = Option<bool>>) -> Option<bool> {
    fields.into_iter().flatten().reduce(|one, other| one && other)
}

/// Whether a field says something.
fn says<T>(field: &Values<T>) -> bool {
    !field.any_of.is_empty() || !field.none_of.is_empty()
}

/// Whether a field agrees; `None` when it says nothing.
fn agrees<T>(field: &Values<T>, is: impl Fn(&T) -> bool) -> Option<bool> {
    let Values { any_of, none_of } = field;
    says(field).then(|| (any_of.is_empty() || any_of.iter().any(&is)) && !none_of.iter().any(&is))
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
