//! May this request pass? The same engine over a waypoint's policies.
//!
//! The order is Istio's: CUSTOM, DENY, ALLOW. Whom a CUSTOM policy asks cannot be asked here, so
//! the answer names them; a request passes only if all of them let it pass and the verdict does.
//! The policies of the waypoint and of the service are judged together, as if they were one list:
//! where both have ALLOW policies, one that hits is enough.
//!
//! Where there is no request to be seen (a connection that is not read as HTTP), a rule that asks
//! about one allows nothing, and denies, asks, and is judged otherwise by its other fields.

use super::{Asked, Attributes, Unseen};
use crate::route::{
    guard::{ExternalAuthorizer, GuardAction, GuardPolicy, Guards},
    head::Head,
    normal::{self, PathNormalization},
};

/// The answer to a request.
#[derive(Clone, Debug)]
pub struct GuardVerdict<'a> {
    /// Whether it may pass, once everybody in `ask` lets it.
    pub allowed: bool,
    /// Why.
    pub reason: GuardReason<'a>,
    /// Who is asked before: each once, with the first policy that names them. They are asked first,
    /// but a caller may refuse what is not `allowed` without asking.
    pub ask: Vec<(&'a GuardPolicy, &'a ExternalAuthorizer)>,
    /// AUDIT policies that hit, for the log.
    pub audit: Vec<&'a GuardPolicy>,
    /// Dry-run policies that would have hit, for the log.
    pub dry_run: Vec<&'a GuardPolicy>,
}

/// Why a request may or may not pass.
#[derive(Clone, Copy, Debug)]
pub enum GuardReason<'a> {
    /// There is no ALLOW policy, and no DENY policy hit.
    NoPolicy,
    /// This ALLOW policy hit.
    AllowedBy(&'a GuardPolicy),
    /// This DENY policy hit.
    DeniedBy(&'a GuardPolicy),
    /// There are ALLOW policies, and none hit.
    NothingAllows,
}

/// Judges one request, or one connection that is not read as HTTP, by the policies of the waypoint
/// and of the service.
///
/// A path with encoded slashes goes to the endpoint as it is, and only that knows whether they
/// part elements. So it must pass both ways: as it is, and with the slashes decoded.
pub fn judge<'a>(gateway: &'a Guards, service: &'a Guards, attributes: &Attributes<'_>) -> GuardVerdict<'a> {
    let plain = judge_one(gateway, service, attributes);
    let Some(request) = attributes.request.filter(|request| hides_slashes(request.path)) else { return plain };
    let Ok(path) = normal::path(request.path, PathNormalization::DecodeAndMergeSlashes) else { return plain };
    let head = Head { path: &path, ..*request };
    let parted = judge_one(gateway, service, &Attributes { request: Some(&head), ..attributes.clone() });
    let (mut verdict, other) = if plain.allowed { (parted, plain) } else { (plain, parted) };
    for (policy, authorizer) in other.ask {
        if !verdict.ask.iter().any(|(_, known)| **known == *authorizer) {
            verdict.ask.push((policy, authorizer));
        }
    }
    verdict
}

fn hides_slashes(path: &str) -> bool {
    path.contains("%2F") || path.contains("%5C")
}

fn judge_one<'a>(gateway: &'a Guards, service: &'a Guards, attributes: &Attributes<'_>) -> GuardVerdict<'a> {
    let asked = Asked::of(attributes);
    let (mut denied, mut allowed, mut any_allow) = (None, None, false);
    let mut ask: Vec<(&GuardPolicy, &ExternalAuthorizer)> = Vec::new();
    let (mut audit, mut dry_run) = (Vec::new(), Vec::new());
    for policy in gateway.policies.iter().chain(&service.policies) {
        let hit = asked.rules(&policy.rules, unseen(&policy.action));
        match &policy.action {
            _ if policy.dry_run => dry_run.extend(hit.then_some(policy)),
            GuardAction::Allow => {
                any_allow = true;
                allowed = allowed.or_else(|| hit.then_some(policy));
            }
            GuardAction::Deny => denied = denied.or_else(|| hit.then_some(policy)),
            GuardAction::Audit => audit.extend(hit.then_some(policy)),
            GuardAction::Custom(authorizer) => {
                let asked_already = ask.iter().any(|(_, other)| **other == **authorizer);
                ask.extend((hit && !asked_already).then_some((policy, &**authorizer)));
            }
        }
    }
    let reason = match (denied, allowed) {
        (Some(policy), _) => GuardReason::DeniedBy(policy),
        (None, Some(policy)) => GuardReason::AllowedBy(policy),
        (None, None) if any_allow => GuardReason::NothingAllows,
        (None, None) => GuardReason::NoPolicy,
    };
    let allowed = matches!(reason, GuardReason::NoPolicy | GuardReason::AllowedBy(_));
    GuardVerdict { allowed, reason, ask, audit, dry_run }
}

/// How a rule that asks about a request is read where there is none: never so that more passes.
fn unseen(action: &GuardAction) -> Unseen {
    match action {
        GuardAction::Allow | GuardAction::Audit => Unseen::NeverHits,
        GuardAction::Deny | GuardAction::Custom(_) => Unseen::Agrees,
    }
}

#[cfg(test)]
mod tests;
