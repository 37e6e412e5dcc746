//! What a policy is attached to.

use mesh::Str;
use std::fmt;

/// Something that a policy is attached to (`targetRefs`), in the policy's own namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target {
    /// Its kind.
    pub kind: TargetKind,
    /// Its name.
    pub name: Str,
    /// Only this part of it: the name of a port or of a rule.
    pub section: Option<Str>,
}

/// The kinds that policies are attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TargetKind {
    /// v1 Service.
    Service,
    /// networking.istio.io ServiceEntry.
    ServiceEntry,
    /// gateway.networking.k8s.io Gateway.
    Gateway,
    /// gateway.networking.k8s.io GatewayClass; only from the root namespace.
    GatewayClass,
    /// gateway.networking.k8s.io HTTPRoute.
    HttpRoute,
    /// gateway.networking.k8s.io GRPCRoute.
    GrpcRoute,
}

impl TargetKind {
    /// How Kubernetes calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Service => "Service",
            Self::ServiceEntry => "ServiceEntry",
            Self::Gateway => "Gateway",
            Self::GatewayClass => "GatewayClass",
            Self::HttpRoute => "HTTPRoute",
            Self::GrpcRoute => "GRPCRoute",
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind.name(), self.name)?;
        match &self.section {
            Some(section) => write!(f, "#{section}"),
            None => Ok(()),
        }
    }
}
