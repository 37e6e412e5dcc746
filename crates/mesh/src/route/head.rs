//! What is known of a request when it is decided upon.
//!
//! Texts are as [`super::normal`] left them: what is decided here is decided upon the same bytes
//! that the backend gets. Nothing here reads a body.

use crate::Identity;
use http::HeaderMap;
use serde_json::Value;
use std::{borrow::Cow, net::IpAddr};

/// A request, before its body.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// Its method.
    pub method: &'a str,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// Host and, if it names one, port, in lower case.
    pub authority: &'a str,
    /// Its path, normalised, without the query.
    pub path: &'a str,
    /// What stands after the `?`.
    pub query: Option<&'a str>,
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// The port of the service that is asked.
    pub port: u16,
    /// The caller, as its certificate proved it; none in plaintext.
    pub caller: Option<&'a Identity>,
    /// Where the connection comes from.
    pub caller_address: IpAddr,
    /// The caller's address as trusted proxies before us tell it; without any that of the connection.
    pub remote_address: IpAddr,
    /// Claims of the token that it was authenticated with.
    pub claims: Option<&'a Value>,
}

impl<'a> Head<'a> {
    /// The host, without a port.
    pub fn host(&self) -> &'a str {
        split_port(self.authority).0
    }

    /// The port that the request names itself.
    pub fn named_port(&self) -> Option<u16> {
        split_port(self.authority).1.and_then(|port| port.parse().ok())
    }

    /// A header, by name; several of a name are one, joined by a comma. `host` and the
    /// pseudo-headers of HTTP/2 are what the request says of itself, whatever its version.
    /// Bytes that are no text become U+FFFD, so that the rest can still be compared.
    pub fn header(&self, name: &str) -> Option<Cow<'a, str>> {
        match name {
            "host" | ":authority" => return Some(self.authority.into()),
            ":method" => return Some(self.method.into()),
            ":scheme" => return Some(self.scheme.into()),
            ":path" => return Some(self.path_and_query()),
            _ => {}
        }
        let mut values = self.headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
        let first = values.next()?;
        Some(values.fold(first, |mut joined, value| {
            let text = joined.to_mut();
            text.push(',');
            text.push_str(&value);
            joined
        }))
    }

    /// Path and query as they go to the backend.
    pub fn path_and_query(&self) -> Cow<'a, str> {
        match self.query {
            None => self.path.into(),
            Some(query) => format!("{}?{query}", self.path).into(),
        }
    }

    /// The first query parameter of a name, decoded as forms encode it (`+` is a space).
    pub fn query_parameter(&self, name: &str) -> Option<Cow<'a, str>> {
        let pairs = self.query?.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let mut found = pairs.filter(|(key, _)| form_decoded(key) == name);
        found.next().map(|(_, value)| form_decoded(value))
    }

    /// The first cookie of a name, as it stands there.
    pub fn cookie(&self, name: &str) -> Option<&'a str> {
        let lines = self.headers.get_all(http::header::COOKIE).iter().filter_map(|line| line.to_str().ok());
        let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
        pairs.into_iter().find(|(key, _)| *key == name).map(|(_, value)| value.trim_matches('"'))
    }

    /// A claim, by its path of names.
    pub fn claim<S: AsRef<str>>(&self, path: &[S]) -> Option<&'a Value> {
        let claims = self.claims.filter(|_| !path.is_empty())?;
        path.iter().try_fold(claims, |within, name| within.get(name.as_ref()))
    }

    /// Whether one of the texts that a claim has is as wanted. A claim has its own text, or those
    /// of its list; `scope` and `permission` are lists with spaces (RFC 8693 §4.2). Numbers, truth
    /// values and objects are no text.
    pub fn claim_is<S: AsRef<str>>(&self, path: &[S], mut wanted: impl FnMut(&str) -> bool) -> bool {
        let spaced = path.len() == 1 && matches!(path[0].as_ref(), "scope" | "permission");
        match self.claim(path) {
            Some(Value::String(text)) if spaced => text.split_ascii_whitespace().any(wanted),
            Some(Value::String(text)) => wanted(text),
            Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).any(wanted),
            _ => false,
        }
    }

    /// Namespace of the caller, as its certificate proves it.
    pub fn caller_namespace(&self) -> Option<&'a str> {
        self.caller.map(|caller| &**caller.namespace())
    }
}

/// Host and port of an authority. The colons of an IPv6 address stand in brackets.
pub fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    }
}

/// A part of a query: `+` is a space, and what is percent-encoded stands for itself.
fn form_decoded(text: &str) -> Cow<'_, str> {
    if !text.contains(['+', '%']) {
        return text.into();
    }
    let (bytes, mut decoded, mut at) = (text.as_bytes(), Vec::with_capacity(text.len()), 0);
    while let Some(&byte) = bytes.get(at) {
        let escaped = (byte == b'%').then(|| super::normal::escaped(&bytes[at..])).flatten();
        decoded.push(match byte {
            b'+' => b' ',
            _ => escaped.unwrap_or(byte),
        });
        at += if escaped.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&decoded).into_owned().into()
}

#[cfg(test)]
mod tests;
