//! The objects of a Gateway that is a waypoint: ServiceAccount, Deployment, Service, and where somebody asks
//! for them an autoscaler and a disruption budget. Pure; names, labels and ports are Istio's.

use super::{
    asked::{Asked, CLASS, GATEWAY_CLASS, GATEWAY_NAME, MANAGED, MANAGED_BY, Texts},
    overlay::lay_over,
    parameters::{Overlay, Section},
    settings::Settings,
};
use serde_json::{Value, json};

/// Objects that are to be there for a Gateway. `network` is that of the mesh, "" when it has no name.
pub fn render(asked: &Asked, network: &str, overlays: &[Overlay], settings: &Settings) -> Result<Vec<Value>, String> {
    let made = [
        (Section::ServiceAccount, service_account(asked)),
        (Section::Deployment, deployment(asked, network, settings)),
        (Section::Service, service(asked)),
        (Section::HorizontalPodAutoscaler, autoscaler(asked)),
        (Section::PodDisruptionBudget, disruption_budget(asked)),
    ];
    let mut objects = Vec::new();
    for (section, mut object) in made {
        let own: Vec<_> = overlays.iter().filter(|overlay| overlay.section == section).collect();
        let on_demand = matches!(section, Section::HorizontalPodAutoscaler | Section::PodDisruptionBudget);
        if on_demand && own.is_empty() {
            continue;
        }
        for overlay in own {
            object = lay_over(&object, &overlay.value).map_err(|error| format!("{}: {error}", overlay.origin))?;
        }
        if section == Section::Deployment {
            say_grace(&mut object);
        }
        objects.push(object);
    }
    Ok(objects)
}

/// What every object of a Gateway has.
fn metadata(asked: &Asked, name: &str) -> Value {
    let mut metadata = json!({
        "name": name,
        "namespace": asked.namespace,
        "labels": labels(asked),
        "ownerReferences": [{
            "apiVersion": asked.api_version, "kind": "Gateway", "name": asked.name, "uid": asked.uid,
        }],
    });
    if !asked.annotations.is_empty() {
        metadata["annotations"] = json!(asked.annotations);
    }
    metadata
}

fn labels(asked: &Asked) -> Texts {
    let class = if asked.class.is_empty() { CLASS } else { &*asked.class };
    let ours = [(GATEWAY_NAME, &*asked.name), (GATEWAY_CLASS, class), (MANAGED, MANAGED_BY)];
    let mut labels = asked.labels.clone();
    labels.extend(ours.map(|(key, value)| (key.to_owned(), value.to_owned())));
    labels
}

fn service_account(asked: &Asked) -> Value {
    json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata(asked, &asked.account) })
}

fn service(asked: &Asked) -> Value {
    let status = json!({ "name": "status-port", "port": STATUS_PORT, "protocol": "TCP" });
    let port = |(name, port, protocol): &(String, u16, String)| {
        let protocol = protocol.to_ascii_lowercase();
        json!({ "name": name.replace('.', "-"), "port": port, "protocol": "TCP", "appProtocol": protocol })
    };
    let ports: Vec<_> = [status].into_iter().chain(asked.listeners.iter().map(port)).collect();
    let mut metadata = metadata(asked, &asked.deployed_name);
    let mut annotations = Texts::from([("networking.istio.io/traffic-distribution".into(), "PreferClose".into())]);
    annotations.extend(asked.annotations.clone());
    metadata["annotations"] = json!(annotations);
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": metadata,
        "spec": {
            "type": asked.service_type, "ipFamilyPolicy": "PreferDualStack",
            "selector": { GATEWAY_NAME: asked.name }, "ports": ports,
        },
    })
}

fn deployment(asked: &Asked, network: &str, settings: &Settings) -> Value {
    let mut pod_labels = labels(asked);
    let mut add = |key: &str, value: &str| drop(pod_labels.insert(key.to_owned(), value.to_owned()));
    add("sidecar.istio.io/inject", "false");
    add("istio.io/dataplane-mode", "none");
    add("service.istio.io/canonical-name", &asked.deployed_name);
    add("service.istio.io/canonical-revision", "latest");
    if !network.is_empty() {
        add("topology.istio.io/network", network);
    }
    let mut annotations = asked.annotations.clone();
    let ours = [
        ("istio.io/rev", &*settings.revision),
        ("prometheus.io/path", "/stats/prometheus"),
        ("prometheus.io/port", "15020"),
        ("prometheus.io/scrape", "true"),
    ];
    annotations.extend(ours.map(|(key, value)| (key.to_owned(), value.to_owned())));
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata(asked, &asked.deployed_name),
        "spec": {
            "selector": { "matchLabels": { GATEWAY_NAME: asked.name } },
            // A pod leaves only when another is ready: requests always have somewhere to go.
            "strategy": { "type": "RollingUpdate", "rollingUpdate": { "maxSurge": 1, "maxUnavailable": 0 } },
            "template": {
                "metadata": { "labels": pod_labels, "annotations": annotations },
                "spec": pod(asked, network, settings),
            },
        },
    })
}

const METRICS_PORT: u16 = 15020;
const STATUS_PORT: u16 = 15021;
const USER: u32 = 1337;
const GRACE_SECONDS: u64 = 30;
const GRACE: &str = "TERMINATION_GRACE_PERIOD_SECONDS";

fn pod(asked: &Asked, network: &str, settings: &Settings) -> Value {
    let probe = |period: u32, failures: u32| {
        json!({
            "httpGet": { "path": "/healthz/ready", "port": STATUS_PORT, "scheme": "HTTP" },
            "periodSeconds": period, "failureThreshold": failures, "successThreshold": 1, "timeoutSeconds": 1,
        })
    };
    let mount = |name: &str, path: &str| json!({ "name": name, "mountPath": path, "readOnly": true });
    let field = |path: &str, of: &str| json!({ "path": path, "fieldRef": { "fieldPath": of } });
    let mut container = json!({
        "name": "istio-proxy",
        "image": settings.image,
        "args": ["proxy", "waypoint"],
        "env": environment(asked, network, settings),
        "ports": [
            { "name": "metrics", "containerPort": METRICS_PORT, "protocol": "TCP" },
            { "name": "status-port", "containerPort": STATUS_PORT, "protocol": "TCP" },
        ],
        // No startup probe, as Istio's has: when one succeeds, kubelet asks about readiness at once, and may forget the
        // answer until it asks again (kubernetes/kubernetes#103717). The only waypoint was gone for so long.
        "readinessProbe": probe(1, 60),
        "resources": {
            "requests": { "cpu": "100m", "memory": "128Mi" }, "limits": { "cpu": "2", "memory": "1Gi" },
        },
        "securityContext": {
            "allowPrivilegeEscalation": false, "privileged": false, "readOnlyRootFilesystem": true,
            "runAsNonRoot": true, "runAsUser": USER, "runAsGroup": USER,
            "capabilities": { "drop": ["ALL"] }, "seccompProfile": { "type": "RuntimeDefault" },
        },
        "volumeMounts": [
            mount("istiod-ca-cert", "/var/run/secrets/istio"),
            mount("istio-token", "/var/run/secrets/tokens"),
            mount("istio-podinfo", "/etc/istio/pod"),
        ],
    });
    if let Some(policy) = &settings.pull_policy {
        container["imagePullPolicy"] = json!(policy);
    }
    let mut pod = json!({
        "serviceAccountName": asked.account,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "containers": [container],
        "volumes": [
            { "name": "istiod-ca-cert", "configMap": { "name": settings.trust_bundle } },
            { "name": "istio-token", "projected": { "sources": [{ "serviceAccountToken": {
                "audience": "istio-ca", "expirationSeconds": TOKEN_SECONDS, "path": "istio-token",
            } }] } },
            { "name": "istio-podinfo", "downwardAPI": { "items": [
                field("labels", "metadata.labels"), field("annotations", "metadata.annotations"),
            ] } },
        ],
    });
    if !settings.pull_secrets.is_empty() {
        pod["imagePullSecrets"] = settings.pull_secrets.iter().map(|name| json!({ "name": name })).collect();
    }
    pod
}

/// Life of the token that the proxy shows us, as Istio has it.
const TOKEN_SECONDS: u64 = 43_200;

fn environment(asked: &Asked, network: &str, settings: &Settings) -> Value {
    let value = |name: &str, value: &str| json!({ "name": name, "value": value });
    let field = |name: &str, path: &str| json!({ "name": name, "valueFrom": { "fieldRef": { "fieldPath": path } } });
    let mut all = vec![
        value("XDS_ADDRESS", &settings.control_plane),
        value("CA_ADDR", &settings.control_plane),
        value("GATEWAY_NAME", &asked.name),
        value("TRUST_DOMAIN", &settings.trust_domain),
        value("CLUSTER_DOMAIN", &settings.cluster_domain),
        value("ISTIO_META_CLUSTER_ID", &settings.cluster_id),
        field("POD_NAME", "metadata.name"),
        field("POD_NAMESPACE", "metadata.namespace"),
        field("INSTANCE_IP", "status.podIP"),
        field("SERVICE_ACCOUNT", "spec.serviceAccountName"),
        field("ISTIO_META_NODE_NAME", "spec.nodeName"),
    ];
    if !network.is_empty() {
        all.push(value("ISTIO_META_NETWORK", network));
    }
    if let Some(level) = &settings.log_level {
        all.push(value("RUST_LOG", level));
    }
    if let Some(format) = &settings.log_format {
        all.push(value("LOG_FORMAT", format));
    }
    Value::Array(all)
}

/// Tells the proxy how long it may take to end: what the pod has, overlays included.
fn say_grace(deployment: &mut Value) {
    let spec = "/spec/template/spec";
    let seconds = deployment.pointer(&format!("{spec}/terminationGracePeriodSeconds")).and_then(Value::as_u64);
    let containers = deployment.pointer_mut(&format!("{spec}/containers")).and_then(Value::as_array_mut);
    let proxy = containers.into_iter().flatten().find(|container| container["name"] == "istio-proxy");
    let Some(Value::Array(env)) = proxy.and_then(|proxy| proxy.get_mut("env")) else { return };
    if !env.iter().any(|variable| variable["name"] == GRACE) {
        env.push(json!({ "name": GRACE, "value": seconds.unwrap_or(GRACE_SECONDS).to_string() }));
    }
}

fn autoscaler(asked: &Asked) -> Value {
    json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": metadata(asked, &asked.deployed_name),
        "spec": {
            "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": asked.deployed_name },
            "maxReplicas": 1,
        },
    })
}

fn disruption_budget(asked: &Asked) -> Value {
    json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
        "metadata": metadata(asked, &asked.deployed_name),
        "spec": { "selector": { "matchLabels": { GATEWAY_NAME: asked.name } } },
    })
}

#[cfg(test)]
mod tests;
