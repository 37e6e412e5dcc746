//! What the deployment controller of a cluster makes of a Gateway that is a
//! waypoint: a ServiceAccount, a Service and a Deployment of its name; and
//! what it writes into its status once a pod is ready. Pure.
//!
//! Objects of the user are never replaced. Gateways of other classes, and
//! those that name their own addresses, are nobody's to deploy here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use chassis::objects::Object;
use serde_json::{Value, json};

use super::control::protocol::Problem;
use super::manifest::{self, Key, Objects};
use super::options::Options;
use super::plan::services::Slice;
use super::plan::{BUILT_IN, Plan, string_map};
use super::system;

const CLASS: &str = "istio-waypoint";
const CONTROLLER: &str = "istio.io/mesh-controller";
const NAME: &str = "gateway.networking.k8s.io/gateway-name";
const MANAGED: &str = "gateway.istio.io/managed";

/// The objects made of the Gateways among these, and what could not be made.
/// `scaled` has the replicas that somebody asked for by hand.
pub(crate) fn made(objects: &Objects, options: &Options, scaled: &BTreeMap<Key, u64>) -> (Objects, Vec<Problem>) {
    let (mut all, mut problems) = (Vec::new(), Vec::new());
    for (key, gateway) in waypoints(objects) {
        let (overlays, mut found) = overlays(gateway, objects);
        problems.append(&mut found);
        let mut deployment = deployment(gateway, options);
        let made = [("serviceAccount", account(gateway)), ("service", service(gateway))];
        for (section, mut object) in made {
            lay_over(&mut object, overlays.get(section));
            all.push(object);
        }
        lay_over(&mut deployment, overlays.get("deployment"));
        if let Some(replicas) = scaled.get(key) {
            deployment["spec"]["replicas"] = (*replicas).into();
        }
        all.push(deployment);
    }
    let text = json!({ "apiVersion": "v1", "kind": "List", "items": all }).to_string();
    let (mut made, mut found) = manifest::read(Path::new(BUILT_IN), &text);
    problems.append(&mut found);
    made.retain(|key, _| !objects.contains_key(key));
    (made, problems)
}

/// The status of each waypoint that has, or had, a ready pod: overlays by
/// path. An address that was assigned stays, so `assigned` is remembered.
pub(crate) fn statuses(
    objects: &Objects,
    plan: &Plan,
    slices: &[Slice],
    assigned: &mut BTreeSet<Key>,
) -> BTreeMap<PathBuf, Value> {
    let there: BTreeMap<&Key, &Object> = waypoints(objects).collect();
    assigned.retain(|key| there.contains_key(key));
    let mut found = BTreeMap::new();
    for (key, gateway) in there {
        let service = Key::new("Service", &key.namespace, &deployed_name(gateway));
        let answers =
            |slice: &&Slice| slice.service == service && slice.endpoints.iter().any(|endpoint| endpoint.ready);
        if slices.iter().any(|slice| answers(&slice)) {
            assigned.insert(key.clone());
        }
        let Some(planned) = plan.services.get(&service).filter(|_| assigned.contains(key)) else { continue };
        let addresses = planned.addresses.iter().map(|ip| json!({ "type": "IPAddress", "value": ip.to_string() }));
        let hostname = format!("{}.{}.svc.cluster.local", service.name, service.namespace);
        let addresses: Vec<_> = addresses.chain([json!({ "type": "Hostname", "value": hostname })]).collect();
        let overlay = json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
            "metadata": { "namespace": key.namespace, "name": key.name },
            "status": { "addresses": addresses },
        });
        found.insert(Path::new("status/gateway-controller").join(key.file_name()), overlay);
    }
    found
}

/// The Gateways that are deployed here.
fn waypoints(objects: &Objects) -> impl Iterator<Item = (&Key, &Object)> {
    let gateways = objects.iter().filter(|(key, _)| key.kind == "Gateway").map(|(key, object)| (key, &**object));
    gateways.filter(|(_, gateway)| {
        let class = gateway.value.pointer("/spec/gatewayClassName").and_then(Value::as_str).unwrap_or_default();
        let described = objects.get(&Key::new("GatewayClass", "", class));
        let ours = match described.and_then(|class| class.value.pointer("/spec/controllerName")) {
            Some(controller) => controller == CONTROLLER,
            None => class == CLASS,
        };
        let elsewhere = gateway.value.pointer("/spec/addresses").and_then(Value::as_array);
        ours && elsewhere.is_none_or(Vec::is_empty)
    })
}

fn annotation(gateway: &Object, name: &str) -> Option<String> {
    string_map(gateway.value.pointer("/metadata/annotations")).remove(name)
}

/// The name of the Service and the Deployment.
fn deployed_name(gateway: &Object) -> String {
    annotation(gateway, "gateway.istio.io/name-override").unwrap_or_else(|| gateway.name.clone())
}

fn account_name(gateway: &Object) -> String {
    annotation(gateway, "gateway.istio.io/service-account").unwrap_or_else(|| gateway.name.clone())
}

/// The labels of everything that is made: those for infrastructure, or else
/// the Gateway's own, and those by which it is found.
fn labels(gateway: &Object) -> BTreeMap<String, String> {
    let said = gateway.value.pointer("/spec/infrastructure/labels");
    let mut labels = string_map(said.or_else(|| gateway.value.pointer("/metadata/labels")));
    labels.retain(|name, _| !name.starts_with("gateway.networking.k8s.io/"));
    let class = gateway.value.pointer("/spec/gatewayClassName").and_then(Value::as_str).unwrap_or(CLASS);
    labels.insert(NAME.to_owned(), gateway.name.clone());
    labels.insert("gateway.networking.k8s.io/gateway-class-name".to_owned(), class.to_owned());
    labels.insert(MANAGED.to_owned(), "istio.io-mesh-controller".to_owned());
    labels
}

fn account(gateway: &Object) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": { "namespace": gateway.namespace, "name": account_name(gateway), "labels": labels(gateway) },
    })
}

fn service(gateway: &Object) -> Value {
    let listeners = gateway.value.pointer("/spec/listeners").and_then(Value::as_array);
    let port = |listener: &Value| {
        let name = listener.get("name")?.as_str()?.replace('.', "-");
        let protocol = listener.get("protocol")?.as_str()?.to_ascii_lowercase();
        Some(json!({ "name": name, "port": listener.get("port")?, "protocol": "TCP", "appProtocol": protocol }))
    };
    let status = json!({ "name": "status-port", "port": 15021, "protocol": "TCP" });
    let ports: Vec<_> = [status].into_iter().chain(listeners.into_iter().flatten().filter_map(port)).collect();
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {
            "namespace": gateway.namespace, "name": deployed_name(gateway), "labels": labels(gateway),
            "annotations": { "networking.istio.io/traffic-distribution": "PreferClose" },
        },
        "spec": { "ipFamilyPolicy": "PreferDualStack", "selector": { NAME: gateway.name }, "ports": ports },
    })
}

fn deployment(gateway: &Object, options: &Options) -> Value {
    let name = deployed_name(gateway);
    let mut labels = labels(gateway);
    let template = [
        ("sidecar.istio.io/inject", "false"),
        ("istio.io/dataplane-mode", "none"),
        ("service.istio.io/canonical-name", name.as_str()),
        ("service.istio.io/canonical-revision", "latest"),
    ];
    labels.extend(template.map(|(name, value)| (name.to_owned(), value.to_owned())));
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "namespace": gateway.namespace, "name": name, "labels": self::labels(gateway) },
        "spec": {
            "replicas": 1,
            "selector": { "matchLabels": { NAME: gateway.name } },
            "template": {
                "metadata": {
                    "labels": labels,
                    "annotations": {
                        "prometheus.io/scrape": "true", "prometheus.io/port": "15020",
                        "prometheus.io/path": "/stats/prometheus",
                    },
                },
                "spec": pod_spec(gateway, &name, options),
            },
        },
    })
}

fn pod_spec(gateway: &Object, name: &str, options: &Options) -> Value {
    let field = |name: &str, path: &str| json!({ "name": name, "valueFrom": { "fieldRef": { "fieldPath": path } } });
    let owner = format!("kubernetes://apis/apps/v1/namespaces/{}/deployments/{name}", gateway.namespace);
    let mut env = system::environment(options, "waypoint");
    env.extend([
        json!({ "name": "XDS_ADDRESS", "value": "istiod.istio-system.svc:15012" }),
        json!({ "name": "CA_ADDR", "value": "istiod.istio-system.svc:15012" }),
        json!({ "name": "GATEWAY_NAME", "value": gateway.name }),
        json!({ "name": "TRUST_DOMAIN", "value": "cluster.local" }),
        json!({ "name": "ISTIO_META_CLUSTER_ID", "value": "Kubernetes" }),
        json!({ "name": "ISTIO_META_WORKLOAD_NAME", "value": name }),
        json!({ "name": "ISTIO_META_OWNER", "value": owner }),
        json!({ "name": "RUST_BACKTRACE", "value": "1" }),
        field("POD_NAME", "metadata.name"),
        field("POD_NAMESPACE", "metadata.namespace"),
        field("NODE_NAME", "spec.nodeName"),
        field("INSTANCE_IP", "status.podIP"),
        field("SERVICE_ACCOUNT", "spec.serviceAccountName"),
    ]);
    json!({
        "serviceAccountName": account_name(gateway),
        "terminationGracePeriodSeconds": 30,
        "containers": [{
            "name": "istio-proxy",
            "command": ["meshctl", "waypoint", "proxy", "waypoint"],
            "env": env,
            "ports": [{ "name": "metrics", "containerPort": 15020 }, { "name": "status-port", "containerPort": 15021 }],
            "volumeMounts": [
                { "name": "istio-token", "mountPath": "/var/run/secrets/tokens" },
                { "name": "istiod-ca-cert", "mountPath": "/var/run/secrets/istio" },
            ],
            "readinessProbe": { "httpGet": { "port": 15021, "path": "/healthz/ready" } },
        }],
        "volumes": [
            { "name": "istio-token", "projected": { "sources": [
                { "serviceAccountToken": { "path": "istio-token", "audience": "istio-ca" } },
            ] } },
            { "name": "istiod-ca-cert", "configMap": { "name": "istio-ca-root-cert" } },
        ],
    })
}

/// What a Gateway's parameters lay over the objects made of it, by section.
fn overlays(gateway: &Object, objects: &Objects) -> (BTreeMap<String, Value>, Vec<Problem>) {
    let (mut found, mut problems) = (BTreeMap::new(), Vec::new());
    let Some(reference) = gateway.value.pointer("/spec/infrastructure/parametersRef") else {
        return (found, problems);
    };
    let refuse = |reason: String| manifest::problem(&gateway.origin, format!("Gateway {}: {reason}", gateway.name));
    let name = reference.get("name").and_then(Value::as_str).unwrap_or_default();
    let parameters = objects.get(&Key::new("ConfigMap", &gateway.namespace, name));
    let (Some(parameters), Some("ConfigMap")) = (parameters, reference.get("kind").and_then(Value::as_str)) else {
        problems.push(refuse(format!("parametersRef {name:?} is no ConfigMap of its namespace; it has the defaults")));
        return (found, problems);
    };
    for (section, text) in string_map(parameters.value.get("data")) {
        // No more than one document, and no kind of its own: it becomes a field of one that has.
        let indented: String = text.lines().map(|line| format!("  {line}\n")).collect();
        let text = format!("apiVersion: v1\nkind: Overlay\nmetadata: {{name: overlay}}\noverlay:\n{indented}");
        let (parsed, wrong) = chassis::objects::parse(Path::new(&section), &text);
        match (parsed.first().and_then(|object| object.value.get("overlay")), wrong.is_empty()) {
            (Some(overlay @ Value::Object(_)), true) => drop(found.insert(section, overlay.clone())),
            _ => problems.push(refuse(format!("entry {section} of ConfigMap {name} is not YAML of an object"))),
        }
    }
    (found, problems)
}

/// Lays an overlay over an object; what names the object stays.
fn lay_over(object: &mut Value, overlay: Option<&Value>) {
    let Some(overlay) = overlay else { return };
    let named = ["kind", "apiVersion"].map(|field| object[field].clone());
    let metadata = ["namespace", "name"].map(|field| object["metadata"][field].clone());
    merge(object, overlay);
    [object["kind"], object["apiVersion"]] = named;
    [object["metadata"]["namespace"], object["metadata"]["name"]] = metadata;
}

/// Maps are merged, and lists whose items have names by those; anything else
/// is replaced, and null removes.
fn merge(base: &mut Value, overlay: &Value) {
    match (base, overlay) {
        (Value::Object(base), Value::Object(overlay)) => {
            for (key, value) in overlay {
                match value {
                    Value::Null => drop(base.remove(key)),
                    value => merge(base.entry(key.clone()).or_insert(Value::Null), value),
                }
            }
        }
        (Value::Array(base), Value::Array(overlay)) if overlay.iter().all(|item| item.get("name").is_some()) => {
            for item in overlay {
                match base.iter_mut().find(|known| known.get("name") == item.get("name")) {
                    Some(known) => merge(known, item),
                    None => base.push(item.clone()),
                }
            }
        }
        (base, overlay) => *base = overlay.clone(),
    }
}

#[cfg(test)]
mod tests;
