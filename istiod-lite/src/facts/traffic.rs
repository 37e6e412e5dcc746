//! How traffic goes, as its authors said: VirtualService, DestinationRule, TrafficPolicy.
//!
//! What is said of requests is already in the words of [`mesh::route`]. Destinations are not
//! looked up: a host is named by [`by_name`](super::by_name) or [`by_host`](super::by_host), and a port
//! of 0 is one that nobody said.

use super::{Labels, Meta, Target};
use mesh::{
    Str,
    route::{
        Fault, HttpRule, RateLimit, StreamRoute,
        traffic::{
            AdaptiveConcurrency, Balance, Locality, Outlier, Pool, ProxyProtocol, RetryBudget, TlsOrigination, Warmup,
        },
    },
};
use std::collections::{BTreeMap, BTreeSet};

/// A `VirtualService`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VirtualService {
    /// Name and labels.
    pub meta: Meta,
    /// The hosts it is for, as written; none: it is only delegated to.
    pub hosts: Vec<Str>,
    /// It is for the mesh, and not only for gateways at its edge.
    pub for_mesh: bool,
    /// Who may use it.
    pub exports: Exports,
    /// Routes of requests.
    pub http: Vec<VirtualRoute>,
    /// Routes of TLS connections.
    pub tls: Vec<StreamRoute>,
    /// Routes of other connections.
    pub tcp: Vec<StreamRoute>,
    /// Why it could not be understood, by field.
    pub refused: Vec<Str>,
    /// What is not honoured of it, by field.
    pub unheeded: Vec<Str>,
}

/// One route of requests of a [`VirtualService`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VirtualRoute {
    /// What it says.
    pub rule: HttpRule,
    /// Another virtual service (namespace, name) says the rest.
    pub delegate: Option<(Str, Str)>,
}

/// Namespaces that may use an object (`exportTo`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Exports {
    /// All.
    #[default]
    Everybody,
    /// These.
    Only(BTreeSet<Str>),
}

impl Exports {
    /// Whether a namespace may use it.
    pub fn reach(&self, namespace: &str) -> bool {
        match self {
            Self::Everybody => true,
            Self::Only(namespaces) => namespaces.contains(namespace),
        }
    }
}

/// A `DestinationRule`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DestinationRule {
    /// Name and labels.
    pub meta: Meta,
    /// The host it is for, as written.
    pub host: Str,
    /// Who may use it.
    pub exports: Exports,
    /// It is only for some callers; waypoints cannot tell and do not use it.
    pub only_some_callers: bool,
    /// How the host is reached.
    pub reach: Reach,
    /// Named parts of its endpoints.
    pub subsets: Vec<NamedSubset>,
    /// Why it could not be understood, by field.
    pub refused: Vec<Str>,
    /// What is not honoured of it, by field.
    pub unheeded: Vec<Str>,
}

/// A named part of a host's endpoints.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NamedSubset {
    /// Its name.
    pub name: Str,
    /// The labels of its workloads.
    pub labels: Labels,
    /// How it is reached, where that differs.
    pub reach: Reach,
}

/// How something is reached, and where single ports differ.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reach {
    /// On every port.
    pub all: Sections,
    /// On these ports, instead.
    pub ports: BTreeMap<u16, Sections>,
}

/// Parts of what may be said of how something is reached; what is absent was not said.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sections {
    /// How an endpoint is chosen.
    pub balancing: Option<Balancing>,
    /// Connections and requests.
    pub pool: Option<Pool>,
    /// When an endpoint is taken out.
    pub outlier: Option<Outlier>,
    /// TLS of our own; `Some(None)`: expressly none.
    pub tls: Option<Option<TlsOrigination>>,
    /// A header before each connection.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// How many requests may be further tries.
    pub retry_budget: Option<RetryBudget>,
    /// How many requests are let through.
    pub adaptive: Option<AdaptiveConcurrency>,
}

/// How an endpoint is chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Balancing {
    /// By what.
    pub balance: Balance,
    /// How localities are preferred.
    pub locality: Option<Locality>,
    /// How long a new endpoint takes to get its share.
    pub warmup: Option<Warmup>,
}

/// A `TrafficPolicy`, which is of our own making.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrafficPolicy {
    /// Name and labels.
    pub meta: Meta,
    /// What it is for.
    pub targets: Vec<Target>,
    /// Limits; their names and scopes hold unresolved destinations.
    pub limits: Vec<RateLimit>,
    /// Faults on purpose.
    pub faults: Vec<Fault>,
    /// How what it is for is reached.
    pub sections: Sections,
    /// Why it could not be understood, by field.
    pub refused: Vec<Str>,
    /// What is not honoured of it, by field.
    pub unheeded: Vec<Str>,
}
