//! Whether a connection may come in, and where it goes; or why not. Pure.

use std::net::{IpAddr, SocketAddr};

use hbone::head::{Authority, BadConnect};
use http::StatusCode;
use mesh::authz::Verdict;

/// Why a connection may not come in.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Reject {
    /// It is no proper CONNECT.
    #[error(transparent)]
    BadConnect(#[from] BadConnect),
    /// The control plane did not tell of the pod that is called.
    #[error("the pod that is called is not known to the control plane")]
    UnknownDestination,
    /// The tunnel asks for somebody else's address.
    #[error("the tunnel asks for {asked}, but it ended at {reached}")]
    OtherAddress {
        /// What it asked for.
        asked: SocketAddr,
        /// Whose listener it came to.
        reached: IpAddr,
    },
    /// The tunnel asks for a service that this pod is no part of.
    #[error("{0} is not served by this pod")]
    NoSuchService(Authority),
    /// The port is one of the proxy itself.
    #[error("{0} is a port of the proxy itself")]
    SelfCall(SocketAddr),
    /// Policy says no.
    #[error("connection closed due to policy rejection: {}", reason(.0))]
    Denied(Box<Verdict>),
}

impl Reject {
    /// What the sender of a CONNECT is told.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::BadConnect(_) | Self::OtherAddress { .. } => StatusCode::BAD_REQUEST,
            Self::Denied(_) => StatusCode::UNAUTHORIZED,
            Self::UnknownDestination | Self::NoSuchService(_) | Self::SelfCall(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

fn reason(verdict: &Verdict) -> String {
    use mesh::authz::Reason;
    match &verdict.reason {
        Reason::DeniedBy(policy) => format!("explicitly denied by {}", policy.key()),
        Reason::NothingAllows => "allow policies exist, but none allowed".into(),
        Reason::AllowedBy(policy) => format!("allowed by {}", policy.key()),
        Reason::NoPolicy => "no policy".into(),
    }
}
