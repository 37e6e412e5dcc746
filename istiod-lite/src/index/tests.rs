//! What facts mean: manifests in, what proxies would be told out.

mod history;
mod policies;
mod waypoints;

use super::*;
use crate::files;
use mesh::{
    Change, View,
    service::LoadBalancingMode,
    workload::{Health, Protocol},
};
use std::path::Path;

pub(super) fn facts(text: &str) -> Vec<Fact> {
    let (objects, problems) = chassis::objects::parse(Path::new("test.yaml"), text);
    assert!(problems.is_empty(), "{problems:?}");
    let read = objects.iter().map(|object| {
        let reading = files::read(object);
        let fact = reading.fact.expect("a fact");
        let remarks_only = matches!(fact, Fact::AuthorizationPolicy(_));
        assert!(reading.problems.is_empty() || remarks_only, "{:?}", reading.problems);
        fact
    });
    read.collect()
}

/// The index, and the view of who followed all its changes.
pub(super) fn index(text: &str) -> (Index, View) {
    let mut index = Index::new(Mesh::default());
    let view = tell(&mut index, &View::default(), facts(text));
    (index, view)
}

/// What a fact changes, whoever is told.
pub(super) fn changes(index: &mut Index, fact: Fact) -> Vec<Change> {
    index.apply(fact).into_iter().map(|publication| publication.change).collect()
}

pub(super) fn tell(index: &mut Index, view: &View, facts: impl IntoIterator<Item = Fact>) -> View {
    facts.into_iter().fold(view.clone(), |view, fact| view.apply(changes(index, fact)))
}

fn key(text: &str) -> ServiceKey {
    text.parse().expect("a key")
}

fn pod(name: &str) -> String {
    format!("Kubernetes//Pod/shop/{name}")
}

/// A service's endpoints: `uid@address:port,port`, without what all uids begin with.
fn endpoints(view: &View, service: &str) -> Vec<String> {
    let key = key(service);
    let of = view.service(&key).map(|service| service.ports.clone()).unwrap_or_default();
    let show = |endpoint: mesh::balance::Endpoint<'_>| {
        let workload = endpoint.workload;
        let at = workload.hostname.as_deref().map_or_else(|| workload.addresses[0].to_string(), Into::into);
        let port = |port: &u16| endpoint.ports.get(port).copied().filter(|port| *port > 0);
        let port = |number: &u16| port(number).or_else(|| Some(of[number].target_port)).filter(|port| *port > 0);
        let ports: Vec<_> = of.keys().map(|n| port(n).map_or_else(|| "-".into(), |port| port.to_string())).collect();
        format!("{}@{at}:{}", workload.uid.trim_start_matches("Kubernetes/"), ports.join(","))
    };
    let mut shown: Vec<_> = view.endpoints(&key).map(show).collect();
    shown.sort();
    shown
}

const SHOP: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Node
metadata: {name: n1, labels: {topology.kubernetes.io/region: r, topology.kubernetes.io/zone: z, topology.istio.io/subzone: s}}
---
apiVersion: v1
kind: Pod
metadata:
  name: web-7d9-x
  namespace: shop
  uid: u1
  labels: {app: web, version: v2, pod-template-hash: 7d9}
  annotations: {ambient.istio.io/redirection: enabled}
  ownerReferences: [{kind: ReplicaSet, name: web-7d9, controller: true}]
spec: {nodeName: n1, serviceAccountName: web, containers: [{ports: [{name: http, containerPort: 8080}]}]}
status: {phase: Running, podIPs: [{ip: 10.0.0.1}, {ip: 'fd00::1'}], conditions: [{type: Ready, status: 'True'}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  clusterIP: 10.1.0.1
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: http}, {name: raw, port: 81, targetPort: 8081}, {name: x, port: 82, targetPort: gone}]
";

#[test]
fn a_pod_becomes_a_workload() {
    let (_, view) = index(SHOP);
    let workload = view.workload(&pod("web-7d9-x")).expect("the workload");
    assert_eq!(workload.identity().expect("an identity").to_string(), "spiffe://cluster.local/ns/shop/sa/web");
    assert_eq!((workload.protocol, workload.health, workload.native_tunnel), (Protocol::Hbone, Health::Healthy, false));
    assert_eq!(
        (&*workload.workload_name, &*workload.canonical_name, &*workload.canonical_revision),
        ("web", "web", "v2")
    );
    assert_eq!((&*workload.node, &*workload.locality.region, &*workload.locality.subzone), ("n1", "r", "s"));
    assert_eq!((workload.addresses.len(), &*workload.cluster_id), (2, "Kubernetes"));
}

#[test]
fn a_service_becomes_a_service_with_endpoints() {
    let (_, view) = index(SHOP);
    let service = view.service(&key("shop/web.shop.svc.cluster.local")).expect("the service");
    assert!(service.canonical);
    assert_eq!(service.vips.len(), 1);
    let targets: Vec<_> = service.ports.values().map(|port| port.target_port).collect();
    assert_eq!(targets, [0, 8081, 0]);
    let expected = ["/Pod/shop/web-7d9-x@10.0.0.1:8080,8081,-"];
    assert_eq!(endpoints(&view, "shop/web.shop.svc.cluster.local"), expected);
}

#[test]
fn a_pod_is_plain_until_it_is_captured_and_gone_when_it_ended() {
    for (from, to, expected) in [
        ("enabled", "pending", Some((Protocol::Plain, Health::Healthy))),
        ("app: web,", "app: web, networking.istio.io/tunnel: http,", Some((Protocol::Hbone, Health::Healthy))),
        ("status: 'True'", "status: 'False'", Some((Protocol::Hbone, Health::Unhealthy))),
        ("uid: u1", "uid: u1\n  deletionTimestamp: now", Some((Protocol::Hbone, Health::Unhealthy))),
        ("phase: Running", "phase: Pending", Some((Protocol::Hbone, Health::Healthy))),
        ("phase: Running", "phase: Succeeded", None),
        ("phase: Running", "phase: Failed", None),
        ("podIPs: [{ip: 10.0.0.1}, {ip: 'fd00::1'}],", "", None),
    ] {
        let (_, view) = index(&SHOP.replace(from, to));
        let found = view.workload(&pod("web-7d9-x")).map(|workload| (workload.protocol, workload.health));
        assert_eq!(found, expected, "{from} → {to}");
    }
}

#[test]
fn a_change_touches_only_what_depends_on_it() {
    let (mut index, _) = index(SHOP);
    let other = SHOP.replace("web-7d9-x", "other").replace("app: web", "app: other").replace("10.0.0.1", "10.0.0.2");
    let pod = |text: &str| facts(text).into_iter().find(|fact| matches!(fact, Fact::Pod(_))).expect("the pod");
    for (fact, expected) in [
        (pod(SHOP), vec![]),
        (pod(&other), vec!["+Kubernetes//Pod/shop/other"]),
        (pod(&other.replace("'True'", "'False'")), vec!["+Kubernetes//Pod/shop/other"]),
        (Fact::Removed(pod(&other).key()), vec!["-Kubernetes//Pod/shop/other"]),
        (Fact::Removed(pod(&other).key()), vec![]),
    ] {
        let show = |change: Change| match change {
            Change::Workload(it) => format!("+{}", it.uid),
            Change::RemoveAddress(name) => format!("-{name}"),
            other => format!("{other:?}"),
        };
        assert_eq!(changes(&mut index, fact).into_iter().map(show).collect::<Vec<_>>(), expected);
    }
}

#[test]
fn slices_bring_bare_addresses_and_pods_of_services_without_selector() {
    let text = SHOP.replace("  selector: {app: web}\n", "")
        + "
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 7070}, {name: raw, port: 7071, protocol: UDP}, {name: other, port: 1}]
endpoints:
- {addresses: [192.0.2.1]}
- {addresses: [192.0.2.2], conditions: {ready: false}}
- {addresses: [10.0.0.1], targetRef: {kind: Pod, name: web-7d9-x}}
";
    let (_, view) = index(&text);
    assert_eq!(
        endpoints(&view, "shop/web.shop.svc.cluster.local"),
        [
            "/Pod/shop/web-7d9-x@10.0.0.1:7070,8081,-",
            "discovery.k8s.io/EndpointSlice/shop/web-1/192.0.2.1@192.0.2.1:7070,8081,-",
            "discovery.k8s.io/EndpointSlice/shop/web-1/192.0.2.2@192.0.2.2:7070,8081,-",
        ]
    );
    let address = "192.0.2.1".parse().expect("an address");
    assert!(view.workload_by_address("", address).is_none(), "a bare address may be somebody else's");
    let workload = view.workload("Kubernetes/discovery.k8s.io/EndpointSlice/shop/web-1/192.0.2.2").expect("it");
    assert_eq!(workload.health, Health::Unhealthy);
}

#[test]
fn balancing_is_what_the_service_then_its_namespace_says() {
    let namespace = "metadata: {name: shop, annotations: {networking.istio.io/traffic-distribution: PreferClose}}";
    for (spec, namespaced, mode, preferences) in [
        ("", false, LoadBalancingMode::Unspecified, 0),
        ("", true, LoadBalancingMode::Failover, 3),
        ("trafficDistribution: PreferSameNode,", true, LoadBalancingMode::Failover, 5),
        ("trafficDistribution: Any,", true, LoadBalancingMode::Unspecified, 0),
        ("internalTrafficPolicy: Local,", true, LoadBalancingMode::Strict, 1),
    ] {
        let mut text = SHOP
            .replace("  clusterIP: 10.1.0.1\n", &format!("  clusterIP: 10.1.0.1\n  {}\n", spec.trim_end_matches(',')));
        if namespaced {
            text = text.replace("metadata: {name: shop}", namespace);
        }
        let (_, view) = index(&text);
        let balancing = &view.services().next().expect("the service").load_balancing;
        assert_eq!((balancing.mode, balancing.routing_preference.len()), (mode, preferences), "{spec} {namespaced}");
    }
}

fn entry(name: &str, spec: &str) -> String {
    let head = "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\n";
    format!("{head}metadata: {{name: {name}, namespace: shop}}\nspec: {{{spec}}}\n")
}

#[test]
fn a_service_entry_brings_its_hosts_endpoints_and_addresses() {
    let ports = "ports: [{number: 80, name: http, targetPort: 8080}]";
    for (spec, expected) in [
        (
            "hosts: [a.example], resolution: DNS",
            vec!["networking.istio.io/ServiceEntry/shop/e/a.example@a.example:8080"],
        ),
        (
            "hosts: [a.example], resolution: STATIC, endpoints: [{address: 192.0.2.1}, {address: 192.0.2.2, ports: {http: 1}}]",
            vec![
                "networking.istio.io/ServiceEntry/shop/e/192.0.2.1@192.0.2.1:8080",
                "networking.istio.io/ServiceEntry/shop/e/192.0.2.2@192.0.2.2:1",
            ],
        ),
        (
            "hosts: [a.example], resolution: STATIC, workloadSelector: {labels: {app: web}}",
            vec!["/Pod/shop/web-7d9-x@10.0.0.1:8080"],
        ),
        ("hosts: [a.example], resolution: NONE, addresses: [10.9.0.0/16]", vec![]),
    ] {
        let (_, view) = index(&format!("{SHOP}{}", entry("e", &format!("{spec}, {ports}"))));
        assert_eq!(endpoints(&view, "shop/a.example"), expected, "{spec}");
        let service = view.service(&key("shop/a.example")).expect("the service");
        if spec.contains("NONE") {
            assert_eq!((service.vips.len(), service.cidr_vips.len()), (0, 1));
            assert_eq!(service.load_balancing.mode, LoadBalancingMode::Passthrough);
        } else {
            let vips: Vec<_> = service.vips.iter().map(|vip| vip.address.to_string()).collect();
            assert!(vips.len() == 2 && vips[0].starts_with("240.240.") && vips[1].starts_with("2001:2:"), "{vips:?}");
        }
    }
}

#[test]
fn a_workload_entry_is_selected_like_a_pod() {
    let text = format!(
        "{SHOP}---\napiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {{name: vm, namespace: shop}}\n{}",
        "spec: {address: 192.0.2.7, labels: {app: web}, ports: {http: 70}, serviceAccount: vm, weight: 5, locality: r/z}"
    );
    let (_, view) = index(&text);
    assert_eq!(
        endpoints(&view, "shop/web.shop.svc.cluster.local"),
        ["/Pod/shop/web-7d9-x@10.0.0.1:8080,8081,-", "networking.istio.io/WorkloadEntry/shop/vm@192.0.2.7:70,8081,-"]
    );
    let vm = view.workload("Kubernetes/networking.istio.io/WorkloadEntry/shop/vm").expect("the entry");
    assert_eq!((vm.capacity, &*vm.service_account, &*vm.locality.zone, vm.protocol), (5, "vm", "z", Protocol::Plain));
}

#[test]
fn one_of_those_that_share_a_hostname_publishes_it_and_one_owns_it() {
    let spec = "hosts: [web.shop.svc.cluster.local], resolution: DNS, ports: [{number: 9, name: x}]";
    let (_, view) = index(&format!("{SHOP}{}", entry("e", spec)));
    let service = view.service(&key("shop/web.shop.svc.cluster.local")).expect("the service");
    assert_eq!((&*service.name, service.ports.len()), ("web", 3));

    let spec = "hosts: [a.example], resolution: DNS";
    let old = entry("old", spec).replace("name: old", "name: old, creationTimestamp: '2020-01-01T00:00:00Z'");
    let away = entry("away", spec)
        .replace("shop", "away")
        .replace("name: away", "name: away, creationTimestamp: '2019-01-01T00:00:00Z'");
    let (mut index, view) = index(&format!("{}{old}{away}", entry("another", spec)));
    let name = |view: &View, text| view.service(&key(text)).map(|it| (it.name.to_string(), it.canonical));
    assert_eq!(name(&view, "shop/a.example"), Some(("old".into(), false)));
    assert_eq!(name(&view, "away/a.example"), Some(("away".into(), true)));
    let removed = facts(&format!("{old}{away}")).into_iter().map(|fact| Fact::Removed(fact.key()));
    let view = tell(&mut index, &view, removed);
    assert_eq!(name(&view, "shop/a.example"), Some(("another".into(), true)));
    assert_eq!(name(&view, "away/a.example"), None);
    assert_eq!(endpoints(&view, "shop/a.example").len(), 1);
}

#[test]
fn the_root_namespaces_network_is_everybodys() {
    let root = "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: istio-system, labels: {topology.istio.io/network: east}}";
    let (mut index, view) = index(SHOP);
    let view = tell(&mut index, &view, facts(root));
    assert_eq!(&*view.workload(&pod("web-7d9-x")).expect("the pod").network, "east");
    assert_eq!(&*view.services().next().expect("the service").vips[0].network, "east");
}

#[test]
fn the_certificate_authority_learns_which_pods_are_where() {
    let (mut index, view) = index(SHOP);
    let record = index.pod("shop", "web-7d9-x").expect("the pod");
    assert_eq!((&*record.uid, &*record.service_account, &*record.node), ("u1", "web", "n1"));
    assert!(index.runs_on("n1", "shop", "web"));
    assert!(!index.runs_on("n2", "shop", "web") && !index.runs_on("n1", "shop", "default"));
    assert!(!index.runs_on("", "shop", "web") && index.pod("shop", "gone").is_none());
    let failed = facts(&SHOP.replace("phase: Running", "phase: Failed"));
    let view = tell(&mut index, &view, failed);
    assert!(!index.runs_on("n1", "shop", "web"));
    let gone = facts(SHOP).into_iter().map(|fact| Fact::Removed(fact.key()));
    let view = tell(&mut index, &view, gone);
    assert!(index.pod("shop", "web-7d9-x").is_none());
    assert_eq!((view.workloads().count(), view.services().count()), (0, 0));
}
