//! What replicas of a waypoint say to each other of shared limits.
//!
//! A replica asks the owner of a key for tokens: `POST /lease` over HTTP/2, in a tunnel to the
//! owner's HBONE port with [`AUTHORITY`] as the authority of the CONNECT, which no service of a mesh
//! can have. Both sides prove their identity; only our own is answered. Question and answer are JSON.

use super::bucket::Rate;
use crate::external::CallFailed;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use mesh::{ServiceKey, Str, View, workload::Health};
use serde::{Deserialize, Serialize};
use std::{sync::Arc, time::Duration};

/// The authority of a CONNECT that is meant for the waypoint itself. `.invalid` is nobody's (RFC 2606).
pub const AUTHORITY: &str = "rate-limits.waypoint.invalid:80";

/// The path of a question.
pub const LEASE_PATH: &str = "/lease";

/// The other replicas, as the waypoint's upstream reaches them.
pub trait Replicas: Send + Sync + 'static {
    /// Who there is now.
    fn members(&self) -> Arc<Members>;

    /// Sends a question to a replica; yields the body of its answer. The asker has a time-out of its own.
    fn ask(&self, replica: &Str, question: Bytes) -> BoxFuture<'static, Result<Bytes, CallFailed>>;
}

/// The replicas of this waypoint that are ready.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    /// Our own name: the same as others have for us (a pod's uid).
    pub own: Str,
    /// All of them, ourselves too.
    pub all: Vec<Str>,
}

impl Members {
    /// The replicas that are ready: the healthy endpoints of the waypoint's own service. `own` is our
    /// own uid; while the view does not know us yet we are one of them all the same.
    pub fn of(view: &View, service: &ServiceKey, own: &Str) -> Self {
        let endpoints = view.endpoints(service).filter(|endpoint| endpoint.workload.health == Health::Healthy);
        let mut all: Vec<Str> = endpoints.map(|endpoint| endpoint.workload.uid.clone()).collect();
        if !all.contains(own) {
            all.push(own.clone());
        }
        all.sort();
        Self { own: own.clone(), all }
    }
}

/// A waypoint of one replica: nobody is ever asked.
#[derive(Debug)]
pub struct Alone(Arc<Members>);

impl Alone {
    /// The only replica.
    pub fn new(own: Str) -> Self {
        Self(Arc::new(Members { all: vec![own.clone()], own }))
    }
}

impl Replicas for Alone {
    fn members(&self) -> Arc<Members> {
        self.0.clone()
    }

    fn ask(&self, replica: &Str, _: Bytes) -> BoxFuture<'static, Result<Bytes, CallFailed>> {
        let nobody = CallFailed::Nobody(format!("{replica} is not known"));
        Box::pin(async { Err(nobody) })
    }
}

/// A question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ask {
    pub(super) limit: String,
    pub(super) key: String,
    pub(super) requests: u32,
    pub(super) per_nanos: u64,
    pub(super) burst: u32,
    pub(super) wanted: u32,
}

impl Ask {
    pub(super) fn rate(&self) -> Rate {
        Rate { requests: self.requests, per: Duration::from_nanos(self.per_nanos), burst: self.burst }
    }
}

/// An answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Grant {
    pub(super) tokens: u32,
    /// Of none: how long until there are some; none: never.
    pub(super) next_nanos: Option<u64>,
}

/// Why a question is not answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadAsk {
    /// Somebody else asks.
    #[error("only replicas of this waypoint may ask for tokens, not {0}")]
    Stranger(String),
    /// It cannot be read.
    #[error("it is no question for tokens: {0}")]
    Unreadable(String),
}
