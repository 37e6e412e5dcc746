use super::*;
use crate::admin::dump::{PolicyDump, ServiceDump, WorkloadDump};
use mesh::{View, fixture};
use serde_json::json;

fn dump(view: &View) -> Value {
    let mut lists = json!({
        "workloads": view.workloads().map(|workload| json!(WorkloadDump::of(workload))).collect::<Vec<_>>(),
        "services": view.services().map(|service| json!(ServiceDump::of(service, view))).collect::<Vec<_>>(),
        "policies": view.policies().map(|policy| json!(PolicyDump::of(policy))).collect::<Vec<_>>(),
    });
    for list in ["workloads", "services", "policies"] {
        let items = lists[list].as_array_mut().expect("a list");
        items.sort_by_key(ToString::to_string);
    }
    lists
}

const MESH: &str = "
pod a ns=shop sa=a ip=10.0.0.1,fd00::1 node=n1 uid=a
pod b ns=shop sa=b ip=10.0.0.2 node=n2 uid=b plain
service a ns=shop vip=10.1.0.1 80->8080 pods=a,b
allow reads ns=shop
";

#[test]
fn what_one_proxy_dumps_another_can_start_with() {
    let mut view = fixture::view(MESH);
    // Everything that the small language of the fixture cannot say.
    let rich = "
services:
- namespace: shop
  hostname: rich.shop
  vips: [/10.1.0.9, other/fd00::9]
  cidrVips: [/10.2.0.0/16]
  ports: {443: 8443, 80: 0}
  subjectAltNames: ['spiffe://cluster.local/ns/shop/sa/x']
  waypoint: {destination: shop/wp.shop, hboneMtlsPort: 15008}
  weightedWaypoints: [{destination: other/10.0.0.7, hboneMtlsPort: 15009, weight: 3}]
  loadBalancer: {routingPreferences: [Network, Region, Zone, Subzone, Node, Cluster], mode: Failover, healthPolicy: AllowAll}
  ipFamilies: Dual
  canonical: true
  visibility: Namespace
policies:
- name: all
  namespace: shop
  scope: WorkloadSelector
  action: Deny
  dryRun: true
  rules:
  - - - namespaces: [{Exact: a}, {Prefix: b}, {Suffix: c}, Presence]
        notPrincipals: [{Exact: cluster.local/ns/a/sa/b}]
        serviceAccounts: [{namespace: a, serviceAccount: b}]
        sourceIps: [10.0.0.0/8]
        notDestinationIps: ['fd00::/8']
        destinationPorts: [80]
        notDestinationPorts: [81]
workloads:
- uid: rich
  name: rich
  namespace: shop
  trustDomain: mesh
  serviceAccount: rich
  hostname: rich.example
  protocol: HBONE
  networkMode: HostNetwork
  nativeTunnel: true
  applicationTunnel: {protocol: PROXY, port: 15088}
  waypoint: {destination: /10.0.0.8}
  networkGateway: {destination: other/10.9.0.1, hboneMtlsPort: 15010}
  authorizationPolicies: [shop/all]
  status: Unhealthy
  clusterId: c2
  locality: {region: r, zone: z, subzone: s}
  services: {shop/rich.shop: {443: 9443}}
  capacity: 0
  node: n3
  network: other
  workloadType: job
  workloadName: w
  canonicalName: c
  canonicalRevision: v2
";
    view = view.apply(parse(rich).expect("it can be read"));
    let dumped = dump(&view);
    let again = View::default().apply(parse(&dumped.to_string()).expect("a dump can be read"));
    assert_eq!(dump(&again), dumped);
    assert_eq!(again.workload("rich"), view.workload("rich"));
    assert_eq!(again.workload("a"), view.workload("a"));
}

#[test]
fn what_is_left_out_is_as_on_the_wire() {
    let changes = parse("workloads: [{uid: a}]").expect("a workload needs no more");
    let [Change::Workload(workload)] = &changes[..] else { panic!("{changes:?}") };
    assert_eq!(**workload, mesh::Workload::named("a"));
    for nothing in ["", "workloads:\nservices: []\n"] {
        assert!(parse(nothing).expect("nothing is no mistake").is_empty());
    }
}

#[test]
fn a_mistake_is_told_with_its_place_and_nothing_is_taken() {
    let policy = "name: a, namespace: b, scope: Global, action: Deny";
    for (text, expected) in [
        (
            "workloads: [{uid: a}, {uid: b, port: 1}]".to_owned(),
            "workloads[1] of the local state: unknown field `port`",
        ),
        ("workloads: [{name: a}]".into(), "workloads[0] of the local state: missing field `uid`"),
        ("workloads: [{uid: a, protocol: LEGACY}]".into(), "unknown variant `LEGACY`"),
        ("workloads: [{uid: a, services: {shop: {1: 2}}}]".into(), "\"shop\" is not of the form"),
        ("services: [{namespace: a, hostname: b, vips: [10.0.0.1]}]".into(), "<network>/<address>"),
        ("services: [{namespace: a, hostname: b, cidrVips: [/10.0.0.1]}]".into(), "<network>/<address>/<length>"),
        (format!("policies: [{{{policy}, rules: [[[{{notPrincipal: []}}]]]}}]"), "unknown field `notPrincipal`"),
        (format!("policies: [{{{policy}}}]"), "missing field `rules`"),
        (format!("policies: [{{{policy}, rules: [[[{{sourceIps: [10.0.0.0/33]}}]]]}}]"), "policies[0]"),
        ("policies: {}".into(), "policies is no list"),
        ("endpoints: []".into(), "\"endpoints\" is none of them"),
        ("[]".into(), "no mapping"),
        ("a: [".into(), "line"),
    ] {
        let error = parse(&text).expect_err(&text).to_string();
        assert!(error.contains(expected), "{text}: {error} lacks {expected}");
    }
    let missing = read(&Source::File("/no/such/file".into())).expect_err("there is none").to_string();
    assert!(missing.contains("/no/such/file"), "{missing}");
}
