//! AuthorizationPolicy over requests, read word for word from Istio's reference ("Authorization
//! Policy", "Conditions" and "Security policy normalization"): slow, and written without looking
//! at the real engine.
//!
//! Two words are ours: a host that names no port is that host at every port, and where there is no
//! request to be seen an ALLOW rule that asks about one allows nothing, while DENY and CUSTOM
//! rules are read without what they ask of it.

mod generate;

pub use generate::Market;

use super::{Condition, Fields, Policy, Rule};
use std::{collections::BTreeMap, net::IpAddr};

/// Somebody asks for something.
#[derive(Clone, Debug)]
pub struct Request {
    /// Trust domain, namespace and service account; `None` in plaintext.
    pub caller: Option<[String; 3]>,
    /// Where the connection comes from.
    pub source: IpAddr,
    /// The pod or service that is called.
    pub destination: IpAddr,
    /// The port that is called.
    pub port: u16,
    /// Name in the handshake of a TLS connection.
    pub server_name: Option<String>,
    /// What is asked; `None` if nobody can see it.
    pub http: Option<Http>,
}

/// What is asked.
#[derive(Clone, Debug)]
pub struct Http {
    /// Host, and a port if it names one.
    pub authority: String,
    /// Method.
    pub method: String,
    /// Path, normalised.
    pub path: String,
    /// Headers, by names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The caller's address as trusted proxies tell it.
    pub remote: IpAddr,
    /// What a token says: names in brackets (`[iss]`, `[org][name]`) → its texts. Empty: no token.
    pub claims: BTreeMap<String, Vec<String>>,
}

/// What policies say of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// It may pass, if those that are asked agree.
    pub allowed: bool,
    /// Names of the CUSTOM policies that match.
    pub asks: Vec<String>,
    /// Names of the AUDIT policies that match.
    pub audits: Vec<String>,
    /// Names of the policies that would match, were they not for trial.
    pub trials: Vec<String>,
}

/// What these policies, all of them for whom is asked, say of a request.
pub fn answer(policies: &[Policy], request: &Request) -> Answer {
    let matches = |policy: &&Policy| policy.rules.iter().any(|rule| rule_matches(policy, rule, request));
    let names = |policies: Vec<&Policy>| policies.iter().map(|policy| policy.name.clone()).collect();
    let (trials, real): (Vec<&Policy>, Vec<&Policy>) = policies.iter().partition(|policy| policy.dry_run);
    let of = |action: &str| real.iter().copied().filter(|policy| policy.action == action).collect::<Vec<_>>();
    let denied = of("DENY").iter().any(matches);
    let allowing = of("ALLOW");
    Answer {
        allowed: !denied && (allowing.is_empty() || allowing.iter().any(matches)),
        asks: names(of("CUSTOM").into_iter().filter(matches).collect()),
        audits: names(of("AUDIT").into_iter().filter(matches).collect()),
        trials: names(trials.into_iter().filter(matches).collect()),
    }
}

fn rule_matches(policy: &Policy, rule: &Rule, request: &Request) -> bool {
    if request.http.is_none() && matches!(policy.action, "ALLOW" | "AUDIT") {
        let fields = rule.from.iter().chain(&rule.to).flat_map(BTreeMap::keys).copied();
        if fields.chain(rule.when.iter().map(|condition| condition.key)).any(is_of_request) {
            return false;
        }
    }
    let entry = |fields: &Fields| fields.iter().all(|(name, values)| field_matches(policy, name, values, request));
    (rule.from.is_empty() || rule.from.iter().any(entry))
        && (rule.to.is_empty() || rule.to.iter().any(entry))
        && rule.when.iter().all(|condition| condition_matches(condition, request))
}

fn is_of_request(name: &str) -> bool {
    let name = name.strip_prefix("not").unwrap_or(name).to_lowercase();
    name.starts_with("request") || ["hosts", "methods", "paths", "remoteipblocks", "remote.ip"].contains(&&*name)
}

fn field_matches(policy: &Policy, name: &str, values: &[String], request: &Request) -> bool {
    if request.http.is_none() && is_of_request(name) {
        return true;
    }
    let (positive, negated) = match name.strip_prefix("not") {
        Some(rest) => (format!("{}{}", rest[..1].to_lowercase(), &rest[1..]), true),
        None => (name.to_owned(), false),
    };
    let one = |value: &String| value_matches(policy, &positive, value, request);
    values.iter().any(one) != negated
}

fn condition_matches(condition: &Condition, request: &Request) -> bool {
    let Condition { key, values, not_values } = condition;
    if request.http.is_none() && is_of_request(key) {
        return true;
    }
    let one = |value: &String| key_matches(key, value, request);
    (values.is_empty() || values.iter().any(one)) && !not_values.iter().any(one)
}

fn value_matches(policy: &Policy, name: &str, value: &str, request: &Request) -> bool {
    let caller = request.caller.as_ref();
    match name {
        "principals" => key_matches("source.principal", value, request),
        "namespaces" => key_matches("source.namespace", value, request),
        "ipBlocks" => super::within(value, request.source),
        "remoteIpBlocks" => key_matches("remote.ip", value, request),
        "requestPrincipals" => key_matches("request.auth.principal", value, request),
        "serviceAccounts" => caller.is_some_and(|[_, namespace, account]| match value.split_once('/') {
            Some((of, name)) => of == namespace && name == account,
            None => policy.namespace == *namespace && value == account,
        }),
        "ports" => value == request.port.to_string(),
        "hosts" => http(request).is_some_and(|http| host_matches(value, &http.authority)),
        "methods" => http(request).is_some_and(|http| text(value, &http.method)),
        "paths" => http(request).is_some_and(|http| path_matches(value, &http.path)),
        other => panic!("the reference was not taught {other}"),
    }
}

fn key_matches(key: &str, value: &str, request: &Request) -> bool {
    let caller = request.caller.as_ref();
    match key {
        "source.principal" => text(
            value,
            &caller
                .map(|[domain, namespace, account]| format!("{domain}/ns/{namespace}/sa/{account}"))
                .unwrap_or_default(),
        ),
        "source.namespace" => text(value, caller.map_or("", |[_, namespace, _]| namespace)),
        "source.ip" => super::within(value, request.source),
        "remote.ip" => http(request).is_some_and(|http| super::within(value, http.remote)),
        "destination.ip" => super::within(value, request.destination),
        "destination.port" => value == request.port.to_string(),
        "connection.sni" => {
            text(&value.to_lowercase(), &request.server_name.clone().unwrap_or_default().to_lowercase())
        }
        "request.auth.principal" => match (claim(request, "[iss]"), claim(request, "[sub]")) {
            (Some(issuer), Some(subject)) => text(value, &format!("{}/{}", issuer[0], subject[0])),
            _ => text(value, ""),
        },
        "request.auth.audiences" => any_text(value, claim(request, "[aud]")),
        "request.auth.presenter" => any_text(value, claim(request, "[azp]")),
        other => match (other.strip_prefix("request.headers["), other.strip_prefix("request.auth.claims")) {
            (Some(name), _) => {
                let name = name.trim_end_matches(']').to_lowercase();
                text(value, http(request).and_then(|http| http.headers.get(&name)).map_or("", |value| value))
            }
            (None, Some(path)) => any_text(value, claim(request, path)),
            _ => panic!("the reference was not taught {other}"),
        },
    }
}

fn http(request: &Request) -> Option<&Http> {
    request.http.as_ref()
}

fn claim<'a>(request: &'a Request, path: &str) -> Option<&'a Vec<String>> {
    http(request)?.claims.get(path)
}

fn any_text(pattern: &str, found: Option<&Vec<String>>) -> bool {
    match found {
        Some(texts) => texts.iter().any(|found| text(pattern, found)),
        None => text(pattern, ""),
    }
}

fn text(pattern: &str, found: &str) -> bool {
    super::text(pattern, found)
}

fn host_matches(pattern: &str, authority: &str) -> bool {
    let (pattern, authority) = (pattern.to_lowercase(), authority.to_lowercase());
    let host = authority.split(':').next().unwrap_or_default();
    text(&pattern, if pattern.contains(':') { &authority } else { host })
}

fn path_matches(pattern: &str, path: &str) -> bool {
    if !pattern.contains('{') {
        return text(pattern, path);
    }
    template(pattern, path)
}

/// `{*}` is a run of characters other than `/`; `{**}` is any characters, also none.
fn template(pattern: &str, path: &str) -> bool {
    if let Some(rest) = pattern.strip_prefix("{**}") {
        return (0..=path.len()).filter(|at| path.is_char_boundary(*at)).any(|at| template(rest, &path[at..]));
    }
    if let Some(rest) = pattern.strip_prefix("{*}") {
        let run = path.find('/').unwrap_or(path.len());
        return (1..=run).filter(|at| path.is_char_boundary(*at)).any(|at| template(rest, &path[at..]));
    }
    match (pattern.chars().next(), path.chars().next()) {
        (None, None) => true,
        (Some(a), Some(b)) if a == b => template(&pattern[a.len_utf8()..], &path[b.len_utf8()..]),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
