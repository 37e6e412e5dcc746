//! Policies as their authors meant them, before they are cut to what a node proxy can decide.

use super::{Labels, Meta};
use mesh::{Str, policy::Match};
use std::collections::BTreeMap;

/// An `AuthorizationPolicy`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorizationPolicy {
    /// Name and labels.
    pub meta: Meta,
    /// The workloads it is for; empty: all of its namespace (or of the mesh, in the root namespace).
    pub selector: Labels,
    /// It is for a waypoint (`targetRefs`), not for node proxies.
    pub for_waypoint: bool,
    /// What a hit does.
    pub action: PolicyAction,
    /// It is evaluated for the log only.
    pub dry_run: bool,
    /// Alternatives.
    pub rules: Vec<PolicyRule>,
}

/// What a hit of a policy does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyAction {
    /// Lets pass.
    Allow,
    /// Refuses.
    Deny,
    /// Writes a log line.
    Audit,
    /// Asks somebody else.
    Custom,
}

/// One rule: clauses that must all match. No clause matches everybody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyRule {
    /// `to`, `from`, and one for each `when`: of each, one term is enough.
    pub clauses: Vec<Vec<Term>>,
}

/// One entry of a clause.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Term {
    /// What can be decided without looking into the connection.
    pub l4: Match,
    /// Names of the attributes that cannot (HTTP, or unknown to us); all must match beside `l4`.
    pub unsupported: Vec<Str>,
}

/// A `PeerAuthentication`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerAuthentication {
    /// Name and labels.
    pub meta: Meta,
    /// The workloads it is for; empty: all of its namespace (or of the mesh, in the root namespace).
    pub selector: Labels,
    /// Its mode; `None` takes that of the wider scope.
    pub mode: Option<MtlsMode>,
    /// Modes of single ports of the workload.
    pub ports: BTreeMap<u16, Option<MtlsMode>>,
}

/// Whether callers must prove who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MtlsMode {
    /// They may.
    Permissive,
    /// They must.
    Strict,
    /// They need not.
    Disable,
}
