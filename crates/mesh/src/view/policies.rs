//! Policies by key and by whom they are for.

use crate::{Policy, Str, Workload, policy::PolicyScope, shards::Shards};
use std::sync::Arc;

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Policies {
    by_key: Shards<Str, Arc<Policy>>,
    global: Shards<Str, Arc<Policy>>,
    by_namespace: Shards<Str, Shards<Str, Arc<Policy>>>,
}

impl Policies {
    pub(super) fn get(&self, key: &str) -> Option<&Arc<Policy>> {
        self.by_key.get(key)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Policy>> {
        self.by_key.iter().map(|(_, policy)| policy)
    }

    pub(super) fn put(&mut self, policy: Arc<Policy>) -> bool {
        let key: Str = policy.key().into();
        if self.by_key.get(&*key) == Some(&policy) {
            return false;
        }
        self.remove(&key);
        match policy.scope {
            PolicyScope::Global => drop(self.global.insert(key.clone(), policy.clone())),
            PolicyScope::Namespace => {
                let put = |own: &mut Shards<_, _>| drop(own.insert(key.clone(), policy.clone()));
                self.by_namespace.update(&policy.namespace, put, Shards::is_empty);
            }
            PolicyScope::WorkloadSelector => {}
        }
        self.by_key.insert(key, policy);
        true
    }

    pub(super) fn remove(&mut self, key: &str) -> bool {
        let Some(policy) = self.by_key.remove(key) else { return false };
        match policy.scope {
            PolicyScope::Global => drop(self.global.remove(key)),
            PolicyScope::Namespace => {
                self.by_namespace.update(&policy.namespace, |own| drop(own.remove(key)), Shards::is_empty);
            }
            PolicyScope::WorkloadSelector => {}
        }
        true
    }

    /// Each policy once, also where the workload names one that is for it anyway.
    pub(super) fn of<'a>(&'a self, workload: &'a Workload) -> impl Iterator<Item = &'a Arc<Policy>> + use<'a> {
        let own = self.by_namespace.get(&*workload.namespace);
        let named = workload.authorization_policies.iter().filter_map(|key| self.by_key.get(&**key));
        let named = named.filter(|policy| match policy.scope {
            PolicyScope::Global => false,
            PolicyScope::Namespace => policy.namespace != workload.namespace,
            PolicyScope::WorkloadSelector => true,
        });
        self.global.iter().chain(own.into_iter().flat_map(Shards::iter)).map(|(_, policy)| policy).chain(named)
    }
}
