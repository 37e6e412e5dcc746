//! What of the cluster's objects those must know who write to them: uid, generation, status, and of
//! gateways and routes what their authors say. It follows the index: both are changed in one moment.
//!
//! Kept by every replica, so that whoever becomes the leader can write at once.

use crate::{
    deploy::parameters::{self, DEFAULTS_FOR_CLASS},
    facts::{FactKey, Kind},
};
use chassis::objects::{Object, ObjectKey};
use serde_json::{Map, Value};
use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard},
};
use tokio::sync::watch;

/// The objects by kind, and within it by namespace and name.
pub type Entries = BTreeMap<FactKey, Arc<Value>>;

/// The objects, as they stand.
#[derive(Debug)]
pub struct Ledger {
    entries: RwLock<Entries>,
    moved: watch::Sender<Moved>,
}

/// Counts what happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Moments that were taken in.
    pub moments: u64,
    /// Changes of what gateways are deployed by.
    pub deployments: u64,
}

impl Default for Ledger {
    fn default() -> Self {
        Self { entries: RwLock::default(), moved: watch::Sender::new(Moved::default()) }
    }
}

impl Ledger {
    /// An object is like this now.
    pub fn note(&self, key: FactKey, object: &Object) {
        let Some(value) = kept(key.kind, &object.value) else { return };
        self.entries.write().unwrap_or_else(PoisonError::into_inner).insert(key.clone(), Arc::new(value));
        self.count(&key);
    }

    /// The server says that an object is like this now.
    pub fn note_answer(&self, key: FactKey, answer: &Value) {
        let Some(value) = kept(key.kind, answer) else { return };
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        // One that was removed meanwhile must not come back.
        if let Some(entry) = entries.get_mut(&key) {
            *entry = Arc::new(value);
        }
    }

    /// An object is gone.
    pub fn forget(&self, key: &FactKey) {
        let gone = self.entries.write().unwrap_or_else(PoisonError::into_inner).remove(key).is_some();
        if gone {
            self.count(key);
        }
    }

    /// A moment was taken in whole, and the index with it.
    pub fn settle(&self) {
        self.moved.send_modify(|moved| moved.moments += 1);
    }

    /// Tells when something happened.
    pub fn moved(&self) -> watch::Receiver<Moved> {
        self.moved.subscribe()
    }

    /// The objects. Nothing changes while this is held.
    pub fn read(&self) -> RwLockReadGuard<'_, Entries> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, key: &FactKey) {
        if matches!(key.kind, Kind::Gateway | Kind::GatewayClass | Kind::ConfigMap) {
            self.moved.send_if_modified(|moved| {
                moved.deployments += 1;
                // Whoever waits is woken when the moment is over.
                false
            });
        }
    }
}

/// Of which kind, namespace and name an object is, if status is written to it or gateways are deployed by it.
pub fn key(of: &ObjectKey) -> Option<FactKey> {
    let kind = crate::files::kind(&of.group, &of.kind)?;
    let kept = is_deployed_by(kind) || has_status(kind);
    kept.then(|| FactKey { kind, namespace: of.namespace.as_str().into(), name: of.name.as_str().into() })
}

/// The objects of one kind.
pub fn of_kind(entries: &Entries, kind: Kind) -> impl Iterator<Item = (&FactKey, &Arc<Value>)> {
    let first = FactKey { kind, namespace: "".into(), name: "".into() };
    entries.range(first..).take_while(move |(key, _)| key.kind == kind)
}

fn is_deployed_by(kind: Kind) -> bool {
    matches!(kind, Kind::Gateway | Kind::GatewayClass | Kind::ConfigMap)
}

/// Kinds to whose objects status is written.
pub fn has_status(kind: Kind) -> bool {
    use Kind::*;
    match kind {
        Namespace | ServiceAccount | Node | Pod | EndpointSlice | ReferenceGrant | ConfigMap => false,
        Service
        | ServiceEntry
        | WorkloadEntry
        | AuthorizationPolicy
        | PeerAuthentication
        | HTTPRoute
        | GRPCRoute
        | TCPRoute
        | TLSRoute
        | BackendTLSPolicy
        | XBackendTrafficPolicy
        | Gateway
        | GatewayClass
        | VirtualService
        | DestinationRule
        | RequestAuthentication
        | Telemetry
        | TrafficPolicy => true,
    }
}

/// Whether a ConfigMap may change what gateways are deployed as.
fn lays_over(map: &Value) -> bool {
    let labelled = map.pointer("/metadata/labels").is_some_and(|labels| labels.get(DEFAULTS_FOR_CLASS).is_some());
    let entries = map.get("data").and_then(Value::as_object);
    labelled || entries.is_some_and(|entries| entries.keys().any(|entry| parameters::is_section(entry)))
}

/// The part of an object that is kept: memory is paid for each service of a cluster.
fn kept(kind: Kind, object: &Value) -> Option<Value> {
    let whole = &["apiVersion", "kind", "metadata", "spec", "data", "status"][..];
    let of_metadata = ["name", "namespace", "uid", "generation", "resourceVersion"];
    let parts = match kind {
        Kind::ConfigMap if !lays_over(object) => &["apiVersion", "kind", "data"],
        Kind::Gateway | Kind::GatewayClass | Kind::ConfigMap => whole,
        Kind::HTTPRoute | Kind::GRPCRoute | Kind::TCPRoute | Kind::TLSRoute => {
            &["apiVersion", "kind", "spec", "status"]
        }
        Kind::BackendTLSPolicy | Kind::XBackendTrafficPolicy | Kind::TrafficPolicy => {
            &["apiVersion", "kind", "spec", "status"]
        }
        _ => &["apiVersion", "kind", "status"],
    };
    let mut value = Map::new();
    for part in parts {
        if let Some(field) = object.get(*part) {
            value.insert((*part).to_owned(), field.clone());
        }
    }
    if let Some(Value::Object(spec)) = value.get_mut("spec").filter(|_| kind != Kind::Gateway) {
        spec.retain(|field, _| matches!(&**field, "parentRefs" | "targetRefs" | "controllerName"));
    }
    if let Some(Value::Object(status)) = value.get_mut("status").filter(|_| kind == Kind::Service) {
        status.retain(|field, _| field == "conditions");
    }
    if let Some(Value::Object(data)) = value.get_mut("data").filter(|_| !lays_over(object)) {
        // Whoever is told to use it says which entry is none that he knows.
        data.values_mut().for_each(|entry| *entry = Value::String(String::new()));
    }
    if !value.contains_key("metadata") {
        let metadata = object.get("metadata")?.as_object()?;
        let fields = of_metadata.iter().filter_map(|field| Some(((*field).to_owned(), metadata.get(*field)?.clone())));
        value.insert("metadata".into(), Value::Object(fields.collect()));
    }
    Some(Value::Object(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(api_version: &str, kind: &str, mut value: Value) -> Object {
        value["metadata"]["name"] = json!("x");
        let origin = chassis::objects::Origin { file: Arc::from(std::path::Path::new("f")), line: 1 };
        let (api_version, kind) = (api_version.to_owned(), kind.to_owned());
        Object { api_version, kind, namespace: "shop".into(), name: "x".into(), value, origin }
    }

    #[test]
    fn of_an_object_only_what_writers_ask_for_is_kept() {
        let ledger = Ledger::default();
        let service = object(
            "v1",
            "Service",
            json!({"metadata": {"uid": "u", "labels": {"a": "b"}}, "spec": {"ports": []},
                "status": {"loadBalancer": {}, "conditions": []}}),
        );
        let found = key(&service.key()).expect("services have status");
        ledger.note(found.clone(), &service);
        let expected = json!({"metadata": {"name": "x", "uid": "u"}, "status": {"conditions": []}});
        assert_eq!(**ledger.read().get(&found).expect("noted"), expected);
        let pod = object("v1", "Pod", json!({}));
        assert_eq!(key(&pod.key()), None, "nobody here writes to pods");
    }

    #[test]
    fn what_was_removed_does_not_come_back_by_an_answer() {
        let ledger = Ledger::default();
        let gateway = object("gateway.networking.k8s.io/v1", "Gateway", json!({"metadata": {"uid": "u"}}));
        let found = key(&gateway.key()).expect("kept");
        ledger.note(found.clone(), &gateway);
        ledger.forget(&found);
        ledger.note_answer(found, &gateway.value);
        assert!(ledger.read().is_empty());
        ledger.settle();
        assert_eq!(*ledger.moved().borrow(), Moved { moments: 1, deployments: 2 });
    }
}
