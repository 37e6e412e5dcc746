//! Policies, as a local state spells them.

use ipnet::IpNet;
use mesh::Str;
use mesh::policy::{
    Action, Clause, Match, Policy, PolicyScope, Rule, ServiceAccountMatch, StringMatch, Values, canonical_net,
};
use serde::Deserialize;

/// One policy. Nothing that decides whom it is for, or what it does, has a default.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct PolicyItem {
    name: Str,
    namespace: Str,
    scope: ScopeItem,
    action: ActionItem,
    /// Alternatives of clauses of matches.
    rules: Vec<Vec<Vec<MatchItem>>>,
    #[serde(default)]
    dry_run: bool,
}

#[derive(Debug, Deserialize)]
enum ScopeItem {
    Global,
    Namespace,
    WorkloadSelector,
}

#[derive(Debug, Deserialize)]
enum ActionItem {
    Allow,
    Deny,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
struct MatchItem {
    namespaces: Vec<TextItem>,
    not_namespaces: Vec<TextItem>,
    service_accounts: Vec<AccountItem>,
    not_service_accounts: Vec<AccountItem>,
    principals: Vec<TextItem>,
    not_principals: Vec<TextItem>,
    source_ips: Vec<IpNet>,
    not_source_ips: Vec<IpNet>,
    destination_ips: Vec<IpNet>,
    not_destination_ips: Vec<IpNet>,
    destination_ports: Vec<u16>,
    not_destination_ports: Vec<u16>,
}

/// `{Exact: …}` and the like, or `Presence`.
#[derive(Debug, Deserialize)]
enum TextItem {
    Exact(Str),
    Prefix(Str),
    Suffix(Str),
    Presence,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct AccountItem {
    namespace: Str,
    service_account: Str,
}

impl PolicyItem {
    pub(super) fn into_policy(self) -> Policy {
        let clause = |matches: Vec<MatchItem>| Clause { matches: matches.into_iter().map(MatchItem::read).collect() };
        let rule = |clauses: Vec<Vec<MatchItem>>| Rule { clauses: clauses.into_iter().map(clause).collect() };
        Policy {
            name: self.name,
            namespace: self.namespace,
            scope: match self.scope {
                ScopeItem::Global => PolicyScope::Global,
                ScopeItem::Namespace => PolicyScope::Namespace,
                ScopeItem::WorkloadSelector => PolicyScope::WorkloadSelector,
            },
            action: match self.action {
                ActionItem::Allow => Action::Allow,
                ActionItem::Deny => Action::Deny,
            },
            rules: self.rules.into_iter().map(rule).collect(),
            dry_run: self.dry_run,
        }
    }
}

impl MatchItem {
    fn read(self) -> Match {
        Match {
            namespaces: values(self.namespaces, self.not_namespaces, text),
            principals: values(self.principals, self.not_principals, text),
            service_accounts: values(self.service_accounts, self.not_service_accounts, account),
            source_ips: values(self.source_ips, self.not_source_ips, canonical_net),
            destination_ips: values(self.destination_ips, self.not_destination_ips, canonical_net),
            destination_ports: values(self.destination_ports, self.not_destination_ports, |port| port),
            request: None,
        }
    }
}

fn values<T, U>(any_of: Vec<T>, none_of: Vec<T>, read: impl Fn(T) -> U) -> Values<U> {
    let any_of = any_of.into_iter().map(&read).collect();
    Values { any_of, none_of: none_of.into_iter().map(&read).collect() }
}

fn text(item: TextItem) -> StringMatch {
    match item {
        TextItem::Exact(text) => StringMatch::Exact(text),
        TextItem::Prefix(text) => StringMatch::Prefix(text),
        TextItem::Suffix(text) => StringMatch::Suffix(text),
        TextItem::Presence => StringMatch::Presence,
    }
}

fn account(item: AccountItem) -> ServiceAccountMatch {
    ServiceAccountMatch { namespace: item.namespace, service_account: item.service_account }
}
