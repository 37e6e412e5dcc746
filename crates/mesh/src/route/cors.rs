//! What pages of other origins may do (Fetch Standard, "CORS protocol").
//!
//! Only the answers are decided here. A request that is not allowed is not refused: the browser
//! keeps its response from the page, because the headers that would allow it are not there.

use super::{compile::Hit, head::Head, http::Cors};
use http::{HeaderName, HeaderValue, header};

/// Headers that are written to a response, in place of any of the name.
pub type Written = Vec<(HeaderName, HeaderValue)>;

/// What CORS says of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Crossing {
    /// Nothing: there is no rule for it, or no other origin asks, or the backend is to say.
    Silent,
    /// It is a preflight, and answered with 204 and these headers. One that is not allowed has none
    /// that allow it.
    Preflight(Written),
    /// It goes on, and these are written to its response. The backend's own of the names
    /// `access-control-*` are taken away before.
    Actual(Written),
}

impl Hit<'_> {
    /// What CORS says of a request.
    pub fn crossing(&self, head: &Head<'_>) -> Crossing {
        let Some(cors) = &self.rule.filters.cors else { return Crossing::Silent };
        let Some(origin) = head.headers.get(header::ORIGIN) else { return Crossing::Silent };
        let allowed = origin.to_str().is_ok_and(|text| self.ready.origins.iter().any(|wanted| wanted.is(text)));
        let method = head.headers.get(header::ACCESS_CONTROL_REQUEST_METHOD).filter(|_| head.method == "OPTIONS");
        match method {
            Some(_) if !allowed && cors.forward_unmatched => Crossing::Silent,
            Some(_) if !allowed => Crossing::Preflight(vec![varies()]),
            Some(method) => Crossing::Preflight(preflight(cors, origin, method, head)),
            None if !allowed => Crossing::Actual(vec![varies()]),
            None => Crossing::Actual(actual(cors, origin)),
        }
    }
}

/// The same request has another answer for another origin.
fn varies() -> (HeaderName, HeaderValue) {
    (header::VARY, HeaderValue::from_static("origin"))
}

fn origin_allowed(cors: &Cors, origin: &HeaderValue) -> Written {
    let mut written = vec![varies(), (header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone())];
    if cors.allow_credentials {
        written.push((header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true")));
    }
    written
}

fn actual(cors: &Cors, origin: &HeaderValue) -> Written {
    let mut written = origin_allowed(cors, origin);
    written.extend(list(header::ACCESS_CONTROL_EXPOSE_HEADERS, &cors.expose_headers));
    written
}

fn preflight(cors: &Cors, origin: &HeaderValue, method: &HeaderValue, head: &Head<'_>) -> Written {
    let mut written = origin_allowed(cors, origin);
    // With credentials `*` is a name like any other to browsers: what was asked for is repeated.
    let all = |names: &[crate::Str]| names.iter().any(|name| **name == *"*");
    match all(&cors.allow_methods) {
        true => written.push((header::ACCESS_CONTROL_ALLOW_METHODS, method.clone())),
        false => written.extend(list(header::ACCESS_CONTROL_ALLOW_METHODS, &cors.allow_methods)),
    }
    let asked = head.headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS);
    match (all(&cors.allow_headers), asked) {
        (true, Some(asked)) => written.push((header::ACCESS_CONTROL_ALLOW_HEADERS, asked.clone())),
        (true, None) => {}
        (false, _) => written.extend(list(header::ACCESS_CONTROL_ALLOW_HEADERS, &cors.allow_headers)),
    }
    if let Some(age) = cors.max_age {
        written.push((header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from(age.as_secs())));
    }
    written
}

fn list(name: HeaderName, values: &[crate::Str]) -> Option<(HeaderName, HeaderValue)> {
    let joined = values.iter().map(|value| &**value).collect::<Vec<_>>().join(", ");
    let value = HeaderValue::from_str(&joined).ok().filter(|_| !values.is_empty())?;
    Some((name, value))
}

#[cfg(test)]
mod tests;
