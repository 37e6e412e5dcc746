//! Policies as their authors meant them, before they are cut to what a node proxy can decide.

use super::{Labels, Meta, Target};
use mesh::{Str, policy::Match};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

/// An `AuthorizationPolicy`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorizationPolicy {
    /// Name and labels.
    pub meta: Meta,
    /// The workloads it is for; empty: all of its namespace (or of the mesh, in the root namespace).
    pub selector: Labels,
    /// What it is for at waypoints (`targetRefs`); `None`: it is for node proxies.
    pub targets: Option<Vec<Target>>,
    /// Who is asked, by name (`provider`).
    pub provider: Option<Str>,
    /// What a hit does.
    pub action: PolicyAction,
    /// It is evaluated for the log only.
    pub dry_run: bool,
    /// Alternatives.
    pub rules: Vec<PolicyRule>,
    /// Why it could not be understood, by field.
    pub refused: Vec<Str>,
}

impl AuthorizationPolicy {
    /// It is for waypoints, not for node proxies.
    pub fn for_waypoint(&self) -> bool {
        self.targets.is_some()
    }

    /// What node proxies make of it.
    pub fn condition(&self) -> PolicyCondition {
        let terms = self.rules.iter().flat_map(|rule| rule.clauses.iter().flatten());
        let attributes: BTreeSet<Str> = terms.flat_map(|term| term.unsupported.iter().cloned()).collect();
        match self.action {
            _ if self.for_waypoint() => PolicyCondition::ForWaypoint,
            PolicyAction::Audit | PolicyAction::Custom => PolicyCondition::ActionNotServed(self.action),
            _ if attributes.is_empty() => PolicyCondition::Accepted,
            PolicyAction::Allow => PolicyCondition::AllowsLess { attributes },
            PolicyAction::Deny => PolicyCondition::DeniesMore { attributes },
        }
    }
}

/// What node proxies make of an authorization policy. They see no HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyCondition {
    /// They have it as it was written.
    Accepted,
    /// Rules with these attributes are left out, and allow nothing.
    AllowsLess {
        /// The attributes: `paths`, `request.headers[x]`, ….
        attributes: BTreeSet<Str>,
    },
    /// Rules deny whatever these attributes are.
    DeniesMore {
        /// The attributes.
        attributes: BTreeSet<Str>,
    },
    /// It is for a waypoint; they do not have it.
    ForWaypoint,
    /// They do not know this action, and do not have it.
    ActionNotServed(PolicyAction),
}

impl fmt::Display for PolicyCondition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |attributes: &BTreeSet<Str>| attributes.iter().map(|name| &**name).collect::<Vec<_>>().join(", ");
        match self {
            Self::Accepted => write!(f, "node proxies have it as it was written"),
            Self::AllowsLess { attributes } => {
                let attributes = list(attributes);
                write!(
                    f,
                    "node proxies cannot decide {attributes}: rules that ask for it are left out and allow nothing"
                )
            }
            Self::DeniesMore { attributes } => {
                let attributes = list(attributes);
                write!(f, "node proxies cannot decide {attributes}: rules that ask for it deny whatever it is")
            }
            Self::ForWaypoint => write!(f, "it is for a waypoint; node proxies do not have it"),
            Self::ActionNotServed(action) => {
                let action = format!("{action:?}").to_uppercase();
                write!(f, "node proxies do not serve the action {action}; they do not have it")
            }
        }
    }
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
    /// What can be decided: in a policy for node proxies without looking into the connection.
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
