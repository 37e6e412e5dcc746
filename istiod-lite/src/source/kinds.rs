//! The kinds that are read of a cluster, and what of their objects: what [`crate::files`] never looks
//! at is dropped where it is much, so that it costs no memory and its changes no work.

use crate::deploy::parameters::is_section;
use cluster::{
    resource::{self as r, Resource},
    watch::Kind,
};
use serde_json::{Map, Value};

/// Every kind that [`crate::files`] reads.
pub fn all() -> Vec<Kind> {
    let mut kinds = vec![
        Kind::of(r::NAMESPACE).metadata_only(),
        Kind::of(r::NODE).metadata_only(),
        Kind::of(r::SERVICE_ACCOUNT).metadata_only(),
        Kind::of(r::POD).trim(pod),
        Kind::of(r::SERVICE),
        Kind::of(r::ENDPOINT_SLICE),
        Kind::of(r::CONFIG_MAP).large().trim(config_map),
    ];
    kinds.extend(DEFINED.iter().map(|(resource, older)| Kind::of(resource.clone()).or_versions(older).may_be_absent()));
    kinds
}

/// Kinds that come with a definition, which may be missing, and the older versions that we can read.
const DEFINED: &[(Resource, &[&str])] = &[
    (r::SERVICE_ENTRY, &["v1beta1", "v1alpha3"]),
    (r::WORKLOAD_ENTRY, &["v1beta1", "v1alpha3"]),
    (r::VIRTUAL_SERVICE, &["v1beta1", "v1alpha3"]),
    (r::DESTINATION_RULE, &["v1beta1", "v1alpha3"]),
    (r::AUTHORIZATION_POLICY, &["v1beta1"]),
    (r::PEER_AUTHENTICATION, &["v1beta1"]),
    (r::REQUEST_AUTHENTICATION, &["v1beta1"]),
    (r::TELEMETRY, &["v1alpha1"]),
    (r::GATEWAY_CLASS, &["v1beta1"]),
    (r::GATEWAY, &["v1beta1"]),
    (r::HTTP_ROUTE, &["v1beta1"]),
    (r::GRPC_ROUTE, &["v1alpha2"]),
    (r::TCP_ROUTE, &["v1alpha2"]),
    (r::TLS_ROUTE, &["v1alpha3", "v1alpha2"]),
    (r::REFERENCE_GRANT, &["v1beta1"]),
    (r::BACKEND_TLS_POLICY, &["v1alpha3"]),
    (r::X_BACKEND_TRAFFIC_POLICY, &[]),
    (r::TRAFFIC_POLICY, &[]),
];

/// Of a pod: where it is, who it is, and how it is; not what its containers are made of.
fn pod(value: &mut Value) {
    if let Some(Value::Object(spec)) = value.get_mut("spec") {
        keep(spec, &["nodeName", "serviceAccountName", "hostNetwork", "containers", "initContainers"]);
        for containers in ["containers", "initContainers"] {
            for container in spec.get_mut(containers).and_then(Value::as_array_mut).into_iter().flatten() {
                if let Value::Object(container) = container {
                    keep(container, &["name", "ports", "restartPolicy"]);
                }
            }
        }
    }
    if let Some(Value::Object(status)) = value.get_mut("status") {
        keep(status, &["phase", "podIP", "podIPs", "conditions"]);
        if let Some(Value::Array(conditions)) = status.get_mut("conditions") {
            conditions.retain(|condition| condition["type"] == "Ready");
            for condition in conditions {
                if let Value::Object(condition) = condition {
                    keep(condition, &["type", "status"]);
                }
            }
        }
    }
}

/// Of a ConfigMap: certificates, the configuration of the mesh, and what gateways are made of. Charts, scripts and the records of
/// leaders are most of what ConfigMaps hold.
fn config_map(value: &mut Value) {
    if let Value::Object(members) = value {
        members.remove("binaryData");
        if let Some(Value::Object(annotations)) = members.get_mut("metadata").and_then(|m| m.get_mut("annotations")) {
            annotations.remove("control-plane.alpha.kubernetes.io/leader");
        }
        // Of other entries the names stay: one that is none of ours is a mistake in the parameters of a gateway.
        let entries = members.get_mut("data").and_then(Value::as_object_mut).into_iter().flatten();
        for (_, text) in entries.filter(|(name, _)| !matches!(&***name, "mesh" | "ca.crt") && !is_section(name)) {
            *text = Value::String(String::new());
        }
    }
}

fn keep(map: &mut Map<String, Value>, names: &[&str]) {
    map.retain(|name, _| names.contains(&&**name));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files;
    use chassis::objects;
    use serde_json::json;
    use std::path::Path;

    /// What is read of an object, before and after.
    fn reads_the_same(value: &Value, trim: fn(&mut Value)) {
        let mut less = value.clone();
        trim(&mut less);
        assert!(less.to_string().len() < value.to_string().len(), "nothing was dropped");
        let read = |value: &Value| {
            let (objects, problems) = objects::parse(Path::new("o"), &value.to_string());
            assert!(problems.is_empty(), "{problems:?}");
            format!("{:?}", files::read(&objects[0]))
        };
        assert_eq!(read(value), read(&less));
    }

    #[test]
    fn what_is_dropped_is_what_nobody_reads() {
        reads_the_same(
            &json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {
                    "name": "web", "namespace": "shop", "uid": "u", "labels": {"app": "web"},
                    "annotations": {"ambient.istio.io/redirection": "enabled"},
                    "ownerReferences": [{"kind": "ReplicaSet", "name": "web-1", "controller": true}],
                },
                "spec": {
                    "nodeName": "n1", "serviceAccountName": "web", "hostNetwork": false, "volumes": [{"name": "v"}],
                    "containers": [{"name": "app", "image": "i", "env": [], "ports": [{"name": "http", "containerPort": 80}]}],
                    "initContainers": [{"name": "side", "restartPolicy": "Always", "ports": [{"name": "m", "containerPort": 9}]}],
                },
                "status": {
                    "phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}], "hostIP": "10.1.0.1",
                    "conditions": [
                        {"type": "Initialized", "status": "True"},
                        {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"},
                    ],
                    "containerStatuses": [{"name": "app"}],
                },
            }),
            pod,
        );
        for data in
            [json!({"ca.crt": "C", "x": "y"}), json!({"mesh": "enableTracing: true", "x": "y"}), json!({"x": "y"})]
        {
            let metadata = json!({"name": "istio", "namespace": "istio-system"});
            reads_the_same(
                &json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}),
                config_map,
            );
        }
    }

    #[test]
    fn every_kind_is_one_that_is_read() {
        let kinds = all();
        for kind in &kinds {
            let resource = kind.resource();
            let key = objects::ObjectKey {
                group: resource.group.to_string(),
                kind: resource.kind.to_string(),
                namespace: String::new(),
                name: "any".into(),
            };
            assert!(files::removed(&key).is_some(), "{key} is watched and not read");
        }
        assert_eq!(kinds.len(), 25, "and every kind that is read is watched");
    }
}
