use super::*;
use crate::upstream::cluster::{Cluster, ClusterKey, Clusters, Place};
use mesh::route::traffic::{HashAlgorithm, HashKey, Locality, Outlier, Traffic};
use mesh::route::{Compiled, ServiceRules};
use mesh::{Change, fixture};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;

const MESH: &str = "
pod wp ns=shop sa=wp ip=10.0.0.9 region=eu zone=a
pod one ns=shop ip=10.0.0.1 region=eu zone=a
pod two ns=shop ip=10.0.0.2 region=eu zone=a
pod far ns=shop ip=10.0.0.3 region=us zone=x
service web ns=shop vip=10.1.0.1 80->8080 pods=one,two,far
";

fn hosts(traffic: Traffic) -> (Arc<Cluster>, Arc<Hosts>) {
    let key: mesh::ServiceKey = "shop/web.shop.svc.cluster.local".parse().expect("a key");
    let mut rules = ServiceRules::of(key.clone());
    rules.traffic.push(traffic);
    let rules = Change::ServiceRules(Arc::new(Compiled::new(rules).expect("usable rules")));
    let view = fixture::view(MESH).apply([rules]);
    let own = view.workload_of_pod("shop", "wp", "wp").map(|workload| &**workload);
    let key = ClusterKey { service: key, port: 80, subset: None };
    Clusters::default().of(&key, &Place { view: &view, own, network: "" }).expect("a destination")
}

/// Dice that are the same in every run.
fn dice() -> impl FnMut() -> u64 {
    let mut state = 7_u64;
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state ^ (state >> 29)
    }
}

fn name(host: &Host) -> String {
    host.workload.as_ref().map(|workload| workload.name.to_string()).unwrap_or_default()
}

fn counted(hosts: &Hosts, times: usize, wish: impl Fn(usize) -> Wish<'static>) -> BTreeMap<String, usize> {
    let (mut counts, mut dice) = (BTreeMap::new(), dice());
    for turn in 0..times {
        let host = choose(hosts, &wish(turn), &mut dice).expect("an endpoint");
        *counts.entry(name(host)).or_default() += 1;
    }
    counts
}

#[test]
fn the_less_busy_of_two_takes_more() {
    let (_, hosts) = hosts(Traffic::default());
    hosts.all[0].load.in_flight.store(50, Relaxed);
    let counts = counted(&hosts, 900, |_| Wish::default());
    // The busy one is taken only where the lot falls on it twice: one time in nine.
    assert!(counts[&name(&hosts.all[0])] < 200, "{counts:?}");
}

#[test]
fn an_endpoint_that_fails_fast_does_not_look_fast() {
    let (_, hosts) = hosts(Traffic::default());
    let now = Duration::from_secs(1);
    for host in &hosts.all[1..] {
        host.load.answered(Duration::from_millis(20), now);
    }
    hosts.all[0].load.failed(now);
    let counts = counted(&hosts, 900, |_| Wish::default());
    assert!(counts[&name(&hosts.all[0])] < 200, "{counts:?}");
}

#[test]
fn who_takes_turns_takes_them_evenly() {
    let (_, hosts) = hosts(Traffic { balance: Balance::RoundRobin, ..Traffic::default() });
    let counts = counted(&hosts, 300, |turn| Wish { turn, ..Wish::default() });
    assert!(counts.values().all(|count| *count == 100), "{counts:?}");
}

#[test]
fn the_nearest_take_all_as_long_as_there_are_any() {
    let traffic =
        Traffic { locality: Some(Locality::Failover(Vec::new())), outlier: Some(outlier()), ..Traffic::default() };
    let (cluster, hosts) = hosts(traffic);
    let counts = counted(&hosts, 100, |_| Wish::default());
    assert!(!counts.contains_key("far"), "{counts:?}");
    for host in hosts.all.iter().filter(|host| name(host) != "far") {
        cluster.heard(&hosts, host, crate::outlier::Heard::Status(500), Duration::from_secs(1));
    }
    let ejected = cluster.ejected();
    assert_eq!(ejected, 2);
    let mut dice = dice();
    let wish = Wish { ejected, ..Wish::default() };
    assert_eq!(choose(&hosts, &wish, &mut dice).map(|host| name(host)), Some("far".into()));
}

fn outlier() -> Outlier {
    Outlier {
        consecutive_errors: 1,
        consecutive_gateway_errors: 0,
        consecutive_local_failures: 0,
        error_codes: Vec::new(),
        interval: Duration::from_secs(10),
        base_ejection: Duration::from_secs(30),
        max_ejection: Duration::from_secs(300),
        max_ejected_percent: 100,
        min_healthy_percent: 0,
    }
}

#[test]
fn another_try_goes_elsewhere_where_there_is_an_elsewhere() {
    let (_, hosts) = hosts(Traffic::default());
    let mut dice = dice();
    let avoid: Vec<Str> = hosts.all.iter().take(2).map(|host| host.uid.clone()).collect();
    let wish = Wish { avoid: &avoid, ..Wish::default() };
    for _ in 0..50 {
        assert_eq!(choose(&hosts, &wish, &mut dice).map(|host| &host.uid), Some(&hosts.all[2].uid));
    }
    let all: Vec<Str> = hosts.all.iter().map(|host| host.uid.clone()).collect();
    assert!(choose(&hosts, &Wish { avoid: &all, ..Wish::default() }, &mut dice).is_some());
}

#[test]
fn the_same_key_and_the_same_session_go_to_the_same_endpoint() {
    let key = HashKey::SourceIp;
    let algorithm = HashAlgorithm::Maglev { entries: 65537 };
    let (_, hosts) = hosts(Traffic { balance: Balance::Consistent { key, algorithm }, ..Traffic::default() });
    for hash in 0..20 {
        let wish = Wish { hash: Some(mesh::route::hash::of(&hash.to_string())), ..Wish::default() };
        let mut dice = dice();
        let first = choose(&hosts, &wish, &mut dice).map(|host| &host.uid);
        assert!((0..5).all(|_| choose(&hosts, &wish, &mut dice).map(|host| &host.uid) == first));
    }
    let uid = hosts.all[1].uid.clone();
    let wish = Wish { session: Some(&uid), ..Wish::default() };
    assert_eq!(choose(&hosts, &wish, &mut dice()).map(|host| &host.uid), Some(&uid));
}

/// How often an endpoint that came at 100 s is taken of 3,000 requests, so many seconds later.
fn shares_of_a_newcomer(balance: Balance, seconds: u64) -> usize {
    let warmup = Some(Warmup { duration: Duration::from_secs(10), minimum: mesh::route::text::Fraction(100_000) });
    let (_, mut hosts) = hosts(Traffic { balance, warmup, ..Traffic::default() });
    let changed = Arc::get_mut(&mut hosts);
    let newcomer = Arc::get_mut(&mut changed.expect("nobody else has it").all[0]).expect("nobody else has it");
    newcomer.load = Arc::new(crate::upstream::hosts::Load::new(Some(Duration::from_secs(100))));
    let now = Duration::from_secs(100 + seconds);
    let counts = counted(&hosts, 3000, |turn| Wish { turn, now, ..Wish::default() });
    counts.get(&name(&hosts.all[0])).copied().unwrap_or(0)
}

#[test]
fn a_newcomers_share_grows_until_it_is_warm() {
    for balance in [Balance::RoundRobin, Balance::Random, Balance::LeastRequest] {
        let [cold, half, warm] = [0, 5, 10].map(|seconds| shares_of_a_newcomer(balance.clone(), seconds));
        assert!(cold > 0 && cold < 200, "{balance:?}: {cold}");
        assert!(cold < half && half < warm, "{balance:?}: {cold}, {half}, {warm}");
        assert!((900..1100).contains(&warm), "{balance:?}: {warm}");
    }
}
