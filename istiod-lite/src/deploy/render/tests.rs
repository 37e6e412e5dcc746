use super::*;
use crate::deploy::{
    asked::CONTROLLER_VERSION,
    parameters::{Overlay, Section},
};
use serde_json::json;

pub(in crate::deploy) fn settings() -> Settings {
    Settings {
        image: "hub/waypoint:1".into(),
        pull_policy: Some("IfNotPresent".into()),
        pull_secrets: vec!["pull".into()],
        log_level: None,
        log_format: None,
        control_plane: "istiod.istio-system.svc:15012".into(),
        trust_bundle: "istio-ca-root-cert".into(),
        revision: "default".into(),
        root_namespace: "istio-system".into(),
        trust_domain: "cluster.local".into(),
        cluster_domain: "cluster.local".into(),
        cluster_id: "Kubernetes".into(),
    }
}

fn gateway() -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
        "metadata": {
            "namespace": "shop", "name": "wp", "uid": "u-1",
            "labels": {"istio.io/waypoint-for": "service", "team": "a"},
            "annotations": {"note": "x", CONTROLLER_VERSION: "5"},
        },
        "spec": {
            "gatewayClassName": "istio-waypoint",
            "listeners": [{"name": "mesh.in", "port": 15008, "protocol": "HBONE"}],
        },
    })
}

fn rendered(gateway: &Value, overlays: &[Overlay]) -> Vec<Value> {
    render(&Asked::of(gateway), "net1", overlays, &settings()).expect("rendered")
}

fn overlay(section: Section, value: Value) -> Overlay {
    Overlay { section, origin: "ConfigMap shop/p, entry x".into(), value }
}

/// Compares with the file beside the tests. What is made now and differs is left where it can be copied from.
fn golden(name: &str, objects: &[Value]) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    let made = serde_json::to_string_pretty(objects).expect("JSON") + "\n";
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    if made != kept {
        // Other people may test on this machine too.
        let now = std::env::temp_dir().join(format!("{}-{name}", std::process::id()));
        std::fs::write(&now, &made).expect("written");
        panic!("different; if that is right: cp {} {}", now.display(), path.display());
    }
}

#[test]
fn a_plain_waypoint_is_as_it_was() {
    golden("waypoint.json", &rendered(&gateway(), &[]));
}

#[test]
fn a_waypoint_with_everything_said_is_as_it_was() {
    let mut gateway = gateway();
    gateway["metadata"]["annotations"]["gateway.istio.io/name-override"] = json!("edge");
    gateway["metadata"]["annotations"]["gateway.istio.io/service-account"] = json!("sa");
    gateway["metadata"]["annotations"]["networking.istio.io/service-type"] = json!("LoadBalancer");
    gateway["spec"]["infrastructure"] = json!({
        "labels": {"tier": "mesh", "gateway.networking.k8s.io/x": "dropped"},
        "annotations": {"networking.istio.io/traffic-distribution": "PreferSameNode"},
    });
    let overlays = [
        overlay(
            Section::Deployment,
            json!({"spec": {"replicas": 2, "template": {"spec": {
                "terminationGracePeriodSeconds": 90,
                "containers": [{"name": "istio-proxy", "resources": {"limits": {"cpu": null}}}],
            }}}}),
        ),
        overlay(Section::HorizontalPodAutoscaler, json!({"spec": {"minReplicas": 2, "maxReplicas": 5}})),
        overlay(Section::PodDisruptionBudget, json!({"spec": {"minAvailable": 1}})),
    ];
    golden("waypoint-overlaid.json", &rendered(&gateway, &overlays));
}

#[test]
fn without_a_network_nothing_speaks_of_one() {
    let objects = render(&Asked::of(&gateway()), "", &[], &settings()).expect("rendered");
    assert!(!serde_json::to_string(&objects).expect("JSON").to_lowercase().contains("network\""));
}

#[test]
fn everything_is_owned_by_this_very_gateway() {
    let everything =
        [overlay(Section::HorizontalPodAutoscaler, json!({})), overlay(Section::PodDisruptionBudget, json!({}))];
    let objects = rendered(&gateway(), &everything);
    assert_eq!(objects.len(), 5);
    for object in objects {
        let metadata = &object["metadata"];
        let kind = &object["kind"];
        assert_eq!(metadata["ownerReferences"][0]["uid"], "u-1", "{kind}");
        assert_eq!(metadata["labels"][MANAGED], MANAGED_BY, "{kind}");
        assert_eq!(metadata["labels"][GATEWAY_NAME], "wp", "{kind}");
    }
}

#[test]
fn pods_can_do_nothing_but_serve() {
    let objects = rendered(&gateway(), &[]);
    let deployment = objects.iter().find(|object| object["kind"] == "Deployment").expect("a Deployment");
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    let security = &container["securityContext"];
    assert_eq!(security["runAsUser"], 1337);
    assert_eq!(security["readOnlyRootFilesystem"], true);
    assert_eq!(security["allowPrivilegeEscalation"], false);
    assert_eq!(security["capabilities"]["drop"], json!(["ALL"]));
}

#[test]
fn an_overlay_that_cannot_be_laid_over_names_its_place() {
    let overlays = [overlay(Section::Service, json!({"metadata": {"name": "x"}}))];
    let error = render(&Asked::of(&gateway()), "", &overlays, &settings()).expect_err("refused");
    assert_eq!(error, "ConfigMap shop/p, entry x: metadata.name may not be changed: it is \"wp\"");
}

#[test]
fn the_proxy_reads_every_variable_that_it_is_given() {
    let table = include_str!("../../../../docs/configuration.md");
    let mut asked = settings();
    (asked.log_level, asked.log_format) = (Some("debug".into()), Some("json".into()));
    let objects = render(&Asked::of(&gateway()), "n", &[], &asked).expect("rendered");
    let env = &objects[1]["spec"]["template"]["spec"]["containers"][0]["env"];
    let names: Vec<&str> = env.as_array().expect("a list").iter().filter_map(|it| it["name"].as_str()).collect();
    assert!(names.len() > 12, "{names:?}");
    for name in names {
        assert!(table.contains(&format!("`{name}`")), "{name} is in no table of docs/configuration.md");
    }
}
