//! What a process knows of the mesh at one instant: immutable, replaced whole, read without locks.
//!
//! Replacing costs what changed, not what is there: indexes are [`crate::shards`].

use crate::{Policy, Service, ServiceKey, Workload, balance::Endpoint};
use std::{net::IpAddr, sync::Arc};

/// One addition or removal that turns a [`View`] into the next.
#[derive(Clone, Debug)]
pub enum Change {
    /// A workload is new or different.
    Workload(Arc<Workload>),
    /// A service is new or different. Its endpoints stay.
    Service(Arc<Service>),
    /// A policy is new or different.
    Policy(Arc<Policy>),
    /// A name of the address type is gone: tried as a workload's uid, then as a service's key.
    RemoveAddress(crate::Str),
    /// A policy (`namespace/name`) is gone.
    RemovePolicy(crate::Str),
}

/// What this process knows of the mesh.
#[derive(Clone, Debug, Default)]
pub struct View {}

impl View {
    /// The view after `changes`, in order.
    #[must_use]
    pub fn apply(&self, changes: impl IntoIterator<Item = Change>) -> Self {
        let _ = changes.into_iter();
        todo!("mesh room")
    }

    /// Rises by one with each `apply` that changed something.
    pub fn version(&self) -> u64 {
        todo!("mesh room")
    }

    /// Rises by one with each `apply` that changed a policy or a workload's list of policies.
    pub fn policy_version(&self) -> u64 {
        todo!("mesh room")
    }

    /// A workload by uid.
    pub fn workload(&self, uid: &str) -> Option<&Arc<Workload>> {
        let _ = uid;
        todo!("mesh room")
    }

    /// The workload that has an address on a network. Host-network workloads are not found this way.
    /// When two claim it, a pod wins, then one that speaks HBONE, then the smaller uid.
    pub fn workload_by_address(&self, network: &str, address: IpAddr) -> Option<&Arc<Workload>> {
        let _ = (network, address);
        todo!("mesh room")
    }

    /// The workload of a pod, by what the node agent tells of it.
    pub fn workload_of_pod(&self, namespace: &str, name: &str, service_account: &str) -> Option<&Arc<Workload>> {
        let _ = (namespace, name, service_account);
        todo!("mesh room")
    }

    /// A service by key.
    pub fn service(&self, key: &ServiceKey) -> Option<&Arc<Service>> {
        let _ = key;
        todo!("mesh room")
    }

    /// The service that an address stands for, as seen from `from_namespace`: an exact VIP before the
    /// longest range; of several the caller's own namespace, then the canonical one, then the smaller key.
    pub fn service_by_vip(&self, network: &str, vip: IpAddr, from_namespace: &str) -> Option<&Arc<Service>> {
        let _ = (network, vip, from_namespace);
        todo!("mesh room")
    }

    /// The service of a hostname, as seen from `from_namespace`, with the same order of preference.
    pub fn service_by_hostname(&self, hostname: &str, from_namespace: &str) -> Option<&Arc<Service>> {
        let _ = (hostname, from_namespace);
        todo!("mesh room")
    }

    /// The workloads behind a service, in an order that depends on the content only.
    pub fn endpoints<'a>(&'a self, key: &ServiceKey) -> impl Iterator<Item = Endpoint<'a>> + use<'a> {
        let _ = key;
        std::iter::empty()
    }

    /// The policies for a workload: global, of its namespace, and the ones it names.
    pub fn policies_for<'a>(&'a self, workload: &'a Workload) -> impl Iterator<Item = &'a Arc<Policy>> + use<'a> {
        let _ = workload;
        std::iter::empty()
    }

    /// Every workload, in no order.
    pub fn workloads(&self) -> impl Iterator<Item = &Arc<Workload>> {
        std::iter::empty()
    }

    /// Every service, in no order.
    pub fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        std::iter::empty()
    }

    /// Every policy, in no order.
    pub fn policies(&self) -> impl Iterator<Item = &Arc<Policy>> {
        std::iter::empty()
    }
}
