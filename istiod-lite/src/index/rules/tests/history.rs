//! Whatever was said in whatever order: rules and conditions are what the facts that hold mean, and
//! who followed what was published knows them.

use super::facts;
use crate::{
    facts::*,
    index::{Index, Mesh},
};
use mesh::{
    Change, Str,
    route::{
        Backend, Destination, HttpRule, ServiceRules,
        http::{Action, HttpMatch},
        text::PathMatch,
    },
};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use xds::server::Audience;

/// The waypoint of both namespaces.
const GATEWAY: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: wp, namespace: ns0}
spec:
  gatewayClassName: istio-waypoint
  listeners: [{name: mesh, port: 15008, protocol: HBONE, allowedRoutes: {namespaces: {from: All}}}]
status: {addresses: [{type: Hostname, value: wp.ns0.svc.cluster.local}]}
";

fn meta(kind: &str, namespace: u8, name: u8) -> Meta {
    Meta::named(&format!("ns{namespace}"), &format!("{kind}{name}"))
}

fn behind_waypoint(meta: Meta, waypoint: bool) -> Meta {
    let labels: Labels = match waypoint {
        true => [("istio.io/use-waypoint", "wp"), ("istio.io/use-waypoint-namespace", "ns0")]
            .map(|(key, value)| (key.into(), value.into()))
            .into_iter()
            .collect(),
        false => Labels::new(),
    };
    Meta { labels, ..meta }
}

fn ports(names: bool, second: bool) -> Vec<ServicePort> {
    let port = |name: &str, port| ServicePort {
        name: name.into(),
        port,
        target: TargetPort::Number(port),
        app_protocol: Default::default(),
    };
    let first = port(if names { "a" } else { "b" }, 80);
    if second { vec![first, port("c", 81)] } else { vec![first] }
}

prop_compose! {
    fn service()(ns in 0..2u8, n in 0..3u8, waypoint: bool, names: bool, second: bool) -> Fact {
        let meta = behind_waypoint(meta("svc", ns, n), waypoint);
        Fact::Service(Box::new(Service { meta, ports: ports(names, second), ..Service::default() }))
    }
}

prop_compose! {
    fn entry()(ns in 0..2u8, n in 0..2u8, hosts in prop::collection::btree_set(0..3u8, 1..3), waypoint: bool) -> Fact {
        Fact::ServiceEntry(Box::new(ServiceEntry {
            meta: behind_waypoint(meta("se", ns, n), waypoint),
            hosts: hosts.iter().map(|h| Str::from(format!("h{h}.example"))).collect(),
            vips: Vec::new(),
            allocated: Default::default(),
            auto_allocate: false,
            ports: ports(true, false),
            resolution: Resolution::None,
            endpoints: Vec::new(),
            selector: Labels::new(),
            distribution: None,
            subject_alt_names: Vec::new(),
        }))
    }
}

fn parent() -> impl Strategy<Value = Parent> {
    let target = (0..2u8, 0..3u8, 0..4u8).prop_map(|(ns, n, kind)| {
        let namespace = format!("ns{ns}").into();
        match kind {
            0 => ParentTarget::ServiceEntry { namespace, name: format!("se{}", n % 2).into() },
            1 if n == 0 => ParentTarget::Gateway { namespace, name: "wp".into() },
            _ => ParentTarget::Service { namespace, name: format!("svc{n}").into() },
        }
    });
    let part = prop_oneof![Just((None, None)), Just((Some(81), None)), Just((None, Some("a")))];
    (target, part).prop_map(|(target, (port, section))| Parent { target, port, section: section.map(Str::from) })
}

fn destination() -> impl Strategy<Value = Destination> {
    (0..2u8, 0..3u8, any::<bool>(), 80..83u16).prop_map(|(ns, n, host, port)| {
        let service = match host {
            true => by_host(&format!("h{n}.example")),
            false => by_name(&format!("ns{ns}"), &format!("svc{n}")),
        };
        Destination::Service { service, port: if port == 82 { 0 } else { port }, subset: None }
    })
}

prop_compose! {
    fn route()(
        ns in 0..2u8, n in 0..3u8, parents in prop::collection::vec(parent(), 0..3), to in destination(),
        tcp in 0..3u8, bad in prop::bool::weighted(0.1), created in prop::option::of(0..2u8),
    ) -> Fact {
        let backend = Backend { destination: to.clone(), weight: 1, request_headers: Default::default(), response_headers: Default::default() };
        let path = if bad { PathMatch::Regex("(".into()) } else { PathMatch::PathPrefix("/".into()) };
        let matches = vec![HttpMatch { path: Some(path), ..HttpMatch::default() }];
        let http = HttpRule { name: "0".into(), matches, action: Action::Forward(vec![backend]), ..HttpRule::default() };
        let tcp = tcp == 0;
        Fact::Route(Box::new(Route {
            meta: Meta { created: created.map(|n| format!("202{n}").into()), ..meta("route", ns, n) },
            kind: if tcp { RouteKind::Tcp } else { RouteKind::Http },
            parents,
            rules: Some(match tcp {
                true => RouteRules::Stream { server_names: Vec::new(), backends: vec![(to, 1)] },
                false => RouteRules::Http(vec![http]),
            }),
            refused: Vec::new(),
            remarks: Vec::new(),
            unheeded: Vec::new(),
        }))
    }
}

prop_compose! {
    fn grant()(ns in 0..2u8, n in 0..2u8, from in 0..2u8, kind in prop_oneof![Just("HTTPRoute"), Just("TCPRoute")], to in prop::option::of(0..3u8)) -> Fact {
        Fact::ReferenceGrant(Box::new(ReferenceGrant {
            meta: meta("grant", ns, n),
            from: vec![("gateway.networking.k8s.io".into(), kind.into(), format!("ns{from}").into())],
            to: vec![("".into(), "Service".into(), to.map(|n| format!("svc{n}").into()))],
        }))
    }
}

prop_compose! {
    fn tls()(ns in 0..2u8, n in 0..2u8, mut target in parent(), map in prop::option::of(0..2u8), created in prop::option::of(0..2u8)) -> Fact {
        target.port = None;
        let authorities = map.map_or(Authorities::System, |n| Authorities::ConfigMaps(vec![format!("map{n}").into()]));
        Fact::BackendTlsPolicy(Box::new(BackendTlsPolicy {
            meta: Meta { created: created.map(|n| format!("202{n}").into()), ..meta("tls", ns, n) },
            targets: vec![target],
            hostname: "a.example".into(),
            subject_alt_names: Vec::new(),
            authorities,
            refused: Vec::new(),
            remarks: Vec::new(),
        }))
    }
}

prop_compose! {
    fn config_map()(ns in 0..2u8, n in 0..2u8, good: bool) -> Fact {
        let pem = if good { "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----" } else { "" };
        let entries = [(Str::from("ca.crt"), Str::from(pem))].into();
        Fact::ConfigMap(Box::new(ConfigMap { meta: meta("map", ns, n), entries }))
    }
}

fn gateway() -> impl Strategy<Value = Fact> {
    facts(GATEWAY).into_iter().next().map(Just).expect("a gateway")
}

fn fact() -> impl Strategy<Value = Fact> {
    let said = prop_oneof![2 => gateway(), 4 => service(), 2 => entry(), 6 => route(), 2 => grant(), 2 => tls(), 1 => config_map()];
    (said, prop::bool::weighted(0.25)).prop_map(|(fact, gone)| if gone { Fact::Removed(fact.key()) } else { fact })
}

type Rules = BTreeMap<Str, (ServiceRules, BTreeSet<Str>)>;

fn rules(index: &Index) -> Rules {
    let all = index.service_rules();
    all.map(|(rules, to)| (rules.rules().service.to_string().into(), (rules.rules().clone(), to.clone()))).collect()
}

fn conditions(index: &Index) -> Vec<(FactKey, Vec<Condition>)> {
    index.conditions().map(|(key, all)| (key.clone(), all.to_vec())).collect()
}

fn has_bad_route(holding: &BTreeMap<FactKey, Fact>) -> bool {
    let bad = |rule: &HttpRule| matches!(rule.matches[0].path, Some(PathMatch::Regex(_)));
    holding.values().any(|fact| match fact {
        Fact::Route(route) => matches!(&route.rules, Some(RouteRules::Http(rules)) if rules.iter().any(bad)),
        _ => false,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn rules_are_what_the_facts_mean(told in prop::collection::vec(fact(), 1..60)) {
        let mut index = Index::new(Mesh::default());
        let mut followed = Rules::new();
        let mut holding: BTreeMap<FactKey, Fact> = BTreeMap::new();
        let first = facts(GATEWAY);
        for fact in first.into_iter().chain(told) {
            match &fact {
                Fact::Removed(key) => drop(holding.remove(key)),
                fact => drop(holding.insert(fact.key(), fact.clone())),
            }
            for publication in index.apply(fact) {
                match (publication.change, publication.audience) {
                    (Change::ServiceRules(rules), Audience::Waypoints(to)) => {
                        let rules = rules.rules().clone();
                        followed.insert(rules.service.to_string().into(), (rules, (*to).clone()));
                    }
                    (Change::RemoveServiceRules(name), _) => drop(followed.remove(&name)),
                    (Change::ServiceRules(_), Audience::Everyone) => prop_assert!(false, "rules for everyone"),
                    _ => {}
                }
            }
        }
        prop_assert_eq!(rules(&index), followed);
        // Rules that cannot be used leave those that held before, which depend on what was said when.
        if !has_bad_route(&holding) {
            let mut fresh = Index::new(Mesh::default());
            for fact in holding.values().rev() {
                fresh.apply(fact.clone());
            }
            prop_assert_eq!(rules(&index), rules(&fresh));
            prop_assert_eq!(conditions(&index), conditions(&fresh));
        }
    }
}
