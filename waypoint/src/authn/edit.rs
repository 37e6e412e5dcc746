//! What the backend sees of tokens.

use super::{
    header_name,
    place::{Found, Place, params},
    token::{Judged, text_of},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderValue, header, uri::PathAndQuery};
use mesh::route::guard::Issuer;
use serde_json::Value;

/// Takes away every header in which claims go to the backend, whoever wrote it.
pub(super) fn remove_spoofed<'a>(issuers: impl Iterator<Item = &'a Issuer>, headers: &mut HeaderMap) {
    for issuer in issuers {
        let names = issuer.payload_header.iter().chain(issuer.claim_headers.iter().map(|(name, _)| name));
        for name in names.filter_map(header_name) {
            headers.remove(name);
        }
    }
}

/// Takes a token away from where it was found, unless the rule forwards it.
pub(super) fn strip(issuer: &Issuer, found: &Found, head: &mut http::request::Parts) {
    if issuer.forward_token {
        return;
    }
    match &found.place {
        Place::Header(name, _) => {
            let Some(name) = header_name(name) else { return };
            let carries = |value: &HeaderValue| contains(value.as_bytes(), found.token.as_bytes());
            let kept: Vec<HeaderValue> =
                head.headers.get_all(&name).into_iter().filter(|value| !carries(value)).cloned().collect();
            head.headers.remove(&name);
            for value in kept {
                head.headers.append(&name, value);
            }
        }
        Place::Param(name) => without_param(name, head),
        Place::Cookie(name) => without_cookie(name, &mut head.headers),
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len().max(1)).any(|window| window == part)
}

fn without_param(name: &str, head: &mut http::request::Parts) {
    let kept: Vec<&str> = head.uri.query().map_or(Vec::new(), |query| {
        query.split('&').filter(|pair| params(Some(pair)).all(|(key, _)| key != name)).collect()
    });
    let path = head.uri.path();
    let text = if kept.is_empty() { path.to_owned() } else { format!("{path}?{}", kept.join("&")) };
    let mut parts = head.uri.clone().into_parts();
    // A part of what was a path and a query is one again.
    parts.path_and_query = text.parse::<PathAndQuery>().ok().or(parts.path_and_query);
    if let Ok(uri) = http::Uri::from_parts(parts) {
        head.uri = uri;
    }
}

fn without_cookie(name: &str, headers: &mut HeaderMap) {
    let is_other = |pair: &&str| pair.trim().split_once('=').is_none_or(|(key, _)| key != name);
    let texts = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let kept: Vec<String> = texts.map(|text| text.split(';').filter(is_other).collect::<Vec<_>>().join(";")).collect();
    headers.remove(header::COOKIE);
    for text in kept.iter().map(|text| text.trim()).filter(|text| !text.is_empty()) {
        if let Ok(value) = HeaderValue::from_str(text) {
            headers.append(header::COOKIE, value);
        }
    }
}

/// Writes the headers in which the backend reads claims.
pub(super) fn tell_backend(issuer: &Issuer, judged: &Judged, headers: &mut HeaderMap) {
    let mut put = |name: Option<http::HeaderName>, value: &str| {
        // A claim that no header can carry is left out, as if the token did not have it.
        if let (Some(name), Ok(value)) = (name, HeaderValue::from_str(value)) {
            headers.insert(name, value);
        }
    };
    if let Some(name) = &issuer.payload_header {
        put(header_name(name), &judged.payload);
    }
    for (name, path) in &issuer.claim_headers {
        let text = judged.claims.at(path).and_then(|value| match value {
            Value::Array(_) | Value::Object(_) => Some(URL_SAFE_NO_PAD.encode(value.to_string())),
            value => text_of(value),
        });
        if let Some(text) = text {
            put(header_name(name), &text);
        }
    }
}
