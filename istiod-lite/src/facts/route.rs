//! Gateway API's kinds as their authors meant them: routes, grants, and TLS to backends.
//!
//! Rules are already those of [`mesh::route`], but where they point is not looked up: a Service is
//! named by [`by_name`], a bare hostname by [`by_host`], and the index finds out what is behind
//! them, and whether it may be used.

use super::{Kind, Meta};
use mesh::{
    ServiceKey, Str,
    route::{Destination, HttpRule, traffic::RetryBudget},
};
use std::collections::BTreeMap;

/// The key by which rules point to a Kubernetes Service whose domain is not known yet.
pub fn by_name(namespace: &str, name: &str) -> ServiceKey {
    ServiceKey { namespace: namespace.into(), hostname: format!("{name}.{namespace}.svc").into() }
}

/// The key by which rules point to whatever service has a hostname.
pub fn by_host(hostname: &str) -> ServiceKey {
    ServiceKey { namespace: Str::default(), hostname: hostname.into() }
}

/// An HTTPRoute, GRPCRoute, TCPRoute or TLSRoute.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Name and age.
    pub meta: Meta,
    /// Which kind it is.
    pub kind: RouteKind,
    /// What it wants to be attached to.
    pub parents: Vec<Parent>,
    /// What it says. `None`: it could not be understood, and is attached to nothing.
    pub rules: Option<RouteRules>,
    /// Why it could not be understood, by field.
    pub refused: Vec<Str>,
    /// What of it does not work as its author hopes.
    pub remarks: Vec<Remark>,
    /// Fields that mean nothing where its parents are services.
    pub unheeded: Vec<Str>,
}

/// The kinds of routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RouteKind {
    /// HTTPRoute.
    Http,
    /// GRPCRoute.
    Grpc,
    /// TCPRoute.
    Tcp,
    /// TLSRoute.
    Tls,
}

impl RouteKind {
    /// The kind of fact it is.
    pub fn of_fact(self) -> Kind {
        match self {
            Self::Http => Kind::HTTPRoute,
            Self::Grpc => Kind::GRPCRoute,
            Self::Tcp => Kind::TCPRoute,
            Self::Tls => Kind::TLSRoute,
        }
    }
}

/// What a route says.
#[derive(Clone, Debug, PartialEq)]
pub enum RouteRules {
    /// Of requests.
    Http(Vec<HttpRule>),
    /// Of connections.
    Stream {
        /// Server names it is for; empty: any, and none.
        server_names: Vec<Str>,
        /// Where to, by weight.
        backends: Vec<(Destination, u32)>,
    },
}

/// What a route wants to be attached to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parent {
    /// What.
    pub target: ParentTarget,
    /// Only this port of it.
    pub port: Option<u16>,
    /// Only the port of this name.
    pub section: Option<Str>,
}

/// What routes and policies attach to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ParentTarget {
    /// A Service.
    Service {
        /// Its namespace.
        namespace: Str,
        /// Its name.
        name: Str,
    },
    /// A ServiceEntry: each of its hosts.
    ServiceEntry {
        /// Its namespace.
        namespace: Str,
        /// Its name.
        name: Str,
    },
    /// A Gateway.
    Gateway {
        /// Its namespace.
        namespace: Str,
        /// Its name.
        name: Str,
    },
    /// Something that nothing is attached to here, as its author wrote it.
    Other(Str),
}

impl Parent {
    /// As conditions name it: `Service/shop/web`, and `:80` or `:http` for a part of it.
    pub fn text(&self) -> Str {
        let part = match (&self.section, self.port) {
            (Some(section), Some(port)) => format!(":{section}:{port}"),
            (Some(section), None) => format!(":{section}"),
            (None, Some(port)) => format!(":{port}"),
            (None, None) => String::new(),
        };
        format!("{}{part}", self.target).into()
    }
}

impl std::fmt::Display for ParentTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Service { namespace, name } => write!(f, "Service/{namespace}/{name}"),
            Self::ServiceEntry { namespace, name } => write!(f, "ServiceEntry/{namespace}/{name}"),
            Self::Gateway { namespace, name } => write!(f, "Gateway/{namespace}/{name}"),
            Self::Other(text) => text.fmt(f),
        }
    }
}

/// Something that was understood and does not work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// The condition that is false for it: `Accepted`, `ResolvedRefs`.
    pub condition: &'static str,
    /// The condition's reason.
    pub reason: &'static str,
    /// The field, what is wrong with it, and what is done instead.
    pub message: Str,
}

/// A ReferenceGrant: who of other namespaces may point to objects of this one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReferenceGrant {
    /// Name and namespace.
    pub meta: Meta,
    /// Who: (group, kind, namespace).
    pub from: Vec<(Str, Str, Str)>,
    /// What: (group, kind, name; none: each).
    pub to: Vec<(Str, Str, Option<Str>)>,
}

impl ReferenceGrant {
    /// Whether it lets an object of a kind in a namespace point to something of its own namespace.
    pub fn permits(&self, from: (&str, &str, &str), to: (&str, &str, &str)) -> bool {
        let from = self.from.iter().any(|(group, kind, namespace)| (&**group, &**kind, &**namespace) == from);
        let named = |name: &Option<Str>| name.as_deref().is_none_or(|name| name == to.2);
        from && self.to.iter().any(|(group, kind, name)| (&**group, &**kind) == (to.0, to.1) && named(name))
    }
}

/// A BackendTLSPolicy: TLS from the waypoint to the endpoints of a service.
#[derive(Clone, Debug, PartialEq)]
pub struct BackendTlsPolicy {
    /// Name and age.
    pub meta: Meta,
    /// The services, or ports of them.
    pub targets: Vec<Parent>,
    /// The name in the handshake.
    pub hostname: Str,
    /// Names of which the certificate must have one; empty: `hostname`.
    pub subject_alt_names: Vec<Str>,
    /// Whom to believe.
    pub authorities: Authorities,
    /// Why it could not be understood, by field; then it lets no connection come about.
    pub refused: Vec<Str>,
    /// What of it does not work as its author hopes.
    pub remarks: Vec<Remark>,
}

/// Whom a [`BackendTlsPolicy`] believes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authorities {
    /// The certificate authorities of the system.
    System,
    /// Those under `ca.crt` of these ConfigMaps of its namespace.
    ConfigMaps(Vec<Str>),
    /// None that we know.
    Unknown,
}

/// An XBackendTrafficPolicy: how many of the requests to a service may be further tries.
#[derive(Clone, Debug, PartialEq)]
pub struct BackendTrafficPolicy {
    /// Name and age.
    pub meta: Meta,
    /// The services.
    pub targets: Vec<Parent>,
    /// How many; none: it says nothing of it.
    pub retry_budget: Option<RetryBudget>,
    /// Why it could not be understood, by field; then it says nothing.
    pub refused: Vec<Str>,
    /// What of it does not work as its author hopes.
    pub remarks: Vec<Remark>,
}

/// A ConfigMap; of its entries only those under keys that somebody here asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigMap {
    /// Name and namespace.
    pub meta: Meta,
    /// Key → text.
    pub entries: BTreeMap<Str, Str>,
}
