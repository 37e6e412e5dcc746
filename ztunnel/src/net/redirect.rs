//! The rules inside a pod that lead its TCP to the proxy.
//!
//! With the rules in place and no proxy listening, the pod's connections are
//! refused: they are led to closed ports. Nothing here ever opens a way
//! around the proxy, and nothing here needs a program to be installed.

use super::netns::Netns;

/// How one pod is to be redirected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    /// Lead DNS (UDP and TCP port 53) to the proxy as well.
    pub dns: bool,
    /// Lead inbound connections to the proxy (off with
    /// `ambient.istio.io/bypass-inbound-capture`).
    pub inbound: bool,
    /// Interfaces whose inbound is somebody's outbound, such as those of
    /// virtual machines (`istio.io/reroute-virtual-interfaces`).
    pub reroute_interfaces: Vec<String>,
}

impl Default for Redirect {
    fn default() -> Self {
        Self { dns: true, inbound: true, reroute_interfaces: Vec::new() }
    }
}

/// What [`verify`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Everything is as it should be.
    InPlace,
    /// Nothing of it is there.
    Absent,
    /// Something differs; what, for the log.
    Changed(String),
}

/// Why a pod's redirection could not be set, read or removed.
#[derive(Debug, thiserror::Error)]
pub enum RedirectError {
    /// The namespace could not be entered.
    #[error("cannot enter the pod's network namespace, is CAP_SYS_ADMIN missing or the pod gone")]
    Enter(#[source] std::io::Error),
    /// The kernel refused the rules.
    #[error("the kernel refused the redirection rules, does it have nf_tables with nat, and is CAP_NET_ADMIN there")]
    Rules(#[source] std::io::Error),
    /// The kernel refused the policy route.
    #[error("the kernel refused the policy route of marked packets")]
    PolicyRoute(#[source] std::io::Error),
}

/// Puts the redirection in place, replacing an older one in one step. There
/// is no moment without rules. Applying twice is the same as once.
pub fn apply(_netns: &Netns, _redirect: &Redirect) -> Result<(), RedirectError> {
    todo!()
}

/// Reads the rules back from the kernel and compares them.
pub fn verify(_netns: &Netns, _redirect: &Redirect) -> Result<Standing, RedirectError> {
    todo!()
}

/// Takes the redirection away. Fine when there is none.
pub fn remove(_netns: &Netns) -> Result<(), RedirectError> {
    todo!()
}
