//! Deployments whose template changes: the pods of the earlier one stay until those of the later one are
//! ready, as a rolling update does that may surge by all of them. With `strategy: Recreate` they do not.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;

use crate::lab::manifest::{Key, Objects};
use crate::lab::plan::{Plan, replica_set};
use chassis::objects::Object;

/// What stays for a while.
#[derive(Debug, Default)]
pub(super) struct Rollouts {
    /// ReplicaSets of earlier templates, and the Deployment of each.
    staying: BTreeMap<Key, (Key, Arc<Object>)>,
}

impl Rollouts {
    /// Notes which templates are others in `after` than they were, and adds to it what stays.
    pub(super) fn begin(&mut self, before: &Objects, after: &mut Objects) {
        for (key, object) in after.iter().filter(|(key, _)| key.kind == "Deployment") {
            let template = object.value.pointer("/spec/template");
            let earlier = before.get(key).filter(|earlier| earlier.value.pointer("/spec/template") != template);
            let recreated = object.value.pointer("/spec/strategy/type").is_some_and(|kind| kind == "Recreate");
            if let Some(earlier) = earlier.filter(|_| !recreated) {
                let set = of(earlier);
                self.staying.insert(Key::new(&set.kind, &set.namespace, &set.name), (key.clone(), Arc::new(set)));
            }
            // Who goes back to an earlier template goes on with its pods.
            let now = of(object);
            self.staying.remove(&Key::new(&now.kind, &now.namespace, &now.name));
        }
        self.staying.retain(|_, (deployment, _)| after.contains_key(deployment));
        after.extend(self.staying.iter().map(|(key, (_, set))| (key.clone(), set.clone())));
    }

    /// Forgets what stayed for Deployments whose own pods are all ready; whether there was any.
    pub(super) fn end(&mut self, plan: &Plan, ready: impl Fn(&Key) -> bool) -> bool {
        let before = self.staying.len();
        self.staying.retain(|_, (deployment, _)| {
            let mut own = plan.pods.values().filter(|pod| pod.owner == *deployment);
            own.any(|pod| !ready(&pod.key))
        });
        before != self.staying.len()
    }
}

/// The ReplicaSet of a Deployment's template: its pods are those of the Deployment.
fn of(deployment: &Object) -> Object {
    let mut set = deployment.clone();
    set.kind = "ReplicaSet".to_owned();
    set.name = replica_set(deployment);
    set.value["kind"] = json!("ReplicaSet");
    set.value["metadata"] = json!({ "name": set.name, "namespace": set.namespace });
    set
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::manifest;
    use crate::lab::plan::{ledger::Ledger, plan};

    fn objects(command: &str, strategy: &str) -> Objects {
        let text = format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{ name: web, namespace: shop }}\nspec:\n  replicas: 2\n{strategy}  \
             template:\n    metadata: {{ labels: {{ app: web }} }}\n    spec: {{ containers: [{{ name: web, command: [{command}] }}] }}\n"
        );
        manifest::read(std::path::Path::new("web.yaml"), &text).0
    }

    #[test]
    fn earlier_pods_stay_until_the_later_ones_are_ready() {
        let (mut rollouts, mut ledger) = (Rollouts::default(), Ledger::default());
        let one = objects("one", "");
        let first = plan(&one, 1, &mut ledger);
        let mut two = objects("two", "");
        rollouts.begin(&one, &mut two);
        let both = plan(&two, 1, &mut ledger);
        assert_eq!(both.pods.len(), 4);
        assert!(first.pods.iter().all(|(key, pod)| both.pods[key].uid == pod.uid), "{:?}", both.pods.keys());
        let only_earlier = |key: &Key| first.pods.contains_key(key);
        assert!(!rollouts.end(&both, only_earlier));
        // Planning again changes nothing.
        let mut again = objects("two", "");
        rollouts.begin(&two, &mut again);
        assert_eq!(plan(&again, 1, &mut ledger).pods, both.pods);
        assert!(rollouts.end(&both, |_| true));
        let mut after = objects("two", "");
        rollouts.begin(&again, &mut after);
        assert_eq!(plan(&after, 1, &mut ledger).pods.len(), 2);
    }

    #[test]
    fn who_goes_back_keeps_the_pods_and_recreate_keeps_none() {
        let mut rollouts = Rollouts::default();
        let (one, mut two) = (objects("one", ""), objects("two", ""));
        rollouts.begin(&one, &mut two);
        let mut back = objects("one", "");
        rollouts.begin(&two, &mut back);
        let planned = plan(&back, 1, &mut Ledger::default());
        assert_eq!(planned.pods.len(), 4, "{:?}", planned.pods.keys());
        let mut recreated = objects("three", "  strategy: { type: Recreate }\n");
        Rollouts::default().begin(&one, &mut recreated);
        assert_eq!(plan(&recreated, 1, &mut Ledger::default()).pods.len(), 2);
        let mut gone = Objects::new();
        rollouts.begin(&back, &mut gone);
        assert!(gone.is_empty());
    }
}
