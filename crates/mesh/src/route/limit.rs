//! Rate limits, and faults on purpose.

use super::{Destination, http::HttpMatch, text::Fraction};
use crate::Str;
use std::time::Duration;

/// How many requests of a kind may pass in a time.
///
/// A bucket for each value of the key holds `burst` tokens, is filled at `requests` a `per`, and
/// each request takes one.
#[derive(Clone, Debug, PartialEq)]
pub struct RateLimit {
    /// `TrafficPolicy/namespace/name` and the place of the limit in it; the same in every replica.
    pub name: Str,
    /// What it counts; empty: every request.
    pub matches: Vec<HttpMatch>,
    /// What is counted apart; empty: all requests together.
    pub keys: Vec<LimitKey>,
    /// How many.
    pub requests: u32,
    /// In which time.
    pub per: Duration,
    /// How many at once.
    pub burst: u32,
    /// Who counts.
    pub scope: LimitScope,
}

/// Something that requests are told apart by. A request that does not have it is counted under "".
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LimitKey {
    /// A header, by name in lower case.
    Header(Str),
    /// The path, without its query.
    Path,
    /// The method.
    Method,
    /// The host.
    Host,
    /// The caller, as its certificate proves it.
    CallerIdentity,
    /// The caller's namespace, as its certificate proves it.
    CallerNamespace,
    /// The caller's address.
    CallerAddress,
    /// A claim of the token that the request was authenticated with: a path of names.
    Claim(Vec<Str>),
}

/// Who counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LimitScope {
    /// Each replica for itself.
    Replica,
    /// All replicas of the waypoint together. Each takes tokens in small lots from the replica that
    /// owns the key; see `docs/traffic.md` for how far that may overshoot.
    Shared,
    /// A rate limit service (`envoy.service.ratelimit.v3`).
    Service {
        /// Where it is.
        destination: Destination,
        /// Its domain.
        domain: Str,
        /// How long it may take.
        timeout: Duration,
        /// Requests pass when it does not answer.
        fail_open: bool,
    },
}

/// A fault on purpose, for a share of requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fault {
    /// Which requests; empty: every one.
    pub matches: Vec<HttpMatch>,
    /// A delay before anything is sent on.
    pub delay: Option<(Duration, Fraction)>,
    /// An answer of our own.
    pub abort: Option<(AbortStatus, Fraction)>,
}

/// What a fault answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AbortStatus {
    /// A status of HTTP.
    Http(u16),
    /// A code of gRPC.
    Grpc(u8),
}
