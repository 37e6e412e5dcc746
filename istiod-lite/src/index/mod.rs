//! From facts to what proxies are told.
//!
//! The index remembers what it was told and what it has published. A fact marks what depends on
//! it; only that is built again, and only differences come out. What it has published depends on
//! the facts that hold, never on the order in which they came. Nothing here waits, logs or reads a
//! clock.

use crate::facts::{Fact, PodLookup, PodRecord};
use mesh::{Change, Policy, Service, Str, Workload};
use std::sync::Arc;

/// What the index must know of the mesh as a whole.
#[derive(Clone, Debug)]
pub struct Mesh {
    /// Name of this cluster: `Kubernetes`.
    pub cluster_id: Str,
    /// Trust domain of its identities: `cluster.local`.
    pub trust_domain: Str,
    /// DNS domain of its services: `cluster.local`.
    pub domain: Str,
    /// The namespace whose policies are for the whole mesh: `istio-system`.
    pub root_namespace: Str,
}

impl Default for Mesh {
    fn default() -> Self {
        Self {
            cluster_id: "Kubernetes".into(),
            trust_domain: mesh::identity::DEFAULT_TRUST_DOMAIN.into(),
            domain: "cluster.local".into(),
            root_namespace: "istio-system".into(),
        }
    }
}

/// Everything that was told, and everything that is published.
#[derive(Debug)]
pub struct Index {}

impl Index {
    /// An index that knows nothing yet.
    pub fn new(mesh: Mesh) -> Self {
        let _ = mesh;
        todo!("index")
    }

    /// Takes one fact; what changes for proxies comes out.
    pub fn apply(&mut self, fact: Fact) -> Vec<Change> {
        let _ = fact;
        todo!("index")
    }

    /// Every workload that is published.
    pub fn workloads(&self) -> impl Iterator<Item = &Arc<Workload>> {
        std::iter::empty()
    }

    /// Every service that is published.
    pub fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        std::iter::empty()
    }

    /// Every policy that is published.
    pub fn policies(&self) -> impl Iterator<Item = &Arc<Policy>> {
        std::iter::empty()
    }
}

impl PodLookup for Index {
    fn pod(&self, namespace: &str, name: &str) -> Option<PodRecord> {
        let _ = (namespace, name);
        todo!("index")
    }

    fn runs_on(&self, node: &str, namespace: &str, service_account: &str) -> bool {
        let _ = (node, namespace, service_account);
        todo!("index")
    }
}
