//! From facts to what proxies are told.
//!
//! The index remembers what it was told ([`told`]) and what it has published. A fact marks what
//! depends on it ([`mark`]); only that is built again ([`build`]), and only differences come out.
//! What is published depends on the facts that hold, never on the order in which they came, but
//! for a policy that cannot be read: there the last good version stays. Nothing here waits, logs
//! or reads a clock.
//!
//! Rooms: `labels` (selectors, both ways) · `told` · `mark` · `build` · `difference` · `services`, `workloads`,
//! `policies` (one object each, plain functions) · `rules` (what waypoints do with requests) · `vips`
//! (addresses for services without) · `gateways`, `naming`, `binding` (which waypoint stands before
//! what) · `guard` (that it cannot be gone around) · `deployed` (the Service made for a Gateway).

mod binding;
mod build;
mod deployed;
mod difference;
mod gateways;
mod guard;
mod labels;
mod mark;
mod naming;
mod policies;
mod rules;
mod services;
mod told;
mod vips;
mod workloads;

use crate::facts::{Condition, Fact, FactKey, Meta, PodLookup, PodRecord, PolicyCondition};
use binding::{Binding, Waypoint};
use guard::{Guard, Guarded, Guards};
use litemap::LiteMap;
use mesh::{Policy, Service, ServiceKey, Str, Workload};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use told::{Name, Owner, Source, Told};
use xds::server::Publication;

pub(crate) use rules::without_destinations;

pub use deployed::{DeployedService, Served};

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
    /// What is behind a waypoint may be called around it, where nothing nearer says.
    pub allow_around_waypoint: bool,
}

impl Default for Mesh {
    fn default() -> Self {
        Self {
            cluster_id: "Kubernetes".into(),
            trust_domain: mesh::identity::DEFAULT_TRUST_DOMAIN.into(),
            domain: "cluster.local".into(),
            root_namespace: "istio-system".into(),
            allow_around_waypoint: false,
        }
    }
}

/// By which of several that publish one hostname is decided: a `Service`, then the oldest.
type Rank = (bool, (bool, Option<Str>, Str));

/// Everything that was told, and everything that is published.
#[derive(Debug, Default)]
pub struct Index {
    mesh: Mesh,
    told: Told,
    /// Objects of which only the closed reading is known.
    closed: BTreeSet<FactKey>,
    /// Who would publish a service; the first does.
    claims: BTreeMap<ServiceKey, LiteMap<Rank, Source>>,
    /// Of those that do, who would own the hostname; the first does.
    hosts: BTreeMap<Str, LiteMap<(Rank, Str), ServiceKey>>,
    winners: BTreeMap<ServiceKey, (Rank, Source)>,
    vips: vips::Vips,
    /// Gateways that are waypoints, as they are now.
    waypoints: BTreeMap<Name, Waypoint>,
    bindings: BTreeMap<Source, Binding>,
    guarded: Guarded,
    /// Uid → what guards the workload, if anything does.
    guards: BTreeMap<Str, Guards>,
    services: BTreeMap<ServiceKey, Arc<Service>>,
    workloads: BTreeMap<Owner, LiteMap<Str, Arc<Workload>>>,
    policies: BTreeMap<Str, Arc<Policy>>,
    /// What became of each object, of those of which there is something to say.
    conditions: BTreeMap<FactKey, Vec<Condition>>,
    /// What waypoints do with requests.
    rules: rules::Rules,
    /// What is to be built again.
    marked: Marked,
}

#[derive(Debug, Default)]
struct Marked {
    /// Bound again, and then what they publish.
    sources: BTreeSet<Source>,
    services: BTreeSet<ServiceKey>,
    owners: BTreeSet<Owner>,
    policies: BTreeSet<Str>,
    guards: BTreeSet<Guard>,
}

impl Index {
    /// An index that knows nothing yet.
    pub fn new(mesh: Mesh) -> Self {
        Self { mesh, ..Self::default() }
    }

    /// Takes one fact; what changes for proxies comes out: new things before what refers to them,
    /// removals last.
    pub fn apply(&mut self, fact: Fact) -> Vec<Publication> {
        match fact {
            Fact::Otherwise(fact) => {
                let key = fact.key();
                self.refuse(&key, fact.refused());
                if !self.told.knows(&key) || self.closed.contains(&key) {
                    self.closed.insert(key);
                    self.tell(*fact);
                }
            }
            fact => {
                let key = fact.key();
                self.closed.remove(&key);
                self.refuse(&key, &[]);
                self.tell(fact);
            }
        }
        self.settle()
    }

    /// Every workload that is published.
    pub fn workloads(&self) -> impl Iterator<Item = &Arc<Workload>> {
        self.workloads.values().flat_map(LiteMap::values)
    }

    /// Every service that is published.
    pub fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.services.values()
    }

    /// Every policy that is published.
    pub fn policies(&self) -> impl Iterator<Item = &Arc<Policy>> {
        self.policies.values()
    }

    /// What became of each object, of those of which there is something to say.
    pub fn conditions(&self) -> impl Iterator<Item = (&FactKey, &[Condition])> {
        self.conditions.iter().map(|(key, conditions)| (key, conditions.as_slice()))
    }

    /// Says what became of an object, in the place of what was said before. They go with the object.
    pub(crate) fn set_conditions(&mut self, key: FactKey, conditions: Vec<Condition>) {
        match conditions.is_empty() {
            true => drop(self.conditions.remove(&key)),
            false => drop(self.conditions.insert(key, conditions)),
        }
    }

    /// What node proxies make of the authorization policies that were told.
    pub fn policy_conditions(&self) -> impl Iterator<Item = (&Meta, PolicyCondition)> {
        self.told.authorization.values().map(|policy| (&policy.meta, policy.condition()))
    }

    /// The network that everything without a network of its own is on.
    fn network(&self) -> Str {
        let root = self.told.namespace(&self.mesh.root_namespace);
        root.and_then(|root| root.meta.labels.get("topology.istio.io/network")).cloned().unwrap_or_default()
    }
}

impl PodLookup for Index {
    fn pod(&self, namespace: &str, name: &str) -> Option<PodRecord> {
        let pod = self.told.pods.get(&(Str::from(namespace), Str::from(name)))?;
        let (uid, service_account) = (pod.uid.clone(), pod.service_account.clone());
        Some(PodRecord { uid, service_account, node: pod.node.clone() })
    }

    fn runs_on(&self, node: &str, namespace: &str, service_account: &str) -> bool {
        let key = (Str::from(node), Str::from(namespace), Str::from(service_account));
        self.told.accounts.contains_key(&key)
    }
}

#[cfg(test)]
mod tests;
