//! How much may be under way at a time: connections, waiting requests, requests, further tries.
//!
//! Counters with a permit that gives its place back when it is dropped. Nothing here waits: who
//! finds no place is refused at once, and the caller answers 503 with the flag `UO`. Only for a
//! connection a request may wait; it is told when one comes free ([`Breakers::freed`]).
//!
//! All counters are atomic and shared by the cores. A place is taken with one compare-and-swap, so
//! that a limit is never exceeded, whatever the number of cores.

use mesh::route::traffic::{Pool, RetryBudget};
use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering::Relaxed},
};
use tokio::sync::Notify;

/// So many places, each held by a [`Permit`].
#[derive(Clone, Debug, Default)]
pub struct Gate {
    taken: Arc<AtomicU32>,
    /// Told of every place that comes free, where somebody may wait for it.
    freed: Option<Arc<Notify>>,
}

/// A place in a [`Gate`]; dropping it gives the place back.
#[derive(Debug)]
#[must_use = "a permit that is dropped at once lets everybody in"]
pub struct Permit {
    taken: Arc<AtomicU32>,
    freed: Option<Arc<Notify>>,
}

impl Gate {
    fn telling(freed: &Arc<Notify>) -> Self {
        Self { freed: Some(freed.clone()), ..Self::default() }
    }

    /// Takes a place if fewer than `most` are taken.
    pub fn enter(&self, most: u32) -> Option<Permit> {
        let next = |taken: u32| (taken < most).then_some(taken + 1);
        self.taken.fetch_update(Relaxed, Relaxed, next).ok()?;
        Some(Permit { taken: self.taken.clone(), freed: self.freed.clone() })
    }

    /// How many places are taken.
    pub fn taken(&self) -> u32 {
        self.taken.load(Relaxed)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.taken.fetch_sub(1, Relaxed);
        if let Some(freed) = &self.freed {
            freed.notify_one();
        }
    }
}

/// The limits of one destination, every one a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Most {
    /// Connections (HTTP/1 and TCP).
    pub connections: u32,
    /// Requests that wait for a connection.
    pub pending: u32,
    /// Requests in flight, further tries included.
    pub requests: u32,
    /// Further tries in flight.
    pub retries: Retries,
}

/// How many further tries may be in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retries {
    /// So many.
    Fixed(u32),
    /// A share of the requests in flight.
    Share(RetryBudget),
}

/// Connections, waiting requests and requests where nobody says anything. Envoy's own default is
/// 1024, which Istio raises to "no limit"; memory is one: a request in flight costs some 20 KiB
/// here, so that this many are 2 GiB, and file descriptors are fewer anyway.
pub const PLACES_DEFAULT: u32 = 100_000;

/// Further tries in flight where nobody says anything. A fixed number does not grow with the load
/// that a failing destination is under, which is what makes storms of retries.
pub const RETRIES_DEFAULT: u32 = 1024;

impl Most {
    /// What is written of a destination; a budget of retries beats their fixed number.
    pub fn of(pool: &Pool, budget: Option<RetryBudget>) -> Self {
        let fixed = Retries::Fixed(pool.retries_max.unwrap_or(RETRIES_DEFAULT));
        Self {
            connections: pool.connections_max.unwrap_or(PLACES_DEFAULT),
            pending: pool.pending_max.unwrap_or(PLACES_DEFAULT),
            requests: pool.requests_max.unwrap_or(PLACES_DEFAULT),
            retries: budget.map_or(fixed, Retries::Share),
        }
    }
}

impl Retries {
    /// How many while so many requests are in flight.
    pub fn most(self, in_flight: u32) -> u32 {
        match self {
            Self::Fixed(most) => most,
            Self::Share(RetryBudget { share, at_least }) => {
                let part = u64::from(in_flight) * u64::from(share.0) / 1_000_000;
                at_least.max(u32::try_from(part).unwrap_or(u32::MAX))
            }
        }
    }
}

/// What is under way to one destination. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Breakers {
    /// Connections.
    pub connections: Gate,
    /// Told when a place for a connection came free, or a connection (or a stream of one) for another request.
    pub freed: Arc<Notify>,
    /// Requests that wait for a connection.
    pub pending: Gate,
    /// Requests in flight.
    pub requests: Gate,
    /// Further tries in flight.
    pub retries: Gate,
}

impl Default for Breakers {
    fn default() -> Self {
        let freed = Arc::new(Notify::new());
        let (pending, requests, retries) = Default::default();
        Self { connections: Gate::telling(&freed), freed, pending, requests, retries }
    }
}

impl Breakers {
    /// A place for one more request.
    pub fn request(&self, most: &Most) -> Option<Permit> {
        self.requests.enter(most.requests)
    }

    /// A place for one more request that waits for a connection.
    pub fn wait(&self, most: &Most) -> Option<Permit> {
        self.pending.enter(most.pending)
    }

    /// A place for one more connection.
    pub fn connect(&self, most: &Most) -> Option<Permit> {
        self.connections.enter(most.connections)
    }

    /// A place for one more try of a request that is in flight.
    pub fn retry(&self, most: &Most) -> Option<Permit> {
        self.retries.enter(most.retries.most(self.requests.taken()))
    }
}

#[cfg(test)]
mod tests;
