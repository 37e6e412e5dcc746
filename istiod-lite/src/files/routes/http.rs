//! The rules of HTTPRoute and GRPCRoute.

use super::{
    Reader,
    filters::{Filtered, METHODS, Place, filters},
    refs::{BACKEND, backend},
    values::{bounded, duration, escaped, header_name, header_value, only, token, up_to},
};
use crate::files::field::{Field, shorten};
use mesh::{
    Str,
    route::{
        Backend, Destination, HttpRule,
        http::{Action, HttpMatch, Retry, RetryOn, Session, SessionCarrier, Timeouts},
        text::{FieldMatch, PathMatch, TextMatch},
    },
};
use std::collections::BTreeSet;

/// Further tries where a route asks for them and does not say how many, as Istio does.
const ATTEMPTS: u32 = 2;

/// Matches of all rules of a route together, as its CRD says.
const MATCHES_MAX: usize = 128;

const RULE: [&str; 7] = ["name", "matches", "filters", "backendRefs", "timeouts", "retry", "sessionPersistence"];

/// The rules of a route; `grpc` says of which kind.
pub(super) fn rules(spec: &Field<'_>, grpc: bool, reader: &Reader<'_>) -> Vec<HttpRule> {
    let list = spec.at("rules");
    let fields = up_to(&list, 16);
    // What the CRD says a route without rules means. It has no backend, so it answers with 500.
    if fields.is_empty() && !grpc {
        return vec![HttpRule { name: "0".into(), matches: vec![everything()], ..HttpRule::default() }];
    }
    let rules: Vec<HttpRule> = fields.iter().enumerate().map(|(n, field)| rule(field, n, grpc, reader)).collect();
    if rules.iter().map(|rule| rule.matches.len()).sum::<usize>() > MATCHES_MAX {
        list.note(format!("have more than {MATCHES_MAX} matches together"));
    }
    let mut names = BTreeSet::new();
    if let Some(twice) = rules.iter().find(|rule| !names.insert(rule.name.clone())) {
        list.note(format!("have two rules of the name {}", twice.name));
    }
    rules
}

fn rule(field: &Field<'_>, place: usize, grpc: bool, reader: &Reader<'_>) -> HttpRule {
    only(field, if grpc { &["name", "matches", "filters", "backendRefs", "sessionPersistence"] } else { &RULE });
    let name = field.at("name");
    let name = if name.is_there() { bounded(&name, 253) } else { None };
    let filtered = filters(&field.at("filters"), if grpc { Place::GrpcRule } else { Place::HttpRule }, reader);
    let matches = up_to(&field.at("matches"), 64);
    let mut matches: Vec<HttpMatch> =
        matches.iter().map(|field| if grpc { grpc_match(field) } else { http_match(field) }).collect();
    if matches.is_empty() && !grpc {
        matches.push(everything());
    }
    let one_prefix = matches!(&matches[..], [HttpMatch { path: Some(PathMatch::PathPrefix(_)), .. }]);
    if filtered.replaces_prefix && !one_prefix {
        field.at("filters").note("replace a prefix, and the rule does not have exactly one match, of type PathPrefix");
    }
    let name = name.unwrap_or_else(|| place.to_string().into());
    let (session, timeouts) = (field.at("sessionPersistence"), field.at("timeouts"));
    HttpRule {
        matches,
        timeouts: timeouts_of(&timeouts),
        retry: retry(&field.at("retry")),
        session: session.is_there().then(|| session_of(&session, &name, reader)),
        action: action(field, &filtered, reader),
        filters: filtered.filters,
        name,
        ..HttpRule::default()
    }
}

fn everything() -> HttpMatch {
    HttpMatch { path: Some(PathMatch::PathPrefix("/".into())), ..HttpMatch::default() }
}

fn action(field: &Field<'_>, filtered: &Filtered, reader: &Reader<'_>) -> Action {
    let refs = field.at("backendRefs");
    let fields = up_to(&refs, 16);
    if filtered.redirect.is_some() && !fields.is_empty() {
        refs.note("stand beside RequestRedirect, which leaves nothing to send there");
    }
    // Read in any case, so that mistakes in it are found.
    let backends = fields.iter().map(|field| http_backend(field, reader)).collect();
    match (&filtered.failing, &filtered.redirect) {
        (Some(reason), _) => Action::Forward(vec![nowhere(reason)]),
        (None, Some(redirect)) => Action::Redirect(redirect.clone()),
        (None, None) => Action::Forward(backends),
    }
}

fn nowhere(reason: &Str) -> Backend {
    Backend {
        destination: Destination::Invalid { reason: reason.clone() },
        weight: 1,
        request_headers: Default::default(),
        response_headers: Default::default(),
    }
}

fn http_backend(field: &Field<'_>, reader: &Reader<'_>) -> Backend {
    let known = [&BACKEND[..], &["weight", "filters"]].concat();
    only(field, &known);
    let filtered = filters(&field.at("filters"), Place::Backend, reader);
    let destination = backend(field, reader);
    let destination = filtered.failing.map_or(destination, |reason| Destination::Invalid { reason });
    Backend {
        destination,
        weight: weight(&field.at("weight")),
        request_headers: filtered.filters.request_headers,
        response_headers: filtered.filters.response_headers,
    }
}

/// The weight of a backend.
pub(super) fn weight(field: &Field<'_>) -> u32 {
    if !field.is_there() {
        return 1;
    }
    let weight = field.number().unwrap_or(0);
    if weight > 1_000_000 {
        field.note("is more than 1000000");
    }
    weight
}

fn http_match(field: &Field<'_>) -> HttpMatch {
    only(field, &["path", "headers", "queryParams", "method"]);
    HttpMatch {
        path: path(&field.at("path")),
        method: field.at("method").one_of(&METHODS).map(|method| TextMatch::Exact(method.into())),
        headers: headers(&field.at("headers")),
        query: query(&field.at("queryParams")),
        ..HttpMatch::default()
    }
}

fn path(field: &Field<'_>) -> Option<PathMatch> {
    only(field, &["type", "value"]);
    let kinds = [("Exact", 0), ("PathPrefix", 1), ("RegularExpression", 2)];
    let said = field.at("type");
    let kind = if said.is_there() { said.one_of(&kinds)? } else { 1 };
    let value = field.at("value");
    let text = if value.is_there() { bounded(&value, 1024)? } else { "/".into() };
    match kind {
        2 => Some(PathMatch::Regex(text)),
        _ if !is_path(&text) => {
            let why = "is not an absolute path without '//', '/./', '/../', '%2f' and '#'";
            value.note(format!("{:?} {why}", shorten(&text)));
            None
        }
        0 => Some(PathMatch::Exact(text)),
        _ => Some(PathMatch::PathPrefix(text)),
    }
}

/// What the CRD takes for a path to compare with: one that normalising does not change.
fn is_path(text: &str) -> bool {
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"-/._~!$&'()*+,;=:@%".contains(&b);
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        let hex = rest.get(at + 1..at + 3).is_some_and(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
        if !hex {
            return false;
        }
        rest = &rest[at + 3..];
    }
    let bad = ["//", "/./", "/../", "%2f", "%2F"];
    text.starts_with('/')
        && text.bytes().all(legal)
        && !bad.iter().any(|bad| text.contains(bad))
        && !text.ends_with("/..")
        && !text.ends_with("/.")
}

fn headers(list: &Field<'_>) -> Vec<FieldMatch> {
    fields(list, header_name, header_value)
}

fn query(list: &Field<'_>) -> Vec<FieldMatch> {
    fields(list, token, |field| bounded(field, 1024))
}

/// Of several matches of one name the first counts.
fn fields(
    list: &Field<'_>,
    name: impl Fn(&Field<'_>) -> Option<Str>,
    value: impl Fn(&Field<'_>) -> Option<Str>,
) -> Vec<FieldMatch> {
    let mut found: Vec<FieldMatch> = Vec::new();
    for field in up_to(list, 16) {
        only(&field, &["type", "name", "value"]);
        let (Some(name), Some(value)) = (name(&field.at("name")), value(&field.at("value"))) else { continue };
        let kind = field.at("type");
        let regex = kind.is_there() && kind.one_of(&[("Exact", false), ("RegularExpression", true)]).unwrap_or(false);
        let value = if regex { TextMatch::Regex(value) } else { TextMatch::Exact(value) };
        if !found.iter().any(|other| other.name == name) {
            found.push(FieldMatch { name, value, ignore_case: false });
        }
    }
    found
}

/// A call of gRPC is a POST of `/package.Service/Method`.
fn grpc_match(field: &Field<'_>) -> HttpMatch {
    only(field, &["method", "headers"]);
    HttpMatch { path: grpc_path(&field.at("method")), headers: headers(&field.at("headers")), ..HttpMatch::default() }
}

fn grpc_path(field: &Field<'_>) -> Option<PathMatch> {
    if !field.is_there() {
        return None;
    }
    only(field, &["type", "service", "method"]);
    let kind = field.at("type");
    let regex = kind.is_there() && kind.one_of(&[("Exact", false), ("RegularExpression", true)]).unwrap_or(false);
    let said = |key: &str| {
        let field = field.at(key);
        let text = if field.is_there() { bounded(&field, 1024) } else { None };
        let legal = |text: &Str| regex || (!text.contains('/') && text.bytes().all(|b| b.is_ascii_graphic()));
        if let Some(text) = text.as_ref().filter(|text| !legal(text)) {
            field.note(format!("{:?} is not a name of gRPC", shorten(text)));
        }
        text
    };
    match (said("service"), said("method")) {
        (None, None) => {
            field.note("names neither service nor method");
            None
        }
        (service, method) if regex => {
            let any = || "[^/]+".into();
            let (service, method) = (service.unwrap_or_else(any), method.unwrap_or_else(any));
            Some(PathMatch::Regex(format!("/(?:{service})/(?:{method})").into()))
        }
        (Some(service), Some(method)) => Some(PathMatch::Exact(format!("/{service}/{method}").into())),
        (Some(service), None) => Some(PathMatch::PathPrefix(format!("/{service}").into())),
        (None, Some(method)) => Some(PathMatch::Regex(format!("/[^/]+/{}", escaped(&method)).into())),
    }
}

fn timeouts_of(field: &Field<'_>) -> Timeouts {
    only(field, &["request", "backendRequest"]);
    let (request, backend_request) = (duration(&field.at("request")), duration(&field.at("backendRequest")));
    if let (Some(whole), Some(one)) = (request, backend_request)
        && one > whole
    {
        field.at("backendRequest").note("is longer than request, of which it is a part");
    }
    Timeouts { request, backend_request, idle: None }
}

fn retry(field: &Field<'_>) -> Option<Retry> {
    if !field.is_there() {
        return None;
    }
    only(field, &["codes", "attempts", "backoff"]);
    let code = |field: &Field<'_>| {
        let code = field.number().and_then(|code| u16::try_from(code).ok()).filter(|code| (400..600).contains(code));
        if code.is_none() {
            field.note("is not a status from 400 to 599");
        }
        code
    };
    let attempts = field.at("attempts");
    let count = if attempts.is_there() { attempts.number().unwrap_or(0) } else { ATTEMPTS };
    if count == 0 {
        attempts.note("is not a number from 1");
    }
    // GEP-1731: a failure to connect, and a connection that breaks, are always worth another try.
    let status = field.at("codes").list().iter().filter_map(code).collect();
    let on = RetryOn { connect_failure: true, refused_stream: true, reset: true, status, ..RetryOn::default() };
    Some(Retry { attempts: count, per_try_timeout: None, on, backoff: duration(&field.at("backoff")) })
}

fn session_of(field: &Field<'_>, rule: &Str, reader: &Reader<'_>) -> Session {
    only(field, &["sessionName", "absoluteTimeout", "type", "cookieConfig"]);
    let (name, cookie) = (field.at("sessionName"), field.at("cookieConfig"));
    let said = if name.is_there() { token(&name) } else { None };
    if said.as_ref().is_some_and(|name| name.len() > 128) {
        name.note("is longer than 128 bytes");
    }
    let header = field.at("type").one_of(&[("Cookie", false), ("Header", true)]).unwrap_or(false);
    if header && cookie.is_there() {
        cookie.note("stands beside type Header");
    }
    only(&cookie, &["lifetimeType"]);
    let permanent = cookie.at("lifetimeType").one_of(&[("Permanent", true), ("Session", false)]).unwrap_or(false);
    let absolute_timeout = duration(&field.at("absoluteTimeout"));
    if permanent && absolute_timeout.is_none() {
        field.at("absoluteTimeout").note("is missing, and the cookie is Permanent");
    }
    // The same in every replica and at every time, and different for each rule.
    let generated = || format!("session-{}-{}-{rule}", reader.namespace, reader.name).replace('.', "-").into();
    let carrier = match (header, permanent) {
        (true, _) => SessionCarrier::Header,
        (false, true) => SessionCarrier::PermanentCookie,
        (false, false) => SessionCarrier::SessionCookie,
    };
    let name = said.unwrap_or_else(generated);
    let name = if header { name.to_ascii_lowercase().into() } else { name };
    Session { name, carrier, absolute_timeout, idle_timeout: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_what_normalising_leaves_as_it_is() {
        for (text, good) in [
            ("/", true),
            ("/a/b.c~d/", true),
            ("/a%20b", true),
            ("a", false),
            ("/a//b", false),
            ("/a/./b", false),
            ("/a/..", false),
            ("/a/.", false),
            ("/a%2fb", false),
            ("/a%2Fb", false),
            ("/a%zz", false),
            ("/a%2", false),
            ("/a#b", false),
            ("/a?b", false),
            ("/ä", false),
        ] {
            assert_eq!(is_path(text), good, "{text}");
        }
    }
}
