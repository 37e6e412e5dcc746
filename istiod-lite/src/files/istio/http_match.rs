//! What a route of a VirtualService asks of requests.

use crate::files::{
    field::{Field, shorten},
    value::{claim_path, header_name, known, text_match},
};
use mesh::{
    Str,
    route::{
        http::HttpMatch,
        text::{FieldMatch, PathMatch, TextMatch},
    },
};

/// What stands before the name of a claim in the place of a header.
const CLAIMS: &str = "@request.auth.claims";

/// The alternatives; `None` when there are some and none of them can ever hit.
pub(super) fn all(field: &Field<'_>) -> Option<Vec<HttpMatch>> {
    let asked = field.list();
    let found: Vec<HttpMatch> = asked.iter().filter_map(one).collect();
    (asked.is_empty() || !found.is_empty()).then_some(found)
}

/// One alternative; `None` when it can never hit, because it asks for what waypoints cannot tell.
fn one(field: &Field<'_>) -> Option<HttpMatch> {
    known(
        field,
        &[
            "name",
            "uri",
            "scheme",
            "method",
            "authority",
            "headers",
            "withoutHeaders",
            "queryParams",
            "ignoreUriCase",
            "port",
            "sourceNamespace",
            "sourceLabels",
            "gateways",
            "statPrefix",
        ],
    );
    let mut hits = reachable(field);
    let path = path(&field.at("uri"));
    let mut found = HttpMatch {
        path_ignore_case: field.at("ignoreUriCase").flag().unwrap_or(false)
            && !matches!(path, Some(PathMatch::Regex(_)) | None),
        path,
        method: text(&field.at("method")),
        scheme: text(&field.at("scheme")),
        authority: text(&field.at("authority")),
        query: query(&field.at("queryParams")),
        ports: field.at("port").port().into_iter().collect(),
        caller_namespace: field.at("sourceNamespace").text().filter(|name| !name.is_empty()),
        ..HttpMatch::default()
    };
    for (name, value) in field.at("headers").members() {
        match asked_of(&value, &name) {
            Asked::Header(asked) => found.headers.push(asked),
            Asked::Claim(path, value) => found.claims.push((path, value)),
            Asked::Nothing => {}
        }
    }
    for (name, value) in field.at("withoutHeaders").members() {
        match asked_of(&value, &name) {
            Asked::Header(asked) => found.without_headers.push(asked),
            Asked::Claim(..) => {
                value.remark("asks for a claim that is not there, which waypoints cannot tell: the match never hits");
                hits = false;
            }
            Asked::Nothing => {}
        }
    }
    hits.then_some(found)
}

/// Whether a match, of requests or connections, asks only for callers that waypoints can tell apart.
pub(super) fn reachable(field: &Field<'_>) -> bool {
    let mut hits = true;
    let labels = field.at("sourceLabels");
    if !labels.members().is_empty() {
        labels.remark("waypoints do not know the labels of callers: the match never hits");
        hits = false;
    }
    let gateways = field.at("gateways");
    let names: Vec<Str> = gateways.list().iter().filter_map(Field::text).collect();
    if !names.is_empty() && !names.iter().any(|name| &**name == "mesh") {
        gateways.remark("does not hold `mesh`: the match never hits");
        hits = false;
    }
    hits
}

fn path(field: &Field<'_>) -> Option<PathMatch> {
    match text(field)? {
        TextMatch::Exact(path) => Some(PathMatch::Exact(path)),
        TextMatch::Prefix(path) => Some(PathMatch::Prefix(path)),
        TextMatch::Regex(path) => Some(PathMatch::Regex(path)),
        TextMatch::Suffix(_) | TextMatch::Contains(_) | TextMatch::Present => None,
    }
}

/// A match of what every request has, so that asking only for its presence is a mistake.
fn text(field: &Field<'_>) -> Option<TextMatch> {
    let found = text_match(field)?;
    if found == TextMatch::Present {
        field.note("says none of exact, prefix, regex");
        return None;
    }
    Some(found)
}

fn query(field: &Field<'_>) -> Vec<FieldMatch> {
    let one =
        |(name, value): (Str, Field<'_>)| Some(FieldMatch { name, value: text_match(&value)?, ignore_case: false });
    field.members().into_iter().filter_map(one).collect()
}

enum Asked {
    Header(FieldMatch),
    Claim(Vec<Str>, TextMatch),
    Nothing,
}

fn asked_of(field: &Field<'_>, name: &str) -> Asked {
    let value = text_match(field).unwrap_or(TextMatch::Present);
    if let Some(rest) = name.strip_prefix(CLAIMS) {
        return match claim_path(rest) {
            Some(path) => Asked::Claim(path, value),
            None => {
                field.note(format!("{:?} names no claim", shorten(name)));
                Asked::Nothing
            }
        };
    }
    // As in Istio, where these have fields of their own.
    if matches!(name, "uri" | "scheme" | "method" | "authority") {
        field.remark("is not asked for: it has a field of its own beside `headers`");
        return Asked::Nothing;
    }
    match header_name(field, name) {
        Some(name) => Asked::Header(FieldMatch { name, value, ignore_case: false }),
        None => Asked::Nothing,
    }
}
