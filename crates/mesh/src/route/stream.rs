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

impl StreamRoute {
    /// Whether it is for a connection.
    pub fn takes(&self, port: u16, caller_namespace: Option<&str>, server_name: Option<&str>) -> bool {
        let named = |wanted: &Str| server_name.is_some_and(|found| is_name(wanted, found));
        (self.ports.is_empty() || self.ports.contains(&port))
            && self.callers.as_deref().is_none_or(|wanted| caller_namespace == Some(wanted))
            && (self.server_names.is_empty() || self.server_names.iter().any(named))
    }

    /// Where a connection goes, by a throw of a die with 2^64 faces; none: it is closed.
    pub fn destination(&self, throw: u64) -> Option<&Destination> {
        let weights = self.backends.iter().map(|(_, weight)| *weight);
        super::chance::weighted(weights, throw).map(|at| &self.backends[at].0)
    }
}

/// The first route for a connection. Those for the caller's own namespace come first.
pub fn select<'a>(
    routes: &'a [StreamRoute],
    port: u16,
    caller_namespace: Option<&str>,
    server_name: Option<&str>,
) -> Option<&'a StreamRoute> {
    let taking = |route: &&StreamRoute| route.takes(port, caller_namespace, server_name);
    let mut own = routes.iter().filter(|route| route.callers.is_some());
    own.find(taking).or_else(|| routes.iter().find(taking))
}

/// `*.example.com` stands for every name below, not for `example.com`.
fn is_name(wanted: &str, found: &str) -> bool {
    let found = found.strip_suffix('.').unwrap_or(found);
    match wanted.strip_prefix('*') {
        Some(suffix) => {
            let at = found.len().checked_sub(suffix.len()).filter(|at| *at > 0);
            at.and_then(|at| found.get(at..)).is_some_and(|end| end.eq_ignore_ascii_case(suffix))
        }
        None => wanted.eq_ignore_ascii_case(found),
    }
}

#[cfg(test)]
mod tests;
