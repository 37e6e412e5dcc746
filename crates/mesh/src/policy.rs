//! Authorization as a value: who may connect to whom, and ask what.
//!
//! The shape is that of `istio.security.Authorization`: rules are alternatives, the clauses of a
//! rule must all match, of a clause's matches one is enough, and in a match every field that is
//! set must agree. What that means is decided in [`crate::authz`].

mod request;

pub use request::{PathPattern, RequestMatch};

use crate::Str;
use ipnet::IpNet;

/// One policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Name.
    pub name: Str,
    /// Namespace.
    pub namespace: Str,
    /// Whom it is for.
    pub scope: PolicyScope,
    /// What a hit does.
    pub action: Action,
    /// Alternatives. None at all: it never hits.
    pub rules: Vec<Rule>,
    /// It is evaluated for the log only.
    pub dry_run: bool,
}

impl Policy {
    /// `namespace/name`, the name of its resource.
    pub fn key(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

/// Whom a policy is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PolicyScope {
    /// Everybody.
    Global,
    /// The policy's namespace.
    Namespace,
    /// The workloads that name it.
    WorkloadSelector,
}

/// What a hit of a policy does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Lets pass.
    Allow,
    /// Refuses.
    Deny,
}

/// Clauses that must all match; none at all matches everybody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// The clauses.
    pub clauses: Vec<Clause>,
}

/// Matches of which one is enough; none at all matches everybody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Clause {
    /// The matches.
    pub matches: Vec<Match>,
}

/// Fields that must all agree; nothing set never matches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Match {
    /// Namespace of the caller's identity.
    pub namespaces: Values<StringMatch>,
    /// Caller's identity, without `spiffe://`.
    pub principals: Values<StringMatch>,
    /// Caller's service account.
    pub service_accounts: Values<ServiceAccountMatch>,
    /// Caller's address.
    pub source_ips: Values<IpNet>,
    /// Address of the pod that is called.
    pub destination_ips: Values<IpNet>,
    /// Port of the pod that is called.
    pub destination_ports: Values<u16>,
    /// What is asked; only waypoints can tell.
    pub request: Option<Box<RequestMatch>>,
}

/// What a field may be, and what it must not be. An empty list says nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Values<T> {
    /// One of these.
    pub any_of: Vec<T>,
    /// None of these.
    pub none_of: Vec<T>,
}

impl<T> Default for Values<T> {
    fn default() -> Self {
        Self { any_of: Vec::new(), none_of: Vec::new() }
    }
}

/// How a text is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StringMatch {
    /// The same.
    Exact(Str),
    /// Begins with.
    Prefix(Str),
    /// Ends with.
    Suffix(Str),
    /// Is not empty.
    Presence,
}

/// A service account of a namespace, compared exactly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceAccountMatch {
    /// Namespace.
    pub namespace: Str,
    /// Service account.
    pub service_account: Str,
}

/// A range of IPv4 addresses that is written as one of IPv6 (`::ffff:10.0.0.0/104`) as what it is.
pub fn canonical_net(net: IpNet) -> IpNet {
    match net {
        IpNet::V6(six) if six.prefix_len() >= 96 => match six.addr().to_ipv4_mapped() {
            Some(four) => IpNet::new(four.into(), six.prefix_len() - 96).unwrap_or(net),
            None => net,
        },
        _ => net,
    }
}
