//! Policies, as the dump spells them.

use mesh::{
    Str,
    policy::{Action, Match, PolicyScope, ServiceAccountMatch, StringMatch},
};
use serde::Serialize;

/// One policy.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyDump {
    name: Str,
    namespace: Str,
    scope: &'static str,
    action: &'static str,
    /// Alternatives of clauses of matches.
    rules: Vec<Vec<Vec<MatchDump>>>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dry_run: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct MatchDump {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    namespaces: Vec<TextDump>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    not_namespaces: Vec<TextDump>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    service_accounts: Vec<AccountDump>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    not_service_accounts: Vec<AccountDump>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    principals: Vec<TextDump>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    not_principals: Vec<TextDump>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    source_ips: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    not_source_ips: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    destination_ips: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    not_destination_ips: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    destination_ports: Vec<u16>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    not_destination_ports: Vec<u16>,
}

/// `{"Exact": "…"}` and the like, or `"Presence"`.
#[derive(Debug, Serialize)]
pub(super) enum TextDump {
    Exact(Str),
    Prefix(Str),
    Suffix(Str),
    Presence,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct AccountDump {
    namespace: Str,
    service_account: Str,
}

impl PolicyDump {
    /// The dump of a policy.
    pub fn of(policy: &mesh::Policy) -> Self {
        let rules = policy.rules.iter();
        Self {
            name: policy.name.clone(),
            namespace: policy.namespace.clone(),
            scope: match policy.scope {
                PolicyScope::Global => "Global",
                PolicyScope::Namespace => "Namespace",
                PolicyScope::WorkloadSelector => "WorkloadSelector",
            },
            action: match policy.action {
                Action::Allow => "Allow",
                Action::Deny => "Deny",
            },
            rules: rules
                .map(|rule| {
                    let clauses = rule.clauses.iter();
                    clauses.map(|clause| clause.matches.iter().map(MatchDump::of).collect()).collect()
                })
                .collect(),
            dry_run: policy.dry_run,
        }
    }
}

impl MatchDump {
    fn of(of: &Match) -> Self {
        Self {
            namespaces: texts(&of.namespaces.any_of),
            not_namespaces: texts(&of.namespaces.none_of),
            service_accounts: accounts(&of.service_accounts.any_of),
            not_service_accounts: accounts(&of.service_accounts.none_of),
            principals: texts(&of.principals.any_of),
            not_principals: texts(&of.principals.none_of),
            source_ips: of.source_ips.any_of.iter().map(ToString::to_string).collect(),
            not_source_ips: of.source_ips.none_of.iter().map(ToString::to_string).collect(),
            destination_ips: of.destination_ips.any_of.iter().map(ToString::to_string).collect(),
            not_destination_ips: of.destination_ips.none_of.iter().map(ToString::to_string).collect(),
            destination_ports: of.destination_ports.any_of.clone(),
            not_destination_ports: of.destination_ports.none_of.clone(),
        }
    }
}

pub(super) fn texts(matches: &[StringMatch]) -> Vec<TextDump> {
    let dump = |text: &StringMatch| match text {
        StringMatch::Exact(text) => TextDump::Exact(text.clone()),
        StringMatch::Prefix(text) => TextDump::Prefix(text.clone()),
        StringMatch::Suffix(text) => TextDump::Suffix(text.clone()),
        StringMatch::Presence => TextDump::Presence,
    };
    matches.iter().map(dump).collect()
}

fn accounts(accounts: &[ServiceAccountMatch]) -> Vec<AccountDump> {
    let dump = |account: &ServiceAccountMatch| AccountDump {
        namespace: account.namespace.clone(),
        service_account: account.service_account.clone(),
    };
    accounts.iter().map(dump).collect()
}
