//! The roots of the mesh in a ConfigMap of every namespace, where pods mount them. What has to be
//! written is decided purely; the leader writes it.

use super::root::Root;
use chassis::{
    drain::Signal,
    objects::{Object, ObjectEvent},
};
use cluster::{
    CallError, Client, resource,
    watch::{Kind, Watches},
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use tokio::{sync::watch, time::sleep};

/// Namespaces in which nobody mounts it, as in Istio.
const SKIPPED: [&str; 3] = ["kube-public", "kube-node-lease", "local-path-storage"];
const KEY: &str = "root-cert.pem";
const LABEL: &str = "istio.io/config";

/// Which ConfigMaps are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// Their name.
    pub name: String,
    /// An owner reference, of an object with which Kubernetes takes them away; `null` if there is none.
    pub owner: Value,
}

/// Keeps the ConfigMap right in every namespace while we lead, until the drain.
pub async fn keep(
    client: Client,
    bundle: Bundle,
    root: Arc<Root>,
    mut leading: watch::Receiver<bool>,
    mut drain: Signal,
) {
    let mut watches = Watches::open(
        &client,
        vec![
            Kind::of(resource::NAMESPACE).metadata_only(),
            Kind::of(resource::CONFIG_MAP).fields(&format!("metadata.name={}", bundle.name)),
        ],
    );
    let mut there = There::default();
    let mut known = false;
    loop {
        tokio::select! {
            events = watches.next() => {
                there.take(events);
                known = true;
            }
            // The root may have changed, and what failed is tried again.
            () = sleep(crate::limits::ROOT_TICK) => {}
            Ok(()) = leading.changed() => {}
            _deadline = drain.draining() => return,
        }
        if !known || !*leading.borrow() {
            continue;
        }
        let issuer = root.issuer();
        for (namespace, act) in there.wrong(issuer.roots_pem()) {
            let object = written(&namespace, &bundle, issuer.roots_pem());
            let done = match act {
                Act::Create => client.create(&resource::CONFIG_MAP, &object).await,
                Act::Replace => client.replace(&resource::CONFIG_MAP, &object).await,
            };
            match done {
                Ok(_) => tracing::debug!(namespace, "the roots are in the ConfigMap {}", bundle.name),
                // The namespace is going, or the watch has not told us yet.
                Err(CallError::NotFound(_) | CallError::AlreadyExists(_)) => {}
                Err(error) => {
                    tracing::warn!(namespace, %error, "cannot write the ConfigMap {}", bundle.name);
                    // What cannot be reached would fail for every namespace.
                    if error.is_transient() {
                        break;
                    }
                }
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Create,
    Replace,
}

/// The namespaces, and what they have.
#[derive(Debug, Default)]
struct There {
    namespaces: BTreeSet<String>,
    /// Namespace → the text, if the object is otherwise as it must be.
    texts: BTreeMap<String, Option<String>>,
}

impl There {
    fn take(&mut self, events: Vec<ObjectEvent>) {
        for event in events {
            match event {
                ObjectEvent::Applied(object) if object.kind == "Namespace" => {
                    let ends = object.value.pointer("/metadata/deletionTimestamp").is_some();
                    if ends || SKIPPED.contains(&&*object.name) {
                        self.namespaces.remove(&object.name);
                    } else {
                        self.namespaces.insert(object.name.clone());
                    }
                }
                ObjectEvent::Applied(object) => {
                    self.texts.insert(object.namespace.clone(), text(&object));
                }
                ObjectEvent::Removed(key) if key.kind == "Namespace" => {
                    self.namespaces.remove(&key.name);
                }
                ObjectEvent::Removed(key) => {
                    self.texts.remove(&key.namespace);
                }
                ObjectEvent::Problem(_) => {}
            }
        }
    }

    /// Which namespaces do not have `roots`, and what to do.
    fn wrong(&self, roots: &str) -> Vec<(String, Act)> {
        let act = |namespace: &String| match self.texts.get(namespace) {
            None => Some((namespace.clone(), Act::Create)),
            Some(Some(text)) if text == roots => None,
            Some(_) => Some((namespace.clone(), Act::Replace)),
        };
        self.namespaces.iter().filter_map(act).collect()
    }
}

fn text(object: &Object) -> Option<String> {
    let labelled = object.value["metadata"]["labels"][LABEL] == "true";
    object.value["data"][KEY].as_str().filter(|_| labelled).map(str::to_owned)
}

fn written(namespace: &str, bundle: &Bundle, roots: &str) -> Value {
    let mut object = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": { "namespace": namespace, "name": bundle.name, "labels": { LABEL: "true" } },
        "data": { KEY: roots },
    });
    if !bundle.owner.is_null() {
        object["metadata"]["ownerReferences"] = json!([bundle.owner]);
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn applied(value: &Value) -> ObjectEvent {
        let (mut objects, problems) = chassis::objects::parse(Path::new("o"), &value.to_string());
        assert!(problems.is_empty(), "{problems:?}");
        ObjectEvent::Applied(Arc::new(objects.remove(0)))
    }

    fn namespace(name: &str, ends: bool) -> ObjectEvent {
        let mut value = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        if ends {
            value["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        }
        applied(&value)
    }

    #[test]
    fn every_namespace_that_is_wrong_is_made_right() {
        let mut there = There::default();
        let c = Bundle { name: "c".into(), owner: Value::Null };
        let mut unlabelled = written("unlabelled", &c, "new");
        unlabelled["metadata"]["labels"] = json!({});
        there.take(vec![
            namespace("empty", false),
            namespace("right", false),
            applied(&written("right", &c, "new")),
            namespace("old", false),
            applied(&written("old", &c, "old")),
            namespace("unlabelled", false),
            applied(&unlabelled),
            namespace("ends", true),
            namespace("kube-public", false),
            namespace("kube-system", false),
        ]);
        let wrong = |there: &There| {
            there.wrong("new").into_iter().map(|(name, act)| format!("{act:?} {name}")).collect::<Vec<_>>()
        };
        assert_eq!(wrong(&there), ["Create empty", "Create kube-system", "Replace old", "Replace unlabelled"]);
        let ObjectEvent::Applied(gone) = applied(&written("right", &c, "new")) else { panic!("it was applied") };
        there.take(vec![ObjectEvent::Removed(gone.key()), namespace("old", true)]);
        assert_eq!(wrong(&there), ["Create empty", "Create kube-system", "Create right", "Replace unlabelled"]);
    }
}
