//! May this caller have a certificate of that identity? Pure: everything that is known comes in.
//!
//! A caller may have its own. Only the accounts of node proxies may have another's, and only one
//! that has a pod on the very node on which the caller's own pod runs, as we know it; what the
//! token or the request says of nodes is never asked.

use crate::{authn::Caller, facts::PodLookup};
use mesh::Identity;

/// Who may ask for others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Namespace and service account of the node proxies; by default those of ztunnel.
    pub trusted_node_accounts: Vec<(String, String)>,
}

impl Default for Policy {
    fn default() -> Self {
        Self { trusted_node_accounts: vec![("istio-system".into(), "ztunnel".into())] }
    }
}

/// Why a caller does not get what it asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// It asks for another and is no node proxy.
    #[error("{0} is no trusted node account and may only have its own certificate")]
    NotTrusted(Identity),
    /// It asks for something that is no identity.
    #[error("the requested identity is none: {0}")]
    NoIdentity(#[from] mesh::identity::IdentityError),
    /// It asks for an identity of another mesh.
    #[error("{requested} is not of trust domain {ours}")]
    TrustDomain {
        /// What it asked for.
        requested: Identity,
        /// Ours.
        ours: String,
    },
    /// Its token names no pod, so nobody knows its node.
    #[error("the token of {0} is not bound to a pod")]
    Unbound(Identity),
    /// The pod of its token is not there, or is another one, or runs as somebody else.
    #[error("the caller's pod {0} is not there as its token says")]
    PodGone(String),
    /// Its pod is on no node yet.
    #[error("the caller's pod {0} is on no node")]
    NoNode(String),
    /// Nobody on its node is who it asks for.
    #[error("no pod of {requested} is on node {node}")]
    NotOnNode {
        /// What it asked for.
        requested: Identity,
        /// The caller's node.
        node: String,
    },
}

/// Which identity the caller gets a certificate for; `requested` is what it asked for, if it asked.
pub fn decide(
    policy: &Policy,
    caller: &Caller,
    requested: Option<&str>,
    pods: &dyn PodLookup,
) -> Result<Identity, Denied> {
    let Some(requested) = requested else { return Ok(caller.identity.clone()) };
    let own = &caller.identity;
    let trusted =
        |(namespace, name): &(String, String)| **namespace == **own.namespace() && **name == **own.service_account();
    if !policy.trusted_node_accounts.iter().any(trusted) {
        return Err(Denied::NotTrusted(own.clone()));
    }
    let requested: Identity = requested.parse()?;
    if requested.trust_domain() != own.trust_domain() {
        return Err(Denied::TrustDomain { requested, ours: own.trust_domain().to_string() });
    }
    let bound = caller.pod.as_ref().ok_or_else(|| Denied::Unbound(own.clone()))?;
    let name = || format!("{}/{}", own.namespace(), bound.name);
    let pod = pods.pod(own.namespace(), &bound.name).ok_or_else(|| Denied::PodGone(name()))?;
    if *pod.uid != *bound.uid || pod.service_account != *own.service_account() {
        return Err(Denied::PodGone(name()));
    }
    if pod.node.is_empty() {
        return Err(Denied::NoNode(name()));
    }
    if pods.runs_on(&pod.node, requested.namespace(), requested.service_account()) {
        Ok(requested)
    } else {
        Err(Denied::NotOnNode { requested, node: pod.node.to_string() })
    }
}

#[cfg(test)]
mod tests;
