//! AuthorizationPolicy read word for word: slow, written without looking at the real engine, and
//! over Kubernetes' form of a policy instead of the wire's. The real engine has to agree with it.
//!
//! What a node proxy cannot see (HTTP) is decided the closed way: an ALLOW rule that asks for any
//! of it allows nothing, and a DENY rule that asks for it denies as if it matched.

mod generate;
mod manifest;
pub mod request;

pub use generate::{Cast, Dice};

use std::{collections::BTreeMap, net::IpAddr};

/// A policy, as its author writes it.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Labels of the pods it is for; empty: all.
    pub selector: BTreeMap<String, String>,
    /// `ALLOW`, `DENY` or `AUDIT`.
    pub action: &'static str,
    /// Annotated with `istio.io/dry-run: "true"`.
    pub dry_run: bool,
    /// Alternatives.
    pub rules: Vec<Rule>,
}

/// A rule; an empty list is one that is not written.
#[derive(Clone, Debug, Default)]
pub struct Rule {
    /// Sources, of which one must match.
    pub from: Vec<Fields>,
    /// Operations, of which one must match.
    pub to: Vec<Fields>,
    /// Conditions, which must all match.
    pub when: Vec<Condition>,
}

/// A source or an operation: field name → values, of all of which one must match (none, for `not…`).
pub type Fields = BTreeMap<&'static str, Vec<String>>;

/// A `when`.
#[derive(Clone, Debug, Default)]
pub struct Condition {
    /// What is compared.
    pub key: &'static str,
    /// One of these.
    pub values: Vec<String>,
    /// None of these.
    pub not_values: Vec<String>,
}

/// A pod that is called.
#[derive(Clone, Debug)]
pub struct Pod {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Address.
    pub address: IpAddr,
}

/// Who calls, and where.
#[derive(Clone, Debug)]
pub struct Call {
    /// Trust domain, namespace and service account; `None` in plaintext.
    pub caller: Option<[String; 3]>,
    /// The caller's address.
    pub address: IpAddr,
    /// The port that is called.
    pub port: u16,
}

/// Whether a call to a pod passes these policies.
pub fn allowed(policies: &[Policy], root_namespace: &str, pod: &Pod, call: &Call) -> bool {
    let mut an_allow_policy_is_for_it = false;
    let mut an_allow_policy_matches = false;
    for policy in policies {
        if !is_for(policy, root_namespace, pod) || policy.dry_run {
            continue;
        }
        match policy.action {
            "DENY" if policy.rules.iter().any(|rule| deny_rule_matches(policy, rule, pod, call)) => return false,
            "ALLOW" => {
                an_allow_policy_is_for_it = true;
                let matches = policy.rules.iter().any(|rule| allow_rule_matches(policy, rule, pod, call));
                an_allow_policy_matches = an_allow_policy_matches || matches;
            }
            _ => {}
        }
    }
    !an_allow_policy_is_for_it || an_allow_policy_matches
}

fn is_for(policy: &Policy, root_namespace: &str, pod: &Pod) -> bool {
    let near = policy.namespace == root_namespace || policy.namespace == pod.namespace;
    near && policy.selector.iter().all(|(key, value)| pod.labels.get(key) == Some(value))
}

fn allow_rule_matches(policy: &Policy, rule: &Rule, pod: &Pod, call: &Call) -> bool {
    let fields = rule.from.iter().chain(&rule.to).flat_map(BTreeMap::keys).copied();
    let keys = rule.when.iter().map(|condition| condition.key);
    if fields.chain(keys).any(|name| !is_visible(name)) {
        return false;
    }
    deny_rule_matches(policy, rule, pod, call)
}

/// With every attribute that is not visible taken as matching.
fn deny_rule_matches(policy: &Policy, rule: &Rule, pod: &Pod, call: &Call) -> bool {
    let entry = |fields: &Fields| fields.iter().all(|(name, values)| field(policy, name, values, pod, call));
    (rule.from.is_empty() || rule.from.iter().any(entry))
        && (rule.to.is_empty() || rule.to.iter().any(entry))
        && rule.when.iter().all(|condition| {
            let one = |values: &Vec<String>| values.iter().any(|value| is(policy, condition.key, value, pod, call));
            !is_visible(condition.key)
                || ((condition.values.is_empty() || one(&condition.values)) && !one(&condition.not_values))
        })
}

fn is_visible(name: &str) -> bool {
    attribute(name).is_some()
}

/// The attribute that a field of a source or operation, or the key of a condition, compares.
fn attribute(name: &str) -> Option<&'static str> {
    Some(match name {
        "principals" | "notPrincipals" | "source.principal" => "principal",
        "namespaces" | "notNamespaces" | "source.namespace" => "namespace",
        "serviceAccounts" | "notServiceAccounts" => "account",
        "ipBlocks" | "notIpBlocks" | "source.ip" => "source ip",
        "ports" | "notPorts" | "destination.port" => "port",
        "destination.ip" => "destination ip",
        _ => return None,
    })
}

fn field(policy: &Policy, name: &str, values: &[String], pod: &Pod, call: &Call) -> bool {
    if !is_visible(name) {
        return true;
    }
    let one = values.iter().any(|value| is(policy, name, value, pod, call));
    one != name.starts_with("not")
}

/// Whether the attribute behind a name is what a value says.
fn is(policy: &Policy, name: &str, value: &str, pod: &Pod, call: &Call) -> bool {
    let [domain, namespace, account] = call.caller.clone().unwrap_or_default();
    let nobody = call.caller.is_none();
    match attribute(name) {
        Some("principal") if nobody => text(value, ""),
        Some("principal") => text(value, &format!("{domain}/ns/{namespace}/sa/{account}")),
        Some("namespace") => text(value, &namespace),
        Some("account") if nobody => false,
        Some("account") => match value.split('/').collect::<Vec<_>>()[..] {
            [of, name] => of == namespace && name == account,
            [name] => policy.namespace == namespace && name == account,
            _ => false,
        },
        Some("source ip") => within(value, call.address),
        Some("destination ip") => within(value, pod.address),
        Some("port") => value == call.port.to_string(),
        _ => false,
    }
}

fn text(pattern: &str, found: &str) -> bool {
    let characters: Vec<char> = pattern.chars().collect();
    match characters[..] {
        ['*'] => !found.is_empty(),
        ['*', ref rest @ ..] => found.ends_with(&rest.iter().collect::<String>()),
        [ref rest @ .., '*'] => found.starts_with(&rest.iter().collect::<String>()),
        _ => pattern == found,
    }
}

/// Bit by bit.
fn within(block: &str, address: IpAddr) -> bool {
    let (network, length) = match block.split_once('/') {
        Some((network, length)) => (network, Some(length)),
        None => (block, None),
    };
    let network: IpAddr = network.parse().expect("a generated block is good");
    let (a, b) = (bits(network), bits(address));
    let length = length.map_or(a.len(), |length| length.parse().expect("a generated block is good"));
    a.len() == b.len() && a[..length] == b[..length]
}

fn bits(address: IpAddr) -> Vec<bool> {
    let bytes = match address {
        IpAddr::V4(four) => four.octets().to_vec(),
        IpAddr::V6(six) => six.octets().to_vec(),
    };
    bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1 == 1)).collect()
}

#[cfg(test)]
mod tests;
