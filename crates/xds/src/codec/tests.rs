//! Every value of `mesh` survives the wire; what is wrong on the wire is refused, and nothing else.

use super::*;
use ipnet::IpNet;
use mesh::{
    Policy, Service, ServiceKey, Workload,
    policy::{Clause, Match, PolicyScope, Rule, ServiceAccountMatch, StringMatch, Values},
    service::{AppProtocol, IpFamilies, LoadBalancing, LoadBalancingMode, Scope, ServicePort},
    workload::{
        ApplicationTunnel, Destination, GatewayAddress, Health, Locality, NetworkAddress, Protocol, WorkloadType,
    },
};
use proptest::{collection::vec, option, prelude::*};
use proto::workload as pb;
use std::net::IpAddr;

fn text() -> impl Strategy<Value = Str> {
    prop::sample::select(vec!["", "a", "shop", "web.shop.svc.cluster.local", "cluster.local", "default", "Kubernetes"])
        .prop_map(Str::from)
}

fn name() -> impl Strategy<Value = Str> {
    prop::sample::select(vec!["a", "shop", "web.shop.svc.cluster.local", "*.example.com"]).prop_map(Str::from)
}

fn ip() -> impl Strategy<Value = IpAddr> {
    prop_oneof![any::<[u8; 4]>().prop_map(IpAddr::from), any::<[u8; 16]>().prop_map(IpAddr::from)]
}

fn range() -> impl Strategy<Value = IpNet> {
    (ip(), any::<u8>()).prop_map(|(ip, length)| {
        let longest = if ip.is_ipv4() { 33 } else { 129 };
        IpNet::new(ip, length % longest).expect("the length fits").trunc()
    })
}

fn gateway() -> impl Strategy<Value = GatewayAddress> {
    let service =
        (name(), name()).prop_map(|(namespace, hostname)| Destination::Service(ServiceKey { namespace, hostname }));
    let address =
        (text(), ip()).prop_map(|(network, address)| Destination::Address(NetworkAddress { network, address }));
    (prop_oneof![service, address], any::<u16>())
        .prop_map(|(destination, hbone_mtls_port)| GatewayAddress { destination, hbone_mtls_port })
}

fn workload() -> impl Strategy<Value = Workload> {
    let names = (name(), text(), text(), name(), name(), name(), option::of(name()));
    let places = (vec(ip(), 0..4), text(), text(), (text(), text(), text()), text(), text(), text());
    let gateways = (option::of(gateway()), option::of(gateway()), option::of((any::<bool>(), any::<u16>())));
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), 0..4_usize, any::<u32>());
    let key = (name(), name()).prop_map(|(namespace, hostname)| ServiceKey { namespace, hostname });
    let ports = prop::collection::btree_map(any::<u16>(), any::<u16>(), 0..4);
    let joins = (prop::collection::btree_map(key, ports, 0..3), vec(name(), 0..3));
    (names, places, gateways, flags, joins).prop_map(|(names, places, gateways, flags, joins)| Workload {
        uid: names.0,
        name: names.1,
        namespace: names.2,
        trust_domain: names.3,
        service_account: names.4,
        cluster_id: names.5,
        hostname: names.6,
        addresses: places.0,
        network: places.1,
        node: places.2,
        locality: Locality { region: places.3.0, zone: places.3.1, subzone: places.3.2 },
        canonical_name: places.4,
        canonical_revision: places.5,
        workload_name: places.6,
        waypoint: gateways.0,
        network_gateway: gateways.1,
        application_tunnel: gateways.2.map(|(proxy_protocol, port)| ApplicationTunnel { proxy_protocol, port }),
        protocol: if flags.0 { Protocol::Hbone } else { Protocol::Plain },
        native_tunnel: flags.1,
        host_network: flags.2,
        health: if flags.3 { Health::Healthy } else { Health::Unhealthy },
        workload_type: [WorkloadType::Deployment, WorkloadType::CronJob, WorkloadType::Pod, WorkloadType::Job][flags.4],
        capacity: flags.5,
        services: joins.0.into_iter().collect(),
        authorization_policies: joins.1,
    })
}

fn service() -> impl Strategy<Value = Service> {
    const PROTOCOLS: [AppProtocol; 6] = [
        AppProtocol::Unknown,
        AppProtocol::Http11,
        AppProtocol::Http2,
        AppProtocol::Grpc,
        AppProtocol::Tcp,
        AppProtocol::Tls,
    ];
    const SCOPES: [Scope; 6] =
        [Scope::Region, Scope::Zone, Scope::Subzone, Scope::Node, Scope::Cluster, Scope::Network];
    const MODES: [LoadBalancingMode; 4] = [
        LoadBalancingMode::Unspecified,
        LoadBalancingMode::Strict,
        LoadBalancingMode::Failover,
        LoadBalancingMode::Passthrough,
    ];
    const FAMILIES: [IpFamilies; 4] =
        [IpFamilies::Automatic, IpFamilies::Ipv4Only, IpFamilies::Ipv6Only, IpFamilies::Dual];
    let vip = (text(), ip()).prop_map(|(network, address)| NetworkAddress { network, address });
    let port = (any::<u16>(), prop::sample::select(&PROTOCOLS[..]))
        .prop_map(|(target_port, app_protocol)| ServicePort { target_port, app_protocol });
    let names = (text(), name(), name(), vec(text(), 0..3));
    let addresses =
        (vec(vip, 0..3), vec((text(), range()), 0..3), prop::collection::btree_map(any::<u16>(), port, 0..4));
    let gateways = (option::of(gateway()), vec((gateway(), any::<u32>()), 0..3));
    let balance = (
        vec(prop::sample::select(&SCOPES[..]), 0..4),
        prop::sample::select(&MODES[..]),
        any::<bool>(),
        prop::sample::select(&FAMILIES[..]),
    );
    let flags = (any::<bool>(), any::<bool>(), any::<bool>());
    (names, addresses, gateways, balance, flags).prop_map(|(names, addresses, gateways, balance, flags)| Service {
        name: names.0,
        namespace: names.1,
        hostname: names.2,
        subject_alt_names: names.3,
        vips: addresses.0,
        cidr_vips: addresses.1,
        ports: addresses.2,
        waypoint: gateways.0,
        weighted_waypoints: gateways.1,
        load_balancing: LoadBalancing { routing_preference: balance.0, mode: balance.1, allow_unhealthy: balance.2 },
        ip_families: balance.3,
        canonical: flags.0,
        ingress_use_waypoint: flags.1,
        namespace_only: flags.2,
    })
}

fn values<T: std::fmt::Debug + 'static>(
    of: impl Strategy<Value = T> + Clone + 'static,
) -> impl Strategy<Value = Values<T>> {
    (vec(of.clone(), 0..3), vec(of, 0..3)).prop_map(|(any_of, none_of)| Values { any_of, none_of })
}

fn policy() -> impl Strategy<Value = Policy> {
    let string = prop_oneof![
        text().prop_map(StringMatch::Exact),
        text().prop_map(StringMatch::Prefix),
        text().prop_map(StringMatch::Suffix),
        Just(StringMatch::Presence)
    ]
    .boxed();
    let account = (text(), text())
        .prop_map(|(namespace, service_account)| ServiceAccountMatch { namespace, service_account })
        .boxed();
    let range = range().boxed();
    let matched = (
        values(string.clone()),
        values(string),
        values(account),
        values(range.clone()),
        values(range),
        values(any::<u16>()),
    )
        .prop_map(|(namespaces, principals, service_accounts, source_ips, destination_ips, destination_ports)| Match {
            namespaces,
            principals,
            service_accounts,
            source_ips,
            destination_ips,
            destination_ports,
            request: None,
        });
    let clause = vec(matched, 0..3).prop_map(|matches| Clause { matches });
    let rule = vec(clause, 0..3).prop_map(|clauses| Rule { clauses });
    (name(), text(), 0..3_usize, any::<bool>(), vec(rule, 0..3), any::<bool>()).prop_map(
        |(name, namespace, scope, deny, rules, dry_run)| Policy {
            name,
            namespace,
            scope: [PolicyScope::Global, PolicyScope::Namespace, PolicyScope::WorkloadSelector][scope],
            action: if deny { Action::Deny } else { Action::Allow },
            rules,
            dry_run,
        },
    )
}

use mesh::policy::Action;

fn round_trip(kind: Kind, change: &Change) -> Decoded {
    let encoded = encode(change).expect("an addition has content");
    decode(kind, &encoded.bytes, &mut Names::new()).expect("what we write we can read")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_workload_survives_the_wire(workload in workload()) {
        let decoded = round_trip(Kind::Address, &Change::Workload(Arc::new(workload.clone())));
        let Change::Workload(after) = decoded.change else { panic!("another kind came back") };
        prop_assert_eq!(&*after, &workload);
        prop_assert_eq!(decoded.name, workload.uid);
    }

    #[test]
    fn a_service_survives_the_wire(service in service()) {
        let decoded = round_trip(Kind::Address, &Change::Service(Arc::new(service.clone())));
        let Change::Service(after) = decoded.change else { panic!("another kind came back") };
        prop_assert_eq!(&*after, &service);
        prop_assert_eq!(decoded.name.to_string(), service.key().to_string());
    }

    #[test]
    fn a_policy_survives_the_wire(policy in policy()) {
        let decoded = round_trip(Kind::Authorization, &Change::Policy(Arc::new(policy.clone())));
        let Change::Policy(after) = decoded.change else { panic!("another kind came back") };
        prop_assert_eq!(&*after, &policy);
        prop_assert_eq!(&*decoded.version, "");
    }

    #[test]
    fn no_bytes_crash_the_reader(bytes in vec(any::<u8>(), 0..400)) {
        for kind in Kind::NODE_PROXY.iter().copied() {
            let _ = decode(kind, &bytes.clone().into(), &mut Names::new());
        }
    }

    #[test]
    fn a_truncated_or_damaged_resource_does_not_crash_the_reader(policy in policy(), cut in 0..4000_usize, flip in any::<u8>()) {
        let bytes = encode(&Change::Policy(Arc::new(policy))).expect("an addition has content").bytes;
        let mut bytes = bytes[..cut.min(bytes.len())].to_vec();
        if let Some(last) = bytes.last_mut() {
            *last ^= flip;
        }
        let _ = decode(Kind::Authorization, &bytes.into(), &mut Names::new());
    }
}

#[test]
fn the_version_is_the_hash_of_the_content_and_no_default_is_written() {
    let mut workload = Workload::named("Kubernetes//Pod/shop/web");
    workload.cluster_id = "".into();
    let encoded = encode(&Change::Workload(Arc::new(workload))).expect("it has content");
    let resource = wire::Resource::decode(encoded.bytes).expect("it is a resource");
    let message = resource.resource.expect("it has a message").value;
    assert_eq!(resource.version, format!("{:x}", xxh64(&message, 0)));
    let address = pb::Address::decode(message).expect("it is an address");
    let Some(pb::address::Type::Workload(read)) = address.r#type else { panic!("it is a workload") };
    let expected = pb::Workload {
        uid: "Kubernetes//Pod/shop/web".into(),
        workload_type: pb::WorkloadType::Pod.into(),
        ..pb::Workload::default()
    };
    assert_eq!(read, expected);
}

#[test]
fn what_the_wire_leaves_out_is_filled_in() {
    let read = workload::decode(pb::Workload { uid: "u".into(), ..pb::Workload::default() }, &mut Names::new())
        .expect("a uid is enough");
    let expected = Workload { workload_type: WorkloadType::Deployment, ..Workload::named("u") };
    assert_eq!(read, expected);
    assert_eq!((&*read.trust_domain, &*read.service_account), ("cluster.local", "default"));
    assert_eq!((&*read.cluster_id, read.capacity), ("Kubernetes", 1));
}

#[test]
fn a_visibility_of_the_future_is_public() {
    let service = pb::Service { hostname: "h".into(), visibility: 7, ..pb::Service::default() };
    assert!(!service::decode(service, &mut Names::new()).expect("it is taken").namespace_only);
}

#[test]
fn our_messages_are_the_generated_ones_on_the_wire() {
    use proto::discovery as generated;
    let resource = generated::Resource {
        version: "v".into(),
        resource: Some(prost_types::Any { type_url: "t".into(), value: vec![1, 2, 3] }),
        name: "n".into(),
        aliases: vec!["a".into()],
    };
    let response = generated::DeltaDiscoveryResponse {
        system_version_info: "7".into(),
        resources: vec![resource.clone()],
        type_url: "t".into(),
        nonce: "x".into(),
        removed_resources: vec!["r".into()],
        control_plane: Some(generated::ControlPlane { identifier: "c".into() }),
    };
    let ours = wire::Response::decode(&*response.encode_to_vec()).expect("the same layout");
    assert_eq!(ours.encode_to_vec(), response.encode_to_vec());
    let ours = wire::Resource::decode(ours.resources[0].clone()).expect("the same layout");
    assert_eq!(ours.encode_to_vec(), resource.encode_to_vec());
    assert_eq!(ours.name, "n");
}

fn refused_address(what: &str, address: pb::Address, reason: &str) {
    let error = address::decode(address, &mut Names::new()).expect_err(what);
    assert_eq!(error.to_string(), reason, "{what}");
}

#[test]
fn wrong_workloads_are_refused_with_the_reason() {
    let good = || pb::Workload { uid: "u".into(), ..pb::Workload::default() };
    let port = |service_port| pb::Port { service_port, ..pb::Port::default() };
    let table: [(&str, pb::Workload, &str); 10] = [
        ("no uid", pb::Workload::default(), "uid is missing"),
        (
            "a sidecar",
            pb::Workload { tunnel_protocol: 2, ..good() },
            "tunnel_protocol LEGACY_ISTIO_MTLS is not supported",
        ),
        ("a new protocol", pb::Workload { tunnel_protocol: 3, ..good() }, "tunnel_protocol has the unknown value 3"),
        ("a new status", pb::Workload { status: -1, ..good() }, "status has the unknown value -1"),
        ("a new mode", pb::Workload { network_mode: 9, ..good() }, "network_mode has the unknown value 9"),
        ("a new owner", pb::Workload { workload_type: 4, ..good() }, "workload_type has the unknown value 4"),
        (
            "half an address",
            pb::Workload { addresses: vec![vec![1, 2, 3, 4, 5].into()], ..good() },
            "addresses has 5 bytes; an address has 4 or 16",
        ),
        (
            "a waypoint that is none",
            pb::Workload { waypoint: Some(pb::GatewayAddress::default()), ..good() },
            "waypoint is missing",
        ),
        (
            "a key without a namespace",
            pb::Workload { services: [("web".to_owned(), pb::PortList::default())].into(), ..good() },
            "services has \"web\", which is not of the form <namespace>/<hostname>",
        ),
        (
            "a port beyond ports",
            pb::Workload { services: [("a/b".to_owned(), pb::PortList { ports: vec![port(65536)] })].into(), ..good() },
            "service_port is 65536; a port is at most 65535",
        ),
    ];
    for (what, workload, reason) in table {
        refused_address(what, pb::Address { r#type: Some(pb::address::Type::Workload(workload)) }, reason);
    }
    refused_address("neither", pb::Address::default(), "workload or service is missing");
}

#[test]
fn wrong_services_are_refused_with_the_reason() {
    let good = || pb::Service { hostname: "h".into(), ..pb::Service::default() };
    let range = |bytes: &'static [u8], length| pb::NetworkAddress {
        address: bytes.into(),
        length: Some(length),
        ..pb::NetworkAddress::default()
    };
    let balancing = |routing_preference| pb::LoadBalancing { routing_preference, ..pb::LoadBalancing::default() };
    let table: [(&str, pb::Service, &str); 5] = [
        ("no hostname", pb::Service::default(), "hostname is missing"),
        (
            "too long a prefix",
            pb::Service { addresses: vec![range(&[10, 0, 0, 0], 33)], ..good() },
            "addresses has the prefix length 33, longer than its address",
        ),
        ("a new family", pb::Service { ip_families: 4, ..good() }, "ip_families has the unknown value 4"),
        (
            "a preference for nothing",
            pb::Service { load_balancing: Some(balancing(vec![0])), ..good() },
            "routing_preference has the unknown value 0",
        ),
        (
            "a weighted waypoint that is none",
            pb::Service { weighted_waypoints: vec![pb::WeightedWaypoint::default()], ..good() },
            "weighted_waypoints is missing",
        ),
    ];
    for (what, service, reason) in table {
        refused_address(what, pb::Address { r#type: Some(pb::address::Type::Service(service)) }, reason);
    }
}

#[test]
fn wrong_policies_are_refused_whole() {
    use proto::security as sec;
    let with = |matched: sec::Match| sec::Authorization {
        name: "p".into(),
        rules: vec![sec::Rule { clauses: vec![sec::Clause { matches: vec![matched] }] }],
        ..sec::Authorization::default()
    };
    let table: [(&str, sec::Authorization, &str); 6] = [
        ("no name", sec::Authorization::default(), "name is missing"),
        (
            "a new scope",
            sec::Authorization { scope: 3, ..with(sec::Match::default()) },
            "scope has the unknown value 3",
        ),
        (
            "a new action",
            sec::Authorization { action: 2, ..with(sec::Match::default()) },
            "action has the unknown value 2",
        ),
        (
            "a comparison without a kind",
            with(sec::Match { principals: vec![sec::StringMatch::default()], ..sec::Match::default() }),
            "principals is missing",
        ),
        (
            "a range that is none",
            with(sec::Match {
                not_source_ips: vec![sec::Address { address: vec![10, 0, 0], length: 8 }],
                ..sec::Match::default()
            }),
            "source_ips has 3 bytes; an address has 4 or 16",
        ),
        (
            "a port beyond ports",
            with(sec::Match { destination_ports: vec![70000], ..sec::Match::default() }),
            "destination_ports is 70000; a port is at most 65535",
        ),
    ];
    for (what, policy, reason) in table {
        assert_eq!(policy::decode(policy).expect_err(what).to_string(), reason, "{what}");
    }
}

#[test]
fn an_envelope_that_lies_is_refused() {
    let workload = pb::Address {
        r#type: Some(pb::address::Type::Workload(pb::Workload { uid: "mine".into(), ..pb::Workload::default() })),
    };
    let envelope = |name: &str, type_url: &str| wire::Resource {
        name: name.into(),
        resource: Some(wire::Any { type_url: type_url.into(), value: workload.encode_to_vec().into() }),
        ..wire::Resource::default()
    };
    let url = Kind::Address.type_url();
    let reason = |kind, resource: wire::Resource| {
        decode(kind, &resource.encode_to_vec().into(), &mut Names::new())
            .map(|_| ())
            .map_err(|(name, error)| (name, error.to_string()))
    };
    assert_eq!(reason(Kind::Address, envelope("mine", url)), Ok(()));
    let other = reason(Kind::Address, envelope("yours", url)).expect_err("another name");
    assert_eq!(other, ("yours".into(), "names itself \"mine\"".into()));
    assert!(reason(Kind::Authorization, envelope("mine", url)).is_err());
    assert!(reason(Kind::Address, wire::Resource { resource: None, ..envelope("mine", url) }).is_err());
    assert!(reason(Kind::Address, envelope(&"n".repeat(2000), url)).is_err());
    let huge = Bytes::from(vec![0; limits::RESOURCE_BYTES_MAX + 1]);
    assert!(matches!(decode(Kind::Address, &huge, &mut Names::new()), Err((_, DecodeError::TooLarge(_)))));
    let value = Bytes::from(vec![0; limits::RESOURCE_BYTES_MAX]);
    let huge = |name| {
        let resource = Some(wire::Any { type_url: url.into(), value: value.clone() });
        reason(Kind::Address, wire::Resource { resource, ..envelope(name, url) }).expect_err("too large")
    };
    let (name, too_large) = huge("mine");
    assert!(name == "mine" && too_large.ends_with("a resource has at most 4194304"), "{name}: {too_large}");
    assert_eq!(huge(&"n".repeat(2000)).0.len(), 100);
}
