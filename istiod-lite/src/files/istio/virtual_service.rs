//! VirtualService: for which hosts it is, and its routes in their order.

use super::{exports, http_action, http_match, stream};
use crate::{
    facts::{Meta, VirtualRoute, VirtualService},
    files::{
        field::{Field, shorten},
        value::{known, unhonoured},
    },
};
use mesh::{
    Str,
    route::{Destination, HttpRule, http::Action},
};

pub(super) fn virtual_service(object: &Field<'_>, meta: Meta) -> VirtualService {
    let spec = object.at("spec");
    known(&spec, &["hosts", "gateways", "exportTo", "http", "tls", "tcp"]);
    let gateways: Vec<Str> = spec.at("gateways").list().iter().filter_map(Field::text).collect();
    let for_mesh = gateways.is_empty() || gateways.iter().any(|name| &**name == "mesh");
    if gateways.iter().any(|name| &**name != "mesh") {
        spec.at("gateways").remark("only `mesh` is honoured: gateways at the edge are served by somebody else");
    }
    VirtualService {
        hosts: spec.at("hosts").list().iter().filter_map(host).collect(),
        for_mesh,
        exports: exports(&spec.at("exportTo"), &meta.namespace),
        http: spec.at("http").list().iter().enumerate().filter_map(|(n, field)| route(field, n, &meta)).collect(),
        tls: spec.at("tls").list().iter().flat_map(|field| stream::tls(field, &meta)).collect(),
        tcp: spec.at("tcp").list().iter().flat_map(|field| stream::tcp(field, &meta)).collect(),
        refused: Vec::new(),
        unheeded: Vec::new(),
        meta,
    }
}

/// A host as written; `*` may only be its first label.
pub(super) fn host(field: &Field<'_>) -> Option<Str> {
    let text = field.text()?.to_ascii_lowercase();
    let name = text.strip_prefix("*.").unwrap_or(if text == "*" { "all" } else { &text });
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    if name.is_empty() || name.len() > mesh::limits::NAME_BYTES_MAX || !name.bytes().all(legal) {
        field.note(format!("{:?} is not a host, nor `*.` before one", shorten(&text)));
        return None;
    }
    Some(text.into())
}

/// One route; `None` when it never hits.
fn route(field: &Field<'_>, place: usize, meta: &Meta) -> Option<VirtualRoute> {
    known(
        field,
        &[
            "name",
            "match",
            "route",
            "redirect",
            "directResponse",
            "delegate",
            "rewrite",
            "timeout",
            "retries",
            "fault",
            "mirror",
            "mirrors",
            "mirrorPercent",
            "mirror_percent",
            "mirrorPercentage",
            "corsPolicy",
            "headers",
        ],
    );
    let own = &meta.namespace;
    let mut rule = HttpRule {
        name: field.at("name").text().filter(|name| !name.is_empty()).unwrap_or_else(|| place.to_string().into()),
        action: Action::Forward(Vec::new()),
        filters: http_action::filters(field, own),
        timeouts: http_action::timeouts(field),
        retry: http_action::retry(&field.at("retries")),
        faults: http_action::fault(&field.at("fault")),
        ..HttpRule::default()
    };
    let said = ["route", "redirect", "directResponse", "delegate"].into_iter().filter(|key| field.at(key).is_there());
    match said.collect::<Vec<_>>()[..] {
        ["route"] => rule.action = http_action::forward(&field.at("route"), own),
        ["redirect"] => rule.action = http_action::redirect(&field.at("redirect")),
        ["directResponse"] => rule.action = http_action::respond(&field.at("directResponse")),
        ["delegate"] => {}
        [] => field.note("says none of route, redirect, directResponse, delegate"),
        _ => field.note("says more than one of route, redirect, directResponse, delegate"),
    }
    rule.matches = http_match::all(&field.at("match"))?;
    let delegate = delegate(&field.at("delegate"), meta);
    Some(VirtualRoute { rule, delegate })
}

fn delegate(field: &Field<'_>, meta: &Meta) -> Option<(Str, Str)> {
    if !field.is_there() {
        return None;
    }
    known(field, &["name", "namespace"]);
    let namespace = field.at("namespace").text().filter(|name| !name.is_empty());
    let name = field.at("name").text().filter(|name| !name.is_empty());
    if name.is_none() {
        field.at("name").note("says nothing");
    }
    Some((namespace.unwrap_or_else(|| meta.namespace.clone()), name?))
}

/// `{host, subset, port: {number}}`.
pub(super) fn destination(field: &Field<'_>, own: &str) -> Destination {
    known(field, &["host", "subset", "port"]);
    let host = field.at("host").text().filter(|host| !host.is_empty());
    let Some(host) = host else {
        field.at("host").note("says nothing");
        return Destination::Invalid { reason: "a destination without a host".into() };
    };
    let port = field.at("port");
    known(&port, &["number", "name"]);
    unhonoured(&port, &["name"]);
    let subset = field.at("subset").text().filter(|subset| !subset.is_empty());
    crate::files::value::host(&host, own, port.at("number").port().unwrap_or(0), subset)
}

/// Weights as Istio reads them: one destination alone has all; of several, some must have one.
pub(super) fn weights(field: &Field<'_>) -> Vec<u32> {
    let routes = field.list();
    let said: Vec<u32> = routes.iter().map(|route| route.at("weight").number().unwrap_or(0)).collect();
    match said[..] {
        [] => field.note("is empty"),
        [_] => return vec![100],
        _ if said.iter().all(|weight| *weight == 0) => field.note("has no destination with a weight above 0"),
        _ => {}
    }
    said
}
