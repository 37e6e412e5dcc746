//! One call to the API server: a deadline, a bound on the answer, and an error that says what
//! happened in the words of Kubernetes. It never tries again; who calls knows whether that is right.

use crate::{Client, limits};
use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use kube::client::Body;
use serde::Deserialize;
use serde_json::Value;
use std::{error::Error, time::Duration};
use tokio::time::timeout;

/// Why a call had no effect, or none that we know of.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// There is no such object, or no such kind.
    #[error("not found: {0}")]
    NotFound(String),
    /// An object of that name is there already.
    #[error("already exists: {0}")]
    AlreadyExists(String),
    /// The object changed meanwhile, or a field has another owner.
    #[error("conflict: {0}")]
    Conflict(String),
    /// We may not do that; a role is missing.
    #[error("forbidden, give the service account a role that allows it: {0}")]
    Forbidden(String),
    /// The server does not know who we are.
    #[error("unauthorized, the credentials do not hold: {0}")]
    Unauthorized(String),
    /// What was sent is not as it must be.
    #[error("invalid: {0}")]
    Invalid(String),
    /// What was asked for is too long ago: list again.
    #[error("gone: {0}")]
    Gone(String),
    /// The server cannot do that now; `after` is when it wants to be asked again.
    #[error("the API server has trouble ({status}): {reason}")]
    Unavailable {
        /// HTTP status.
        status: u16,
        /// In the server's words.
        reason: String,
        /// When to try again, if it says so.
        after: Option<Duration>,
    },
    /// There was no answer.
    #[error("the API server cannot be reached: {0}")]
    Unreachable(String),
    /// The answer is too large or is not what Kubernetes answers.
    #[error("the answer of the API server cannot be used: {0}")]
    Unusable(String),
}

impl CallError {
    /// Whether the same call may work later without anybody doing anything.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Unreachable(_) | Self::Unauthorized(_))
    }

    /// When the server wants to be asked again.
    pub fn after(&self) -> Option<Duration> {
        let Self::Unavailable { after, .. } = self else { return None };
        after.map(|after| after.min(limits::RETRY_AFTER_MAX))
    }

    /// The error that a refusal means: HTTP status, and the `Status` in the body as far as it is one.
    pub(crate) fn of(status: u16, body: &[u8], retry_after: Option<Duration>) -> Self {
        let said: Status = serde_json::from_slice(body).unwrap_or_default();
        let text = if said.message.is_empty() { shorten(&String::from_utf8_lossy(body)) } else { said.message };
        match (status, &*said.reason) {
            (404, _) => Self::NotFound(text),
            (409, "AlreadyExists") => Self::AlreadyExists(text),
            (409, _) => Self::Conflict(text),
            (403, _) => Self::Forbidden(text),
            (401, _) => Self::Unauthorized(text),
            (410, _) => Self::Gone(text),
            (408 | 429 | 500.., _) => {
                let after = retry_after.or_else(|| said.details.retry_after_seconds.map(Duration::from_secs));
                Self::Unavailable { status, reason: text, after }
            }
            _ => Self::Invalid(text),
        }
    }
}

/// What the server says when it refuses.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    message: String,
    reason: String,
    details: Details,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Details {
    retry_after_seconds: Option<u64>,
}

impl Client {
    /// Calls and reads the whole answer.
    pub(crate) async fn call(&self, request: Request<Vec<u8>>) -> Result<Value, CallError> {
        let answer = async {
            let response = self.begin(request).await?;
            let bytes = read(response.into_body(), limits::ANSWER_BYTES_MAX).await?;
            serde_json::from_slice(&bytes).map_err(|e| CallError::Unusable(e.to_string()))
        };
        within(limits::CALL_TIMEOUT, answer).await
    }

    /// Calls and returns as soon as the answer begins. Refusals are errors.
    pub(crate) async fn begin(&self, request: Request<Vec<u8>>) -> Result<Response<Body>, CallError> {
        let response = within(limits::CALL_TIMEOUT, async {
            self.inner.send(request.map(Body::from)).await.map_err(|e| CallError::Unreachable(chain(&e)))
        });
        let response = response.await?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let after = response.headers().get(header::RETRY_AFTER);
        let after = after.and_then(|value| value.to_str().ok()?.trim().parse().ok()).map(Duration::from_secs);
        let body = within(limits::CALL_TIMEOUT, read(response.into_body(), limits::REFUSAL_BYTES_MAX)).await;
        // What cannot be read of a refusal does not make it another one.
        Err(CallError::of(status.as_u16(), &body.unwrap_or_default(), after))
    }
}

/// A request without a body.
pub(crate) fn asking(path_and_query: &str, accept: &'static str) -> Result<Request<Vec<u8>>, CallError> {
    request("GET", path_and_query, accept, Vec::new())
}

/// A request; a body is of the type `content`, which for one without a body is what is accepted.
pub(crate) fn request(
    method: &str,
    path_and_query: &str,
    content: &'static str,
    body: Vec<u8>,
) -> Result<Request<Vec<u8>>, CallError> {
    let builder = Request::builder().method(method).uri(path_and_query);
    let builder = if body.is_empty() {
        builder.header(header::ACCEPT, content)
    } else {
        builder.header(header::ACCEPT, JSON).header(header::CONTENT_TYPE, content)
    };
    builder.body(body).map_err(|e| CallError::Invalid(e.to_string()))
}

pub(crate) const JSON: &str = "application/json";

async fn read(body: Body, bytes_max: usize) -> Result<Bytes, CallError> {
    match Limited::new(body, bytes_max).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            Err(CallError::Unusable(format!("it has more than {bytes_max} bytes")))
        }
        Err(error) => Err(CallError::Unreachable(chain(&*error))),
    }
}

async fn within<T>(limit: Duration, act: impl Future<Output = Result<T, CallError>>) -> Result<T, CallError> {
    let late = || CallError::Unreachable(format!("no answer in {} s", limit.as_secs()));
    timeout(limit, act).await.unwrap_or_else(|_| Err(late()))
}

/// An error with its causes; what hides them is the rule in HTTP clients.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    // No chain is that long; one that cycles must not hold us.
    for _ in 0..8 {
        let Some(inner) = cause else { break };
        let said = inner.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = inner.source();
    }
    shorten(&text)
}

fn shorten(text: &str) -> String {
    text.trim().chars().take(500).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_apart_by_status_and_reason() {
        let said = |reason: &str| format!(r#"{{"kind":"Status","reason":"{reason}","message":"m"}}"#);
        let busy = r#"{"kind":"Status","message":"m","details":{"retryAfterSeconds":7}}"#;
        let m = || "m".to_owned();
        let unavailable = |status, after| CallError::Unavailable { status, reason: m(), after };
        for (status, body, want) in [
            (404, said("NotFound"), CallError::NotFound(m())),
            (409, said("AlreadyExists"), CallError::AlreadyExists(m())),
            (409, said("Conflict"), CallError::Conflict(m())),
            (403, said("Forbidden"), CallError::Forbidden(m())),
            (401, said("Unauthorized"), CallError::Unauthorized(m())),
            (410, said("Expired"), CallError::Gone(m())),
            (422, said("Invalid"), CallError::Invalid(m())),
            (400, "m".into(), CallError::Invalid(m())),
            (429, busy.into(), unavailable(429, Some(Duration::from_secs(7)))),
            (503, "m".into(), unavailable(503, None)),
            (500, said("InternalError"), unavailable(500, None)),
        ] {
            assert_eq!(CallError::of(status, body.as_bytes(), None), want, "{status} {body}");
        }
        // The header counts more than the body.
        let after = CallError::of(429, busy.as_bytes(), Some(Duration::from_secs(1))).after();
        assert_eq!(after, Some(Duration::from_secs(1)));
        assert_eq!(CallError::of(429, b"", Some(Duration::from_secs(9999))).after(), Some(limits::RETRY_AFTER_MAX));
    }
}
