//! An authorizer that is asked with the request itself: 200 lets it pass, any other status below 500
//! refuses it and is told to the caller. 500 and above is no answer, as with Envoy.

use super::{Changes, Subject, Verdict, denied};
use crate::external::{
    call::{Asking, Call, CallFailed, within},
    edit::{Edit, How},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use mesh::{
    Str,
    route::{
        guard::{AuthorizerProtocol, ExternalAuthorizer},
        traffic::HttpVersion,
    },
};
use std::sync::Arc;
use tonic::body::Body;

/// The longest body of a refusal.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// What callers always get of a refusal: without these a challenge or a redirection is none.
const ALWAYS_ON_DENY: &[&str] = &["www-authenticate", "location", "content-type"];

pub(super) async fn ask(
    call: &Arc<dyn Call>,
    authorizer: &ExternalAuthorizer,
    subject: &Subject<'_>,
) -> Result<Verdict, CallFailed> {
    let AuthorizerProtocol::Http {
        path_prefix,
        include_headers,
        add_headers,
        to_backend,
        to_caller_on_allow,
        to_caller_on_deny,
    } = &authorizer.protocol
    else {
        return Err(CallFailed::Nobody("it is no HTTP authorizer".into()));
    };
    let path = subject.head.uri.path_and_query().map_or("/", |path| path.as_str());
    // It sees the host that the caller asked for, as Envoy's authorizers do; where the request goes
    // is the destination's to say.
    let uri = format!("http://{}{path_prefix}{path}", subject.authority);
    let body = subject.body.map(|part| part.bytes.clone()).unwrap_or_default();
    let mut request = Request::builder().method(subject.head.method.clone()).uri(uri);
    if let Some(headers) = request.headers_mut() {
        shown_headers(headers, subject, include_headers, add_headers, body.len());
    }
    let unreadable = |error: http::Error| CallFailed::Unreadable(error.to_string());
    let request = request.body(Body::new(Full::new(body))).map_err(unreadable)?;
    let asking = Asking { destination: authorizer.destination.clone(), version: HttpVersion::Http1, request };
    let answer = async {
        let response = call.call(asking).await?;
        let (head, body) = response.into_parts();
        if head.status.is_server_error() {
            return Err(CallFailed::Unreadable(format!("its status is {}", head.status.as_u16())));
        }
        if head.status == StatusCode::OK {
            let request = picked(&head.headers, to_backend, &[], How::Overwrite);
            let response = picked(&head.headers, to_caller_on_allow, &[], How::Append);
            return Ok(Verdict::Pass(Changes { request, response, ..Changes::default() }));
        }
        let body = Limited::new(body, BODY_BYTES_MAX).collect().await;
        let body: Bytes = body.map_err(|error| CallFailed::Unreadable(error.to_string()))?.to_bytes();
        let edits = picked(&head.headers, to_caller_on_deny, ALWAYS_ON_DENY, How::Append);
        Ok(Verdict::Refuse(denied(head.status.as_u16().into(), &edits, body)))
    };
    within(authorizer.timeout, answer).await
}

/// What the authorizer sees: host and length always, and what the policy names.
fn shown_headers(headers: &mut HeaderMap, subject: &Subject<'_>, include: &[Str], add: &[(Str, Str)], length: usize) {
    for (name, value) in &subject.head.headers {
        if name != header::HOST && name != header::CONTENT_LENGTH && is_listed(name, include) {
            headers.append(name, value.clone());
        }
    }
    for (name, value) in add {
        if let Some(edit) = Edit::of(name, value.as_bytes(), How::Overwrite) {
            edit.apply(headers);
        }
    }
    // An authority that no header can carry was refused long before.
    headers.insert(header::HOST, HeaderValue::from_str(subject.authority).unwrap_or(HeaderValue::from_static("")));
    headers.insert(header::CONTENT_LENGTH, length.into());
    if let Some(part) = subject.body {
        headers.insert("x-envoy-auth-partial-body", HeaderValue::from_static(if part.cut { "true" } else { "false" }));
    }
}

/// The headers of an answer that are taken over.
fn picked(headers: &HeaderMap, listed: &[Str], always: &[&str], how: How) -> Vec<Edit> {
    let mut picked: Vec<Edit> = Vec::new();
    for (name, value) in headers {
        if !is_listed(name, listed) && !always.contains(&name.as_str()) {
            continue;
        }
        // Of several of a name the further ones stand beside the first.
        let how = if picked.iter().any(|edit| edit.name == *name) { How::Append } else { how };
        picked.extend(Edit::of(name.as_str(), value.as_bytes(), how));
    }
    picked
}

/// Whether a list has a name: as it is, or by a prefix or suffix with `*`. Lists are lower case.
fn is_listed(name: &HeaderName, list: &[Str]) -> bool {
    let name = name.as_str();
    list.iter().any(|entry| match (entry.strip_prefix('*'), entry.strip_suffix('*')) {
        (Some(suffix), _) => name.ends_with(suffix),
        (_, Some(prefix)) => name.starts_with(prefix),
        _ => name.eq_ignore_ascii_case(entry),
    })
}
