//! May this request pass? The policies of the waypoint and of the service are asked.

use http::StatusCode;
use mesh::authz::{self, GuardReason, GuardVerdict};

use super::Exchange;
use crate::answer::Reply;
use crate::report::{Flags, details};
use crate::rules::Prepared;

/// What callers are told who may not.
const DENIED: &str = "RBAC: access denied";

/// Asks the policies. Whoever must be asked beside them comes back.
pub fn judge<'r>(exchange: &Exchange, rules: &'r Prepared) -> GuardVerdict<'r> {
    let head = exchange.head();
    let (gateway, service) = (&rules.gateway.rules().guards, &rules.service.rules().guards);
    let verdict = authz::judge(gateway, service, &exchange.attributes(&head));
    let (caller, path) = (&exchange.call.caller, &exchange.wanted.path);
    for policy in &verdict.dry_run {
        tracing::info!(%caller, path, policy = &*policy.name, namespace = &*policy.namespace, "a dry-run policy would have hit");
    }
    for policy in &verdict.audit {
        tracing::info!(%caller, path, policy = &*policy.name, namespace = &*policy.namespace, "an AUDIT policy hit");
    }
    verdict
}

/// The answer to a request that may not pass.
pub fn refused(reason: &GuardReason<'_>) -> Reply {
    let why = match reason {
        GuardReason::DeniedBy(policy) => details::denied_by(&policy.namespace, &policy.name, 0).into(),
        GuardReason::NothingAllows | GuardReason::NoPolicy | GuardReason::AllowedBy(_) => {
            details::DENIED_BY_NONE.into()
        }
    };
    Reply { details: why, ..Reply::new(StatusCode::FORBIDDEN, Flags::NONE, "") }.saying(DENIED)
}
