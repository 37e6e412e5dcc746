//! Filters of HTTPRoute and GRPCRoute.

use super::{
    Reader,
    refs::{BACKEND, backend},
    values::{bounded, header_name, header_value, hostname, only, share, up_to},
};
use crate::files::field::{Field, shorten};
use mesh::{
    Str,
    route::{
        http::{Cors, Filters, HeaderEdit, Mirror, PathRewrite, Redirect},
        text::TextMatch,
    },
};
use std::time::Duration;

/// What the filters of a rule, or of a backend, come to.
#[derive(Debug, Default)]
pub(super) struct Filtered {
    pub(super) filters: Filters,
    pub(super) redirect: Option<Redirect>,
    /// A path is put in the place of the prefix that was matched.
    pub(super) replaces_prefix: bool,
    /// A filter that cannot be honoured: requests must not pass without it.
    pub(super) failing: Option<Str>,
}

/// Where filters stand, which says what they may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    HttpRule,
    GrpcRule,
    Backend,
}

/// The filters, by what each is called and the field it keeps what it does in.
const KINDS: [(&str, &str); 8] = [
    ("RequestHeaderModifier", "requestHeaderModifier"),
    ("ResponseHeaderModifier", "responseHeaderModifier"),
    ("RequestMirror", "requestMirror"),
    ("RequestRedirect", "requestRedirect"),
    ("URLRewrite", "urlRewrite"),
    ("CORS", "cors"),
    ("ExternalAuth", "externalAuth"),
    ("ExtensionRef", "extensionRef"),
];

pub(super) fn filters(list: &Field<'_>, place: Place, reader: &Reader<'_>) -> Filtered {
    let mut all = Filtered::default();
    let mut seen: Vec<&str> = Vec::new();
    for field in up_to(list, 16) {
        let Some(kind) = kind(&field) else { continue };
        if seen.contains(&kind) && !matches!(kind, "RequestMirror" | "ExtensionRef") {
            field.at("type").note(format!("{kind} is there twice, and may be once"));
        }
        seen.push(kind);
        filter(&field, kind, place, reader, &mut all);
    }
    if seen.contains(&"RequestRedirect") && seen.contains(&"URLRewrite") {
        list.note("holds RequestRedirect and URLRewrite, of which only one may be there");
    }
    all
}

/// The type of a filter, whose own field and no other must be there.
fn kind(field: &Field<'_>) -> Option<&'static str> {
    let types: Vec<_> = KINDS.iter().map(|(name, own)| (*name, (*name, *own))).collect();
    if !field.at("type").is_there() {
        field.at("type").note("is missing");
    }
    let (kind, own) = field.at("type").one_of(&types)?;
    only(field, &["type", own]);
    if !field.at(own).is_there() {
        field.at(own).note(format!("is missing, and type is {kind}"));
        return None;
    }
    Some(kind)
}

fn filter(field: &Field<'_>, kind: &'static str, place: Place, reader: &Reader<'_>, all: &mut Filtered) {
    match (kind, place) {
        ("RequestHeaderModifier", _) => all.filters.request_headers = header_edit(&field.at("requestHeaderModifier")),
        ("ResponseHeaderModifier", _) => {
            all.filters.response_headers = header_edit(&field.at("responseHeaderModifier"))
        }
        ("RequestMirror", Place::HttpRule | Place::GrpcRule) => {
            all.filters.mirrors.push(mirror(&field.at("requestMirror"), reader));
        }
        ("RequestRedirect", Place::HttpRule) => {
            let (redirect, prefix) = redirect(&field.at("requestRedirect"));
            all.redirect = Some(redirect);
            all.replaces_prefix |= prefix;
        }
        ("URLRewrite", Place::HttpRule) => {
            let rewrite = field.at("urlRewrite");
            only(&rewrite, &["hostname", "path"]);
            all.filters.rewrite.host = host(&rewrite);
            all.filters.rewrite.path = path(&rewrite.at("path"));
            all.replaces_prefix |= matches!(all.filters.rewrite.path, Some(PathRewrite::Prefix(_)));
        }
        ("CORS", Place::HttpRule) => all.filters.cors = Some(cors(&field.at("cors"))),
        (kind, place) => {
            let whose = if place == Place::Backend { "a backend" } else { "a rule" };
            let message =
                format!("{kind} of {whose} is not honoured here; requests that need it are answered with 500");
            reader.remark(field, "Accepted", "UnsupportedValue", &message);
            all.failing = Some(format!("{}: {message}", field.path()).into());
        }
    }
}

fn header_edit(field: &Field<'_>) -> HeaderEdit {
    only(field, &["set", "add", "remove"]);
    let pairs = |list: Field<'_>| {
        let mut found: Vec<(Str, Str)> = Vec::new();
        for item in up_to(&list, 16) {
            only(&item, &["name", "value"]);
            let (Some(name), Some(value)) = (header_name(&item.at("name")), header_value(&item.at("value"))) else {
                continue;
            };
            // Of several of one name the first counts.
            if !found.iter().any(|(other, _)| *other == name) {
                found.push((name, value));
            }
        }
        found
    };
    HeaderEdit {
        set: pairs(field.at("set")),
        add: pairs(field.at("add")),
        remove: up_to(&field.at("remove"), 16).iter().filter_map(header_name).collect(),
    }
}

fn mirror(field: &Field<'_>, reader: &Reader<'_>) -> Mirror {
    only(field, &["backendRef", "percent", "fraction"]);
    let to = field.at("backendRef");
    if !to.is_there() {
        to.note("is missing");
    }
    only(&to, &BACKEND);
    Mirror { destination: backend(&to, reader), share: share(field) }
}

fn redirect(field: &Field<'_>) -> (Redirect, bool) {
    only(field, &["scheme", "hostname", "path", "port", "statusCode"]);
    let statuses = [301, 302, 303, 307, 308];
    let said = field.at("statusCode");
    let status = match said.is_there() {
        true => said.number().and_then(|status| u16::try_from(status).ok()).unwrap_or_default(),
        false => 302,
    };
    if !statuses.contains(&status) {
        said.note("is none of 301, 302, 303, 307, 308");
    }
    let scheme = field.at("scheme").one_of(&[("http", "http"), ("https", "https")]);
    let path = path(&field.at("path"));
    let prefix = matches!(path, Some(PathRewrite::Prefix(_)));
    (Redirect { scheme: scheme.map(Str::from), host: host(field), port: field.at("port").port(), path, status }, prefix)
}

fn host(field: &Field<'_>) -> Option<Str> {
    let host = field.at("hostname");
    if host.is_there() { hostname(&host, false) } else { None }
}

fn path(field: &Field<'_>) -> Option<PathRewrite> {
    if !field.is_there() {
        return None;
    }
    let kinds = [("ReplaceFullPath", "replaceFullPath"), ("ReplacePrefixMatch", "replacePrefixMatch")];
    if !field.at("type").is_there() {
        field.at("type").note("is missing");
    }
    let own = field.at("type").one_of(&kinds)?;
    only(field, &["type", own]);
    let value = field.at(own);
    if !value.is_there() {
        value.note("is missing");
    }
    let text = value.text()?;
    if text.len() > 1024 || text.contains(['?', '#']) || !text.bytes().all(|b| b.is_ascii_graphic()) {
        value.note(format!("{:?} is not a path of at most 1024 bytes", shorten(&text)));
        return None;
    }
    Some(if own == "replaceFullPath" { PathRewrite::Full(text) } else { PathRewrite::Prefix(text) })
}

fn cors(field: &Field<'_>) -> Cors {
    only(field, &["allowOrigins", "allowCredentials", "allowMethods", "allowHeaders", "exposeHeaders", "maxAge"]);
    let headers = |key: &str| -> Vec<Str> {
        let all = up_to(&field.at(key), 64);
        all.iter().filter_map(header_name).collect()
    };
    let methods = up_to(&field.at("allowMethods"), 9);
    let allow_methods: Vec<Str> =
        methods.iter().filter_map(|field| field.one_of(&METHODS_OR_ALL)).map(Str::from).collect();
    let origins = up_to(&field.at("allowOrigins"), 64);
    let allow_origins: Vec<TextMatch> = origins.iter().filter_map(origin).collect();
    let allow_headers = headers("allowHeaders");
    let alone = |key: &str, all: usize, star: bool| {
        if star && all > 1 {
            field.at(key).note("holds '*' beside others, and it must stand alone");
        }
    };
    alone("allowMethods", allow_methods.len(), allow_methods.iter().any(|it| &**it == "*"));
    alone("allowHeaders", allow_headers.len(), allow_headers.iter().any(|it| &**it == "*"));
    alone("allowOrigins", allow_origins.len(), allow_origins.contains(&TextMatch::Present));
    let age = field.at("maxAge");
    let seconds = if age.is_there() { age.number().unwrap_or(0) } else { 5 };
    if seconds == 0 {
        age.note("is not a number of seconds from 1");
    }
    Cors {
        allow_origins,
        allow_methods,
        allow_headers,
        expose_headers: headers("exposeHeaders"),
        allow_credentials: field.at("allowCredentials").flag().unwrap_or(false),
        max_age: Some(Duration::from_secs(seconds.into())),
        forward_unmatched: false,
    }
}

/// `*`, `https://a.example`, or a pattern whose `*` stands for one label or more.
fn origin(field: &Field<'_>) -> Option<TextMatch> {
    let text = bounded(field, 253)?;
    if &*text == "*" {
        return Some(TextMatch::Present);
    }
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let good = rest.is_some_and(|rest| {
        let (host, port) = rest.split_once(':').map_or((rest, "0"), |(host, port)| (host, port));
        let name = host.strip_prefix("*.").unwrap_or(host);
        let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.');
        let host = host == "*" || (!name.is_empty() && name.bytes().all(legal));
        host && !port.is_empty() && port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit())
    });
    if !good {
        field.note(format!("{:?} is not an origin like https://shop.example or https://*.example", shorten(&text)));
        return None;
    }
    Some(match text.split_once('*') {
        None => TextMatch::Exact(text),
        Some((before, after)) => {
            let (before, after) = (super::values::escaped(before), super::values::escaped(after));
            TextMatch::Regex(format!("{before}[A-Za-z0-9.-]+{after}").into())
        }
    })
}

/// The methods that the CRD knows.
pub(super) const METHODS: [(&str, &str); 9] = [
    ("GET", "GET"),
    ("HEAD", "HEAD"),
    ("POST", "POST"),
    ("PUT", "PUT"),
    ("DELETE", "DELETE"),
    ("CONNECT", "CONNECT"),
    ("OPTIONS", "OPTIONS"),
    ("TRACE", "TRACE"),
    ("PATCH", "PATCH"),
];

const METHODS_OR_ALL: [(&str, &str); 10] = [
    METHODS[0],
    METHODS[1],
    METHODS[2],
    METHODS[3],
    METHODS[4],
    METHODS[5],
    METHODS[6],
    METHODS[7],
    METHODS[8],
    ("*", "*"),
];
