//! The endpoints of a destination by one view, with everything that is decided once for all of them.

use std::sync::{Arc, OnceLock};

use mesh::route::hash::Table;
use mesh::route::traffic::{HashAlgorithm, Traffic};
use mesh::service::AppProtocol;
use mesh::{Service, Str, Workload};

use super::cluster::ClusterKey;
use super::hosts::{Host, Load, Place};
use super::origination::Origination;
use crate::budget::Most;

/// The endpoints of a destination by one view, and how they are reached.
pub struct Hosts {
    /// Version of the view.
    pub(super) version: u64,
    /// The service.
    pub service: Arc<Service>,
    /// How it is reached.
    pub traffic: Arc<Traffic>,
    /// Its limits.
    pub most: Most,
    /// What is spoken on its port.
    pub protocol: AppProtocol,
    /// Its endpoints.
    pub all: Vec<Arc<Host>>,
    /// Those as near as each other, the nearest first: places in `all`.
    pub tiers: Vec<Vec<usize>>,
    /// TLS of our own.
    pub origination: Option<Arc<Origination>>,
    pub(super) table: OnceLock<Table>,
}

impl Hosts {
    /// A workload alone.
    pub(super) fn of_workload(workload: &Arc<Workload>, place: Place, key: &ClusterKey) -> Self {
        let host = Host {
            workload: Some(workload.clone()),
            uid: workload.uid.clone(),
            place,
            weight: 1,
            rank: 0,
            share: None,
            load: Arc::new(Load::new(None)),
            tally: Arc::default(),
            told: OnceLock::new(),
        };
        let traffic = Traffic::default();
        Self {
            version: 0,
            service: Arc::new(Service::named(&workload.namespace, &key.service.hostname)),
            most: Most::of(&traffic.pool, None),
            traffic: Arc::new(traffic),
            protocol: AppProtocol::Unknown,
            all: vec![Arc::new(host)],
            tiers: vec![vec![0]],
            origination: None,
            table: OnceLock::new(),
        }
    }

    /// How keys are spread over the endpoints, made when it is first asked for.
    pub fn table(&self, algorithm: HashAlgorithm) -> &Table {
        self.table.get_or_init(|| {
            let weights: Vec<(Str, u32)> = self.all.iter().map(|host| (host.uid.clone(), host.weight)).collect();
            Table::new(&weights, algorithm)
        })
    }
}

/// Places of endpoints as near as each other, the nearest first.
pub(super) fn tiers(all: &[Arc<Host>]) -> Vec<Vec<usize>> {
    let mut by_rank: std::collections::BTreeMap<usize, Vec<usize>> = Default::default();
    for (at, host) in all.iter().enumerate() {
        by_rank.entry(host.rank).or_default().push(at);
    }
    by_rank.into_values().rev().collect()
}
