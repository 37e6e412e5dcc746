//! Who may call whom: AuthorizationPolicy, PeerAuthentication.
//!
//! A policy with `targetRefs` is for waypoints, which see requests ([`request`]); one without is for
//! node proxies, which do not.
//!
//! Stricter than the other kinds: what is left out of a policy changes whom it lets pass. So a
//! policy with anything that is not understood counts as not understood at all; the caller sees
//! that by the notes, and asks for the closed reading.

mod request;

use super::{
    field::{Field, shorten},
    value::targets,
};
use crate::facts::{
    AuthorizationPolicy, Labels, Meta, MtlsMode, PeerAuthentication, PolicyAction, PolicyRule, TargetKind, Term,
};
use ipnet::IpNet;
use mesh::{
    Str,
    policy::{Match, ServiceAccountMatch, StringMatch, Values},
};
use std::net::IpAddr;

pub(super) fn authorization(object: &Field<'_>, meta: Meta) -> AuthorizationPolicy {
    let spec = object.at("spec");
    refuse_unknown(&spec, &["selector", "action", "rules", "targetRefs", "targetRef", "provider"]);
    let action = [
        ("", PolicyAction::Allow),
        ("ALLOW", PolicyAction::Allow),
        ("DENY", PolicyAction::Deny),
        ("AUDIT", PolicyAction::Audit),
        ("CUSTOM", PolicyAction::Custom),
    ];
    let dry_run = object.at("metadata").at("annotations").key("istio.io/dry-run");
    let said = spec.at("action");
    let targets = targets(&spec, &TARGETS);
    let rules = spec.at("rules").list();
    let provider = provider(&spec, targets.is_some());
    AuthorizationPolicy {
        selector: selector(&spec),
        provider,
        // An action that cannot be read must not be taken for the one that lets pass.
        action: if said.is_there() { said.one_of(&action).unwrap_or(PolicyAction::Deny) } else { PolicyAction::Allow },
        dry_run: dry_run.is_true(),
        rules: match targets {
            None => rules.iter().map(|field| rule(field, &meta.namespace)).collect(),
            Some(_) => rules.iter().map(|field| request::rule(field, &meta.namespace)).collect(),
        },
        targets,
        refused: Vec::new(),
        meta,
    }
}

/// What policies for waypoints may be attached to.
const TARGETS: [TargetKind; 4] =
    [TargetKind::Service, TargetKind::ServiceEntry, TargetKind::Gateway, TargetKind::GatewayClass];

/// Who is asked. At a waypoint the action CUSTOM needs one, and no other action has one.
fn provider(spec: &Field<'_>, for_waypoint: bool) -> Option<Str> {
    let field = spec.at("provider");
    if for_waypoint {
        refuse_unknown(&field, &["name"]);
        let custom = spec.at("action").text().as_deref() == Some("CUSTOM");
        match (custom, field.is_there()) {
            (true, false) => field.note("says nothing, and CUSTOM must ask somebody"),
            (false, true) => field.note("is there, and only CUSTOM asks somebody"),
            _ => {}
        }
    }
    if field.is_there() { field.at("name").text() } else { None }
}

/// What holds if a policy is not understood and none of its name was before: an ALLOW policy lets
/// nobody pass, any other refuses everybody.
pub(super) fn closed_authorization(policy: AuthorizationPolicy) -> AuthorizationPolicy {
    match policy.action {
        // Nothing hangs on what is written to the log.
        PolicyAction::Audit if policy.for_waypoint() => AuthorizationPolicy { rules: Vec::new(), ..policy },
        PolicyAction::Allow => AuthorizationPolicy { rules: Vec::new(), dry_run: false, ..policy },
        _ => AuthorizationPolicy {
            rules: vec![PolicyRule::default()],
            action: PolicyAction::Deny,
            dry_run: false,
            ..policy
        },
    }
}

fn refuse_unknown(field: &Field<'_>, known: &[&str]) {
    if field.is_there() {
        for key in field.unknown(known) {
            field.key(&key).note("is not a field that we know, and could narrow what the policy does");
        }
    }
}

fn selector(spec: &Field<'_>) -> Labels {
    refuse_unknown(&spec.at("selector"), &["matchLabels"]);
    let labels = spec.at("selector").at("matchLabels");
    let found = labels.labels();
    for (key, value) in &found {
        if value.contains('*') {
            labels.key(key).note("holds a wildcard, which label selectors do not know");
        }
    }
    found
}

fn rule(field: &Field<'_>, own: &Str) -> PolicyRule {
    // A whole clause that we do not know is one attribute that we cannot decide.
    let unknown = field.unknown(&["from", "to", "when"]);
    let mut clauses = Vec::new();
    clauses.extend(clause(&field.at("to"), "operation", operation));
    clauses.extend(clause(&field.at("from"), "source", |field| source(field, own)));
    if let Some(conditions) = entries(&field.at("when")) {
        clauses.extend(conditions.iter().map(|condition| vec![when(condition, own)]));
    }
    clauses.extend(unknown.into_iter().map(|name| vec![Term { l4: Match::default(), unsupported: vec![name] }]));
    PolicyRule { clauses }
}

fn clause(field: &Field<'_>, inner: &str, read: impl Fn(&Field<'_>) -> Term) -> Option<Vec<Term>> {
    Some(entries(field)?.iter().map(|entry| term(entry, inner, &read)).collect())
}

/// The entries of a list; one that is there must have some.
fn entries<'a>(field: &Field<'a>) -> Option<Vec<Field<'a>>> {
    let entries = field.list_if_there()?;
    if entries.is_empty() {
        field.note("is empty, so it is not clear whether it should match everybody or nobody");
    }
    Some(entries)
}

fn term(entry: &Field<'_>, inner: &str, read: impl Fn(&Field<'_>) -> Term) -> Term {
    let mut unsupported = entry.unknown(&[inner]);
    let field = entry.at(inner);
    let mut term = read(&field);
    term.unsupported.append(&mut unsupported);
    if term == Term::default() {
        field.note("asks for nothing, so it is not clear whether it should match everybody or nobody");
    }
    term
}

fn source(field: &Field<'_>, own: &Str) -> Term {
    if !field.is_there() {
        return Term::default();
    }
    const L4: [&str; 8] = [
        "principals",
        "notPrincipals",
        "namespaces",
        "notNamespaces",
        "ipBlocks",
        "notIpBlocks",
        "serviceAccounts",
        "notServiceAccounts",
    ];
    let l4 = Match {
        principals: values(field, "principals", "notPrincipals", principal),
        namespaces: values(field, "namespaces", "notNamespaces", text_match),
        source_ips: values(field, "ipBlocks", "notIpBlocks", net),
        service_accounts: values(field, "serviceAccounts", "notServiceAccounts", |field| account(field, own)),
        ..Match::default()
    };
    Term { l4, unsupported: field.unknown(&L4) }
}

fn operation(field: &Field<'_>) -> Term {
    if !field.is_there() {
        return Term::default();
    }
    let l4 = Match { destination_ports: values(field, "ports", "notPorts", |field| field.port()), ..Match::default() };
    Term { l4, unsupported: field.unknown(&["ports", "notPorts"]) }
}

fn when(field: &Field<'_>, own: &Str) -> Term {
    refuse_unknown(field, &["key", "values", "notValues"]);
    let mut l4 = Match::default();
    let mut unsupported = Vec::new();
    match field.at("key").text() {
        Some(key) => match &*key {
            "source.ip" => l4.source_ips = values(field, "values", "notValues", net),
            "source.namespace" => l4.namespaces = values(field, "values", "notValues", text_match),
            "source.principal" => l4.principals = values(field, "values", "notValues", principal),
            "source.serviceAccount" => {
                l4.service_accounts = values(field, "values", "notValues", |field| account(field, own))
            }
            "destination.ip" => l4.destination_ips = values(field, "values", "notValues", net),
            "destination.port" => l4.destination_ports = values(field, "values", "notValues", |field| field.port()),
            other => unsupported.push(shorten(other).into()),
        },
        None => field.at("key").note("says nothing"),
    }
    let term = Term { l4, unsupported };
    if term == Term::default() {
        field.note("asks for nothing, so it is not clear whether it should match everybody or nobody");
    }
    term
}

fn values<T>(field: &Field<'_>, any_of: &str, none_of: &str, read: impl Fn(&Field<'_>) -> Option<T>) -> Values<T> {
    let all = |name: &str| field.at(name).list().iter().filter_map(&read).collect();
    Values { any_of: all(any_of), none_of: all(none_of) }
}

fn some_text(field: &Field<'_>) -> Option<Str> {
    let text = field.text()?;
    if text.is_empty() {
        field.note("is empty, so it is not clear whether it should match everybody or nobody");
        return None;
    }
    Some(text)
}

fn text_match(field: &Field<'_>) -> Option<StringMatch> {
    some_text(field).map(|text| string_match(&text))
}

/// Identities are compared without their scheme.
fn principal(field: &Field<'_>) -> Option<StringMatch> {
    some_text(field).map(|text| string_match(text.strip_prefix("spiffe://").unwrap_or(&text)))
}

fn string_match(text: &str) -> StringMatch {
    match (text.strip_prefix('*'), text.strip_suffix('*')) {
        (Some(""), _) => StringMatch::Presence,
        (Some(suffix), _) => StringMatch::Suffix(suffix.into()),
        (None, Some(prefix)) => StringMatch::Prefix(prefix.into()),
        (None, None) => StringMatch::Exact(text.into()),
    }
}

/// Without a namespace it is of the policy's own.
fn account(field: &Field<'_>, own: &Str) -> Option<ServiceAccountMatch> {
    let text = some_text(field)?;
    let (namespace, name) = text.split_once('/').map_or((&**own, &*text), |(namespace, name)| (namespace, name));
    if text.contains('*') || name.is_empty() || name.contains('/') || text.starts_with('/') {
        field.note("is not of the form <service account> or <namespace>/<service account>");
        return None;
    }
    Some(ServiceAccountMatch { namespace: namespace.into(), service_account: name.into() })
}

fn net(field: &Field<'_>) -> Option<IpNet> {
    let text = field.text()?;
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some(ip.to_canonical().into());
    }
    field.parsed::<IpNet>("an IP address or range").map(mesh::policy::canonical_net)
}

pub(super) fn peer_authentication(object: &Field<'_>, meta: Meta) -> PeerAuthentication {
    let spec = object.at("spec");
    refuse_unknown(&spec, &["selector", "mtls", "portLevelMtls"]);
    let ports = spec.at("portLevelMtls").members().into_iter().filter_map(|(port, modes)| {
        let number = port.parse::<u16>().ok().filter(|port| *port > 0);
        if number.is_none() {
            modes.note("is not a port from 1 to 65535");
        }
        Some((number?, mode(&modes)))
    });
    let ports = ports.collect();
    PeerAuthentication { selector: selector(&spec), mode: mode(&spec.at("mtls")), ports, meta }
}

fn mode(field: &Field<'_>) -> Option<MtlsMode> {
    refuse_unknown(field, &["mode"]);
    let modes = [
        ("", None),
        ("UNSET", None),
        ("PERMISSIVE", Some(MtlsMode::Permissive)),
        ("STRICT", Some(MtlsMode::Strict)),
        ("DISABLE", Some(MtlsMode::Disable)),
    ];
    field.at("mode").one_of(&modes).flatten()
}

/// What holds if a peer authentication is not understood and none of its name was before.
pub(super) fn closed_peer_authentication(policy: PeerAuthentication) -> PeerAuthentication {
    PeerAuthentication { mode: Some(MtlsMode::Strict), ports: Default::default(), ..policy }
}
