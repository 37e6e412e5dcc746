//! What a request holds while it is under way.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crate::adaptive::Ended;
use crate::budget::Permit;
use crate::upstream::cluster::{Cluster, Hosts};
use crate::upstream::hosts::Load;

/// Places in limits; dropping them gives them back.
pub struct Held {
    pub(super) _place: Permit,
    pub(super) _busy: Busy,
    pub(super) _entered: Entered,
}

/// A request under way at an endpoint.
pub(super) struct Busy(Arc<Load>);

impl Busy {
    pub(super) fn with(load: &Arc<Load>) -> Self {
        load.in_flight.fetch_add(1, Relaxed);
        Self(load.clone())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}

/// A request that was let through by what latency says.
pub(super) struct Entered {
    cluster: Arc<Cluster>,
    hosts: Arc<Hosts>,
    /// How it ended; told when this is dropped.
    pub(super) ended: Ended,
}

impl Entered {
    pub(super) fn of(cluster: &Arc<Cluster>, hosts: &Arc<Hosts>) -> Option<Self> {
        let entered = cluster.enter(hosts);
        entered.then(|| Self { cluster: cluster.clone(), hosts: hosts.clone(), ended: Ended::Otherwise })
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.cluster.left(&self.hosts, self.ended);
    }
}
