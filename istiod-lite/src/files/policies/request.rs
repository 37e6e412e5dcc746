//! Rules of a policy for waypoints: everything that can be asked of a request and who sends it.
//!
//! An attribute that is not known here makes the whole policy one that is not understood.

use super::{account, entries, net, principal, refuse_unknown, some_text, string_match, text_match, values};
use crate::{
    facts::{PolicyRule, Term},
    files::{
        field::{Field, shorten},
        value::{claim_path, header_name},
    },
};
use mesh::{
    Str,
    policy::{Match, PathPattern, RequestMatch, StringMatch, Values},
};

pub(super) fn rule(field: &Field<'_>, own: &Str) -> PolicyRule {
    refuse_unknown(field, &["from", "to", "when"]);
    let mut clauses = Vec::new();
    let mut clause = |key: &str, inner: &str, read: &dyn Fn(&Field<'_>) -> Match| {
        let Some(entries) = entries(&field.at(key)) else { return };
        clauses.push(entries.iter().map(|entry| term(entry, inner, read)).collect());
    };
    clause("to", "operation", &operation);
    clause("from", "source", &|field| source(field, own));
    if let Some(conditions) = entries(&field.at("when")) {
        clauses.extend(conditions.iter().map(|condition| vec![when(condition, own)]));
    }
    PolicyRule { clauses }
}

fn term(entry: &Field<'_>, inner: &str, read: &dyn Fn(&Field<'_>) -> Match) -> Term {
    refuse_unknown(entry, &[inner]);
    let field = entry.at(inner);
    let found = if field.is_there() { read(&field) } else { Match::default() };
    asking(&field, found)
}

/// A term must ask for something.
fn asking(field: &Field<'_>, mut found: Match) -> Term {
    found.request = found.request.filter(|request| **request != RequestMatch::default());
    if found == Match::default() {
        field.note("asks for nothing, so it is not clear whether it should match everybody or nobody");
    }
    Term { l4: found, unsupported: Vec::new() }
}

fn source(field: &Field<'_>, own: &Str) -> Match {
    refuse_unknown(
        field,
        &[
            "principals",
            "notPrincipals",
            "namespaces",
            "notNamespaces",
            "ipBlocks",
            "notIpBlocks",
            "serviceAccounts",
            "notServiceAccounts",
            "remoteIpBlocks",
            "notRemoteIpBlocks",
            "requestPrincipals",
            "notRequestPrincipals",
        ],
    );
    let request = RequestMatch {
        principals: values(field, "requestPrincipals", "notRequestPrincipals", text_match),
        remote_ips: values(field, "remoteIpBlocks", "notRemoteIpBlocks", net),
        ..RequestMatch::default()
    };
    Match {
        principals: values(field, "principals", "notPrincipals", principal),
        namespaces: values(field, "namespaces", "notNamespaces", text_match),
        source_ips: values(field, "ipBlocks", "notIpBlocks", net),
        service_accounts: values(field, "serviceAccounts", "notServiceAccounts", |field| account(field, own)),
        request: Some(Box::new(request)),
        ..Match::default()
    }
}

fn operation(field: &Field<'_>) -> Match {
    refuse_unknown(field, &["hosts", "notHosts", "ports", "notPorts", "methods", "notMethods", "paths", "notPaths"]);
    let request = RequestMatch {
        hosts: values(field, "hosts", "notHosts", text_match),
        methods: values(field, "methods", "notMethods", text_match),
        paths: values(field, "paths", "notPaths", path),
        ..RequestMatch::default()
    };
    Match {
        destination_ports: values(field, "ports", "notPorts", |field| field.port()),
        request: Some(Box::new(request)),
        ..Match::default()
    }
}

/// A path, or a template with `{*}` and `{**}`.
fn path(field: &Field<'_>) -> Option<PathPattern> {
    let text = some_text(field)?;
    let Some(_) = text.find(['{', '}']) else { return Some(PathPattern::Text(string_match(&text))) };
    let elements: Vec<&str> = text.split('/').collect();
    let legal = |element: &&str| matches!(*element, "{*}" | "{**}") || !element.contains(['{', '}', '*']);
    // Nothing may be left open after `{**}`, or a path could be split in several ways.
    let open = elements.iter().skip_while(|element| **element != "{**}").skip(1).any(|element| element.contains('{'));
    if !text.starts_with('/') || !elements.iter().all(legal) || open {
        field.note("is not a template: whole elements may be {*}, and of all that are open the last may be {**}");
        return None;
    }
    Some(PathPattern::Template(text))
}

fn when(field: &Field<'_>, own: &Str) -> Term {
    refuse_unknown(field, &["key", "values", "notValues"]);
    let texts = || values(field, "values", "notValues", text_match);
    let mut l4 = Match::default();
    let mut request = RequestMatch::default();
    let Some(key) = field.at("key").text() else {
        field.at("key").note("says nothing");
        return Term::default();
    };
    match &*key {
        "source.ip" => l4.source_ips = values(field, "values", "notValues", net),
        "source.namespace" => l4.namespaces = texts(),
        "source.principal" => l4.principals = values(field, "values", "notValues", principal),
        "source.serviceAccount" => {
            l4.service_accounts = values(field, "values", "notValues", |field| account(field, own))
        }
        "destination.ip" => l4.destination_ips = values(field, "values", "notValues", net),
        "destination.port" => l4.destination_ports = values(field, "values", "notValues", |field| field.port()),
        "remote.ip" => request.remote_ips = values(field, "values", "notValues", net),
        "connection.sni" => request.server_names = texts(),
        "request.auth.principal" => request.principals = texts(),
        "request.auth.audiences" => request.audiences = texts(),
        "request.auth.presenter" => request.presenters = texts(),
        _ => named(field, &key, texts(), &mut request),
    }
    l4.request = Some(Box::new(request));
    asking(field, l4)
}

/// `request.headers[name]` and `request.auth.claims[name][name]`.
fn named(field: &Field<'_>, key: &str, values: Values<StringMatch>, request: &mut RequestMatch) {
    if let Some(name) = key.strip_prefix("request.headers[").and_then(|rest| rest.strip_suffix(']')) {
        request.headers.extend(header_name(&field.at("key"), name).map(|name| (name, values)));
        return;
    }
    let path = key.strip_prefix("request.auth.claims").filter(|rest| rest.starts_with('[')).and_then(claim_path);
    match path {
        Some(path) => request.claims.push((path, values)),
        None => field.at("key").note(format!("{:?} is not an attribute that we know", shorten(key))),
    }
}
