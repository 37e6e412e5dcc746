//! Which way a connection takes that is not read as HTTP.

use super::Destination;
use crate::Str;

/// One route of connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamRoute {
    /// `Kind/namespace/name`, for logs and the config dump.
    pub name: Str,
    /// Ports of the service it is for; empty: all.
    pub ports: Vec<u16>,
    /// It is only for callers of this namespace.
    pub callers: Option<Str>,
    /// Server names (SNI) it is for, exact or `*.suffix`; empty: all, and connections without one.
    pub server_names: Vec<Str>,
    /// Where to, by weight. None at all, or no weight: the connection is closed.
    pub backends: Vec<(Destination, u32)>,
}
