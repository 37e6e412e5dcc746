//! Who is eligible, who is preferred, by what weight, and at which address and port.

use super::*;
use crate::fixture;
use std::collections::BTreeSet;

/// Everything the dice can choose when `source` dials `dialled`: `pod@address:port`.
fn choices(text: &str, dialled: &str) -> BTreeSet<String> {
    let view = fixture::view(text);
    let target: std::net::SocketAddr = dialled.parse().expect("an address and port");
    let service = view.service_by_hostname("web.default.svc.cluster.local", "default").expect("the service");
    let source = view.workload("Kubernetes//Pod/default/client");
    let pick = |n: u64| {
        let hints = Hints { source: source.map(|w| &**w), dialled: target.ip(), port: target.port(), dice: n << 56 };
        pick(&view, service, &hints)
    };
    let show = |choice: Choice| {
        let address = choice.address.map_or_else(|| "?".into(), |ip| ip.to_string());
        format!("{}@{address}:{}", choice.workload.name, choice.port)
    };
    (0..256).filter_map(|n| pick(n).map(show)).collect()
}

fn check(text: &str, dialled: &str, expected: &[&str]) {
    let found = choices(text, dialled);
    assert_eq!(found, expected.iter().map(ToString::to_string).collect(), "{dialled} in\n{text}");
}

const VIP: &str = "10.1.0.1:80";

#[test]
fn only_an_endpoint_that_can_take_the_connection_is_chosen() {
    for (pod, service, expected) in [
        ("pod a ip=10.0.0.1", "80->8080 pods=a", "a@10.0.0.1:8080"),
        ("pod a ip=10.0.0.1", "80->8080 pods=a:80->9090", "a@10.0.0.1:9090"),
        ("pod a ip=10.0.0.1", "80->0 pods=a:80->9090", "a@10.0.0.1:9090"),
        ("pod a ip=10.0.0.1", "80->8080 pods=a:80->0", "a@10.0.0.1:8080"),
        ("pod a ip=10.0.0.1", "80->0 pods=a:80->0", ""),
        ("pod a ip=10.0.0.1", "80->0 pods=a", ""),
        ("pod a ip=10.0.0.1", "81->8081 pods=a", ""),
        ("pod a ip=10.0.0.1", "81->8081 pods=a:80->9090", "a@10.0.0.1:9090"),
        ("pod a ip=10.0.0.1 tunnel=15088", "pods=a", "a@10.0.0.1:15088"),
        ("pod a ip=10.0.0.1 tunnel=0", "pods=a", "a@10.0.0.1:80"),
        ("pod a ip=10.0.0.1 unhealthy", "80->8080 pods=a", ""),
        ("pod a ip=10.0.0.1 unhealthy", "80->8080 pods=a allow-unhealthy", "a@10.0.0.1:8080"),
        ("pod a ip=10.0.0.1 capacity=0", "80->8080 pods=a", ""),
        ("pod a", "80->8080 pods=a", ""),
        ("pod a hostname=a.example", "80->8080 pods=a", "a@?:8080"),
        ("pod a net=far ip=10.0.0.1", "80->8080 pods=a", ""),
        ("pod a net=far ip=10.0.0.1 gateway=far/10.9.9.9", "80->8080 pods=a", "a@10.0.0.1:8080"),
        ("pod a net=far gateway=far/10.9.9.9", "80->8080 pods=a", "a@?:8080"),
        ("pod a gateway=far/10.9.9.9", "80->8080 pods=a", ""),
        ("pod a ip=10.0.0.1", "80->8080", ""),
    ] {
        let text = format!("pod client ip=10.0.0.9\n{pod}\nservice web vip=10.1.0.1 {service}");
        let expected: Vec<&str> = (!expected.is_empty()).then_some(expected).into_iter().collect();
        check(&text, VIP, &expected);
    }
}

#[test]
fn preferences_keep_the_nearest() {
    let pods = "
        pod client ip=10.0.0.9 net=n region=r zone=z subzone=s node=1 cluster=c
        pod node   ip=10.0.0.1 net=n region=r zone=z subzone=s node=1 cluster=c
        pod sub    ip=10.0.0.2 net=n region=r zone=z subzone=s node=2 cluster=d
        pod zone   ip=10.0.0.3 net=n region=r zone=z subzone=t node=3 cluster=c
        pod region ip=10.0.0.4 net=n region=r zone=y subzone=s node=4 cluster=d
        pod other  ip=10.0.0.5 net=n region=q zone=z subzone=s node=5 cluster=c
        pod remote ip=10.0.0.6 net=m region=r zone=z subzone=s node=6 cluster=c gateway=m/10.9.9.9
        pod away   ip=10.0.0.7 net=m region=q zone=z subzone=s node=7 cluster=c gateway=m/10.9.9.9";
    for (balancing, among, expected) in [
        ("", "node,other,remote", "node,other,remote"),
        ("passthrough:node", "node,other", "node,other"),
        ("strict:node", "node,sub", "node"),
        ("strict:node", "sub,zone", ""),
        ("strict:region,zone", "sub,zone,region,other", "sub,zone"),
        ("strict:network,region", "remote,region,other", "region"),
        ("strict:cluster", "sub,zone,other", "zone,other"),
        ("strict:subzone", "sub,zone,region", "sub,region"),
        ("strict", "node,other", "node,other"),
        ("failover:region,zone,subzone,node", "node,sub,zone,region,other", "node"),
        ("failover:region,zone,subzone,node", "sub,zone,region,other", "sub"),
        ("failover:region,zone,subzone,node", "zone,region,other", "zone"),
        ("failover:region,zone", "region,other", "region"),
        ("failover:region,zone", "other", "other"),
        ("failover:zone,region", "region,other", "other"),
        ("failover:network,region,zone", "other,remote", "other"),
        ("failover:network,region,zone", "remote,away", "remote"),
        ("failover:region,network", "other,remote,region", "region"),
        ("failover:network", "other,region,remote", "other,region"),
    ] {
        let lb = if balancing.is_empty() { String::new() } else { format!("lb={balancing}") };
        let text = format!("{pods}\nservice web vip=10.1.0.1 80->1 pods={among} {lb}");
        let found = choices(&text, VIP);
        let names: BTreeSet<&str> = found.iter().filter_map(|shown| shown.split('@').next()).collect();
        assert_eq!(names, expected.split(',').filter(|name| !name.is_empty()).collect(), "{balancing} among {among}");
    }
}

#[test]
fn an_unhealthy_or_portless_endpoint_does_not_count_as_the_nearest() {
    let text = "
        pod client ip=10.0.0.9 node=1
        pod near ip=10.0.0.1 node=1 unhealthy
        pod far ip=10.0.0.2 node=2
        service web vip=10.1.0.1 80->1 pods=near,far lb=failover:node";
    check(text, VIP, &["far@10.0.0.2:1"]);
}

#[test]
fn an_unknown_caller_matches_no_preference() {
    let text = "pod a ip=10.0.0.1 node=1\npod b ip=10.0.0.2 net=far\nservice web vip=10.1.0.1 80->1 pods=a,b lb=";
    check(&format!("{text}strict:node"), VIP, &[]);
    check(&format!("{text}failover:node"), VIP, &["a@10.0.0.1:1", "b@10.0.0.2:1"]);
}

#[test]
fn the_address_is_the_dialled_one_or_one_of_its_family_that_is_served() {
    let both = "ip=10.0.0.1,fd00::1";
    for (pod, families, dialled, expected) in [
        (both, "", "10.1.0.1:80", "a@10.0.0.1:1"),
        (both, "", "[fd01::1]:80", "a@fd00::1:1"),
        (both, "families=4", "[fd01::1]:80", "a@10.0.0.1:1"),
        (both, "families=6", "10.1.0.1:80", "a@fd00::1:1"),
        (both, "families=4", "[fd00::1]:80", "a@fd00::1:1"),
        (both, "families=dual", "[::ffff:10.1.0.1]:80", "a@10.0.0.1:1"),
        ("ip=fd00::1", "", "10.1.0.1:80", "a@fd00::1:1"),
        ("ip=fd00::1", "families=4", "10.1.0.1:80", ""),
        ("ip=10.0.0.1,10.0.0.2", "", "10.0.0.2:80", "a@10.0.0.2:1"),
    ] {
        let text = format!("pod client ip=10.0.0.9\npod a {pod}\nservice web vip=10.1.0.1 80->1 pods=a {families}");
        let expected: Vec<&str> = (!expected.is_empty()).then_some(expected).into_iter().collect();
        check(&text, dialled, &expected);
    }
}

#[test]
fn the_dice_follow_the_weights() {
    let view = fixture::view(
        "pod a ip=10.0.0.1 capacity=1\npod b ip=10.0.0.2 capacity=3\npod c ip=10.0.0.3 capacity=0
        service web vip=10.1.0.1 80->1 pods=a,b,c",
    );
    let service = view.services().next().expect("the service");
    let dialled = "10.1.0.1".parse().expect("an address");
    let mut counts = std::collections::BTreeMap::new();
    for n in 0..4096u64 {
        let hints = Hints { source: None, dialled, port: 80, dice: n << 52 };
        *counts.entry(pick(&view, service, &hints).expect("an endpoint").workload.name.to_string()).or_insert(0) += 1;
    }
    assert_eq!(counts, [("a".to_string(), 1024), ("b".to_string(), 3072)].into());
}

#[test]
fn weights_may_be_as_large_as_the_wire_allows() {
    let text = "pod a ip=10.0.0.1 capacity=4294967295\npod b ip=10.0.0.2 capacity=4294967295
        service web vip=10.1.0.1 80->1 pods=a,b";
    check(text, VIP, &["a@10.0.0.1:1", "b@10.0.0.2:1"]);
}
