//! Gateway API: HTTPRoute, GRPCRoute, TCPRoute, TLSRoute, ReferenceGrant, BackendTLSPolicy,
//! XBackendTrafficPolicy.
//!
//! An object counts whole or not at all, as it does behind Kubernetes' own validation: with a field
//! that is unknown or breaks a rule of the CRD, the last good version stays, and without one a
//! route is attached to nothing and a BackendTLSPolicy lets no connection come about. What is well
//! formed and not honoured is remarked: the rule that needs it answers with 500, the others hold.

mod filters;
mod http;
mod refs;
mod tls;
mod traffic;
mod values;

pub(super) use tls::{closed_tls_policy, tls_policy};
pub(super) use traffic::traffic_policy;

use super::field::{Field, Notes};
use crate::facts::{ConfigMap, Meta, ReferenceGrant, Remark, Route, RouteKind, RouteRules};
use mesh::{
    ServiceKey, Str,
    route::{Compiled, HttpRoute, ServiceRules, Unusable, http::Precedence},
};
use std::cell::RefCell;
use values::{bounded, hostname, only, required, up_to};

/// What readers of one object share.
struct Reader<'a> {
    namespace: &'a Str,
    name: &'a Str,
    remarks: RefCell<Vec<Remark>>,
}

impl<'a> Reader<'a> {
    fn new(meta: &'a Meta) -> Self {
        Self { namespace: &meta.namespace, name: &meta.name, remarks: RefCell::default() }
    }
}

pub(super) fn route(object: &Field<'_>, kind: RouteKind, meta: Meta, notes: &Notes) -> Route {
    let spec = object.at("spec");
    let reader = Reader::new(&meta);
    let known: &[&str] = match kind {
        RouteKind::Tcp => &["parentRefs", "rules", "useDefaultGateways"],
        _ => &["parentRefs", "rules", "useDefaultGateways", "hostnames"],
    };
    only(&spec, known);
    let parents = refs::parents(&spec, &reader);
    let names: Vec<Str> = up_to(&spec.at("hostnames"), if kind == RouteKind::Tls { 1024 } else { 16 })
        .iter()
        .filter_map(|field| hostname(field, true))
        .collect();
    let rules = match kind {
        RouteKind::Http | RouteKind::Grpc => RouteRules::Http(http::rules(&spec, kind == RouteKind::Grpc, &reader)),
        RouteKind::Tcp => stream(&spec, Vec::new(), &reader),
        RouteKind::Tls => {
            if names.is_empty() {
                spec.at("hostnames").note("name nothing, and a TLSRoute is for hostnames");
            }
            stream(&spec, names, &reader)
        }
    };
    let mut unheeded: Vec<Str> = Vec::new();
    if spec.at("hostnames").is_there() && kind != RouteKind::Tls {
        unheeded.push("spec.hostnames".into());
    }
    if spec.at("useDefaultGateways").is_there() {
        unheeded.push("spec.useDefaultGateways".into());
    }
    let remarks = reader.remarks.into_inner();
    let mut route = Route { kind, parents, rules: Some(rules), refused: Vec::new(), remarks, unheeded, meta };
    if notes.is_empty() {
        check(&spec, &route);
    }
    if !notes.is_empty() {
        route.rules = None;
        route.refused = notes.listed();
    }
    route
}

/// Whether a waypoint could use the rules: expressions that do not compile are found here, where
/// they concern one route and not all of a service.
fn check(spec: &Field<'_>, route: &Route) {
    let Some(RouteRules::Http(rules)) = &route.rules else { return };
    let service = ServiceKey { namespace: route.meta.namespace.clone(), hostname: "check.invalid".into() };
    for (field, rule) in spec.at("rules").list().iter().zip(rules) {
        let alone = HttpRoute {
            name: "route".into(),
            created: None,
            ports: Vec::new(),
            callers: None,
            precedence: Precedence::Specific,
            rules: vec![rule.clone()],
        };
        let mut all = ServiceRules { http: vec![alone], ..ServiceRules::of(service.clone()) };
        // Where they point is looked up later.
        crate::index::without_destinations(&mut all);
        if let Err(Unusable { place, reason }) = Compiled::new(all) {
            // The field says already which rule it is.
            let place = place.strip_prefix("route, rule 0, ").unwrap_or(&place);
            field.note(format!("{place}: {reason}"));
        }
    }
}

fn stream(spec: &Field<'_>, server_names: Vec<Str>, reader: &Reader<'_>) -> RouteRules {
    let rules = spec.at("rules");
    let fields = rules.list();
    if fields.len() != 1 {
        rules.note(format!("have {} rules and must have one", fields.len()));
    }
    let mut backends = Vec::new();
    for rule in &fields {
        only(rule, &["name", "backendRefs"]);
        let list = rule.at("backendRefs");
        let refs = up_to(&list, 16);
        if refs.is_empty() {
            list.note("name no backend");
        }
        for field in refs {
            only(&field, &[&refs::BACKEND[..], &["weight"]].concat());
            backends.push((refs::backend(&field, reader), http::weight(&field.at("weight"))));
        }
    }
    RouteRules::Stream { server_names, backends }
}

/// Who may point here. An entry with anything that is not understood permits nothing: what it says
/// could be narrower than what is left of it.
pub(super) fn reference_grant(object: &Field<'_>, meta: Meta) -> ReferenceGrant {
    let spec = object.at("spec");
    let whole = understood(&spec, &["from", "to"]);
    let group = |field: &Field<'_>| {
        let group = field.at("group").text()?;
        Some(if &*group == "core" { Str::default() } else { group })
    };
    let entries = |key: &str| if whole { up_to(&spec.at(key), 16) } else { Vec::new() };
    let from = entries("from").into_iter().filter(|field| understood(field, &["group", "kind", "namespace"]));
    let from = from
        .filter_map(|field| Some((group(&field)?, required(&field.at("kind"))?, required(&field.at("namespace"))?)));
    let to = entries("to").into_iter().filter(|field| understood(field, &["group", "kind", "name"]));
    let to = to.filter_map(|field| {
        let name = field.at("name");
        // A name that cannot be read must not become every name.
        let name = if name.is_there() { Some(bounded(&name, 253)?) } else { None };
        Some((group(&field)?, required(&field.at("kind"))?, name))
    });
    ReferenceGrant { from: from.collect(), to: to.collect(), meta }
}

/// Whether all fields are known; it notes those that are not.
fn understood(field: &Field<'_>, known: &[&str]) -> bool {
    only(field, known);
    field.unknown(known).is_empty()
}

/// The keys of ConfigMaps that are read; others are nobody's business here.
const CONFIG_KEYS: [&str; 1] = ["ca.crt"];

/// A ConfigMap that has something to read.
pub(super) fn config_map(object: &Field<'_>, meta: Meta) -> Option<ConfigMap> {
    let data = object.at("data");
    let entry = |key: &&str| Some((Str::from(*key), data.key(key).long_text()?));
    let entries: std::collections::BTreeMap<Str, Str> = CONFIG_KEYS.iter().filter_map(entry).collect();
    Some(ConfigMap { meta, entries })
}
