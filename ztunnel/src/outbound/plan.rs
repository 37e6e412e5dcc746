//! Where a captured connection goes, and through what; or why nowhere. Pure.

use std::net::SocketAddr;

use mesh::identity::IdentityError;
use mesh::{ServiceKey, Str};

/// Why a connection of a pod goes nowhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reject {
    /// It is meant for one of our own listeners, and would come back to us.
    #[error("{0} is a port of the proxy itself")]
    SelfCall(SocketAddr),
    /// The control plane did not tell of the pod that sends.
    #[error("the pod that sends is not known to the control plane")]
    UnknownSource,
    /// A waypoint is configured, and none can take the connection. It does not go around it.
    #[error("no usable endpoint of waypoint {0}")]
    NoWaypoint(String),
    /// No endpoint of the service can take the connection.
    #[error("no healthy endpoint of {0}")]
    NoEndpoint(ServiceKey),
    /// The endpoint is on another network, which this proxy has no way to.
    #[error("workload {workload} is on network {network:?}, which cannot be reached from here")]
    OtherNetwork {
        /// Its uid.
        workload: Str,
        /// Its network.
        network: Str,
    },
    /// The endpoint has neither an address nor a name.
    #[error("workload {0} has no address")]
    NoAddress(Str),
    /// The control plane describes an endpoint whose identity is none.
    #[error("workload {workload} cannot be told from others: {source}")]
    BadIdentity {
        /// Its uid.
        workload: Str,
        /// What is wrong.
        source: IdentityError,
    },
}
