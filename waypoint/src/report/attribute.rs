//! Fields of a request by the names that Istio's expressions give them (`request.host`,
//! `response.code`, `source.workload`, …), for filters of logs and for labels that users add.

use super::{outcome::Outcome, party::Party};
use std::borrow::Cow;

/// A field that can be named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attribute {
    /// Always this text.
    Literal(String),
    /// A header of the request, by name in lower case.
    Header(String),
    /// A field, by its name as written.
    Field(&'static str),
}

/// Every field that can be named.
const FIELDS: &[&str] = &[
    "request.method",
    "request.path",
    "request.url_path",
    "request.host",
    "request.scheme",
    "request.id",
    "request.useragent",
    "request.protocol",
    "request.size",
    "request.duration",
    "response.code",
    "response.flags",
    "response.size",
    "response.code_details",
    "response.grpc_status",
    "connection.mtls",
    "connection.requested_server_name",
    "source.address",
    "source.principal",
    "source.workload",
    "source.namespace",
    "destination.address",
    "destination.port",
    "destination.principal",
    "destination.workload",
    "destination.namespace",
    "destination.service",
    "route_name",
    "upstream_cluster",
];

/// A text that names no field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither a quoted text nor a field such as request.host or request.headers['x']")]
pub struct NoSuchField(String);

impl Attribute {
    /// Reads `'text'`, `request.headers['name']`, a field's name, or one of these in `string(…)`.
    pub fn parse(text: &str) -> Result<Self, NoSuchField> {
        let whole = || NoSuchField(text.chars().take(200).collect());
        let inner = text.trim();
        let inner = inner.strip_prefix("string(").and_then(|rest| rest.strip_suffix(')')).unwrap_or(inner).trim();
        if let Some(literal) = unquoted(inner) {
            return Ok(Self::Literal(literal.to_owned()));
        }
        if let Some(name) = inner.strip_prefix("request.headers[").and_then(|rest| rest.strip_suffix(']')) {
            return unquoted(name.trim()).map(|name| Self::Header(name.to_ascii_lowercase())).ok_or_else(whole);
        }
        FIELDS.iter().find(|field| **field == inner).map(|field| Self::Field(field)).ok_or_else(whole)
    }

    /// Its value for a request; none: the request does not have it.
    pub fn of<'a>(&'a self, outcome: &'a Outcome) -> Option<Cow<'a, str>> {
        match self {
            Self::Literal(text) => Some(Cow::Borrowed(text)),
            Self::Header(name) => outcome.header(name).map(Cow::Borrowed),
            Self::Field(name) => field(outcome, name),
        }
    }
}

fn unquoted(text: &str) -> Option<&str> {
    ['\'', '"'].into_iter().find_map(|quote| {
        let inner = text.strip_prefix(quote)?.strip_suffix(quote)?;
        (!inner.contains(quote)).then_some(inner)
    })
}

/// A field of a request by name; none: it does not have it, or there is no such field.
pub fn field<'a>(o: &'a Outcome, name: &str) -> Option<Cow<'a, str>> {
    let owned = |text: String| Some(Cow::Owned(text));
    let some = |text: &'a str| (!text.is_empty()).then_some(Cow::Borrowed(text));
    let party = |party: &'a Party, field: &str| match field {
        "principal" => some(&party.principal),
        "workload" => some(&party.workload),
        _ => some(&party.namespace),
    };
    match name {
        "request.method" => Some(Cow::Borrowed(o.method.as_str())),
        "request.path" => some(&o.path),
        "request.url_path" => some(o.path.split('?').next().unwrap_or_default()),
        "request.host" => some(&o.authority),
        "request.scheme" => Some(Cow::Borrowed(o.header("x-forwarded-proto").unwrap_or("http"))),
        "request.id" => some(&o.request_id),
        "request.useragent" => o.header("user-agent").map(Cow::Borrowed),
        "request.protocol" => Some(Cow::Borrowed(o.protocol.label())),
        "request.size" => owned(o.received_bytes.to_string()),
        "request.duration" => owned(o.duration.as_millis().to_string()),
        "response.code" => owned(o.status.to_string()),
        "response.flags" => owned(o.flags.to_string()),
        "response.size" => owned(o.sent_bytes.to_string()),
        "response.code_details" => some(&o.details),
        "response.grpc_status" => o.grpc_status.map(|status| Cow::Owned(status.to_string())),
        "connection.mtls" => Some(Cow::Borrowed(if o.security.label() == "mutual_tls" { "true" } else { "false" })),
        "connection.requested_server_name" => o.server_name.as_deref().map(Cow::Borrowed),
        "source.address" => o.downstream_remote.map(|address| Cow::Owned(address.to_string())),
        "destination.address" => o.upstream.map(|address| Cow::Owned(address.to_string())),
        "destination.port" => o.upstream.map(|address| Cow::Owned(address.port().to_string())),
        "destination.service" => some(&o.service.host),
        "route_name" => some(&o.route),
        "upstream_cluster" => some(&o.cluster),
        _ => {
            let (end, of) = name.split_once('.')?;
            let known = matches!(of, "principal" | "workload" | "namespace");
            match end {
                "source" if known => party(&o.source, of),
                "destination" if known => party(&o.destination, of),
                _ => None,
            }
        }
    }
}
