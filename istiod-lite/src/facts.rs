//! What Kubernetes, or a file, told us, in our words.
//!
//! A [`Fact`] says how one object is now, or that it is gone. Where it came from, and how it was
//! spelled there, is not known behind this line.

use mesh::Str;

/// What the certificate authority asks about pods before it gives a node proxy somebody else's certificate.
pub trait PodLookup: Send + Sync {
    /// A pod by name.
    fn pod(&self, namespace: &str, name: &str) -> Option<PodRecord>;
    /// Whether a pod of this service account is on the node (phase other than `Failed`).
    fn runs_on(&self, node: &str, namespace: &str, service_account: &str) -> bool;
}

/// What [`PodLookup`] knows of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodRecord {
    /// `metadata.uid`.
    pub uid: Str,
    /// Its service account.
    pub service_account: Str,
    /// The node it is on; empty when it is on none yet.
    pub node: Str,
}
