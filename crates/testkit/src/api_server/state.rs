//! What the played server holds, and by what rules it changes.

use super::{Trouble, roles::Granted};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};
use tokio::sync::watch;

#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) state: Mutex<State>,
    /// Changes with every write, and with every cut.
    pub(super) changed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) version: u64,
    /// Path of the kind (`/api/v1/pods`) → namespace and name → object.
    pub(super) objects: BTreeMap<String, BTreeMap<(String, String), Value>>,
    /// Kinds that come with a definition, and are there: group → version → plural.
    pub(super) defined: BTreeMap<String, BTreeMap<String, Vec<String>>>,
    /// What happened: version, path of the kind, type, object.
    pub(super) history: Vec<(u64, String, &'static str, Value)>,
    /// Watches from before this version are refused.
    pub(super) oldest: u64,
    /// Watches that began before this many cuts are broken.
    pub(super) cuts: u64,
    pub(super) troubles: VecDeque<(String, Trouble)>,
    pub(super) requests: Vec<String>,
    pub(super) tokens: BTreeMap<String, Value>,
    /// What the caller may do; everything, if nothing was ever granted.
    pub(super) granted: Option<Vec<Granted>>,
}

pub(super) const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        let done = act(&mut self.lock());
        self.changed.send_modify(|changes| *changes += 1);
        done
    }
}

impl State {
    pub(super) fn put(&mut self, kind: &str, mut object: Value) -> Value {
        self.version += 1;
        let place = place(&object);
        let objects = self.objects.entry(kind.to_owned()).or_default();
        let before = objects.get(&place);
        let uid = before.map_or_else(|| json!(format!("uid-{}", self.version)), |old| old["metadata"]["uid"].clone());
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        if object["metadata"]["uid"].is_null() {
            object["metadata"]["uid"] = uid;
        }
        let happened = if before.is_some() { "MODIFIED" } else { "ADDED" };
        objects.insert(place, object.clone());
        self.history.push((self.version, kind.to_owned(), happened, object.clone()));
        object
    }

    pub(super) fn remove(&mut self, kind: &str, place: &(String, String)) {
        let Some(mut object) = self.objects.get_mut(kind).and_then(|objects| objects.remove(place)) else { return };
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.history.push((self.version, kind.to_owned(), "DELETED", object));
    }

    /// Whether a kind is served. Groups that nobody defined are served whole.
    pub(super) fn serves(&self, kind: &str) -> bool {
        let mut parts = kind.split('/').skip(2);
        let (Some(group), Some(version), Some(plural)) = (parts.next(), parts.next(), parts.next()) else {
            return true;
        };
        if BUILT_IN.contains(&group) {
            return true;
        }
        let kinds = self.defined.get(group).and_then(|versions| versions.get(version));
        kinds.is_some_and(|kinds| kinds.iter().any(|one| one == plural))
    }
}

/// Groups that every server has.
const BUILT_IN: &[&str] = &[
    "apps",
    "policy",
    "autoscaling",
    "discovery.k8s.io",
    "coordination.k8s.io",
    "apiextensions.k8s.io",
    "authentication.k8s.io",
    "rbac.authorization.k8s.io",
    "admissionregistration.k8s.io",
];

pub(super) fn place(object: &Value) -> (String, String) {
    let text = |pointer| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    (text("/metadata/namespace"), text("/metadata/name"))
}

pub(super) fn merge(base: &mut Value, over: Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                if value.is_null() {
                    base.remove(&key);
                } else {
                    merge(base.entry(key).or_insert(Value::Null), value);
                }
            }
        }
        (base, over) => *base = over,
    }
}
