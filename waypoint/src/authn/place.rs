//! Where the tokens of a request are.

use super::header_name;
use http::{HeaderMap, header};
use mesh::{Str, route::guard::Issuer};

/// A place that may carry tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A header, and what stands before the token in it.
    Header(Str, Str),
    /// A query parameter.
    Param(Str),
    /// A cookie.
    Cookie(Str),
}

/// A token that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) place: Place,
    pub(super) token: String,
    /// Whose tokens may be there.
    pub(super) issuers: Vec<usize>,
}

impl Place {
    /// The places of an issuer; Istio's defaults if it names none.
    pub(super) fn of(issuer: &Issuer) -> Vec<Self> {
        if issuer.default_places() {
            return vec![Self::Header("authorization".into(), "Bearer ".into()), Self::Param("access_token".into())];
        }
        let headers = issuer.from_headers.iter().map(|(name, prefix)| Self::Header(name.clone(), prefix.clone()));
        let params = issuer.from_params.iter().cloned().map(Self::Param);
        headers.chain(params).chain(issuer.from_cookies.iter().cloned().map(Self::Cookie)).collect()
    }

    /// The tokens that a request has here.
    pub(super) fn tokens(&self, head: &http::request::Parts, issuers: &[usize]) -> Vec<Found> {
        let texts: Vec<String> = match self {
            Self::Header(name, prefix) => {
                let values = header_name(name).map(|name| head.headers.get_all(name));
                let values = values.iter().flatten().map(http::HeaderValue::as_bytes);
                values.filter_map(|value| after(value, prefix)).collect()
            }
            Self::Param(name) => {
                params(head.uri.query()).filter(|(key, _)| **key == **name).map(|(_, v)| decoded(v)).collect()
            }
            Self::Cookie(name) => {
                cookies(&head.headers).filter(|(key, _)| **key == **name).map(|(_, value)| value.to_owned()).collect()
            }
        };
        let full = texts.into_iter().filter(|token| !token.is_empty());
        full.map(|token| Found { place: self.clone(), token, issuers: issuers.to_vec() }).collect()
    }
}

/// What stands after a prefix; schemes of authentication are compared without case (RFC 9110 §11.1).
/// What is no text becomes a token that is none, and is refused as such.
fn after(value: &[u8], prefix: &str) -> Option<String> {
    let (head, rest) = value.split_at_checked(prefix.len())?;
    head.eq_ignore_ascii_case(prefix.as_bytes()).then(|| String::from_utf8_lossy(rest).trim().to_owned())
}

/// The parameters of a query as they are written.
pub(super) fn params(query: Option<&str>) -> impl Iterator<Item = (&str, &str)> {
    query.into_iter().flat_map(|query| query.split('&')).map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

fn decoded(value: &str) -> String {
    let bytes = value.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = bytes.get(at + 1..at + 3).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.filter(|_| bytes[at] == b'%').and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                plain.push(byte);
                at += 3;
            }
            None => {
                plain.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

/// The cookies of a request: name and value.
fn cookies(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    let texts = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let pairs = texts.flat_map(|text| text.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.map(|(name, value)| (name, value.trim_matches('"')))
}
