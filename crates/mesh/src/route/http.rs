//! Which rule a request takes, and what the rule does with it.
//!
//! Of the routes of a service, those for the caller's own namespace come first ([`HttpRoute::callers`]),
//! then the others. Among [`Precedence::Specific`] routes the match decides, as Gateway API says:
//! exact path, longer prefix, other path; then a method; then more headers; then more query
//! parameters; then the older route, the smaller `namespace/name`, and the earlier rule. Routes
//! with [`Precedence::Listed`] (VirtualService) come after all of those, oldest first, and their
//! first rule that matches wins. A request that no rule takes is answered with 404 where there are
//! routes for the port, and goes to the service itself where there are none.

use super::{
    limit::{Fault, RateLimit},
    text::{FieldMatch, Fraction, PathMatch, TextMatch},
};
use crate::{ServiceKey, Str};
use std::time::Duration;

/// One route: an object that somebody wrote.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpRoute {
    /// `Kind/namespace/name`, for logs and the config dump.
    pub name: Str,
    /// When it was written (RFC 3339), if anybody said. Unsaid is youngest.
    pub created: Option<Str>,
    /// Ports of the service it is for; empty: all.
    pub ports: Vec<u16>,
    /// It is only for callers of this namespace (a consumer route).
    pub callers: Option<Str>,
    /// How it stands among others.
    pub precedence: Precedence,
    /// Its rules, in its own order.
    pub rules: Vec<HttpRule>,
}

/// How a route stands among others of the same service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precedence {
    /// The most specific match wins.
    Specific,
    /// The first match wins.
    Listed,
}

/// One rule: what is asked for, and what is done.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HttpRule {
    /// The name its author gave it, or its place in the route.
    pub name: Str,
    /// Alternatives; empty: every request.
    pub matches: Vec<HttpMatch>,
    /// What is done to the request and its response.
    pub filters: Filters,
    /// What answers.
    pub action: Action,
    /// How long things may take.
    pub timeouts: Timeouts,
    /// When it is tried again; none: only where nothing can have been processed.
    pub retry: Option<Retry>,
    /// Requests of one session go to one endpoint.
    pub session: Option<Session>,
    /// Limits for this rule.
    pub limits: Vec<RateLimit>,
    /// Faults for this rule.
    pub faults: Vec<Fault>,
}

/// What a request must be; everything that is set must agree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpMatch {
    /// Its path.
    pub path: Option<PathMatch>,
    /// The case of the path does not matter.
    pub path_ignore_case: bool,
    /// Its method.
    pub method: Option<TextMatch>,
    /// Its headers.
    pub headers: Vec<FieldMatch>,
    /// None of these may agree.
    pub without_headers: Vec<FieldMatch>,
    /// Its query parameters.
    pub query: Vec<FieldMatch>,
    /// Its host and port as it names them.
    pub authority: Option<TextMatch>,
    /// `http` or `https`.
    pub scheme: Option<TextMatch>,
    /// Ports of the service; empty: all.
    pub ports: Vec<u16>,
    /// Namespace of the caller, as its certificate proves it.
    pub caller_namespace: Option<Str>,
    /// Claims of the token it was authenticated with: path of names → value.
    pub claims: Vec<(Vec<Str>, TextMatch)>,
}

/// What answers a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// One of these, by weight. None at all, or no weight: 500.
    Forward(Vec<Backend>),
    /// The caller, elsewhere.
    Redirect(Redirect),
    /// We.
    Respond(DirectResponse),
}

impl Default for Action {
    fn default() -> Self {
        Self::Forward(Vec::new())
    }
}

/// Somewhere a share of the requests goes.
#[derive(Clone, Debug, PartialEq)]
pub struct Backend {
    /// Where.
    pub destination: Destination,
    /// Its share, of the sum of all weights.
    pub weight: u32,
    /// What is done to requests that go there; after the rule's own.
    pub request_headers: HeaderEdit,
    /// What is done to responses that come from there; before the rule's own.
    pub response_headers: HeaderEdit,
}

/// A place that requests or connections go to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// A port of a service.
    Service {
        /// The service.
        service: ServiceKey,
        /// Its port.
        port: u16,
        /// Only these of its endpoints.
        subset: Option<Str>,
    },
    /// There is no such thing, or it may not be used: its share of requests is answered with 500,
    /// its share of connections is closed.
    Invalid {
        /// Why, for the log.
        reason: Str,
    },
}

/// What is done to a request on its way, and to its response on the way back.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filters {
    /// The request's headers.
    pub request_headers: HeaderEdit,
    /// The response's headers.
    pub response_headers: HeaderEdit,
    /// Host and path as the backend sees them.
    pub rewrite: Rewrite,
    /// Who else gets a copy of the request. What they answer is thrown away.
    pub mirrors: Vec<Mirror>,
    /// Requests of other origins.
    pub cors: Option<Cors>,
}

/// Changes of headers: first removed, then set, then added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderEdit {
    /// Replaced, or written if absent: (name in lower case, value).
    pub set: Vec<(Str, Str)>,
    /// Written beside what is there.
    pub add: Vec<(Str, Str)>,
    /// Taken away: names in lower case.
    pub remove: Vec<Str>,
}

impl HeaderEdit {
    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.add.is_empty() && self.remove.is_empty()
    }
}

/// Host and path as the backend sees them; empty changes nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rewrite {
    /// The host.
    pub host: Option<Str>,
    /// The path; the query stays.
    pub path: Option<PathRewrite>,
}

/// A new path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathRewrite {
    /// This instead of the whole.
    Full(Str),
    /// This instead of the prefix that the rule matched; of a path that was matched otherwise,
    /// instead of the whole.
    Prefix(Str),
    /// This (with `\1` for groups) instead of each hit of the expression.
    Regex {
        /// The expression.
        pattern: Str,
        /// What takes its place.
        substitution: Str,
    },
}

/// Tells the caller to ask elsewhere; what is not set stays as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// `http` or `https`.
    pub scheme: Option<Str>,
    /// The host.
    pub host: Option<Str>,
    /// The port; none: that of `scheme` if it is set, else the one asked for.
    pub port: Option<u16>,
    /// The path; the query stays.
    pub path: Option<PathRewrite>,
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
}

/// An answer of our own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectResponse {
    /// 200 to 599.
    pub status: u16,
    /// Its body, and the type of it.
    pub body: Option<(Str, Str)>,
}

/// A copy for somebody else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// Who.
    pub destination: Destination,
    /// Which share of the requests.
    pub share: Fraction,
}

/// What pages of other origins may do (Fetch Standard, "CORS protocol").
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cors {
    /// Origins; `*` is [`TextMatch::Present`].
    pub allow_origins: Vec<TextMatch>,
    /// Methods; `*` stands for all.
    pub allow_methods: Vec<Str>,
    /// Headers of requests; `*` stands for all.
    pub allow_headers: Vec<Str>,
    /// Headers of responses that pages may read.
    pub expose_headers: Vec<Str>,
    /// With cookies.
    pub allow_credentials: bool,
    /// How long the answer to a preflight may be kept.
    pub max_age: Option<Duration>,
    /// A preflight that is not allowed goes on to the backend (`unmatchedPreflights: FORWARD`).
    pub forward_unmatched: bool,
}

/// How long things may take; none or zero: as long as they like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// From the whole request to the whole response, all tries together.
    pub request: Option<Duration>,
    /// One try, to the last byte of its response.
    pub backend_request: Option<Duration>,
    /// Nothing moved in either direction.
    pub idle: Option<Duration>,
}

/// When a request is tried again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retry {
    /// How often, beyond the first try; 0: never.
    pub attempts: u32,
    /// One try, to the first byte of its response.
    pub per_try_timeout: Option<Duration>,
    /// On what.
    pub on: RetryOn,
    /// The wait before the first further try; it doubles each time and is spread at random.
    pub backoff: Option<Duration>,
}

/// What is worth another try. A request that may have been processed is repeated only if its
/// method is idempotent (RFC 9110 §9.2.2), whatever stands here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetryOn {
    /// No connection came about.
    pub connect_failure: bool,
    /// The stream was refused before it was processed.
    pub refused_stream: bool,
    /// The connection ended without a response.
    pub reset: bool,
    /// 5xx, or no response.
    pub server_error: bool,
    /// 502, 503 or 504.
    pub gateway_error: bool,
    /// 409.
    pub conflict: bool,
    /// These.
    pub status: Vec<u16>,
    /// These codes of gRPC, where they come with the headers.
    pub grpc_status: Vec<u8>,
}

/// How requests of one session are kept together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Name of the cookie or header.
    pub name: Str,
    /// What carries it.
    pub carrier: SessionCarrier,
    /// How long the session lives, whatever is done.
    pub absolute_timeout: Option<Duration>,
    /// How long the session lives without a request.
    pub idle_timeout: Option<Duration>,
}

/// What carries a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionCarrier {
    /// A cookie, until the browser closes.
    SessionCookie,
    /// A cookie that lives as long as the session.
    PermanentCookie,
    /// A header.
    Header,
}
