use super::*;
use std::path::Path;

fn objects(text: &str) -> Objects {
    let (objects, problems) = manifest::read(Path::new("a.yaml"), text);
    assert_eq!(problems, []);
    objects
}

/// What a plan says of its pods: `namespace/name@node address`.
fn pods(plan: &Plan) -> Vec<String> {
    let said = |pod: &PodPlan| format!("{}/{}@{} {}", pod.key.namespace, pod.key.name, pod.node, pod.addresses[0]);
    plan.pods.values().map(said).collect()
}

fn problems(plan: &Plan) -> Vec<String> {
    plan.problems.iter().map(ToString::to_string).collect()
}

fn pod(name: &str, more: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: {name}}}}}\n\
         spec: {{{more} containers: [{{name: c, command: [run], ports: [{{name: http, containerPort: 8080}}]}}]}}\n"
    )
}

const WEB: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: 3
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: c, command: [run]}]}
";

#[test]
fn pods_are_spread_over_the_nodes_unless_they_name_one() {
    let text = pod("a", "") + &pod("b", "") + &pod("c", "nodeName: node2,");
    let plan = plan(&objects(&text), 2, &mut Ledger::default());
    let expected = ["default/a@node1 10.244.1.2", "default/b@node2 10.244.2.2", "default/c@node2 10.244.2.3"];
    assert_eq!(pods(&plan), expected);
}

#[test]
fn nodes_that_are_described_are_the_nodes_there_are() {
    let node = |name: &str, zone: &str| {
        format!("---\napiVersion: v1\nkind: Node\nmetadata: {{name: {name}, labels: {{zone: {zone}}}}}\n")
    };
    let text = node("left", "a") + &node("right", "b") + &pod("a", "nodeSelector: {zone: b},");
    let plan = plan(&objects(&text), 5, &mut Ledger::default());
    assert_eq!(plan.nodes.iter().map(|node| node.name.as_str()).collect::<Vec<_>>(), ["left", "right"]);
    assert_eq!(pods(&plan), ["default/a@right 10.244.2.2"]);
}

#[test]
fn the_same_manifests_give_the_same_plan_again() {
    let (objects, mut ledger) = (objects(&(WEB.to_owned() + &pod("a", ""))), Ledger::default());
    let first = plan(&objects, 2, &mut ledger);
    assert_eq!(plan(&objects, 2, &mut ledger), first);
}

#[test]
fn what_stays_keeps_its_address_and_uid_and_an_address_is_not_used_again_at_once() {
    let mut ledger = Ledger::default();
    let first = plan(&objects(&(pod("a", "") + &pod("b", ""))), 1, &mut ledger);
    let second = plan(&objects(&(pod("b", "") + &pod("c", ""))), 1, &mut ledger);
    assert_eq!(pods(&second), ["default/b@node1 10.244.1.3", "default/c@node1 10.244.1.4"]);
    let b = Key::new("Pod", "default", "b");
    assert_eq!(first.pods[&b].uid, second.pods[&b].uid);
}

#[test]
fn another_spec_is_another_pod_and_other_labels_are_not() {
    let mut ledger = Ledger::default();
    let key = Key::new("Pod", "default", "a");
    let mut uid = |text: &str| plan(&objects(text), 1, &mut ledger).pods[&key].uid.clone();
    let first = uid(&pod("a", ""));
    assert_eq!(uid(&pod("a", "").replace("{app: a}", "{app: b}")), first);
    assert_ne!(uid(&pod("a", "restartPolicy: Never,")), first);
}

#[test]
fn a_deployment_has_its_replicas_and_one_with_another_template_has_new_pods() {
    let mut ledger = Ledger::default();
    let first = plan(&objects(WEB), 2, &mut ledger);
    assert_eq!(first.pods.len(), 3);
    let owner = |plan: &Plan| plan.pods.values().next().unwrap().object["metadata"]["ownerReferences"][0].clone();
    assert_eq!(owner(&first)["kind"], "ReplicaSet");
    let more = plan(&objects(&WEB.replace("replicas: 3", "replicas: 4")), 2, &mut ledger);
    assert!(first.pods.keys().all(|key| more.pods.contains_key(key)));
    let other = plan(&objects(&WEB.replace("[run]", "[walk]")), 2, &mut ledger);
    assert!(first.pods.keys().all(|key| !other.pods.contains_key(key)));
}

#[test]
fn a_daemon_set_has_a_pod_a_node_and_a_stateful_set_numbers_its_own() {
    let text = WEB.replace("Deployment", "DaemonSet");
    let planned = plan(&objects(&text), 3, &mut Ledger::default());
    let nodes: BTreeSet<_> = planned.pods.values().map(|pod| pod.node.clone()).collect();
    assert_eq!(nodes.len(), 3);
    let planned = plan(&objects(&WEB.replace("Deployment", "StatefulSet")), 1, &mut Ledger::default());
    assert_eq!(planned.pods.keys().map(|key| key.name.as_str()).collect::<Vec<_>>(), ["web-0", "web-1", "web-2"]);
}

#[test]
fn a_pod_that_cannot_be_run_is_told_with_file_and_line_and_the_rest_is_planned() {
    let check = |bad: &str, reason: &str| {
        let text = pod("a", "") + bad;
        let plan = plan(&objects(&text), 1, &mut Ledger::default());
        assert_eq!(plan.pods.len(), 1, "{bad}");
        let said = problems(&plan);
        assert!(said.len() == 1 && said[0].starts_with("a.yaml:7: ") && said[0].contains(reason), "{said:?}");
    };
    let bad = |spec: &str| format!("---\napiVersion: v1\nkind: Pod\nmetadata: {{name: z}}\nspec: {spec}\n");
    check(&bad("{containers: [{name: c, image: nginx}]}"), "has no command");
    check(&bad("{containers: []}"), "no containers");
    check(&bad("[]"), "is not a mapping");
    check(&bad("{nodeName: moon, containers: [{name: c, command: [x]}]}"), "there is no node `moon`");
    check(&bad("{containers: [{name: c, command: 7}]}"), "cannot be read");
    check(&bad("{volumes: [{name: v, nfs: {}}], containers: [{name: c, command: [x]}]}"), "volume `v`");
}

#[test]
fn what_is_not_of_the_expected_shape_is_no_panic() {
    let shapes = ["7", "[]", "text", "{}", "null", "true"];
    for kind in ["Pod", "Deployment", "Job", "Service", "Namespace", "Node", "EndpointSlice", "ConfigMap"] {
        for shape in shapes {
            let text = format!(
                "{{apiVersion: v1, kind: {kind}, metadata: {{name: a, labels: {shape}, annotations: {shape}}}, \
                 spec: {shape}, endpoints: {shape}, ports: {shape}}}"
            );
            let (objects, _) = manifest::read(Path::new("a.yaml"), &text);
            let plan = plan(&objects, 1, &mut Ledger::default());
            assert!(plan.pods.is_empty(), "{text}");
        }
    }
}

#[test]
fn a_service_gets_addresses_of_the_families_it_asks_for() {
    let check = |spec: &str, expected: &str| {
        let text = format!("{{apiVersion: v1, kind: Service, metadata: {{name: s}}, spec: {spec}}}");
        let plan = plan(&objects(&text), 1, &mut Ledger::default());
        let service = &plan.services[&Key::new("Service", "default", "s")];
        let said: Vec<_> = service.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(said.join(" "), expected, "{spec}");
    };
    check("{ports: [{port: 80}]}", "10.96.1.0");
    check("{ipFamilyPolicy: RequireDualStack}", "10.96.1.0 fd00:10:96::100");
    check("{ipFamilies: [IPv6]}", "fd00:10:96::100");
    check("{clusterIP: 10.96.0.77}", "10.96.0.77");
    check("{clusterIP: None}", "");
    check("{type: ExternalName, externalName: example.com}", "");
}

#[test]
fn endpoints_are_the_pods_the_selector_finds_at_the_port_they_name() {
    let service = |selector: &str| {
        format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: s}}\n\
             spec: {{selector: {selector}, ports: [{{port: 80, targetPort: http}}]}}\n"
        )
    };
    let check = |selector: &str, expected: &[(&str, bool)]| {
        let text = pod("a", "") + &pod("b", "") + &service(selector);
        let plan = plan(&objects(&text), 1, &mut Ledger::default());
        let ready = |pod: &PodPlan| Some(pod.key.name == "a");
        let slices = services::slices(&plan.services[&Key::new("Service", "default", "s")], plan.pods.values(), ready);
        let found: Vec<_> = slices
            .iter()
            .flat_map(|slice| {
                slice.endpoints.iter().map(|end| (format!("{}:{}", end.address, slice.ports[0].1), end.ready))
            })
            .collect();
        let expected: Vec<_> = expected.iter().map(|(at, ready)| ((*at).to_owned(), *ready)).collect();
        assert_eq!(found, expected, "{selector}");
    };
    check("{app: a}", &[("10.244.1.2:8080", true)]);
    check("{app: b}", &[("10.244.1.3:8080", false)]);
    check("{app: none}", &[]);
    check("{}", &[]);
}

#[test]
fn only_the_labs_own_manifests_make_the_meshs_programs() {
    let text = pod("a", "").replace("{app: a}", "{app: a, lab.istiod-lite.io/component: agent}");
    let plan = plan(&objects(&text), 1, &mut Ledger::default());
    let pod = plan.pods.values().next().unwrap();
    assert_eq!((pod.component.as_deref(), pod.root), (None, Root::Copy));
}

#[test]
fn a_node_that_is_full_refuses_one_pod_more() {
    let text: String = (0..254).map(|number| pod(&format!("p{number}"), "")).collect();
    let plan = plan(&objects(&text), 1, &mut Ledger::default());
    assert_eq!(plan.pods.len(), 253);
    assert!(problems(&plan)[0].contains("there is no address left"), "{:?}", problems(&plan));
}
