//! What requests are told apart by: keys of rate limits, and keys of consistent hashing.

use super::{
    hash,
    head::Head,
    limit::{LimitKey, RateLimit},
    traffic::HashKey,
};
use serde_json::Value;
use std::borrow::Cow;

/// Between the parts of a key. No part has one: it is a control character.
const BETWEEN: char = '\u{1f}';

impl RateLimit {
    /// The text that a request is counted under; the same in every replica.
    pub fn key(&self, head: &Head<'_>) -> String {
        let mut text = String::new();
        for (at, key) in self.keys.iter().enumerate() {
            if at > 0 {
                text.push(BETWEEN);
            }
            let part = key.of(head).unwrap_or_default();
            text.extend(part.chars().filter(|c| *c != BETWEEN));
        }
        text
    }
}

impl LimitKey {
    /// What a request has there.
    pub fn of<'a>(&self, head: &Head<'a>) -> Option<Cow<'a, str>> {
        match self {
            Self::Header(name) => head.header(name),
            Self::Path => Some(head.path.into()),
            Self::Method => Some(head.method.into()),
            Self::Host => Some(head.host().into()),
            Self::CallerIdentity => head.caller.map(|caller| caller.to_string().into()),
            Self::CallerNamespace => head.caller_namespace().map(Cow::Borrowed),
            Self::CallerAddress => Some(head.remote_address.to_canonical().to_string().into()),
            Self::Claim(path) => head.claim(path).map(|value| match value {
                Value::String(text) => Cow::Borrowed(&**text),
                other => other.to_string().into(),
            }),
        }
    }
}

impl HashKey {
    /// The number that a request is placed by; none where it does not have the key: it is placed
    /// as if there were no key, and a cookie is made where that is wanted.
    pub fn of(&self, head: &Head<'_>) -> Option<u64> {
        match self {
            Self::Header(name) => head.header(name).map(|value| hash::of(&value)),
            Self::Cookie { name, .. } => head.cookie(name).map(hash::of),
            Self::SourceIp => Some(hash::of(&head.remote_address.to_canonical().to_string())),
            Self::Query(name) => head.query_parameter(name).map(|value| hash::of(&value)),
        }
    }

    /// The `set-cookie` for a request without its cookie: one with this value, which the request
    /// is placed by. None where no cookie is made.
    pub fn cookie_made(&self, value: &str) -> Option<String> {
        let Self::Cookie { name, path, ttl: Some(ttl) } = self else { return None };
        let path = path.as_deref().unwrap_or("/");
        let age = if ttl.is_zero() { String::new() } else { format!("; Max-Age={}", ttl.as_secs()) };
        Some(format!("{name}={value}; Path={path}{age}; HttpOnly"))
    }
}

#[cfg(test)]
mod tests;
