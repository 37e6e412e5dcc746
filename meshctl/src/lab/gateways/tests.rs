use super::*;
use crate::lab::plan::ledger::Ledger;
use crate::lab::plan::plan;
use crate::lab::plan::services;

const WAYPOINT: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: wp, namespace: shop, labels: {istio.io/waypoint-for: all, gateway.networking.k8s.io/x: y}}
spec: {gatewayClassName: istio-waypoint, listeners: [{name: mesh.x, port: 15008, protocol: HBONE}]}
";

fn objects(text: &str) -> Objects {
    let (objects, problems) = manifest::read(Path::new("a.yaml"), text);
    assert_eq!(problems, []);
    objects
}

fn options() -> Options {
    serde_json::from_value(json!({
        "manifests": [], "yaml": "", "shop": false, "nodes": 2, "mesh": true,
        "token_lifetime": { "secs": 60, "nanos": 0 },
        "component_env": [["waypoint", "RUST_LOG", "debug"]], "base_env": [],
    }))
    .expect("the options are whole")
}

fn made_of(text: &str) -> (Objects, Vec<String>) {
    let (made, problems) = made(&objects(text), &options(), &BTreeMap::new());
    (made, problems.iter().map(|problem| problem.reason.clone()).collect())
}

fn names(objects: &Objects) -> Vec<String> {
    objects.keys().map(|key| format!("{} {}/{}", key.kind, key.namespace, key.name)).collect()
}

fn with(parameters: &str) -> String {
    let referring =
        WAYPOINT.replace("spec: {", "spec: {infrastructure: {parametersRef: {group: '', kind: ConfigMap, name: p}}, ");
    format!(
        "{referring}---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: p, namespace: shop}}\ndata:\n{parameters}"
    )
}

#[test]
fn a_waypoint_becomes_an_account_a_service_and_a_deployment() {
    let (made, problems) = made_of(WAYPOINT);
    assert_eq!(problems, [] as [String; 0]);
    assert_eq!(names(&made), ["Deployment shop/wp", "Service shop/wp", "ServiceAccount shop/wp"]);
    let service = &made[&Key::new("Service", "shop", "wp")].value;
    let ports: Vec<_> = service["spec"]["ports"].as_array().expect("ports").iter().map(ToString::to_string).collect();
    assert_eq!(
        ports,
        [
            r#"{"name":"status-port","port":15021,"protocol":"TCP"}"#,
            r#"{"appProtocol":"hbone","name":"mesh-x","port":15008,"protocol":"TCP"}"#
        ]
    );
    let template = &made[&Key::new("Deployment", "shop", "wp")].value["spec"]["template"];
    let labels = string_map(template.pointer("/metadata/labels"));
    for (name, value) in [
        ("gateway.networking.k8s.io/gateway-name", Some("wp")),
        ("gateway.networking.k8s.io/gateway-class-name", Some("istio-waypoint")),
        ("gateway.istio.io/managed", Some("istio.io-mesh-controller")),
        ("istio.io/dataplane-mode", Some("none")),
        ("istio.io/waypoint-for", Some("all")),
        ("gateway.networking.k8s.io/x", None),
    ] {
        assert_eq!(labels.get(name).map(String::as_str), value, "{name}");
    }
    let first = &template["spec"]["containers"][0]["env"][0];
    assert_eq!(first["name"], "RUST_LOG", "what the user sets comes first, so that ours counts");
}

#[test]
fn only_what_is_ours_to_deploy_is_deployed() {
    let class = |controller: &str, name: &str| {
        format!(
            "---\napiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {{name: {name}}}\nspec: {{controllerName: {controller}}}\n"
        )
    };
    let own = WAYPOINT.replace("istio-waypoint", "own");
    for (what, text, count) in [
        ("our class", WAYPOINT.to_owned(), 3),
        ("another class", WAYPOINT.replace("istio-waypoint", "istio"), 0),
        ("a class of ours by another name", format!("{own}{}", class(CONTROLLER, "own")), 3),
        ("somebody else's class of our name", format!("{WAYPOINT}{}", class("example.com/other", CLASS)), 0),
        ("one that is elsewhere", WAYPOINT.replace("listeners", "addresses: [{value: 192.0.2.1}], listeners"), 0),
        (
            "with a Service of the user",
            format!("{WAYPOINT}---\napiVersion: v1\nkind: Service\nmetadata: {{name: wp, namespace: shop}}\n"),
            2,
        ),
    ] {
        assert_eq!(made_of(&text).0.len(), count, "{what}");
    }
}

#[test]
fn annotations_rename_what_is_made() {
    let text = WAYPOINT.replace(
        "labels:",
        "annotations: {gateway.istio.io/name-override: other, gateway.istio.io/service-account: who}, labels:",
    );
    assert_eq!(names(&made_of(&text).0), ["Deployment shop/other", "Service shop/other", "ServiceAccount shop/who"]);
}

#[test]
fn parameters_are_laid_over_what_is_made() {
    let (made, problems) = made_of(&with(
        "  deployment: |\n    metadata: {name: hidden, labels: {a: b}}\n    spec:\n      replicas: 3\n      template:\n        spec:\n          containers:\n          - name: istio-proxy\n            env: [{name: EXTRA, value: x}]\n          nodeSelector: {zone: a}\n  service: |\n    spec: {ipFamilyPolicy: null}\n",
    ));
    assert_eq!(problems, [] as [String; 0]);
    let deployment = &made[&Key::new("Deployment", "shop", "wp")].value;
    assert_eq!((&deployment["spec"]["replicas"], &deployment["metadata"]["labels"]["a"]), (&json!(3), &json!("b")));
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["command"][1], "waypoint", "what the overlay does not say stays");
    assert!(container["env"].as_array().expect("env").iter().any(|entry| entry["name"] == "EXTRA"));
    let service = &made[&Key::new("Service", "shop", "wp")].value;
    assert!(service["spec"].get("ipFamilyPolicy").is_none());

    let scaled = [(Key::new("Gateway", "shop", "wp"), 5)].into();
    let (made, _) = super::made(&objects(WAYPOINT), &options(), &scaled);
    assert_eq!(made[&Key::new("Deployment", "shop", "wp")].value["spec"]["replicas"], 5);
}

#[test]
fn parameters_that_cannot_be_used_are_told() {
    for (text, expected) in [
        (with("  deployment: 'a: [b'\n"), "Gateway wp: entry deployment of ConfigMap p is not YAML of an object"),
        (with("  deployment: just words\n"), "Gateway wp: entry deployment of ConfigMap p is not YAML of an object"),
        (
            with("").replace("name: p,", "name: q,"),
            "Gateway wp: parametersRef \"p\" is no ConfigMap of its namespace; it has the defaults",
        ),
    ] {
        let (made, problems) = made_of(&text);
        assert_eq!(problems, [expected]);
        assert_eq!(made.len(), 3, "the defaults are made");
    }
}

#[test]
fn an_address_is_assigned_once_a_pod_is_ready_and_stays() {
    let mut all = objects(WAYPOINT);
    all.extend(made_of(WAYPOINT).0);
    let plan = plan(&all, 1, &mut Ledger::default());
    let service = &plan.services[&Key::new("Service", "shop", "wp")];
    let slices = |ready: bool| services::slices(service, plan.pods.values(), |_| Some(ready));
    let mut assigned = BTreeSet::new();
    assert_eq!(statuses(&all, &plan, &slices(false), &mut assigned).len(), 0);
    let found = statuses(&all, &plan, &slices(true), &mut assigned);
    let overlay = &found[Path::new("status/gateway-controller/shop.gateway.wp.yaml")];
    let addresses = overlay["status"]["addresses"].as_array().expect("addresses");
    assert_eq!(addresses.last(), Some(&json!({ "type": "Hostname", "value": "wp.shop.svc.cluster.local" })));
    assert_eq!(addresses[0]["value"], service.addresses[0].to_string());
    assert_eq!(statuses(&all, &plan, &slices(false), &mut assigned), found, "it stays");
    assert_eq!(statuses(&Objects::new(), &plan, &slices(true), &mut assigned).len(), 0);
    assert!(assigned.is_empty(), "and goes with its Gateway");
}
