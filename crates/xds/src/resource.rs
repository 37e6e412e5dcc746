//! The kinds of resource and how they are named.

use mesh::{Change, Str};
use std::fmt;

/// What a subscription is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Workloads and services.
    Address,
    /// L4 authorization policies.
    Authorization,
    /// What a waypoint does with the requests of one service.
    ServiceRules,
    /// What concerns one waypoint as a whole.
    GatewayRules,
}

impl Kind {
    /// All that are served.
    pub const ALL: [Self; 4] = [Self::Address, Self::Authorization, Self::ServiceRules, Self::GatewayRules];

    /// What a node proxy asks for, in this order.
    pub const NODE_PROXY: &'static [Self] = &[Self::Address, Self::Authorization];

    /// What a waypoint asks for, in this order.
    pub const WAYPOINT: &'static [Self] = &[Self::Address, Self::ServiceRules, Self::GatewayRules];

    /// The type URL on the wire.
    pub fn type_url(self) -> &'static str {
        match self {
            Self::Address => "type.googleapis.com/istio.workload.Address",
            Self::Authorization => "type.googleapis.com/istio.security.Authorization",
            Self::ServiceRules => "type.googleapis.com/istiod_lite.waypoint.v1.ServiceRules",
            Self::GatewayRules => "type.googleapis.com/istiod_lite.waypoint.v1.GatewayRules",
        }
    }

    /// The kind of a type URL, if it is one of ours.
    pub fn of_type_url(type_url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.type_url() == type_url)
    }

    /// Whether its resources carry a version, so that who resumes is sent only what changed.
    pub fn versioned(self) -> bool {
        self != Self::Authorization
    }

    /// What istiod's metrics call it.
    pub fn short(self) -> &'static str {
        match self {
            Self::Address => "wds",
            Self::Authorization => "wads",
            Self::ServiceRules => "service_rules",
            Self::GatewayRules => "gateway_rules",
        }
    }

    /// The place of this kind in an array with one element a kind.
    pub(crate) fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.type_url())
    }
}

/// The kind and name of the resource that a change is about.
pub fn of_change(change: &Change) -> (Kind, Str) {
    match change {
        Change::Workload(workload) => (Kind::Address, workload.uid.clone()),
        Change::Service(service) => (Kind::Address, service.key().to_string().into()),
        Change::Policy(policy) => (Kind::Authorization, policy.key().into()),
        Change::RemoveAddress(name) => (Kind::Address, name.clone()),
        Change::RemovePolicy(name) => (Kind::Authorization, name.clone()),
        Change::ServiceRules(rules) => (Kind::ServiceRules, rules.rules().service.to_string().into()),
        Change::RemoveServiceRules(name) => (Kind::ServiceRules, name.clone()),
        Change::GatewayRules(rules) => (Kind::GatewayRules, rules.rules().key().into()),
        Change::RemoveGatewayRules(name) => (Kind::GatewayRules, name.clone()),
    }
}
