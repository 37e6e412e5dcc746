//! `istio.security.Authorization`.

use super::{
    DecodeError,
    address::{ip_to_wire, range_of_wire},
    known, port,
};
use ipnet::IpNet;
use mesh::policy::{Action, Clause, Match, Policy, PolicyScope, Rule, ServiceAccountMatch, StringMatch, Values};
use proto::security as wire;

/// A policy as istiod would write it.
pub fn encode(policy: &Policy) -> wire::Authorization {
    wire::Authorization {
        name: policy.name.to_string(),
        namespace: policy.namespace.to_string(),
        scope: match policy.scope {
            PolicyScope::Global => wire::Scope::Global,
            PolicyScope::Namespace => wire::Scope::Namespace,
            PolicyScope::WorkloadSelector => wire::Scope::WorkloadSelector,
        }
        .into(),
        action: match policy.action {
            Action::Allow => wire::Action::Allow,
            Action::Deny => wire::Action::Deny,
        }
        .into(),
        rules: policy.rules.iter().map(rule_to_wire).collect(),
        dry_run: policy.dry_run,
        extensions: Vec::new(),
    }
}

/// Reads a policy. Nothing in it is skipped: a value that is dropped could turn a rule into
/// another one.
pub fn decode(policy: wire::Authorization) -> Result<Policy, DecodeError> {
    if policy.name.is_empty() {
        return Err(DecodeError::Missing("name"));
    }
    Ok(Policy {
        name: policy.name.into(),
        namespace: policy.namespace.into(),
        scope: match known("scope", policy.scope)? {
            wire::Scope::Global => PolicyScope::Global,
            wire::Scope::Namespace => PolicyScope::Namespace,
            wire::Scope::WorkloadSelector => PolicyScope::WorkloadSelector,
        },
        action: match known("action", policy.action)? {
            wire::Action::Allow => Action::Allow,
            wire::Action::Deny => Action::Deny,
        },
        rules: policy.rules.into_iter().map(rule_of_wire).collect::<Result<_, _>>()?,
        dry_run: policy.dry_run,
    })
}

fn rule_to_wire(rule: &Rule) -> wire::Rule {
    let clause = |clause: &Clause| wire::Clause { matches: clause.matches.iter().map(match_to_wire).collect() };
    wire::Rule { clauses: rule.clauses.iter().map(clause).collect() }
}

fn rule_of_wire(rule: wire::Rule) -> Result<Rule, DecodeError> {
    let clause = |clause: wire::Clause| -> Result<Clause, DecodeError> {
        Ok(Clause { matches: clause.matches.into_iter().map(match_of_wire).collect::<Result<_, _>>()? })
    };
    Ok(Rule { clauses: rule.clauses.into_iter().map(clause).collect::<Result<_, _>>()? })
}

/// What a match asks of the connection; what it asks of the request has no place here.
pub(super) fn match_to_wire(matched: &Match) -> wire::Match {
    let texts = |values: &[StringMatch]| values.iter().map(text_to_wire).collect();
    let ranges = |values: &[IpNet]| values.iter().map(range_to_wire).collect();
    let ports = |values: &[u16]| values.iter().map(|port| u32::from(*port)).collect();
    let accounts = |values: &[ServiceAccountMatch]| values.iter().map(account_to_wire).collect();
    wire::Match {
        namespaces: texts(&matched.namespaces.any_of),
        not_namespaces: texts(&matched.namespaces.none_of),
        principals: texts(&matched.principals.any_of),
        not_principals: texts(&matched.principals.none_of),
        source_ips: ranges(&matched.source_ips.any_of),
        not_source_ips: ranges(&matched.source_ips.none_of),
        destination_ips: ranges(&matched.destination_ips.any_of),
        not_destination_ips: ranges(&matched.destination_ips.none_of),
        destination_ports: ports(&matched.destination_ports.any_of),
        not_destination_ports: ports(&matched.destination_ports.none_of),
        service_accounts: accounts(&matched.service_accounts.any_of),
        not_service_accounts: accounts(&matched.service_accounts.none_of),
        extensions: Vec::new(),
    }
}

pub(super) fn match_of_wire(matched: wire::Match) -> Result<Match, DecodeError> {
    Ok(Match {
        namespaces: values(matched.namespaces, matched.not_namespaces, |text| text_of_wire("namespaces", text))?,
        principals: values(matched.principals, matched.not_principals, |text| text_of_wire("principals", text))?,
        service_accounts: values(matched.service_accounts, matched.not_service_accounts, |account| {
            Ok(ServiceAccountMatch {
                namespace: account.namespace.into(),
                service_account: account.service_account.into(),
            })
        })?,
        source_ips: values(matched.source_ips, matched.not_source_ips, |ip| {
            range_of_wire("source_ips", &ip.address, ip.length)
        })?,
        destination_ips: values(matched.destination_ips, matched.not_destination_ips, |ip| {
            range_of_wire("destination_ips", &ip.address, ip.length)
        })?,
        destination_ports: values(matched.destination_ports, matched.not_destination_ports, |number| {
            port("destination_ports", number)
        })?,
        request: None,
    })
}

pub(super) fn values<W, T>(
    any_of: Vec<W>,
    none_of: Vec<W>,
    read: impl Fn(W) -> Result<T, DecodeError>,
) -> Result<Values<T>, DecodeError> {
    let all = |list: Vec<W>| list.into_iter().map(&read).collect::<Result<Vec<T>, DecodeError>>();
    Ok(Values { any_of: all(any_of)?, none_of: all(none_of)? })
}

pub(super) fn text_to_wire(text: &StringMatch) -> wire::StringMatch {
    use wire::string_match::MatchType;
    let match_type = match text {
        StringMatch::Exact(text) => MatchType::Exact(text.to_string()),
        StringMatch::Prefix(text) => MatchType::Prefix(text.to_string()),
        StringMatch::Suffix(text) => MatchType::Suffix(text.to_string()),
        StringMatch::Presence => MatchType::Presence(()),
    };
    wire::StringMatch { match_type: Some(match_type) }
}

pub(super) fn text_of_wire(field: &'static str, text: wire::StringMatch) -> Result<StringMatch, DecodeError> {
    use wire::string_match::MatchType;
    Ok(match text.match_type.ok_or(DecodeError::Missing(field))? {
        MatchType::Exact(text) => StringMatch::Exact(text.into()),
        MatchType::Prefix(text) => StringMatch::Prefix(text.into()),
        MatchType::Suffix(text) => StringMatch::Suffix(text.into()),
        MatchType::Presence(()) => StringMatch::Presence,
    })
}

pub(super) fn range_to_wire(range: &IpNet) -> wire::Address {
    wire::Address { address: ip_to_wire(range.addr()).to_vec(), length: range.prefix_len().into() }
}

fn account_to_wire(account: &ServiceAccountMatch) -> wire::ServiceAccountMatch {
    wire::ServiceAccountMatch {
        namespace: account.namespace.to_string(),
        service_account: account.service_account.to_string(),
    }
}
