//! Whatever was said in whatever order: what is published is what the facts that hold mean, and
//! who followed the changes knows it.

use super::{
    super::{Index, Mesh, vips::Vips},
    changes,
};
use crate::facts::*;
use mesh::{Change, Policy, View, Workload, policy::Match};
use proptest::prelude::*;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

fn meta(kind: &str, namespace: u8, name: u8) -> Meta {
    let namespace = if namespace == 2 { "istio-system".into() } else { format!("ns{namespace}") };
    Meta::named(&namespace, &format!("{kind}{name}"))
}

fn labels(bits: u8) -> Labels {
    (0..3).filter(|bit| bits & (1 << bit) != 0).map(|bit| (format!("l{bit}").into(), "x".into())).collect()
}

fn ports() -> Vec<ServicePort> {
    let port =
        |name: &str, port, target| ServicePort { name: name.into(), port, target, app_protocol: Default::default() };
    vec![port("a", 80, TargetPort::Number(8080)), port("b", 81, TargetPort::Name("http".into()))]
}

prop_compose! {
    fn pod()(words in names(), ns in 0..3u8, n in 0..4u8, bits in 0..8u8, node in 0..2u8, ready: bool, named: bool, phase in 0..3u8) -> Fact {
        Fact::Pod(Box::new(Pod {
            meta: naming(Meta { labels: labels(bits), ..meta("pod", ns, n) }, words),
            uid: "u".into(),
            node: format!("node{node}").into(),
            service_account: "sa".into(),
            addresses: vec![format!("10.0.{ns}.{n}").parse().expect("an address")],
            phase: [Phase::Running, Phase::Running, Phase::Failed][usize::from(phase)],
            ready,
            terminating: false,
            host_network: false,
            captured: ready,
            ports: if named { [("http".into(), 8081)].into() } else { Default::default() },
            owner: None,
        }))
    }
}

prop_compose! {
    fn service()(words in names(), ns in 0..2u8, n in 0..3u8, bits in prop_oneof![Just(0), 0..8u8], local: bool, alias in prop::bool::weighted(0.1), named: bool) -> Fact {
        Fact::Service(Box::new(Service {
            meta: naming(meta("svc", ns, n), words),
            alias,
            selector: labels(bits),
            only_local: local,
            ports: if named { ports() } else { Vec::new() },
            ..Service::default()
        }))
    }
}

prop_compose! {
    fn slice()(ns in 0..2u8, n in 0..2u8, service in 0..3u8, pods in prop::collection::vec(0..4u8, 0..3), ip in 0..3u8) -> Fact {
        let named = pods.iter().map(|n| (None, Some(format!("pod{n}").into())));
        let endpoints = named.chain([(Some(format!("192.0.2.{ip}").parse().expect("an address")), None)]);
        Fact::EndpointSlice(Box::new(EndpointSlice {
            meta: meta("slice", ns, n),
            service: format!("svc{service}").into(),
            endpoints: endpoints.map(|(ip, pod)| SliceEndpoint { addresses: Vec::from_iter(ip), ready: true, pod }).collect(),
            ports: [("a".into(), 7070)].into(),
        }))
    }
}

prop_compose! {
    fn service_entry()(
        named in names(), ns in 0..2u8, n in 0..3u8, hosts in prop::collection::btree_set(0..5u8, 1..3), bits in prop_oneof![Just(0), 0..8u8],
        resolution in 0..3usize, inline in 0..3u8, created in prop::option::of(0..3u8),
    ) -> Fact {
        // Host 4 is that of a service of the other namespace, host 3 that of one of its own.
        let host = |h: &u8| match h { 3 => format!("svc0.ns{ns}.svc.cluster.local"), 4 => "svc1.ns0.svc.cluster.local".into(), h => format!("h{h}.example") };
        let resolution = [Resolution::Static, Resolution::Dns, Resolution::None][resolution];
        let endpoint = |n: u8| Entry { address: EntryAddress::Ip(format!("192.0.3.{n}").parse().expect("an address")), ..Entry::named(&"".into()) };
        Fact::ServiceEntry(Box::new(ServiceEntry {
            meta: naming(Meta { created: created.map(|n| format!("202{n}").into()), ..meta("se", ns, n) }, named),
            hosts: hosts.iter().map(|h| host(h).into()).collect(),
            vips: Vec::new(),
            allocated: Default::default(),
            auto_allocate: resolution != Resolution::None,
            ports: ports(),
            resolution,
            endpoints: (0..inline).map(endpoint).collect(),
            selector: labels(bits),
            distribution: None,
            subject_alt_names: Vec::new(),
        }))
    }
}

prop_compose! {
    fn workload_entry()(named in names(), ns in 0..2u8, n in 0..2u8, bits in 0..8u8, weight in 1..3u32) -> Fact {
        let labels = naming(Meta { labels: labels(bits), ..Meta::default() }, named).labels;
        let entry = Entry { labels, weight, ..Entry::named(&format!("vm{n}.example").into()) };
        Fact::WorkloadEntry(Box::new(WorkloadEntry { meta: meta("we", ns, n), entry }))
    }
}

prop_compose! {
    fn authorization()(ns in 0..3u8, n in 0..2u8, bits in prop_oneof![Just(0), 0..8u8], action in 0..3usize, port in 1..3u16) -> Fact {
        let l4 = Match { destination_ports: mesh::policy::Values { any_of: vec![port], none_of: vec![] }, ..Match::default() };
        Fact::AuthorizationPolicy(Box::new(AuthorizationPolicy {
            meta: meta("ap", ns, n),
            selector: labels(bits),
            targets: None,
            provider: None,
            refused: Vec::new(),
            action: [PolicyAction::Allow, PolicyAction::Deny, PolicyAction::Audit][action],
            dry_run: false,
            rules: vec![PolicyRule { clauses: vec![vec![Term { l4, unsupported: vec![] }]] }],
        }))
    }
}

prop_compose! {
    fn peer()(ns in 0..3u8, n in 0..2u8, bits in prop_oneof![Just(0), 0..8u8], mode in 0..3usize, port in prop::option::of(0..3usize), created in prop::option::of(0..2u8)) -> Fact {
        let modes = [None, Some(MtlsMode::Strict), Some(MtlsMode::Permissive)];
        Fact::PeerAuthentication(Box::new(PeerAuthentication {
            meta: Meta { created: created.map(|n| format!("202{n}").into()), ..meta("pa", ns, n) },
            selector: labels(bits),
            mode: modes[mode],
            ports: port.map(|port| (80, modes[port])).into_iter().collect(),
        }))
    }
}

prop_compose! {
    fn namespace()(ns in 0..3u8, named in names(), network in 0..2u8, near: bool) -> Fact {
        let named_by = meta("", ns, 0);
        let mut meta = Meta::named("", &named_by.namespace);
        meta.labels.extend(named.labels);
        meta.annotations.extend(named.annotations);
        if ns == 2 { meta.labels.insert("topology.istio.io/network".into(), format!("net{network}").into()); }
        Fact::Namespace(Namespace { meta, distribution: near.then_some(Distribution::SameZone) })
    }
}

prop_compose! {
    fn node()(n in 0..2u8, zone in 0..2u8) -> Fact {
        let locality = mesh::workload::Locality { zone: format!("z{zone}").into(), ..Default::default() };
        Fact::Node(Node { meta: Meta::named("", &format!("node{n}")), locality })
    }
}

prop_compose! {
    /// Labels and annotations that may name waypoints.
    fn names()(
        primary in prop::option::of(prop_oneof![4 => 0..3usize, 1 => Just(3)]), elsewhere in prop::option::weighted(0.3, 0..2u8),
        canary in prop::option::weighted(0.3, 0..2u8), weight in 0..3usize, around in prop::option::weighted(0.2, any::<bool>()),
    ) -> Meta {
        let mut meta = Meta::default();
        let mut label = |key: &str, value: String| drop(meta.labels.insert(key.into(), value.into()));
        if let Some(primary) = primary { label("istio.io/use-waypoint", ["wp0", "wp1", "wp2", "none"][primary].into()); }
        if let Some(ns) = elsewhere { label("istio.io/use-waypoint-namespace", format!("ns{ns}")); }
        if let Some(n) = canary { label("istio.io/use-waypoint-canary", format!("wp{n}")); }
        meta.annotations.insert("istio.io/use-waypoint-canary-weight".into(), ["0", "30", "all"][weight].into());
        if let Some(around) = around { meta.annotations.insert("istiod-lite.io/allow-around-waypoint".into(), around.to_string().into()); }
        meta
    }
}

prop_compose! {
    fn gateway()(
        ns in 0..2u8, n in 0..3u8, class in 0..3usize, serves in 0..5usize, admits in 0..4usize, ready: bool,
        account in prop::option::weighted(0.3, Just("wp0")), created in prop::option::of(0..2u8), listens in prop::bool::weighted(0.9),
    ) -> Fact {
        let mut meta = Meta { created: created.map(|n| format!("202{n}").into()), ..meta("wp", ns, n) };
        if let Some(serves) = ["service", "workload", "all", "never"].get(serves) {
            meta.labels.insert("istio.io/waypoint-for".into(), (*serves).into());
        }
        meta.annotations.extend(account.map(|account| ("gateway.istio.io/service-account".into(), account.into())));
        let selector = LabelSelector { labels: [("l0".into(), "x".into())].into_iter().collect(), expressions: vec![] };
        let admits = [Admits::Same, Admits::All, Admits::None, Admits::Selected(selector)][admits].clone();
        let listener = Listener { name: "mesh".into(), port: if listens { 15008 } else { 80 }, protocol: "HBONE".into(), admits };
        let address = GatewayAddress::Hostname(format!("wp{n}.ns{ns}.svc.cluster.local").into());
        Fact::Gateway(Box::new(Gateway {
            forward_client_identity: false,
            refused: Vec::new(),
            meta,
            class: ["istio-waypoint", "istio-waypoint", "own"][class].into(),
            listeners: vec![listener],
            addresses: if ready { vec![address] } else { vec![] },
        }))
    }
}

prop_compose! {
    fn gateway_class()(own: bool, ours: bool, all: bool) -> Fact {
        let mut meta = Meta::named("", if own { "own" } else { "istio-waypoint" });
        if all { meta.labels.insert("istio.io/waypoint-for".into(), "all".into()); }
        Fact::GatewayClass(GatewayClass { meta, controller: if ours { "istio.io/mesh-controller".into() } else { "else".into() } })
    }
}

/// What a thing says, with the labels and annotations that name its waypoints.
fn naming(meta: Meta, named: Meta) -> Meta {
    let mut meta = meta;
    meta.labels.extend(named.labels);
    meta.annotations.extend(named.annotations);
    meta
}

fn fact() -> impl Strategy<Value = Fact> {
    let said = prop_oneof![
        4 => pod(),
        3 => service(),
        2 => slice(),
        3 => service_entry(),
        1 => workload_entry(),
        2 => authorization(),
        2 => peer(),
        1 => namespace(),
        1 => node(),
        3 => gateway(),
        1 => gateway_class(),
    ];
    (said, prop::bool::weighted(0.3)).prop_map(|(fact, gone)| if gone { Fact::Removed(fact.key()) } else { fact })
}

/// An index whose services have to fight for their addresses.
fn crowded() -> Index {
    Index { vips: Vips::tiny(), ..Index::new(Mesh::default()) }
}

type Published = (Vec<Arc<Workload>>, Vec<Arc<mesh::Service>>, Vec<Arc<Policy>>);

type Said = (Vec<(FactKey, Vec<Condition>)>, Vec<BTreeSet<mesh::Str>>);

/// What is said of objects, and which waypoints serve which services.
fn said(index: &Index) -> Said {
    let conditions = index.conditions().map(|(key, conditions)| (key.clone(), conditions.to_vec()));
    (conditions.collect(), index.services().map(|service| index.waypoint_of_service(&service.key())).collect())
}

fn published(index: &Index) -> Published {
    let sorted = |mut all: Vec<Arc<Workload>>| {
        all.sort_by(|a, b| a.uid.cmp(&b.uid));
        all
    };
    (
        sorted(index.workloads().cloned().collect()),
        index.services().cloned().collect(),
        index.policies().cloned().collect(),
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn what_is_published_is_what_the_facts_mean(facts in prop::collection::vec(fact(), 1..60)) {
        let mut index = crowded();
        let mut view = View::default();
        let mut holding: BTreeMap<FactKey, Fact> = BTreeMap::new();
        for fact in facts {
            match &fact {
                Fact::Removed(key) => drop(holding.remove(key)),
                fact => drop(holding.insert(fact.key(), fact.clone())),
            }
            view = view.apply(changes(&mut index, fact));
        }
        let mut fresh = crowded();
        for fact in holding.values().rev() {
            fresh.apply(fact.clone());
        }
        let (workloads, services, policies) = published(&index);
        let afresh = published(&fresh);
        prop_assert_eq!(&workloads, &afresh.0);
        prop_assert_eq!(&services, &afresh.1);
        prop_assert_eq!(&policies, &afresh.2);
        prop_assert_eq!(said(&index), said(&fresh));
        let named = workloads.iter().flat_map(|workload| &workload.authorization_policies);
        for key in named {
            prop_assert!(policies.iter().any(|policy| policy.key() == **key), "nobody publishes {key}");
        }

        let followed = View::default().apply(
            workloads.into_iter().map(Change::Workload)
                .chain(services.into_iter().map(Change::Service))
                .chain(policies.into_iter().map(Change::Policy)),
        );
        prop_assert!(view.workloads().eq(followed.workloads()), "workloads differ");
        prop_assert!(view.services().eq(followed.services()), "services differ");
        prop_assert!(view.policies().eq(followed.policies()), "policies differ");
    }
}
