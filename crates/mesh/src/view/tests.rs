//! What is found by what, and that no history leaves a trace.

use super::*;
use crate::{
    fixture,
    workload::{NetworkAddress, PortMap, Protocol},
};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn key(text: &str) -> ServiceKey {
    text.parse().expect("a key")
}

#[test]
fn a_workload_is_found_by_uid_address_and_pod() {
    let view = fixture::view(
        "pod a ns=shop sa=web ip=10.0.0.1,fd00::1
        pod b ns=shop sa=web ip=10.0.0.1 net=far
        pod h ns=shop sa=web ip=10.0.0.2 host-network",
    );
    let at = |network, address| view.workload_by_address(network, ip(address)).map(|found| &*found.name);
    assert_eq!(at("", "10.0.0.1"), Some("a"));
    assert_eq!(at("", "::ffff:10.0.0.1"), Some("a"));
    assert_eq!(at("", "fd00::1"), Some("a"));
    assert_eq!(at("far", "10.0.0.1"), Some("b"));
    assert_eq!(at("", "10.0.0.2"), None);
    assert!(view.workload("Kubernetes//Pod/shop/h").is_some());
    assert_eq!(view.workload_of_pod("shop", "a", "web").map(|found| &*found.name), Some("a"));
    assert!(view.workload_of_pod("shop", "a", "other").is_none());
    assert!(view.workload_of_pod("else", "a", "web").is_none());
}

#[test]
fn an_address_that_two_claim_goes_to_the_pod_then_hbone_then_the_smaller_uid() {
    for (lines, expected) in [
        ("pod a uid=k/WorkloadEntry/a ip=10.0.0.1\npod b ip=10.0.0.1 plain", "b"),
        ("pod a uid=k/Entry/a ip=10.0.0.1 plain\npod b uid=k/Entry/b ip=10.0.0.1", "b"),
        ("pod a uid=k/Entry/2 ip=10.0.0.1\npod b uid=k/Entry/1 ip=10.0.0.1", "b"),
    ] {
        for order in [false, true] {
            let mut changes = fixture::changes(lines);
            if order {
                changes.reverse();
            }
            let view = View::default().apply(changes);
            let found = view.workload_by_address("", ip("10.0.0.1")).expect("one of them");
            assert_eq!(&*found.name, expected, "{lines}");
            let view = view.apply([Change::RemoveAddress(found.uid.clone())]);
            assert_eq!(view.workload_by_address("", ip("10.0.0.1")).map(|found| &*found.name), Some("a"));
        }
    }
}

#[test]
fn a_vip_is_exact_before_the_longest_range() {
    let view = fixture::view(
        "service one vip=10.1.0.1
        service narrow vip=10.1.0.0/24
        service wide vip=10.0.0.0/8,fd00::/16
        service far vip=10.1.0.1 net=far",
    );
    for (network, vip, expected) in [
        ("", "10.1.0.1", Some("one")),
        ("", "::ffff:10.1.0.1", Some("one")),
        ("", "10.1.0.2", Some("narrow")),
        ("", "10.2.0.1", Some("wide")),
        ("", "11.0.0.1", None),
        ("", "fd00::9", Some("wide")),
        ("", "fd01::9", None),
        ("far", "10.1.0.1", Some("far")),
        ("far", "10.1.0.2", None),
    ] {
        let found = view.service_by_vip(network, ip(vip), "default").map(|found| &*found.name);
        assert_eq!(found, expected, "{network}/{vip}");
    }
}

#[test]
fn of_several_services_the_own_namespace_then_the_canonical_one_then_the_smaller_key() {
    let text = "
        service a ns=one host=x.example vip=10.1.0.1
        service b ns=two host=x.example vip=10.1.0.1 canonical
        service c ns=hid host=x.example vip=10.1.0.1 namespace-only";
    for (from, expected) in [("one", "a"), ("two", "b"), ("hid", "c"), ("any", "b")] {
        let view = fixture::view(text);
        let by_vip = view.service_by_vip("", ip("10.1.0.1"), from).map(|found| &*found.name);
        let by_name = view.service_by_hostname("x.example", from).map(|found| &*found.name);
        assert_eq!((by_vip, by_name), (Some(expected), Some(expected)), "from {from}");
    }
    let view = fixture::view(&text.replace(" canonical", ""));
    assert_eq!(view.service_by_hostname("x.example", "any").map(|found| &*found.name), Some("a"));
}

#[test]
fn what_is_hidden_does_not_hide_a_range() {
    let view = fixture::view("service s ns=hid vip=10.1.0.1 namespace-only\nservice r vip=10.1.0.0/16");
    assert_eq!(view.service_by_vip("", ip("10.1.0.1"), "any").map(|found| &*found.name), Some("r"));
}

#[test]
fn a_hostname_is_exact_before_the_longest_wildcard() {
    let view = fixture::view(
        "service exact host=a.b.example
        service near host=*.b.example
        service wide host=*.Example",
    );
    for (hostname, expected) in [
        ("a.b.example", Some("exact")),
        ("A.B.Example.", Some("exact")),
        ("c.b.example", Some("near")),
        ("c.d.b.example", Some("near")),
        ("b.example", Some("wide")),
        ("example", None),
        ("", None),
        (".", None),
        ("*.b.example", Some("near")),
    ] {
        assert_eq!(view.service_by_hostname(hostname, "x").map(|found| &*found.name), expected, "{hostname:?}");
    }
}

#[test]
fn endpoints_wait_for_their_service_and_outlive_it() {
    let changes = fixture::changes("pod a ip=10.0.0.1\nservice web 80->8080 pods=a");
    let web = key("default/web.default.svc.cluster.local");
    let (pods, services): (Vec<_>, Vec<_>) = changes.into_iter().partition(|c| matches!(c, Change::Workload(_)));
    let view = View::default().apply(pods);
    assert!(view.service(&web).is_none());
    assert_eq!(view.endpoints(&web).count(), 1);
    let view = view.apply(services.clone());
    assert_eq!(view.endpoints(&web).map(|endpoint| &*endpoint.workload.name).collect::<Vec<_>>(), ["a"]);
    let view = view.apply([Change::RemoveAddress(web.to_string().into())]);
    assert!(view.service(&web).is_none());
    assert_eq!(view.apply(services).endpoints(&web).count(), 1);
}

#[test]
fn a_removed_name_is_a_uid_before_it_is_a_service() {
    let text = "pod a uid=default/web.default.svc.cluster.local\nservice web";
    let name: Str = "default/web.default.svc.cluster.local".into();
    let view = fixture::view(text).apply([Change::RemoveAddress(name.clone())]);
    assert_eq!((view.workloads().count(), view.services().count()), (0, 1));
    let view = view.apply([Change::RemoveAddress(name.clone())]);
    assert_eq!((view.workloads().count(), view.services().count()), (0, 0));
    let version = view.version();
    assert_eq!(view.apply([Change::RemoveAddress(name), Change::RemovePolicy("a/b".into())]).version(), version);
}

#[test]
fn policies_are_for_everybody_a_namespace_or_who_names_them() {
    let view = fixture::view(
        "pod a ns=shop policies=root/all,shop/here
        pod b ns=else
        deny all ns=root global
        deny here ns=shop
        deny this ns=shop for=a
        deny there ns=else",
    );
    for (pod, expected) in [("shop/a", "root/all shop/here shop/this"), ("else/b", "else/there root/all")] {
        let pod = view.workload(&format!("Kubernetes//Pod/{pod}")).expect("the pod");
        let mut keys: Vec<_> = view.policies_for(pod).map(|policy| policy.key()).collect();
        keys.sort();
        assert_eq!(keys.join(" "), expected);
    }
}

#[test]
fn versions_rise_only_with_what_they_count() {
    let text = "pod a ip=10.0.0.1 policies=default/p\nservice web\ndeny p port=1";
    let first = fixture::view(text);
    assert_eq!((first.version(), first.policy_version()), (1, 1));
    for (text, version, policy_version) in [
        (text, 1, 1),
        ("pod a ip=10.0.0.2 policies=default/p", 2, 1),
        ("service web vip=10.1.0.1", 2, 1),
        ("pod a ip=10.0.0.1 policies=default/q", 2, 2),
        ("deny p port=2", 2, 2),
        ("pod b ip=10.0.0.2", 2, 1),
    ] {
        let next = first.apply(fixture::changes(text));
        assert_eq!((next.version(), next.policy_version()), (version, policy_version), "{text}");
    }
}

#[test]
fn an_earlier_view_stays_as_it_was() {
    let before = fixture::view("pod a ip=10.0.0.1\nservice web vip=10.1.0.1 pods=a");
    let after = before.apply(
        fixture::changes("pod a ip=10.0.0.2")
            .into_iter()
            .chain([Change::RemoveAddress("default/web.default.svc.cluster.local".into())]),
    );
    assert!(before.workload_by_address("", ip("10.0.0.1")).is_some());
    assert!(before.service_by_vip("", ip("10.1.0.1"), "x").is_some());
    assert!(after.workload_by_address("", ip("10.0.0.1")).is_none());
    assert!(after.service_by_vip("", ip("10.1.0.1"), "x").is_none());
}

prop_compose! {
    fn workload()(
        uid in 0..6u8, pod: bool, namespace in 0..2u8, name in 0..2u8, hbone: bool, host_network in prop::bool::weighted(0.2),
        network in 0..2u8, addresses in prop::collection::vec(0..4u8, 0..3), services in prop::collection::vec(0..3u8, 0..3),
        policies in prop::collection::vec(0..3u8, 0..2),
    ) -> Change {
        let uid = format!("k/{}/{uid}", if pod { "/Pod" } else { "Entry" });
        let mut workload = Workload::named(&uid);
        workload.namespace = format!("ns{namespace}").into();
        workload.name = format!("pod{name}").into();
        workload.protocol = if hbone { Protocol::Hbone } else { Protocol::Plain };
        workload.host_network = host_network;
        workload.network = format!("{network}").into();
        workload.addresses = addresses.iter().map(|n| if *n == 3 { ip("::ffff:10.0.0.1") } else { ip(&format!("10.0.0.{n}")) }).collect();
        workload.services = services.iter().map(|n| (key(&format!("ns0/s{n}")), PortMap::from([(80, u16::from(*n))]))).collect();
        workload.authorization_policies = policies.iter().map(|n| format!("ns0/p{n}").into()).collect();
        Change::Workload(Arc::new(workload))
    }
}

prop_compose! {
    fn service()(name in 0..3u8, namespace in 0..2u8, vips in prop::collection::vec(0..3u8, 0..3), ranges in prop::collection::vec(8..12u8, 0..3), canonical: bool) -> Change {
        let mut service = Service::named(&format!("ns{namespace}"), &format!("s{name}"));
        service.vips = vips.iter().map(|n| NetworkAddress { network: "0".into(), address: ip(&format!("10.1.0.{n}")) }).collect();
        service.cidr_vips = ranges.iter().map(|n| ("0".into(), format!("10.1.0.0/{n}").parse().expect("a range"))).collect();
        service.canonical = canonical;
        Change::Service(Arc::new(service))
    }
}

fn policy() -> impl Strategy<Value = Change> {
    use crate::policy::{Action, PolicyScope, Rule};
    let scope =
        prop_oneof![Just(PolicyScope::Global), Just(PolicyScope::Namespace), Just(PolicyScope::WorkloadSelector)];
    (0..3u8, 0..2u8, scope, 0..3usize).prop_map(|(name, namespace, scope, rules)| {
        let rules = vec![Rule::default(); rules];
        let (name, namespace) = (format!("p{name}").into(), format!("ns{namespace}").into());
        Change::Policy(Arc::new(Policy { name, namespace, scope, action: Action::Deny, rules, dry_run: false }))
    })
}

fn rules() -> impl Strategy<Value = Change> {
    use crate::route::{GatewayRules, ServiceRules};
    prop_oneof![
        (0..2u8, 0..3u8, any::<bool>()).prop_map(|(ns, n, limited)| {
            let mut rules = ServiceRules::of(key(&format!("ns{ns}/s{n}")));
            rules.telemetry.access_log = limited.then(Default::default);
            Change::ServiceRules(Arc::new(Compiled::new(rules).expect("good rules")))
        }),
        (0..2u8, any::<bool>()).prop_map(|(n, forward)| {
            let mut rules = GatewayRules::of("ns0".into(), format!("gw{n}").into());
            rules.forward_client_identity = forward;
            Change::GatewayRules(Arc::new(CompiledGateway::new(rules).expect("good rules")))
        }),
        (0..2u8, 0..3u8).prop_map(|(ns, n)| Change::RemoveServiceRules(format!("ns{ns}/s{n}").into())),
        (0..2u8).prop_map(|n| Change::RemoveGatewayRules(format!("ns0/gw{n}").into())),
    ]
}

/// What a view holds of rules, by key.
fn rules_of(view: &View) -> Vec<String> {
    let services = (0..2).flat_map(|ns| (0..3).map(move |n| format!("ns{ns}/s{n}")));
    let services = services.map(|name| format!("{:?}", view.service_rules(&key(&name)).map(|rules| rules.rules())));
    let gateways =
        (0..2).map(|n| format!("{:?}", view.gateway_rules(&format!("ns0/gw{n}")).map(|rules| rules.rules())));
    services.chain(gateways).collect()
}

#[test]
fn rules_are_found_until_they_are_removed_and_count_as_policy() {
    use crate::route::{GatewayRules, ServiceRules};
    let (service, gateway) = (key("shop/web"), "shop/gw");
    let compiled = Arc::new(Compiled::new(ServiceRules::of(service.clone())).expect("good rules"));
    let of_gateway = Arc::new(CompiledGateway::new(GatewayRules::of("shop".into(), "gw".into())).expect("good rules"));
    let view = View::default().apply([Change::ServiceRules(compiled), Change::GatewayRules(of_gateway)]);
    assert_eq!((view.version(), view.policy_version()), (1, 1));
    assert!(view.service_rules(&service).is_some() && view.gateway_rules(gateway).is_some());
    let without =
        view.apply([Change::RemoveServiceRules("shop/web".into()), Change::RemoveGatewayRules(gateway.into())]);
    assert_eq!((without.version(), without.policy_version()), (2, 2));
    assert!(without.service_rules(&service).is_none() && without.gateway_rules(gateway).is_none());
    let again =
        without.apply([Change::RemoveServiceRules("shop/web".into()), Change::RemoveServiceRules("none".into())]);
    assert_eq!((again.version(), again.policy_version()), (2, 2));
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        2 => rules(),
        4 => workload(),
        2 => service(),
        2 => policy(),
        2 => (any::<bool>(), 0..6u8)
            .prop_map(|(pod, n)| Change::RemoveAddress(format!("k/{}/{n}", if pod { "/Pod" } else { "Entry" }).into())),
        1 => (0..2u8, 0..3u8).prop_map(|(ns, n)| Change::RemoveAddress(format!("ns{ns}/s{n}").into())),
        1 => (0..2u8, 0..3u8).prop_map(|(ns, n)| Change::RemovePolicy(format!("ns{ns}/p{n}").into())),
    ]
}

proptest! {
    #[test]
    fn a_view_is_what_a_fresh_one_of_the_final_resources_would_be(
        batches in prop::collection::vec(prop::collection::vec(change(), 1..5), 1..30)
    ) {
        let mut view = View::default();
        let mut last: BTreeMap<(u8, String), Change> = BTreeMap::new();
        for batch in batches {
            view = view.apply(batch.clone());
            for change in batch {
                match &change {
                    Change::Workload(it) => drop(last.insert((0, it.uid.to_string()), change)),
                    Change::Service(it) => drop(last.insert((1, it.key().to_string()), change)),
                    Change::Policy(it) => drop(last.insert((2, it.key()), change)),
                    Change::RemoveAddress(name) => {
                        if last.remove(&(0, name.to_string())).is_none() {
                            last.remove(&(1, name.to_string()));
                        }
                    }
                    Change::RemovePolicy(name) => drop(last.remove(&(2, name.to_string()))),
                    Change::ServiceRules(it) => drop(last.insert((3, it.rules().service.to_string()), change)),
                    Change::GatewayRules(it) => drop(last.insert((4, it.rules().key()), change)),
                    Change::RemoveServiceRules(name) => drop(last.remove(&(3, name.to_string()))),
                    Change::RemoveGatewayRules(name) => drop(last.remove(&(4, name.to_string()))),
                }
            }
            let fresh = View::default().apply(last.values().rev().cloned());
            prop_assert_eq!(&view.workloads, &fresh.workloads);
            prop_assert_eq!(&view.services, &fresh.services);
            prop_assert_eq!(&view.endpoints, &fresh.endpoints);
            prop_assert_eq!(&view.policies, &fresh.policies);
            prop_assert_eq!(rules_of(&view), rules_of(&fresh));
        }
    }
}
