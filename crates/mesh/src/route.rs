//! What a waypoint does with requests: one model that Gateway API, Istio's traffic and security
//! kinds and our own `TrafficPolicy` all become.
//!
//! The control plane resolves names, ages, attachments and defaults; what is here says what to do
//! and nothing of how it was asked for, but the name under which a log line can point at it. A
//! waypoint holds one [`ServiceRules`] for each service that it serves or sends to, and one
//! [`GatewayRules`] for itself.
//!
//! Reading order: [`http`] (matches, filters, rules) · [`text`] (how texts are compared) ·
//! [`stream`] (what is not HTTP) · [`traffic`] (how a destination is reached) · [`limit`] (rate
//! limits and faults) · [`guard`] (who may ask) · [`telemetry`] (what is told of it) · [`compile`]
//! (rules checked once and made ready to be asked).
//!
//! And what is decided by them: [`normal`] and [`head`] (what is known of a request) ·
//! [`Compiled::select`] (which rule it takes) · [`rewrite`], [`edit`], [`cors`] (what becomes of it
//! and its response) · [`chance`] (shares) · [`retry`] · [`key`], [`hash`], [`session`] (what it is
//! counted under, and where it goes) · [`expression`] (whether the log tells of it). Whether it may
//! pass at all: [`crate::authz::judge`].

#[cfg(test)]
pub(crate) mod asking;
pub mod chance;
mod check;
pub mod compile;
pub mod cors;
pub mod edit;
pub mod expression;
pub mod guard;
pub mod hash;
pub mod head;
pub mod http;
mod index;
pub mod key;
pub mod limit;
mod matcher;
pub mod normal;
pub mod retry;
pub mod rewrite;
pub mod session;
pub mod stream;
pub mod telemetry;
pub mod text;
pub mod traffic;

pub use compile::{Compiled, CompiledGateway, Hit, Selected, Unusable};
pub use guard::Guards;
pub use head::Head;
pub use http::{Backend, Destination, HttpRoute, HttpRule};
pub use limit::{Fault, RateLimit};
pub use stream::StreamRoute;
pub use telemetry::Telemetry;
pub use traffic::{Subset, Traffic};

use crate::{ServiceKey, Str};

/// Everything a waypoint must know of one service beyond its addresses and endpoints: how to serve
/// it, and how to send to it.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceRules {
    /// The service.
    pub service: ServiceKey,
    /// Routes of HTTP requests, in no order: [`http`] says which one wins.
    pub http: Vec<HttpRoute>,
    /// Routes of TLS connections that are passed through, in the order in which they are tried.
    pub tls: Vec<StreamRoute>,
    /// Routes of other connections, in the order in which they are tried.
    pub tcp: Vec<StreamRoute>,
    /// Who may ask.
    pub guards: Guards,
    /// Limits for the whole service.
    pub limits: Vec<RateLimit>,
    /// Faults for the whole service; those of a rule are tried instead where it has any.
    pub faults: Vec<Fault>,
    /// How it is reached; the entry of a port beats the one without.
    pub traffic: Vec<Traffic>,
    /// Named parts of its endpoints.
    pub subsets: Vec<Subset>,
    /// What is told of its requests.
    pub telemetry: Telemetry,
}

impl ServiceRules {
    /// Rules that say nothing.
    pub fn of(service: ServiceKey) -> Self {
        Self {
            service,
            http: Vec::new(),
            tls: Vec::new(),
            tcp: Vec::new(),
            guards: Guards::default(),
            limits: Vec::new(),
            faults: Vec::new(),
            traffic: Vec::new(),
            subsets: Vec::new(),
            telemetry: Telemetry::default(),
        }
    }

    /// How the service is reached on a port.
    pub fn traffic(&self, port: u16) -> Option<&Traffic> {
        let of = |wanted: Option<u16>| self.traffic.iter().find(move |traffic| traffic.port == wanted);
        of(Some(port)).or_else(|| of(None))
    }

    /// A named part of the endpoints.
    pub fn subset(&self, name: &str) -> Option<&Subset> {
        self.subsets.iter().find(|subset| *subset.name == *name)
    }
}

/// What concerns a waypoint as a whole, whichever service is asked.
#[derive(Clone, Debug, PartialEq)]
pub struct GatewayRules {
    /// Namespace of the Gateway.
    pub namespace: Str,
    /// Name of the Gateway.
    pub name: Str,
    /// Who may ask for anything behind it.
    pub guards: Guards,
    /// Limits for all requests together.
    pub limits: Vec<RateLimit>,
    /// Faults for all requests; those of a service or rule are tried instead where it has any.
    pub faults: Vec<Fault>,
    /// What is told of requests, where the service says nothing.
    pub telemetry: Telemetry,
    /// Callers' identities go upstream as `x-forwarded-client-cert`.
    pub forward_client_identity: bool,
}

impl GatewayRules {
    /// Rules that say nothing.
    pub fn of(namespace: Str, name: Str) -> Self {
        Self {
            namespace,
            name,
            guards: Guards::default(),
            limits: Vec::new(),
            faults: Vec::new(),
            telemetry: Telemetry::default(),
            forward_client_identity: false,
        }
    }

    /// `namespace/name`, the name of its resource.
    pub fn key(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}
