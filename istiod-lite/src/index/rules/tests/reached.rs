//! DestinationRules and TrafficPolicies: how services are reached, and who has the last word.

use super::{shop, show, tell};
use crate::index::Index;
use mesh::route::{ServiceRules, Traffic};

fn rule(namespace: &str, name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: {name}, namespace: \
         {namespace}}}\nspec: {{{spec}}}\n"
    )
}

fn policy(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: istiod-lite.io/v1alpha1\nkind: TrafficPolicy\nmetadata: {{name: {name}, namespace: \
         shop}}\nspec: {{{spec}}}\n"
    )
}

fn web(index: &Index) -> ServiceRules {
    let found =
        index.service_rules().find(|(rules, _)| &*rules.rules().service.hostname == "web.shop.svc.cluster.local");
    found.expect("there are rules of web").0.rules().clone()
}

fn reached(all: &[Traffic]) -> Vec<String> {
    let one = |it: &Traffic| format!("{:?} {:?} {:?} by {}", it.port, it.balance, it.pool.connections_max, it.name);
    all.iter().map(one).collect()
}

fn pod(name: &str, labels: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: shop, labels: {{{labels}}}}}\nstatus: \
         {{phase: Running, podIP: 10.0.0.{}}}\n",
        name.len()
    )
}

const SELECTING: &str = "---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop, labels: {istio.io/use-waypoint: wp}}
spec: {clusterIP: 10.1.0.1, selector: {app: web}, ports: [{name: http, port: 80}]}
";

#[test]
fn the_closest_rule_says_how_a_service_is_reached() {
    let random = "trafficPolicy: {loadBalancer: {simple: RANDOM}}";
    let round = "trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}";
    let root = rule("istio-system", "r", &format!("host: '*', {round}"));
    let wide = rule("shop", "w", &format!("host: '*.shop.svc.cluster.local', {round}"));
    let own = rule("shop", "o", &format!("host: web, {random}"));
    let other = rule("other", "x", &format!("host: web.shop.svc.cluster.local, {round}"));
    let index = shop(&[&*root, &wide, &own, &other].concat());
    assert_eq!(reached(&web(&index).traffic), ["None Random None by DestinationRule/shop/o"]);
    let unmet = show::unmet(&index);
    let over = |name: &str| format!("DestinationRule/{name} web.shop.svc.cluster.local: !Accepted/Overridden");
    assert!(unmet.iter().any(|line| line.starts_with(&over("shop/w"))), "{unmet:?}");
    assert!(unmet.iter().any(|line| line.starts_with(&over("istio-system/r"))), "{unmet:?}");
    let index = shop(&(root + &other));
    assert_eq!(reached(&web(&index).traffic), ["None RoundRobin None by DestinationRule/istio-system/r"]);
}

#[test]
fn rules_for_one_host_are_merged_and_the_oldest_counts() {
    let a = rule("shop", "a", "host: web, subsets: [{name: v1, labels: {v: '1'}}]");
    let b = rule(
        "shop",
        "b",
        "host: web, trafficPolicy: {loadBalancer: {simple: RANDOM}}, subsets: [{name: v1, labels: {v: x}}, {name: v2, labels: {v: '2'}}]",
    );
    let c = rule("shop", "c", "host: web, trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}");
    let index = shop(&(a + &b + &c));
    let rules = web(&index);
    assert_eq!(reached(&rules.traffic), ["None Random None by DestinationRule/shop/b"]);
    let names: Vec<&str> = rules.subsets.iter().map(|subset| &*subset.name).collect();
    assert_eq!(names, ["v1", "v2"]);
    let unmet = show::unmet(&index);
    assert!(
        unmet.iter().any(|line| line.starts_with("DestinationRule/shop/b") && line.contains("Conflicted")),
        "{unmet:?}"
    );
    assert!(
        unmet.iter().any(|line| line.starts_with("DestinationRule/shop/c") && line.contains("Conflicted")),
        "{unmet:?}"
    );
}

#[test]
fn subsets_follow_the_pods() {
    let mut index = shop(&(SELECTING.to_owned() + &pod("a", "app: web, track: new") + &pod("bb", "app: web")));
    let subsets =
        "subsets: [{name: new, labels: {track: new}}, {name: all, labels: {}}, {name: none, labels: {app: x}}]";
    tell(&mut index, &rule("shop", "r", &format!("host: web, {subsets}")));
    let members = |index: &Index| {
        let all = web(index).subsets;
        let one = |uid: &mesh::Str| uid.rsplit('/').next().unwrap_or_default().to_owned();
        all.iter().map(|subset| subset.members.iter().map(one).collect::<Vec<_>>().join(",")).collect::<Vec<_>>()
    };
    assert_eq!(members(&index), ["a", "a,bb", ""]);
    tell(&mut index, &pod("bb", "app: web, track: new"));
    assert_eq!(members(&index), ["a,bb", "a,bb", ""], "a label that is not published counts");
    let built = index.rules.log.len();
    tell(&mut index, &pod("ccc", "app: other"));
    assert_eq!(index.rules.log.len(), built, "a pod of nobody's subset builds nothing");
    tell(&mut index, &pod("a", "app: other"));
    assert_eq!(members(&index), ["bb", "bb", ""]);
}

#[test]
fn members_of_a_service_entry_are_written_or_selected() {
    let entry = "---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: out, namespace: shop, labels: {istio.io/use-waypoint: wp}}
spec:
  hosts: [out.example]
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP}]
  endpoints: [{address: 192.0.2.1, labels: {v: '1'}}, {address: 192.0.2.2, labels: {v: '2'}}]
";
    let index =
        shop(&(entry.to_owned() + &rule("shop", "r", "host: out.example, subsets: [{name: one, labels: {v: '1'}}]")));
    let all: Vec<_> = index.service_rules().flat_map(|(rules, _)| rules.rules().subsets.clone()).collect();
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].members, ["Kubernetes/networking.istio.io/ServiceEntry/shop/out/192.0.2.1".into()]);
}

#[test]
fn a_traffic_policy_has_the_last_word_and_the_oldest_of_them() {
    let target = "targetRefs: [{group: '', kind: Service, name: web}]";
    let dr = rule(
        "shop",
        "r",
        "host: web, trafficPolicy: {loadBalancer: {simple: RANDOM}, connectionPool: {tcp: {maxConnections: 1}}}, \
         subsets: [{name: s, labels: {a: b}, trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}}]",
    );
    let a = policy("a", &format!("{target}, circuitBreaker: {{maxConnections: 2}}, rateLimit: [{{requests: 1}}]"));
    let b = policy(
        "b",
        &format!("{target}, circuitBreaker: {{maxConnections: 3}}, fault: [{{abort: {{httpStatus: 500}}}}]"),
    );
    let index = shop(&(dr + &a + &b));
    let rules = web(&index);
    assert_eq!(reached(&rules.traffic), ["None Random Some(2) by DestinationRule/shop/r"]);
    let expected = ["None RoundRobin Some(2) by DestinationRule/shop/r"];
    assert_eq!(reached(&rules.subsets[0].traffic), expected, "parts of it are reached so, too");
    assert_eq!((rules.limits.len(), rules.faults.len()), (1, 1));
    let unmet = show::unmet(&index);
    for expected in [
        "DestinationRule/shop/r web.shop.svc.cluster.local: !Accepted/Overridden: TrafficPolicy/shop/a says connectionPool",
        "TrafficPolicy/shop/b Service/web: !Accepted/Conflicted: spec.circuitBreaker: TrafficPolicy/shop/a is older",
    ] {
        assert!(unmet.iter().any(|line| line.starts_with(expected)), "{unmet:#?} has no {expected}");
    }
}

#[test]
fn a_traffic_policy_is_for_ports_routes_and_gateways_too() {
    let port = "targetRefs: [{group: '', kind: Service, name: web, sectionName: admin}]";
    let index = shop(&policy("a", &format!("{port}, loadBalancer: {{simple: RANDOM}}")));
    assert_eq!(reached(&web(&index).traffic), ["Some(81) Random None by TrafficPolicy/shop/a"]);

    let group = "group: gateway.networking.k8s.io";
    let route = super::route(
        "HTTPRoute",
        "r",
        "parentRefs: [{group: '', kind: Service, name: web}]\nrules: [{name: one}, {name: two}]",
    );
    let target = |section: &str| format!("targetRefs: [{{{group}, kind: HTTPRoute, name: r{section}}}]");
    let mut index = shop(&policy("a", &format!("{}, rateLimit: [{{requests: 1}}]", target(", sectionName: two"))));
    let unmet = show::unmet(&index);
    assert!(unmet[0].starts_with("TrafficPolicy/shop/a HTTPRoute/r#two: !Accepted/TargetNotFound"), "{unmet:?}");
    tell(&mut index, &route);
    let counts: Vec<_> = web(&index).http[0].rules.iter().map(|rule| rule.limits.len()).collect();
    assert_eq!(counts, [0, 1]);
    assert!(show::unmet(&index).is_empty(), "{:?}", show::unmet(&index));
    tell(&mut index, &policy("a", &format!("{}, circuitBreaker: {{}}", target(""))));
    assert!(show::unmet(&index)[0].contains("Accepted/UnsupportedValue"), "{:?}", show::unmet(&index));

    let index = shop(&policy(
        "a",
        &format!("targetRefs: [{{{group}, kind: Gateway, name: wp}}], rateLimit: [{{requests: 1}}]"),
    ));
    let limits: Vec<_> = index.gateway_rules().map(|rules| rules.rules().limits.len()).collect();
    assert_eq!(limits, [1]);
}
