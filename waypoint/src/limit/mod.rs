//! Rate limits: how many requests may pass, counted by this replica, by all replicas together, or by
//! a service that is asked.
//!
//! Rooms: [`bucket`] (exact tokens) · `table` (buckets by key, bounded) · [`lease`] (one bucket for
//! several replicas) · `shared` (that, with tasks and time-outs) · [`replicas`] (what replicas say to
//! each other) · [`told`] (what callers are told) · [`limits`] (every number). What a service that is
//! asked says is in [`crate::external::rate_limit`].
//!
//! Every limit that counts a request must let it pass. They are asked in the order in which that
//! costs least: our own, the shared ones, services. A token that was taken for a request that
//! another limit refuses is given back.
//!
//! How far shared limits may overshoot is in `docs/traffic.md`, "Rate limits", with the arithmetic.

pub mod bucket;
pub mod lease;
pub mod limits;
pub mod replicas;
mod shared;
mod table;
pub mod told;

pub use replicas::{AUTHORITY, Alone, BadAsk, LEASE_PATH, Members, Replicas};
pub use told::{Reason, Refusal, Told};

use crate::external::{
    Call,
    rate_limit::{self, Said},
};
use bucket::Rate;
use http::HeaderMap;
use mesh::{
    Identity,
    route::{RateLimit, head::Head, limit::LimitScope},
};
use shared::{Counted, SharedLimits};
use std::{sync::Arc, time::Duration};
use table::{Left, Table};
use tokio::time::Instant;

/// All rate limits of this replica, shared by its cores. Cloning it is cheap.
#[derive(Clone)]
pub struct Limiter {
    own: Arc<Table>,
    started: Instant,
    shared: Arc<SharedLimits>,
    call: Arc<dyn Call>,
}

impl std::fmt::Debug for Limiter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Limiter").field("keys", &self.own.len()).finish_non_exhaustive()
    }
}

/// What the limits say of a request.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// It may pass.
    Pass(Box<Passed>),
    /// It may not.
    Refuse(Box<Refusal>),
}

/// What is to be done with a request that may pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// The limit of which least is left, for the response; none: nothing counts it.
    pub told: Option<Told>,
    /// For the backend: what a rate limit service adds.
    pub request_headers: HeaderMap,
    /// For the caller: what a rate limit service adds.
    pub response_headers: HeaderMap,
    /// A rate limit service could not be asked, and its limit lets pass then.
    pub service_failed: bool,
}

impl Limiter {
    /// Limits of a waypoint whose identity is `own`.
    pub fn new(replicas: Arc<dyn Replicas>, own: Identity, call: Arc<dyn Call>) -> Self {
        let shared = Arc::new(SharedLimits::new(replicas, own));
        Self { own: Arc::default(), started: Instant::now(), shared, call }
    }

    /// Takes a token of every limit that counts a request; `limits` are those whose matches agree.
    pub async fn check<'a>(&self, limits: impl Iterator<Item = &'a RateLimit>, head: &Head<'_>) -> Verdict {
        let mut asked: Vec<Asked<'a>> = limits.map(|limit| Asked::of(limit, head)).collect();
        // Stable: within a scope they stay in the order in which they were written.
        asked.sort_by_key(|asked| match asked.limit.scope {
            LimitScope::Replica => 0,
            LimitScope::Shared => 1,
            LimitScope::Service { .. } => 2,
        });
        let mut passed = Box::<Passed>::default();
        for (at, asking) in asked.iter().enumerate() {
            if let Err(refusal) = self.one(asking, head, &mut passed).await {
                asked[..at].iter().for_each(|taken| self.put_back(taken));
                return Verdict::Refuse(refusal);
            }
        }
        Verdict::Pass(passed)
    }

    async fn one(&self, asked: &Asked<'_>, head: &Head<'_>, passed: &mut Passed) -> Result<(), Box<Refusal>> {
        let limit = asked.limit;
        let left = match &limit.scope {
            LimitScope::Replica => self.own.take(&limit.name, asked.rate, &asked.key, self.now(), |_| 1),
            LimitScope::Shared => self.shared.take(asked.counted()).await,
            LimitScope::Service { destination, domain, timeout, fail_open } => {
                let descriptor = rate_limit::descriptor(limit, head);
                let said = rate_limit::ask(&self.call, destination, domain, *timeout, descriptor).await;
                return said_by_service(limit, *fail_open, said, passed);
            }
        };
        let told = told(limit, &left);
        if left.taken == 0 {
            return Err(Box::new(Refusal {
                limit: limit.name.clone(),
                reason: Reason::Counted,
                told: Some(told),
                headers: HeaderMap::new(),
                body: String::new(),
            }));
        }
        if passed.told.as_ref().is_none_or(|other| told.remaining < other.remaining) {
            passed.told = Some(told);
        }
        Ok(())
    }

    fn put_back(&self, asked: &Asked<'_>) {
        match asked.limit.scope {
            LimitScope::Replica => self.own.put_back(&asked.limit.name, asked.rate, &asked.key, self.now()),
            LimitScope::Shared => self.shared.put_back(asked.counted()),
            // A service takes nothing back.
            LimitScope::Service { .. } => {}
        }
    }

    /// Answers the question of another replica: the body of a `POST` to [`LEASE_PATH`] in a tunnel
    /// to [`AUTHORITY`], of no more than [`limits::MESSAGE_BYTES_MAX`] bytes. `peer` is who asks, as
    /// its certificate proves it.
    pub fn answer(&self, peer: &Identity, question: &[u8]) -> Result<Vec<u8>, BadAsk> {
        self.shared.answer(peer, question)
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }
}

/// One limit, and what a request is counted under.
struct Asked<'a> {
    limit: &'a RateLimit,
    rate: Rate,
    key: String,
}

impl<'a> Asked<'a> {
    fn of(limit: &'a RateLimit, head: &Head<'_>) -> Self {
        // A service is told the parts of the key, not the key.
        let counts = !matches!(limit.scope, LimitScope::Service { .. });
        Self { limit, rate: Rate::of(limit), key: if counts { limit.key(head) } else { String::new() } }
    }

    fn counted(&self) -> Counted<'_> {
        Counted { limit: &self.limit.name, rate: self.rate, key: &self.key }
    }
}

fn told(limit: &RateLimit, left: &Left) -> Told {
    let reset = if left.taken == 0 { left.next } else { left.full };
    Told { limit: limit.name.clone(), requests: limit.requests, per: limit.per, remaining: left.tokens, reset }
}

fn said_by_service(
    limit: &RateLimit,
    fail_open: bool,
    said: Result<Said, crate::external::CallFailed>,
    passed: &mut Passed,
) -> Result<(), Box<Refusal>> {
    let refusal =
        |reason, headers, body| Box::new(Refusal { limit: limit.name.clone(), reason, told: None, headers, body });
    match said {
        Ok(said) if said.over => Err(refusal(Reason::Service, said.response_headers, said.body)),
        Ok(said) => {
            passed.request_headers.extend(said.request_headers);
            passed.response_headers.extend(said.response_headers);
            Ok(())
        }
        Err(error) => {
            let what = if fail_open { "passes" } else { "is refused" };
            tracing::warn!(limit = &*limit.name, "the rate limit service does not answer, the request {what}: {error}");
            passed.service_failed = true;
            if fail_open { Ok(()) } else { Err(refusal(Reason::ServiceFailed, HeaderMap::new(), String::new())) }
        }
    }
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
