//! How a request, or a connection, ended: everything that the log, the metrics and the trace say of it.

use super::{
    flags::Flags,
    party::{Asked, Party, Shared},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header::AsHeaderName};
use mesh::Str;
use std::{
    borrow::Cow,
    net::SocketAddr,
    time::{Duration, SystemTime},
};

/// The path before a proxy rewrote it.
pub const ORIGINAL_PATH: HeaderName = HeaderName::from_static("x-envoy-original-path");

/// What is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    #[default]
    Http11,
    /// HTTP/2.
    Http2,
    /// Bytes.
    Tcp,
}

impl Protocol {
    /// As logs write it.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
            Self::Tcp => "-",
        }
    }

    /// Of a version.
    pub fn of(version: http::Version) -> Self {
        match version {
            http::Version::HTTP_09 | http::Version::HTTP_10 => Self::Http10,
            http::Version::HTTP_2 => Self::Http2,
            _ => Self::Http11,
        }
    }
}

/// How the caller's connection is protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Security {
    /// By both sides' certificates.
    MutualTls,
    /// Not at all.
    None,
    /// Nobody knows.
    #[default]
    Unknown,
}

impl Security {
    /// As metrics write it.
    pub const fn label(self) -> &'static str {
        match self {
            Self::MutualTls => "mutual_tls",
            Self::None => "none",
            Self::Unknown => "unknown",
        }
    }
}

/// One request, told once at its end. Of a connection that is not HTTP the fields of requests stay
/// as [`Outcome::new`] leaves them, and `protocol` is [`Protocol::Tcp`].
#[derive(Clone, Debug)]
pub struct Outcome {
    /// When its first byte came.
    pub started: SystemTime,
    /// From there to the last byte of the response.
    pub duration: Duration,
    /// From when it was sent on to the first byte of the response.
    pub upstream_time: Option<Duration>,
    /// What is spoken.
    pub protocol: Protocol,
    /// Its method.
    pub method: Method,
    /// Its path and query, as the caller wrote them.
    pub path: Str,
    /// Its host.
    pub authority: Str,
    /// Its headers as they came, for logs, tags and filters.
    pub headers: HeaderMap,
    /// `x-request-id`.
    pub request_id: Str,
    /// Status; 0: there was no response.
    pub status: u16,
    /// Status of gRPC, if it is gRPC and one came.
    pub grpc_status: Option<u32>,
    /// Whether it is gRPC.
    pub grpc: bool,
    /// What went wrong.
    pub flags: Flags,
    /// Why it got this status; the words of [`details`].
    pub details: Cow<'static, str>,
    /// Why its connection was ended, if we ended it.
    pub termination: Option<Cow<'static, str>>,
    /// Why there was no connection to the upstream.
    pub upstream_failure: Option<Cow<'static, str>>,
    /// Bytes of its body.
    pub received_bytes: u64,
    /// Bytes of the response's body.
    pub sent_bytes: u64,
    /// Bytes of its head, about.
    pub request_head_bytes: u64,
    /// Bytes of the response's head, about.
    pub response_head_bytes: u64,
    /// Messages of gRPC in its body.
    pub request_messages: u64,
    /// Messages of gRPC in the response's body.
    pub response_messages: u64,
    /// Who answered.
    pub upstream: Option<SocketAddr>,
    /// Our address towards it.
    pub upstream_local: Option<SocketAddr>,
    /// `inbound-vip|80|http|web.shop.svc.cluster.local` and the like; "" if none was chosen.
    pub cluster: Str,
    /// Our address towards the caller: what it dialled.
    pub downstream_local: Option<SocketAddr>,
    /// The caller's address.
    pub downstream_remote: Option<SocketAddr>,
    /// Server name of TLS, if it was read.
    pub server_name: Option<Str>,
    /// The route and rule that were taken; "" if none was.
    pub route: Str,
    /// Who asked.
    pub source: Party,
    /// Who answered, or was to.
    pub destination: Party,
    /// What was asked for.
    pub service: Shared<Asked>,
    /// How the caller's connection is protected.
    pub security: Security,
}

impl Outcome {
    /// A request of which only its beginning is known.
    pub fn new(started: SystemTime, source: Party, service: Shared<Asked>) -> Self {
        let empty: Str = "".into();
        Self {
            started,
            duration: Duration::ZERO,
            upstream_time: None,
            protocol: Protocol::default(),
            method: Method::GET,
            path: empty.clone(),
            authority: empty.clone(),
            headers: HeaderMap::new(),
            request_id: empty.clone(),
            status: 0,
            grpc_status: None,
            grpc: false,
            flags: Flags::NONE,
            details: Cow::Borrowed(""),
            termination: None,
            upstream_failure: None,
            received_bytes: 0,
            sent_bytes: 0,
            request_head_bytes: 0,
            response_head_bytes: 0,
            request_messages: 0,
            response_messages: 0,
            upstream: None,
            upstream_local: None,
            cluster: empty.clone(),
            downstream_local: None,
            downstream_remote: None,
            server_name: None,
            route: empty,
            source,
            destination: Party::unknown(),
            service,
            security: Security::default(),
        }
    }

    /// A header of the request, if it is text.
    pub fn header(&self, name: impl AsHeaderName) -> Option<&str> {
        self.headers.get(name).map(HeaderValue::as_bytes).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// `http`, `grpc` or `tcp`.
    pub fn request_protocol(&self) -> &'static str {
        match self.protocol {
            Protocol::Tcp => "tcp",
            _ if self.grpc => "grpc",
            _ => "http",
        }
    }
}

/// Envoy's words for why a request got its status (`RESPONSE_CODE_DETAILS`).
pub mod details {
    /// The upstream answered.
    pub const VIA_UPSTREAM: &str = "via_upstream";
    /// A rule answers by itself.
    pub const DIRECT_RESPONSE: &str = "direct_response";
    /// No route.
    pub const ROUTE_NOT_FOUND: &str = "route_not_found";
    /// The destination does not exist.
    pub const CLUSTER_NOT_FOUND: &str = "cluster_not_found";
    /// There are no rules for it, or none of the waypoint itself.
    pub const NO_RULES: &str = "no_rules";
    /// No endpoint can be used.
    pub const NO_HEALTHY_UPSTREAM: &str = "no_healthy_upstream";
    /// A limit of connections or requests; Envoy adds what overflowed in braces.
    pub const OVERFLOW: &str = "upstream_reset_before_response_started{overflow}";
    /// No connection came about.
    pub const CONNECT_FAILURE: &str = "upstream_reset_before_response_started{connection_failure}";
    /// The connection ended before the response.
    pub const CONNECTION_TERMINATION: &str = "upstream_reset_before_response_started{connection_termination}";
    /// The upstream reset the stream.
    pub const REMOTE_RESET: &str = "upstream_reset_before_response_started{remote_reset}";
    /// The upstream broke the protocol.
    pub const PROTOCOL_ERROR: &str = "upstream_reset_before_response_started{protocol_error}";
    /// The response ended in the middle.
    pub const RESET_AFTER_START: &str = "upstream_reset_after_response_started{connection_termination}";
    /// All tries together took too long.
    pub const RESPONSE_TIMEOUT: &str = "response_timeout";
    /// One try took too long.
    pub const PER_TRY_TIMEOUT: &str = "upstream_per_try_timeout";
    /// Nothing moved.
    pub const IDLE_TIMEOUT: &str = "stream_idle_timeout";
    /// The caller left.
    pub const DOWNSTREAM_DISCONNECT: &str = "downstream_remote_disconnect";
    /// A fault on purpose.
    pub const FAULT_ABORT: &str = "fault_filter_abort";
    /// An authorizer refused.
    pub const EXT_AUTHZ_DENIED: &str = "ext_authz_denied";
    /// An authorizer could not be asked.
    pub const EXT_AUTHZ_ERROR: &str = "ext_authz_error";
    /// The body is longer than an authorizer may be shown.
    pub const REQUEST_TOO_LARGE: &str = "request_payload_too_large";
    /// A rate limit of this replica, or of all.
    pub const LOCAL_RATE_LIMITED: &str = "local_rate_limited";
    /// A rate limit service refused.
    pub const RATE_LIMITED: &str = "request_rate_limited";
    /// A rate limit service could not be asked.
    pub const RATE_LIMITER_ERROR: &str = "rate_limiter_error";
    /// The destination bears no more at a time.
    pub const CONCURRENCY: &str = "reached_concurrency_limit";
    /// A preflight was answered.
    pub const CORS: &str = "cors_filter";

    /// A policy that refused.
    pub fn denied_by(namespace: &str, policy: &str, rule: usize) -> String {
        format!("rbac_access_denied_matched_policy[ns[{namespace}]-policy[{policy}]-rule[{rule}]]")
    }

    /// No policy allows it.
    pub const DENIED_BY_NONE: &str = "rbac_access_denied_matched_policy[none]";

    /// A token was bad: Envoy's text with `_` for blanks.
    pub fn token_refused(text: &str) -> String {
        format!("jwt_authn_access_denied{{{}}}", text.replace(' ', "_"))
    }
}
