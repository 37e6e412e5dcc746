//! The waypoint's policies, against a reading of the same policies word for word.

use ipnet::IpNet;
use mesh::{
    Identity,
    authz::{self, Attributes},
    policy::{Clause, Match, PathPattern, RequestMatch, Rule, ServiceAccountMatch, StringMatch, Values},
    route::{
        Destination, Head,
        guard::{AuthorizerProtocol, ExternalAuthorizer, GuardAction, GuardPolicy, Guards},
    },
};
use serde_json::{Value, json};
use std::time::Duration;
use testkit::reference::{
    self, Dice,
    request::{self, Answer, Http, Market, Request},
};

#[test]
fn every_verdict_is_that_of_the_reference() {
    const LISTS: u64 = 5_000;
    const REQUESTS: usize = 20;
    let (mut passed, mut refused) = (0, 0);
    for seed in 0..LISTS {
        let mut dice = Dice::seeded(seed);
        let count = 1 + dice.under(3);
        let policies: Vec<_> = (0..count).map(|n| Market.policy(&mut dice, &format!("p{n}"))).collect();
        let mut made = policies.iter().map(guard_policy);
        let (gateway, service) = (made.by_ref().take(dice.under(3)).collect(), made.collect());
        let guards = [gateway, service].map(|policies| Guards { authentications: Vec::new(), policies });
        for _ in 0..REQUESTS {
            let asked = Market.request(&mut dice);
            let expected = request::answer(&policies, &asked);
            let found = judged(&guards, &asked);
            assert_eq!(found, expected, "seed {seed}: {asked:#?} under\n{policies:#?}");
            *if expected.allowed { &mut passed } else { &mut refused } += 1;
        }
    }
    assert_eq!(passed + refused, 100_000);
    // A generator whose policies decide nothing would prove nothing.
    assert!(passed * 4 > refused && refused * 4 > passed, "{passed} passed, {refused} refused");
}

fn judged([gateway, service]: &[Guards; 2], asked: &Request) -> Answer {
    let identity = asked.caller.as_ref().map(|[domain, namespace, account]| {
        Identity::new(domain, namespace, account).expect("a generated identity is good")
    });
    let claims = asked.http.as_ref().filter(|http| !http.claims.is_empty()).map(claims);
    let mut headers = http::HeaderMap::new();
    for (name, value) in asked.http.iter().flat_map(|http| &http.headers) {
        let name: http::HeaderName = name.parse().expect("a generated name is good");
        headers.insert(name, value.parse().expect("a generated value is good"));
    }
    let head = asked.http.as_ref().map(|http| Head {
        method: &http.method,
        scheme: "http",
        authority: &http.authority,
        path: &http.path,
        query: None,
        headers: &headers,
        port: asked.port,
        caller: identity.as_ref(),
        caller_address: asked.source,
        remote_address: http.remote,
        claims: claims.as_ref(),
    });
    let attributes = Attributes {
        source: identity.as_ref(),
        source_ip: asked.source,
        destination_ip: asked.destination,
        destination_port: asked.port,
        server_name: asked.server_name.as_deref(),
        request: head.as_ref(),
    };
    let verdict = authz::judge(gateway, service, &attributes);
    let names = |policies: Vec<&GuardPolicy>| policies.iter().map(|policy| policy.name.to_string()).collect();
    Answer {
        allowed: verdict.allowed,
        asks: names(verdict.ask.iter().map(|(policy, _)| *policy).collect()),
        audits: names(verdict.audit),
        trials: names(verdict.dry_run),
    }
}

/// The token of which these are the texts: lists as lists, `scope` with spaces.
fn claims(http: &Http) -> Value {
    let mut token = json!({});
    for (path, texts) in &http.claims {
        match &**path {
            "[org][name]" => token["org"] = json!({"name": texts[0]}),
            "[scope]" => token["scope"] = json!(texts.join(" ")),
            "[aud]" | "[groups]" => token[path.trim_matches(['[', ']'])] = json!(texts),
            _ => token[path.trim_matches(['[', ']'])] = json!(texts[0]),
        }
    }
    token
}

fn guard_policy(policy: &reference::Policy) -> GuardPolicy {
    GuardPolicy {
        namespace: policy.namespace.as_str().into(),
        name: policy.name.as_str().into(),
        action: match policy.action {
            "ALLOW" => GuardAction::Allow,
            "DENY" => GuardAction::Deny,
            "AUDIT" => GuardAction::Audit,
            _ => GuardAction::Custom(Box::new(authorizer(&policy.name))),
        },
        dry_run: policy.dry_run,
        rules: policy.rules.iter().map(|rule| guard_rule(policy, rule)).collect(),
    }
}

fn authorizer(name: &str) -> ExternalAuthorizer {
    ExternalAuthorizer {
        name: name.into(),
        destination: Destination::Invalid { reason: "it is never asked".into() },
        protocol: AuthorizerProtocol::Grpc,
        timeout: Duration::from_secs(1),
        fail_open: false,
        status_on_error: 403,
        body: None,
    }
}

fn guard_rule(policy: &reference::Policy, rule: &reference::Rule) -> Rule {
    let mut clauses = Vec::new();
    for entries in [&rule.to, &rule.from].into_iter().filter(|entries| !entries.is_empty()) {
        let mut matches = Vec::new();
        for entry in entries {
            let mut made = Match::default();
            for (name, values) in entry {
                let (name, negated) = match name.strip_prefix("not") {
                    Some(rest) => (format!("{}{}", rest[..1].to_lowercase(), &rest[1..]), true),
                    None => ((*name).to_owned(), false),
                };
                fill(&mut made, policy, &name, values, negated);
            }
            matches.push(made);
        }
        clauses.push(Clause { matches });
    }
    for condition in &rule.when {
        let mut made = Match::default();
        fill(&mut made, policy, condition.key, &condition.values, false);
        fill(&mut made, policy, condition.key, &condition.not_values, true);
        clauses.push(Clause { matches: vec![made] });
    }
    Rule { clauses }
}

fn fill(into: &mut Match, policy: &reference::Policy, name: &str, values: &[String], negated: bool) {
    if values.is_empty() {
        return;
    }
    let mut request = into.request.take().unwrap_or_default();
    match name {
        "principals" | "source.principal" => put(&mut into.principals, values, negated, text),
        "namespaces" | "source.namespace" => put(&mut into.namespaces, values, negated, text),
        "ipBlocks" | "source.ip" => put(&mut into.source_ips, values, negated, block),
        "destination.ip" => put(&mut into.destination_ips, values, negated, block),
        "ports" | "destination.port" => {
            put(&mut into.destination_ports, values, negated, |value| value.parse().expect("a good port"));
        }
        "serviceAccounts" => put(&mut into.service_accounts, values, negated, |value| {
            let (namespace, account) = value.split_once('/').unwrap_or((&policy.namespace, value));
            ServiceAccountMatch { namespace: namespace.into(), service_account: account.into() }
        }),
        _ => fill_request(&mut request, name, values, negated),
    }
    into.request = Some(request).filter(|request| **request != RequestMatch::default());
}

fn fill_request(into: &mut RequestMatch, name: &str, values: &[String], negated: bool) {
    match name {
        "hosts" => put(&mut into.hosts, values, negated, text),
        "methods" => put(&mut into.methods, values, negated, text),
        "paths" => put(&mut into.paths, values, negated, |value| match value.contains('{') {
            true => PathPattern::Template(value.into()),
            false => PathPattern::Text(text(value)),
        }),
        "remoteIpBlocks" | "remote.ip" => put(&mut into.remote_ips, values, negated, block),
        "requestPrincipals" | "request.auth.principal" => {
            put(&mut into.principals, values, negated, text);
        }
        "request.auth.audiences" => put(&mut into.audiences, values, negated, text),
        "request.auth.presenter" => put(&mut into.presenters, values, negated, text),
        "connection.sni" => put(&mut into.server_names, values, negated, text),
        _ => {
            let (_, path) = name.split_once('[').expect("a key with a name in brackets");
            let path: Vec<mesh::Str> = path.trim_end_matches(']').split("][").map(Into::into).collect();
            let mut made = Values::default();
            put(&mut made, values, negated, text);
            match name.starts_with("request.headers") {
                true => into.headers.push((path[0].to_lowercase().into(), made)),
                false => into.claims.push((path, made)),
            }
        }
    }
}

fn put<T>(into: &mut Values<T>, values: &[String], negated: bool, made: impl Fn(&str) -> T) {
    let list = if negated { &mut into.none_of } else { &mut into.any_of };
    list.extend(values.iter().map(|value| made(value)));
}

fn text(value: &str) -> StringMatch {
    match (value, value.strip_prefix('*'), value.strip_suffix('*')) {
        ("*", ..) => StringMatch::Presence,
        (_, Some(suffix), _) => StringMatch::Suffix(suffix.into()),
        (_, _, Some(prefix)) => StringMatch::Prefix(prefix.into()),
        _ => StringMatch::Exact(value.into()),
    }
}

fn block(value: &str) -> IpNet {
    let single = || value.parse::<std::net::IpAddr>().map(IpNet::from).expect("a good address");
    value.parse().unwrap_or_else(|_| single())
}
