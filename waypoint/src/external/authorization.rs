//! An external authorizer (a CUSTOM policy): what it is asked, and what becomes of the request.
//!
//! Over gRPC it is `envoy.service.auth.v3`, over HTTP the request again without its body. Its answer
//! may change headers, but never those that say where a message ends or whom it is for. What it
//! cannot say, because it does not answer or answers nonsense, is decided by the policy: refused,
//! unless the policy says that requests pass then.

mod grpc;
mod http_service;

use super::{
    call::{Call, CallFailed},
    edit::{Edit, edit_query, is_free},
    shown::Part,
};
use crate::report::{Flag, details};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, Response, StatusCode, request};
use mesh::{
    Identity,
    route::guard::{AuthorizerProtocol, ExternalAuthorizer},
};
use std::{net::SocketAddr, sync::Arc, time::SystemTime};

/// What an authorizer is told of a request.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Method, URI, version and headers, as the waypoint normalised them.
    pub head: &'a request::Parts,
    /// Its host, and port if it names one.
    pub authority: &'a str,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// When its first byte came.
    pub time: SystemTime,
    /// The caller's address.
    pub source: SocketAddr,
    /// The caller, as its certificate proves it.
    pub source_identity: Option<&'a Identity>,
    /// What the caller dialled.
    pub destination: SocketAddr,
    /// Who we are.
    pub own_identity: Option<&'a Identity>,
    /// Server name of TLS, if it was read.
    pub server_name: Option<&'a str>,
    /// What is shown of its body; none: nothing.
    pub body: Option<&'a Part>,
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It passes, changed so.
    Pass(Changes),
    /// It is refused.
    Refuse(Denied),
}

/// What an authorizer changes of a request that passes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    request: Vec<Edit>,
    remove: Vec<HeaderName>,
    query_set: Vec<(String, String)>,
    query_remove: Vec<String>,
    response: Vec<Edit>,
    /// It was not asked at all: it does not answer, and requests pass then.
    pub failed_open: bool,
}

impl Changes {
    /// Changes the request: first removed, then written, as Envoy does.
    pub fn request(&self, head: &mut request::Parts) {
        for name in &self.remove {
            head.headers.remove(name);
        }
        for edit in &self.request {
            edit.apply(&mut head.headers);
        }
        edit_query(&mut head.uri, &self.query_set, &self.query_remove);
    }

    /// Changes the response.
    pub fn response(&self, headers: &mut HeaderMap) {
        for edit in &self.response {
            edit.apply(headers);
        }
    }
}

/// An answer for the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
    /// Why, in the words of the log.
    pub details: &'static str,
}

impl Denied {
    fn plain(status: StatusCode, details: &'static str) -> Self {
        Self { status, headers: HeaderMap::new(), body: Bytes::new(), details }
    }

    /// A body is longer than the authorizer may be shown.
    pub fn too_large() -> Self {
        Self::plain(StatusCode::PAYLOAD_TOO_LARGE, details::REQUEST_TOO_LARGE)
    }

    /// The flag in logs.
    pub const fn flag(&self) -> Flag {
        Flag::UnauthorizedExternal
    }

    /// The answer.
    pub fn response(self) -> Response<Bytes> {
        let mut response = Response::new(self.body);
        (*response.status_mut(), *response.headers_mut()) = (self.status, self.headers);
        response
    }
}

/// Asks an authorizer. What cannot be said is decided by what the policy says of that.
pub async fn ask(call: &Arc<dyn Call>, authorizer: &ExternalAuthorizer, subject: &Subject<'_>) -> Verdict {
    let answer = match &authorizer.protocol {
        AuthorizerProtocol::Grpc => grpc::ask(call, authorizer, subject).await,
        AuthorizerProtocol::Http { .. } => http_service::ask(call, authorizer, subject).await,
    };
    answer.unwrap_or_else(|error| unanswered(authorizer, &error))
}

fn unanswered(authorizer: &ExternalAuthorizer, error: &CallFailed) -> Verdict {
    let what = if authorizer.fail_open { "passes" } else { "is refused" };
    tracing::warn!(authorizer = &*authorizer.name, "the authorizer does not answer, the request {what}: {error}");
    if authorizer.fail_open {
        return Verdict::Pass(Changes { failed_open: true, ..Changes::default() });
    }
    let status = StatusCode::from_u16(authorizer.status_on_error).unwrap_or(StatusCode::FORBIDDEN);
    Verdict::Refuse(Denied::plain(status, details::EXT_AUTHZ_ERROR))
}

/// A refusal as an authorizer wants it; a status that no answer can have is 403.
fn denied(status: i64, edits: &[Edit], body: Bytes) -> Denied {
    let status = u16::try_from(status).ok().filter(|status| (200..600).contains(status));
    let status = status.and_then(|status| StatusCode::from_u16(status).ok()).unwrap_or(StatusCode::FORBIDDEN);
    let mut denied = Denied { body, ..Denied::plain(status, details::EXT_AUTHZ_DENIED) };
    edits.iter().for_each(|edit| edit.apply(&mut denied.headers));
    denied
}

/// Names of headers that may be taken away.
fn removable(names: Vec<String>) -> Vec<HeaderName> {
    names.iter().filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok()).filter(is_free).collect()
}
