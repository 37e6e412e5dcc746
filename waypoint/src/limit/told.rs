//! What callers are told of limits: the fields `RateLimit` and `RateLimit-Policy`
//! (draft-ietf-httpapi-ratelimit-headers-10), `Retry-After`, and the answer of a refusal.

use crate::report::{Flag, details};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use mesh::Str;
use std::time::Duration;

/// What is left of a limit after a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Its name.
    pub limit: Str,
    /// How many pass…
    pub requests: u32,
    /// …in which time.
    pub per: Duration,
    /// How many may still pass at once.
    pub remaining: u32,
    /// How long until there is one more (of none), or all again; none: nobody knows.
    pub reset: Option<Duration>,
}

/// `RateLimit`
pub const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
/// `RateLimit-Policy`
pub const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

impl Told {
    /// Writes the two fields. What the backend says of limits of its own stays beside it: both are lists.
    pub fn write(&self, headers: &mut HeaderMap) {
        let name = plain(&self.limit);
        let policy = format!("\"{name}\";q={};w={}", self.requests, seconds(self.per));
        let mut now = format!("\"{name}\";r={}", self.remaining);
        if let Some(reset) = self.reset {
            now.push_str(&format!(";t={}", seconds(reset)));
        }
        for (field, text) in [(RATE_LIMIT_POLICY, policy), (RATE_LIMIT, now)] {
            if let Ok(value) = HeaderValue::from_str(&text) {
                headers.append(field, value);
            }
        }
    }
}

/// What may stand between the quotes of a string (RFC 9651 §3.3.3) without being escaped.
fn plain(name: &str) -> String {
    name.chars().filter(|c| (c.is_ascii_graphic() || *c == ' ') && !matches!(c, '"' | '\\')).collect()
}

/// Whole seconds, rounded up: who comes back after them is not too early.
fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

/// A request that is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// By which limit.
    pub limit: Str,
    /// Why.
    pub reason: Reason,
    /// What is left of it, where we know.
    pub told: Option<Told>,
    /// Headers that a rate limit service wants the caller to get.
    pub headers: HeaderMap,
    /// The body that a rate limit service wants the caller to get.
    pub body: String,
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// There were too many, by our own count.
    Counted,
    /// There were too many, a rate limit service says.
    Service,
    /// The rate limit service cannot be asked.
    ServiceFailed,
}

/// gRPC's code for "too many".
const RESOURCE_EXHAUSTED: &str = "8";
/// gRPC's code for "cannot be said now".
const UNAVAILABLE: &str = "14";

impl Refusal {
    /// The flag in logs.
    pub const fn flag(&self) -> Flag {
        match self.reason {
            Reason::Counted | Reason::Service => Flag::RateLimited,
            Reason::ServiceFailed => Flag::RateLimitServiceError,
        }
    }

    /// The words in logs.
    pub const fn details(&self) -> &'static str {
        match self.reason {
            Reason::Counted => details::LOCAL_RATE_LIMITED,
            Reason::Service => details::RATE_LIMITED,
            Reason::ServiceFailed => details::RATE_LIMITER_ERROR,
        }
    }

    /// What the caller is told: 429 (500 where the service cannot be asked, as with Envoy); a
    /// caller that speaks gRPC gets a response without a body, whose head has the status of gRPC.
    pub fn response(&self, grpc: bool) -> Response<String> {
        let failed = self.reason == Reason::ServiceFailed;
        let mut response = Response::new(String::new());
        *response.headers_mut() = self.headers.clone();
        let headers = response.headers_mut();
        if let Some(told) = &self.told {
            told.write(headers);
            // A caller that comes back in less than a second comes back for nothing.
            let wait = told.reset.map_or(1, seconds).max(1);
            headers.insert(header::RETRY_AFTER, wait.into());
        }
        if grpc {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            let status = if failed { UNAVAILABLE } else { RESOURCE_EXHAUSTED };
            headers.insert("grpc-status", HeaderValue::from_static(status));
            headers.insert("grpc-message", HeaderValue::from_static(self.details()));
            return response;
        }
        headers.entry(header::CONTENT_TYPE).or_insert(HeaderValue::from_static("text/plain"));
        *response.status_mut() = if failed { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::TOO_MANY_REQUESTS };
        *response.body_mut() = if self.body.is_empty() { self.details().to_owned() } else { self.body.clone() };
        response
    }
}
