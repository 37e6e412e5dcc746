//! DestinationRule and TrafficPolicy.

use super::{check_refused, good, object};
use crate::facts::{Balancing, DestinationRule, Fact, TrafficPolicy, by_name};
use mesh::route::{
    Destination, Fault,
    http::HttpMatch,
    limit::{AbortStatus, LimitKey, LimitScope},
    text::{FieldMatch, Fraction, PathMatch, TextMatch},
    traffic::{
        AdaptiveConcurrency, Balance, HashAlgorithm, HashKey, HttpVersion, Locality, Outlier, Pool, ProxyProtocol,
        RetryBudget, TlsOrigination, TlsRoots, Warmup,
    },
};
use std::time::Duration;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn field(name: &str, value: TextMatch) -> FieldMatch {
    FieldMatch { name: name.into(), value, ignore_case: false }
}

fn destination_rule(spec: &str) -> (DestinationRule, Vec<String>) {
    let (fact, remarks) = good(&object("networking.istio.io/v1", "DestinationRule", spec));
    let Fact::DestinationRule(it) = fact else { panic!("not a destination rule") };
    (*it, remarks)
}

fn policy(fields: &str) -> crate::facts::Sections {
    let (it, remarks) = destination_rule(&format!("{{host: web, trafficPolicy: {{{fields}}}}}"));
    assert!(remarks.is_empty(), "{remarks:?}");
    it.reach.all
}

#[test]
fn how_endpoints_are_chosen() {
    let ring = HashAlgorithm::Ring { points_min: 1024 };
    let by = |key, algorithm| Balance::Consistent { key, algorithm };
    for (fields, balance) in [
        ("simple: ROUND_ROBIN", Balance::RoundRobin),
        ("simple: RANDOM", Balance::Random),
        ("simple: PASSTHROUGH", Balance::Passthrough),
        ("simple: LEAST_CONN", Balance::LeastRequest),
        ("simple: UNSPECIFIED", Balance::LeastRequest),
        ("consistentHash: {httpHeaderName: X-User}", by(HashKey::Header("x-user".into()), ring)),
        (
            "consistentHash: {useSourceIp: true, minimumRingSize: 64}",
            by(HashKey::SourceIp, HashAlgorithm::Ring { points_min: 64 }),
        ),
        (
            "consistentHash: {httpQueryParameterName: u, ringHash: {minimumRingSize: 7}}",
            by(HashKey::Query("u".into()), HashAlgorithm::Ring { points_min: 7 }),
        ),
        (
            "consistentHash: {httpCookie: {name: c, path: /, ttl: 0s}, maglev: {tableSize: 101}}",
            by(
                HashKey::Cookie { name: "c".into(), path: Some("/".into()), ttl: Some(Duration::ZERO) },
                HashAlgorithm::Maglev { entries: 101 },
            ),
        ),
    ] {
        let found = policy(&format!("loadBalancer: {{{fields}}}")).balancing;
        assert_eq!(found, Some(Balancing { balance, ..Balancing::default() }), "{fields}");
    }
    for (fields, locality) in [
        ("enabled: false", Locality::Off),
        ("failover: [{from: a, to: b}]", Locality::Failover(vec![("a".into(), "b".into())])),
        ("failoverPriority: [x, 'y=z']", Locality::Priority(vec!["x".into(), "y=z".into()])),
        (
            "distribute: [{from: a/b/*, to: {a/b/*: 80, a/c/*: 20}}]",
            Locality::Distribute(vec![("a/b/*".into(), vec![("a/b/*".into(), 80), ("a/c/*".into(), 20)])]),
        ),
    ] {
        let found = policy(&format!("loadBalancer: {{localityLbSetting: {{{fields}}}}}")).balancing;
        assert_eq!(found.and_then(|found| found.locality), Some(locality), "{fields}");
    }
    for (fields, share) in
        [("warmupDurationSecs: 10s", 100_000), ("warmup: {duration: 10s, minimumPercent: 50}", 500_000)]
    {
        let found = policy(&format!("loadBalancer: {{{fields}}}")).balancing;
        let expected = Warmup { duration: ms(10_000), minimum: Fraction(share) };
        assert_eq!(found.and_then(|found| found.warmup), Some(expected), "{fields}");
    }
}

#[test]
fn how_a_host_is_reached() {
    let pool = policy(
        "connectionPool: {tcp: {maxConnections: 1, connectTimeout: 2s, maxConnectionDuration: 3s, idleTimeout: 4s}, \
         http: {http1MaxPendingRequests: 5, http2MaxRequests: 6, maxRequestsPerConnection: 7, maxRetries: 8, \
         maxConcurrentStreams: 9, h2UpgradePolicy: UPGRADE}}",
    );
    let expected = Pool {
        connections_max: Some(1),
        connect_timeout: Some(ms(2_000)),
        age_max: Some(ms(3_000)),
        idle_timeout: Some(ms(4_000)),
        pending_max: Some(5),
        requests_max: Some(6),
        requests_per_connection: Some(7),
        retries_max: Some(8),
        streams_max: Some(9),
        http: Some(HttpVersion::Http2),
        as_caller: false,
    };
    assert_eq!(pool.pool, Some(expected));
    let outlier = Outlier {
        consecutive_errors: 5,
        consecutive_gateway_errors: 0,
        consecutive_local_failures: 0,
        error_codes: vec![],
        interval: ms(10_000),
        base_ejection: ms(30_000),
        max_ejection: ms(300_000),
        max_ejected_percent: 10,
        min_healthy_percent: 0,
    };
    for (fields, expected) in [
        ("", outlier.clone()),
        (
            "consecutive5xxErrors: 0, consecutiveGatewayErrors: 3, interval: 1s, baseEjectionTime: 2s, \
             maxEjectionPercent: 100, minHealthPercent: 20, outlierDetectionHttpErrorCodes: [429]",
            Outlier {
                consecutive_errors: 0,
                consecutive_gateway_errors: 3,
                error_codes: vec![429],
                interval: ms(1_000),
                base_ejection: ms(2_000),
                max_ejected_percent: 100,
                min_healthy_percent: 20,
                ..outlier.clone()
            },
        ),
        (
            "splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailures: 2, consecutiveErrors: 4",
            Outlier { consecutive_local_failures: 2, consecutive_gateway_errors: 4, ..outlier },
        ),
    ] {
        assert_eq!(policy(&format!("outlierDetection: {{{fields}}}")).outlier, Some(expected), "{fields}");
    }
    let simple = TlsOrigination::default();
    for (fields, expected) in [
        ("mode: DISABLE", None),
        ("mode: SIMPLE", Some(simple.clone())),
        (
            "mode: SIMPLE, sni: a, subjectAltNames: [b], insecureSkipVerify: true",
            Some(TlsOrigination {
                server_name: Some("a".into()),
                subject_alt_names: vec!["b".into()],
                roots: TlsRoots::Anybody,
                client: None,
            }),
        ),
        ("mode: SIMPLE, caCertificates: system", Some(simple)),
    ] {
        assert_eq!(policy(&format!("tls: {{{fields}}}")).tls, Some(expected), "{fields}");
    }
    let found = policy("proxyProtocol: {version: V2}, retryBudget: {percent: 50, minRetryConcurrency: 1}");
    assert_eq!(found.proxy_protocol, Some(ProxyProtocol::V2));
    assert_eq!(found.retry_budget, Some(RetryBudget { share: Fraction(500_000), at_least: 1 }));
}

#[test]
fn parts_and_ports_of_a_host_and_what_is_not_honoured() {
    let (it, remarks) = destination_rule(
        "{host: '*.shop.example', exportTo: ['.'], trafficPolicy: {loadBalancer: {simple: RANDOM}, portLevelSettings: \
         [{port: {number: 81}, tls: {mode: DISABLE}}]}, subsets: [{name: v1, labels: {version: v1}, trafficPolicy: \
         {loadBalancer: {simple: ROUND_ROBIN}}}]}",
    );
    assert!(remarks.is_empty() && !it.only_some_callers && !it.exports.reach("far"));
    assert_eq!(it.reach.ports[&81].tls, Some(None));
    assert_eq!(it.reach.ports[&81].balancing, None);
    assert_eq!((&*it.subsets[0].name, it.subsets[0].labels.len()), ("v1", 1));
    assert_eq!(it.subsets[0].reach.all.balancing.as_ref().map(|it| &it.balance), Some(&Balance::RoundRobin));
    for (fields, named) in [
        ("workloadSelector: {matchLabels: {a: b}}", "spec.workloadSelector"),
        ("trafficPolicy: {tunnel: {targetHost: a, targetPort: 1}}", "spec.trafficPolicy.tunnel"),
        (
            "trafficPolicy: {connectionPool: {tcp: {tcpKeepalive: {}}}}",
            "spec.trafficPolicy.connectionPool.tcp.tcpKeepalive",
        ),
        (
            "trafficPolicy: {connectionPool: {http: {http2KeepAlive: {}}}}",
            "spec.trafficPolicy.connectionPool.http.http2KeepAlive",
        ),
        ("trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}", "spec.trafficPolicy.tls.mode"),
        ("trafficPolicy: {retryBudget: {budgetInterval: 1s}}", "spec.trafficPolicy.retryBudget.budgetInterval"),
        (
            "trafficPolicy: {loadBalancer: {zoneAwareLbSetting: {}}}",
            "spec.trafficPolicy.loadBalancer.zoneAwareLbSetting",
        ),
        (
            "trafficPolicy: {loadBalancer: {backendUtilization: {}}}",
            "spec.trafficPolicy.loadBalancer.backendUtilization",
        ),
    ] {
        let (it, remarks) = destination_rule(&format!("{{host: web, {fields}}}"));
        assert!(remarks.len() == 1 && remarks[0].starts_with(named), "{fields}: {remarks:?}");
        assert_eq!(it.unheeded.len(), 1);
    }
    for tls in
        ["mode: MUTUAL, credentialName: c", "mode: SIMPLE, caCertificates: /etc/ca.pem", "mode: SIMPLE, caCrl: x"]
    {
        let (it, remarks) = destination_rule(&format!("{{host: web, trafficPolicy: {{tls: {{{tls}}}}}}}"));
        let tls = it.reach.all.tls.flatten().expect("TLS is asked for");
        assert!(matches!(tls.roots, TlsRoots::Missing { .. }) && !remarks.is_empty(), "{tls:?} is not closed");
    }
}

#[test]
fn a_destination_rule_that_is_not_understood_is_refused_whole() {
    for (spec, named) in [
        ("{}", "spec.host"),
        ("{host: web, hosts: []}", "spec.hosts"),
        ("{host: web, subsets: [{labels: {}}]}", "spec.subsets[0].name"),
        ("{host: web, trafficPolicy: {loadBalancer: {simple: BEST}}}", "spec.trafficPolicy.loadBalancer.simple"),
        (
            "{host: web, trafficPolicy: {loadBalancer: {consistentHash: {}}}}",
            "spec.trafficPolicy.loadBalancer.consistentHash",
        ),
        (
            "{host: web, trafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: true, maglev: {tableSize: 100}}}}}",
            "spec.trafficPolicy.loadBalancer.consistentHash.maglev.tableSize",
        ),
        (
            "{host: web, trafficPolicy: {loadBalancer: {localityLbSetting: {distribute: [{from: a, to: {b: 99}}]}}}}",
            "spec.trafficPolicy.loadBalancer.localityLbSetting.distribute[0].to",
        ),
        (
            "{host: web, trafficPolicy: {outlierDetection: {maxEjectionPercent: 101}}}",
            "spec.trafficPolicy.outlierDetection.maxEjectionPercent",
        ),
        ("{host: web, trafficPolicy: {tls: {mode: MAYBE}}}", "spec.trafficPolicy.tls.mode"),
        ("{host: web, trafficPolicy: {portLevelSettings: [{}]}}", "spec.trafficPolicy.portLevelSettings[0].port"),
    ] {
        check_refused(&object("networking.istio.io/v1", "DestinationRule", spec), &[named]);
    }
}

fn traffic_policy(spec: &str) -> String {
    let targets = "targetRefs: [{group: '', kind: Service, name: web, sectionName: http}]";
    object("istiod-lite.io/v1alpha1", "TrafficPolicy", &format!("{{{targets}, {spec}}}"))
}

fn read_traffic_policy(spec: &str) -> TrafficPolicy {
    let (fact, remarks) = good(&traffic_policy(spec));
    assert!(remarks.is_empty(), "{remarks:?}");
    let Fact::TrafficPolicy(it) = fact else { panic!("not a traffic policy") };
    *it
}

#[test]
fn limits_of_a_traffic_policy() {
    let it = read_traffic_policy(
        "rateLimit: [{requests: 10}, {requests: 5, per: 1m, burst: 7, scope: Shared, keys: [{type: Header, name: X-A}, \
         {type: Path}, {type: Method}, {type: Host}, {type: CallerIdentity}, {type: CallerNamespace}, \
         {type: CallerAddress}, {type: Claim, name: a.b}], matches: [{path: {type: PathPrefix, value: /a}, method: GET, \
         headers: [{name: X-B, value: c}], queryParams: [{name: q, type: RegularExpression, value: 'd+'}], \
         callerNamespace: front}]}, {requests: 1, scope: Service, service: {host: limits, port: 8081, domain: d, \
         timeout: 50ms, failOpen: true}}]",
    );
    assert_eq!(it.targets[0].to_string(), "Service/web#http");
    let [one, two, three] = &it.limits[..] else { panic!("{:?}", it.limits) };
    assert_eq!((&*one.name, one.requests, one.per, one.burst), ("TrafficPolicy/shop/it/0", 10, ms(1_000), 10));
    assert_eq!(
        (&one.scope, &two.scope, two.per, two.burst),
        (&LimitScope::Replica, &LimitScope::Shared, ms(60_000), 7)
    );
    assert_eq!(two.keys.len(), 8);
    assert_eq!(
        (&two.keys[0], &two.keys[7]),
        (&LimitKey::Header("x-a".into()), &LimitKey::Claim(vec!["a".into(), "b".into()]))
    );
    let expected = HttpMatch {
        path: Some(PathMatch::PathPrefix("/a".into())),
        method: Some(TextMatch::Exact("GET".into())),
        headers: vec![field("x-b", TextMatch::Exact("c".into()))],
        query: vec![field("q", TextMatch::Regex("d+".into()))],
        caller_namespace: Some("front".into()),
        ..HttpMatch::default()
    };
    assert_eq!(two.matches, [expected]);
    let (destination, domain) =
        (Destination::Service { service: by_name("shop", "limits"), port: 8081, subset: None }, "d".into());
    assert_eq!(three.scope, LimitScope::Service { destination, domain, timeout: ms(50), fail_open: true });
}

#[test]
fn the_other_sections_of_a_traffic_policy() {
    let it = read_traffic_policy(
        "fault: [{delay: {duration: 1s, percent: 10}, abort: {grpcStatus: ABORTED}}], circuitBreaker: {maxConnections: 1, \
         maxPendingRequests: 2, maxRequests: 3, maxRetries: 4, maxRequestsPerConnection: 5, maxStreamsPerConnection: 6, \
         connectTimeout: 1s, idleTimeout: 2s, maxConnectionAge: 3s}, outlierDetection: {consecutiveErrors: 1, \
         maxEjectionTime: 60s}, retryBudget: {percent: 10, minRetries: 2}, loadBalancer: {simple: RANDOM}, \
         adaptiveConcurrency: {minRequests: 2, maxRequests: 200}",
    );
    let abort = Some((AbortStatus::Grpc(10), Fraction::ALL));
    assert_eq!(it.faults, [Fault { matches: vec![], delay: Some((ms(1_000), Fraction(100_000))), abort }]);
    let sections = it.sections;
    assert_eq!(sections.pool.and_then(|pool| pool.streams_max), Some(6));
    assert_eq!(sections.outlier.as_ref().map(|it| (it.consecutive_errors, it.max_ejection)), Some((1, ms(60_000))));
    assert_eq!(sections.retry_budget, Some(RetryBudget { share: Fraction(100_000), at_least: 2 }));
    assert_eq!(sections.balancing.map(|it| it.balance), Some(Balance::Random));
    assert_eq!(sections.adaptive, Some(AdaptiveConcurrency { minimum: 2, maximum: 200 }));
}

#[test]
fn a_traffic_policy_that_is_not_understood_is_refused_whole() {
    for (spec, named) in [
        ("rateLimits: []", "spec.rateLimits"),
        ("rateLimit: [{per: 1s}]", "spec.rateLimit[0].requests"),
        ("rateLimit: [{requests: 0}]", "spec.rateLimit[0].requests"),
        ("rateLimit: [{requests: 1, per: 0s}]", "spec.rateLimit[0].per"),
        ("rateLimit: [{requests: 1, scope: Global}]", "spec.rateLimit[0].scope"),
        ("rateLimit: [{requests: 1, scope: Service}]", "spec.rateLimit[0].service"),
        ("rateLimit: [{requests: 1, keys: [{type: Cookie}]}]", "spec.rateLimit[0].keys[0].type"),
        ("rateLimit: [{requests: 1, keys: [{type: Header}]}]", "spec.rateLimit[0].keys[0].name"),
        ("fault: [{}]", "spec.fault[0]"),
        ("fault: [{abort: {}}]", "spec.fault[0].abort"),
        ("circuitBreaker: {maxConnections: lots}", "spec.circuitBreaker.maxConnections"),
        ("adaptiveConcurrency: {minRequests: 9, maxRequests: 8}", "spec.adaptiveConcurrency.maxRequests"),
    ] {
        let text = traffic_policy(spec);
        let found = super::reading(&text).problems;
        assert!(found.iter().any(|it| it.field == named), "{found:#?} in\n{text}");
        assert!(matches!(super::reading(&text).fact, Some(Fact::Otherwise(_))), "{spec} was taken");
    }
}

#[test]
fn the_examples_of_the_documentation_are_understood() {
    let text = include_str!("../../../../../docs/traffic.md");
    let examples: Vec<&str> = text.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(examples.len() >= 3, "there are {}", examples.len());
    for example in examples {
        let (_, remarks) = good(example);
        assert!(remarks.is_empty(), "{remarks:?} in\n{example}");
    }
}
