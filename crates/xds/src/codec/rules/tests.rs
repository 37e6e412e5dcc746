//! All rules survive the wire; what is wrong on the wire is refused with its place, and nothing is
//! read as less than it says.

mod draw;

use super::*;
use crate::{Kind, codec};
use mesh::{
    Change,
    route::{Compiled, CompiledGateway},
};
use proptest::{collection::vec, prelude::*};
use prost::Message;
use std::sync::Arc;

fn parts() -> impl Strategy<Value = Vec<Vec<u8>>> {
    vec(vec(any::<u8>(), 0..400), draw::PARTS)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn rules_of_services_survive_the_wire(parts in parts()) {
        let rules = draw::service(parts);
        let bytes = of_service(&rules).encode_to_vec();
        let read = service(wire::ServiceRules::decode(&*bytes).expect("it is a message"));
        prop_assert_eq!(read.as_ref(), Ok(&rules));
        prop_assert_eq!(of_service(&rules).encode_to_vec(), bytes, "the same content has the same bytes");
    }

    #[test]
    fn rules_of_waypoints_survive_the_wire(parts in parts()) {
        let rules = draw::gateway(parts);
        let bytes = of_gateway(&rules).encode_to_vec();
        let read = gateway(wire::GatewayRules::decode(&*bytes).expect("it is a message"));
        prop_assert_eq!(read.as_ref(), Ok(&rules));
    }

    #[test]
    fn cut_or_damaged_rules_do_not_crash_the_reader(parts in parts(), cut in 0..4000_usize, at in any::<usize>(), flip in any::<u8>()) {
        let mut bytes = of_service(&draw::service(parts)).encode_to_vec();
        bytes.truncate(cut);
        if !bytes.is_empty() {
            let at = at % bytes.len();
            bytes[at] ^= flip;
        }
        for kind in Kind::ALL {
            let any = crate::wire::Any { type_url: kind.type_url().into(), value: bytes.clone().into() };
            let resource = crate::wire::Resource { name: "a/b".into(), resource: Some(any), ..Default::default() };
            let _ = codec::decode(kind, &resource.encode_to_vec().into(), &mut codec::Names::new());
        }
    }
}

#[test]
fn resources_have_names_and_a_version_that_is_their_content() {
    let of_service = |port| {
        let mut rules = ServiceRules::of("shop/web.shop.svc.cluster.local".parse().expect("a key"));
        rules.traffic.push(mesh::route::Traffic { port: Some(port), ..Default::default() });
        Change::ServiceRules(Arc::new(Compiled::new(rules).expect("good rules")))
    };
    let gateway = GatewayRules::of("shop".into(), "wp".into());
    let of_gateway = Change::GatewayRules(Arc::new(CompiledGateway::new(gateway).expect("good rules")));
    for (kind, change, name) in [
        (Kind::ServiceRules, of_service(80), "shop/web.shop.svc.cluster.local"),
        (Kind::GatewayRules, of_gateway, "shop/wp"),
    ] {
        let encoded = codec::encode(&change).expect("an addition has content");
        let decoded = codec::decode(kind, &encoded.bytes, &mut codec::Names::new()).expect("we can read what we write");
        assert_eq!(&*decoded.name, name);
        assert_eq!(&*decoded.version, codec::version(encoded.hash));
        assert_eq!(codec::encode(&decoded.change), Some(encoded));
    }
    let hash = |port| codec::encode(&of_service(port)).map(|encoded| encoded.hash);
    assert_eq!(hash(80), hash(80));
    assert_ne!(hash(80), hash(81));
}

#[test]
fn rules_that_say_nothing_are_only_a_name() {
    let name = wire::ServiceName { namespace: "shop".into(), hostname: "web".into() };
    let expected = wire::ServiceRules { service: Some(name), ..Default::default() };
    assert_eq!(of_service(&ServiceRules::of("shop/web".parse().expect("a key"))), expected);
}

fn rules() -> wire::ServiceRules {
    let service = Some(wire::ServiceName { namespace: "shop".into(), hostname: "web".into() });
    wire::ServiceRules { service, ..Default::default() }
}

fn refused(what: &str, rules: wire::ServiceRules, reason: &str) {
    let error = service(rules).expect_err(what);
    assert_eq!(error.to_string(), reason, "{what}");
}

#[test]
fn wrong_routes_are_refused_with_the_place() {
    let good = || wire::HttpRule {
        name: "0".into(),
        action: Some(wire::http_rule::Action::Forward(wire::Forward::default())),
        ..Default::default()
    };
    let negative = prost_types::Duration { seconds: -1, nanos: 0 };
    let header = wire::FieldMatch { name: "x".into(), ..Default::default() };
    let to = |port| wire::Backend {
        destination: Some(wire::Destination {
            kind: Some(wire::destination::Kind::Service(wire::DestinationService {
                service: rules().service,
                port,
                subset: None,
            })),
        }),
        ..Default::default()
    };
    let forward = |backend| Some(wire::http_rule::Action::Forward(wire::Forward { backends: vec![backend] }));
    let table = [
        ("no action", wire::HttpRule { action: None, ..good() }, "action is missing"),
        (
            "a path that says nothing must not become any path",
            wire::HttpRule {
                matches: vec![wire::HttpMatch { path: Some(wire::PathMatch::default()), ..Default::default() }],
                ..good()
            },
            "path is missing",
        ),
        (
            "a header that may be anything must say so",
            wire::HttpRule { matches: vec![wire::HttpMatch { headers: vec![header], ..Default::default() }], ..good() },
            "headers is missing",
        ),
        (
            "a negative timeout",
            wire::HttpRule {
                timeouts: Some(wire::Timeouts { request: Some(negative), ..Default::default() }),
                ..good()
            },
            "timeouts.request is no duration, or a negative one",
        ),
        ("nowhere", wire::HttpRule { action: forward(wire::Backend::default()), ..good() }, "destination is missing"),
        ("no port", wire::HttpRule { action: forward(to(0)), ..good() }, "destination.port is missing"),
        (
            "a port beyond ports",
            wire::HttpRule { action: forward(to(65_536)), ..good() },
            "destination.port is 65536; a port is at most 65535",
        ),
        (
            "more than all",
            wire::HttpRule {
                filters: Some(wire::Filters {
                    mirrors: vec![wire::Mirror { destination: to(80).destination, share_ppm: 1_000_001 }],
                    ..Default::default()
                }),
                ..good()
            },
            "mirrors.share_ppm cannot be 1000001",
        ),
    ];
    let with = |precedence: i32, rule| wire::ServiceRules {
        http: vec![wire::HttpRoute {
            name: "HTTPRoute/shop/web".into(),
            precedence,
            rules: vec![rule],
            ..Default::default()
        }],
        ..rules()
    };
    assert!(service(with(1, good())).is_ok());
    for (what, rule, reason) in table {
        refused(what, with(1, rule), &format!("route \"HTTPRoute/shop/web\": rule \"0\": {reason}"));
    }
    refused("no precedence", with(0, good()), "route \"HTTPRoute/shop/web\": precedence is missing");
    refused("a new precedence", with(7, good()), "route \"HTTPRoute/shop/web\": precedence has the unknown value 7");
    refused("nobody's rules", wire::ServiceRules::default(), "service is missing");
}

#[test]
fn wrong_guards_are_refused_and_never_weaker() {
    use wire::guard_policy::Action;
    let policy = |action, matched| wire::GuardPolicy {
        namespace: "shop".into(),
        name: "only".into(),
        action,
        rules: vec![wire::Rule { clauses: vec![wire::Clause { matches: vec![matched] }] }],
        ..Default::default()
    };
    let request = |request| wire::Match { request: Some(request), ..Default::default() };
    let deny = Some(Action::Simple(wire::GuardAction::Deny.into()));
    let nothing = proto::security::StringMatch::default();
    let table = [
        ("no action", policy(None, wire::Match::default()), "action is missing"),
        ("an unspecified action", policy(Some(Action::Simple(0)), wire::Match::default()), "action is missing"),
        ("a new action", policy(Some(Action::Simple(9)), wire::Match::default()), "action has the unknown value 9"),
        (
            "an authorizer that is nowhere",
            policy(Some(Action::Custom(wire::ExternalAuthorizer::default())), wire::Match::default()),
            "destination is missing",
        ),
        (
            "a comparison of a newer kind",
            policy(deny.clone(), request(wire::RequestMatch { not_hosts: vec![nothing], ..Default::default() })),
            "hosts is missing",
        ),
        (
            "a path of a newer kind",
            policy(
                deny.clone(),
                request(wire::RequestMatch { paths: vec![wire::PathPattern::default()], ..Default::default() }),
            ),
            "paths is missing",
        ),
        (
            "a claim without a name",
            policy(
                deny,
                request(wire::RequestMatch { claims: vec![wire::ClaimValues::default()], ..Default::default() }),
            ),
            "claims is missing",
        ),
    ];
    for (what, policy, reason) in table {
        let guards = wire::Guards { policies: vec![policy], ..Default::default() };
        let rules = wire::ServiceRules { guards: Some(guards), ..rules() };
        refused(what, rules, &format!("policy \"shop/only\": {reason}"));
    }
    let issuer = wire::Issuer { issuer: "https://issuer".into(), ..Default::default() };
    let authentication = wire::Authentication { name: "shop/jwt".into(), issuers: vec![issuer] };
    let guards = wire::Guards { authentications: vec![authentication], ..Default::default() };
    refused(
        "an issuer without keys",
        wire::ServiceRules { guards: Some(guards), ..rules() },
        "authentication \"shop/jwt\": keys is missing",
    );
}

#[test]
fn wrong_traffic_and_limits_are_refused() {
    let traffic = |traffic| wire::ServiceRules { traffic: vec![traffic], ..rules() };
    let tls = Some(wire::TlsOrigination::default());
    refused(
        "nobody to believe",
        traffic(wire::Traffic { tls, ..Default::default() }),
        "traffic \"\": tls.roots is missing",
    );
    refused(
        "a new HTTP",
        traffic(wire::Traffic { pool: Some(wire::Pool { http: 3, ..Default::default() }), ..Default::default() }),
        "traffic \"\": pool.http has the unknown value 3",
    );
    let limit = wire::RateLimit { name: "l".into(), per: Some(Default::default()), ..Default::default() };
    refused("nobody counts", wire::ServiceRules { limits: vec![limit], ..rules() }, "limit \"l\": scope is missing");
    let abort = wire::Abort { status: Some(wire::abort::Status::Http(99)), share_ppm: 1 };
    let fault = wire::Fault { abort: Some(abort), ..Default::default() };
    refused("no status", wire::ServiceRules { faults: vec![fault], ..rules() }, "abort.http cannot be 99");
}

#[test]
fn rules_that_cannot_be_used_are_refused_with_the_place() {
    let limit = wire::RateLimit {
        name: "TrafficPolicy/shop/web/0".into(),
        matches: vec![wire::HttpMatch {
            path: Some(wire::PathMatch { r#match: Some(wire::path_match::Match::Regex("(".into())) }),
            ..Default::default()
        }],
        requests: 1,
        per: Some(prost_types::Duration { seconds: 1, nanos: 0 }),
        burst: 1,
        scope: Some(wire::rate_limit::Scope::Replica(())),
        ..Default::default()
    };
    let read = |limits| {
        let value = wire::ServiceRules { limits, ..rules() }.encode_to_vec().into();
        let any = crate::wire::Any { type_url: Kind::ServiceRules.type_url().into(), value };
        let resource = crate::wire::Resource { name: "shop/web".into(), resource: Some(any), ..Default::default() };
        codec::decode(Kind::ServiceRules, &resource.encode_to_vec().into(), &mut codec::Names::new())
    };
    assert!(read(vec![]).is_ok());
    let (name, error) = read(vec![limit]).expect_err("the expression is none");
    assert_eq!(name, "shop/web");
    assert!(matches!(error, DecodeError::Unusable(_)), "{error}");
    assert!(error.to_string().contains("limit"), "the place is missing: {error}");
}
