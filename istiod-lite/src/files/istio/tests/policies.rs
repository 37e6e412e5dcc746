//! Policies for waypoints, tokens, telemetry and the configuration of the mesh.

use super::{check_refused, good, object};
use crate::{
    facts::{AuthorizationPolicy, Fact, MeshConfig, PolicyAction, Provider, TargetKind},
    files::{
        field::{Field, Notes},
        istio,
    },
};
use mesh::{
    policy::{PathPattern, RequestMatch, StringMatch, Values},
    route::{
        guard::{AuthorizerProtocol, Keys},
        telemetry::TagValue,
        text::Fraction,
    },
};
use std::time::Duration;

const TO_WEB: &str = "targetRefs: [{kind: Service, group: '', name: web}]";

fn policy(fields: &str) -> String {
    object("security.istio.io/v1", "AuthorizationPolicy", &format!("{{{TO_WEB}, {fields}}}"))
}

fn read_policy(fields: &str) -> AuthorizationPolicy {
    let (fact, remarks) = good(&policy(fields));
    assert!(remarks.is_empty(), "{remarks:?}");
    let Fact::AuthorizationPolicy(it) = fact else { panic!("not a policy") };
    *it
}

fn any_of<T>(all: impl IntoIterator<Item = T>) -> Values<T> {
    Values { any_of: all.into_iter().collect(), none_of: Vec::new() }
}

fn none_of<T>(all: impl IntoIterator<Item = T>) -> Values<T> {
    Values { any_of: Vec::new(), none_of: all.into_iter().collect() }
}

fn exact(text: &str) -> StringMatch {
    StringMatch::Exact(text.into())
}

#[test]
fn every_attribute_of_a_request_can_be_asked_for() {
    let request = RequestMatch::default;
    let net = |text: &str| text.parse::<ipnet::IpNet>().expect("a range");
    for (rule, expected) in [
        (
            "to: [{operation: {hosts: [a, '*.b']}}]",
            RequestMatch { hosts: any_of([exact("a"), StringMatch::Suffix(".b".into())]), ..request() },
        ),
        ("to: [{operation: {notHosts: [a]}}]", RequestMatch { hosts: none_of([exact("a")]), ..request() }),
        ("to: [{operation: {methods: [GET]}}]", RequestMatch { methods: any_of([exact("GET")]), ..request() }),
        ("to: [{operation: {notMethods: [GET]}}]", RequestMatch { methods: none_of([exact("GET")]), ..request() }),
        (
            "to: [{operation: {paths: [/a, '/b*', '/c/{*}/{**}']}}]",
            RequestMatch {
                paths: any_of([
                    PathPattern::Text(exact("/a")),
                    PathPattern::Text(StringMatch::Prefix("/b".into())),
                    PathPattern::Template("/c/{*}/{**}".into()),
                ]),
                ..request()
            },
        ),
        (
            "to: [{operation: {notPaths: [/a]}}]",
            RequestMatch { paths: none_of([PathPattern::Text(exact("/a"))]), ..request() },
        ),
        (
            "from: [{source: {requestPrincipals: ['*']}}]",
            RequestMatch { principals: any_of([StringMatch::Presence]), ..request() },
        ),
        (
            "from: [{source: {notRequestPrincipals: ['*']}}]",
            RequestMatch { principals: none_of([StringMatch::Presence]), ..request() },
        ),
        (
            "from: [{source: {remoteIpBlocks: [10.0.0.0/8]}}]",
            RequestMatch { remote_ips: any_of([net("10.0.0.0/8")]), ..request() },
        ),
        (
            "from: [{source: {notRemoteIpBlocks: [10.0.0.1]}}]",
            RequestMatch { remote_ips: none_of([net("10.0.0.1/32")]), ..request() },
        ),
        (
            "when: [{key: 'request.headers[X-A]', values: [b]}]",
            RequestMatch { headers: vec![("x-a".into(), any_of([exact("b")]))], ..request() },
        ),
        (
            "when: [{key: request.auth.principal, notValues: [a/b]}]",
            RequestMatch { principals: none_of([exact("a/b")]), ..request() },
        ),
        (
            "when: [{key: request.auth.audiences, values: [a]}]",
            RequestMatch { audiences: any_of([exact("a")]), ..request() },
        ),
        (
            "when: [{key: request.auth.presenter, values: [a]}]",
            RequestMatch { presenters: any_of([exact("a")]), ..request() },
        ),
        (
            "when: [{key: 'request.auth.claims[a][b.c]', values: [d]}]",
            RequestMatch { claims: vec![(vec!["a".into(), "b.c".into()], any_of([exact("d")]))], ..request() },
        ),
        (
            "when: [{key: remote.ip, values: [10.0.0.1]}]",
            RequestMatch { remote_ips: any_of([net("10.0.0.1/32")]), ..request() },
        ),
        (
            "when: [{key: connection.sni, values: [a]}]",
            RequestMatch { server_names: any_of([exact("a")]), ..request() },
        ),
    ] {
        let found = read_policy(&format!("rules: [{{{rule}}}]"));
        assert_eq!(found.rules[0].clauses[0][0].l4.request.as_deref(), Some(&expected), "{rule}");
    }
}

#[test]
fn what_node_proxies_decide_can_be_asked_of_waypoints_too() {
    for rule in [
        "to: [{operation: {ports: ['80'], notPorts: ['81']}}]",
        "from: [{source: {principals: [a], notPrincipals: [b], namespaces: [c], notNamespaces: [d]}}]",
        "from: [{source: {ipBlocks: [10.0.0.1], notIpBlocks: [10.0.0.2], serviceAccounts: [a], notServiceAccounts: [b]}}]",
        "when: [{key: source.ip, values: [10.0.0.1]}]",
        "when: [{key: source.namespace, values: [a]}]",
        "when: [{key: source.principal, values: [a]}]",
        "when: [{key: source.serviceAccount, values: [a]}]",
        "when: [{key: destination.ip, values: [10.0.0.1]}]",
        "when: [{key: destination.port, values: ['80']}]",
    ] {
        let with = read_policy(&format!("rules: [{{{rule}}}]"));
        let text = object("security.istio.io/v1", "AuthorizationPolicy", &format!("{{rules: [{{{rule}}}]}}"));
        let Fact::AuthorizationPolicy(without) = good(&text).0 else { panic!("not a policy") };
        assert_eq!(with.rules, without.rules, "{rule}");
        assert!(with.for_waypoint() && !without.for_waypoint());
    }
}

#[test]
fn what_a_policy_is_attached_to() {
    let found = read_policy("action: CUSTOM, provider: {name: asker}, rules: [{}]");
    assert_eq!((found.action, found.provider.as_deref()), (PolicyAction::Custom, Some("asker")));
    let targets = "targetRefs: [{kind: ServiceEntry, group: networking.istio.io, name: a}, \
         {kind: Gateway, group: gateway.networking.k8s.io, name: b}, \
         {kind: GatewayClass, group: gateway.networking.k8s.io, name: istio-waypoint}]";
    let (fact, _) = good(&object("security.istio.io/v1", "AuthorizationPolicy", &format!("{{{targets}}}")));
    let Fact::AuthorizationPolicy(found) = fact else { panic!("not a policy") };
    let kinds: Vec<_> = found.targets.iter().flatten().map(|target| target.kind).collect();
    assert_eq!(kinds, [TargetKind::ServiceEntry, TargetKind::Gateway, TargetKind::GatewayClass]);
}

#[test]
fn a_policy_for_waypoints_that_is_not_understood_closes() {
    for (rule, named) in [
        ("to: [{operation: {path: [/a]}}]", "spec.rules[0].to[0].operation[\"path\"]"),
        ("to: [{operation: {paths: ['/a/{x}']}}]", "spec.rules[0].to[0].operation.paths[0]"),
        ("to: [{operation: {paths: ['/{**}/{*}']}}]", "spec.rules[0].to[0].operation.paths[0]"),
        ("from: [{source: {trustDomains: [a]}}]", "spec.rules[0].from[0].source[\"trustDomains\"]"),
        ("from: [{source: {remoteIpBlocks: [a]}}]", "spec.rules[0].from[0].source.remoteIpBlocks[0]"),
        ("when: [{key: request.body, values: [a]}]", "spec.rules[0].when[0].key"),
        ("when: [{key: 'request.headers[]', values: [a]}]", "spec.rules[0].when[0].key"),
        ("when: [{key: request.auth.claims, values: [a]}]", "spec.rules[0].when[0].key"),
    ] {
        for (action, closed, rules) in [
            ("ALLOW", PolicyAction::Allow, 0),
            ("DENY", PolicyAction::Deny, 1),
            ("CUSTOM, provider: {name: a}", PolicyAction::Deny, 1),
            ("AUDIT", PolicyAction::Audit, 0),
        ] {
            let text = policy(&format!("action: {action}, rules: [{{{rule}}}]"));
            let found = super::reading(&text);
            assert!(found.problems.iter().any(|it| it.field == named), "{:#?} in\n{text}", found.problems);
            let Some(Fact::Otherwise(fact)) = found.fact else { panic!("taken:\n{text}") };
            let Fact::AuthorizationPolicy(it) = *fact else { panic!("another kind") };
            assert_eq!((it.action, it.rules.len()), (closed, rules), "{text}");
            assert!(it.rules.iter().all(|rule| rule.clauses.is_empty()), "a closed rule hits always");
            assert!(it.targets.is_some_and(|targets| targets.len() == 1), "it stays where it is attached");
        }
    }
    check_refused(&policy("action: CUSTOM, rules: [{}]"), &["spec.provider"]);
    check_refused(&policy("provider: {name: a}, rules: [{}]"), &["spec.provider"]);
    let text = object("security.istio.io/v1", "AuthorizationPolicy", "{targetRefs: [{kind: Pod, group: '', name: a}]}");
    check_refused(&text, &["spec.targetRefs[0]"]);
}

fn authentication(rules: &str) -> String {
    object("security.istio.io/v1", "RequestAuthentication", &format!("{{{TO_WEB}, jwtRules: [{{{rules}}}]}}"))
}

#[test]
fn whose_tokens_are_accepted() {
    let text = authentication(
        "issuer: a, audiences: [b], jwksUri: 'https://a/keys', timeout: 2s, fromHeaders: [{name: X-T, prefix: 'T '}], \
         fromParams: [t], fromCookies: [c], outputPayloadToHeader: X-P, forwardOriginalToken: true, \
         outputClaimToHeaders: [{header: X-C, claim: d.e}]",
    );
    let (Fact::RequestAuthentication(it), remarks) = good(&text) else { panic!("another kind") };
    assert!(remarks.is_empty() && it.targets.len() == 1);
    let issuer = &it.issuers[0];
    assert_eq!(issuer.keys, Keys::Remote { uri: "https://a/keys".into(), timeout: Duration::from_secs(2) });
    assert_eq!(
        (&issuer.from_headers[..], &issuer.from_params[..]),
        (&[("x-t".into(), "T ".into())][..], &["t".into()][..])
    );
    assert_eq!((&issuer.audiences[..], &issuer.from_cookies[..]), (&["b".into()][..], &["c".into()][..]));
    assert_eq!((issuer.payload_header.as_deref(), issuer.forward_token), (Some("x-p"), true));
    assert_eq!(issuer.claim_headers, [("x-c".into(), vec!["d".into(), "e".into()])]);
    let (Fact::RequestAuthentication(it), _) = good(&authentication("issuer: a, jwks: '{\"keys\": []}'")) else {
        panic!("another kind")
    };
    assert_eq!(it.issuers[0].keys, Keys::Inline("{\"keys\": []}".into()));
}

#[test]
fn an_authentication_that_is_not_understood_refuses_tokens() {
    for (rules, named) in [
        ("issuer: a, jwks: '{}'", "spec.jwtRules[0].jwks"),
        ("issuer: a, jwksUri: 'ftp://a'", "spec.jwtRules[0].jwksUri"),
        ("issuer: a", "spec.jwtRules[0]"),
        ("jwksUri: 'http://a'", "spec.jwtRules[0].issuer"),
        ("issuer: a, jwksUri: 'http://a', fromHeader: []", "spec.jwtRules[0].fromHeader"),
        ("issuer: a, jwksUri: 'http://a', presence: REQUIRED", "spec.jwtRules[0].presence"),
    ] {
        let Fact::RequestAuthentication(it) = check_refused(&authentication(rules), &[named]) else {
            panic!("another kind")
        };
        assert!(!it.issuers.is_empty() && it.targets.len() == 1, "{rules}");
        assert!(it.issuers.iter().all(|issuer| issuer.keys == Keys::Inline("{\"keys\":[]}".into())), "{rules}");
    }
}

#[test]
fn what_is_told_of_requests() {
    let text = object(
        "telemetry.istio.io/v1",
        "Telemetry",
        "{accessLogging: [{filter: {expression: 'response.code >= 400'}, disabled: false}], metrics: [{overrides: \
         [{match: {metric: REQUEST_COUNT}, tagOverrides: {a: {value: request.host}, b: {operation: REMOVE}}}, \
         {disabled: true}]}], tracing: [{randomSamplingPercentage: 12.5, disableSpanReporting: false, providers: \
         [{name: otel}], customTags: {a: {literal: {value: b}}, c: {header: {name: X-C, defaultValue: d}}, \
         e: {environment: {name: E}}}}]}",
    );
    let (Fact::Telemetry(it), remarks) = good(&text) else { panic!("another kind") };
    assert!(remarks.is_empty() && it.targets.is_none(), "{remarks:?}");
    assert_eq!(it.access_log.and_then(|log| log.filter).as_deref(), Some("response.code >= 400"));
    assert_eq!(it.metrics[0].metric.as_deref(), Some("istio_requests_total"));
    assert_eq!(it.metrics[0].tags, [("a".into(), Some("request.host".into())), ("b".into(), None)]);
    assert!(it.metrics[1].metric.is_none() && it.metrics[1].disabled);
    let tracing = it.tracing.expect("traces");
    assert_eq!((tracing.tracing.sampling, tracing.provider.as_deref()), (Some(Fraction(125_000)), Some("otel")));
    assert!(tracing.said_disabled && !tracing.tracing.disabled);
    let tags = [
        ("a".into(), TagValue::Literal("b".into())),
        ("c".into(), TagValue::Header("x-c".into(), Some("d".into()))),
        ("e".into(), TagValue::Environment("E".into(), None)),
    ];
    assert_eq!(tracing.tracing.tags, tags);
    for (spec, named) in [
        ("{accessLogging: [{match: {mode: CLIENT}}]}", "spec.accessLogging[0].match.mode"),
        ("{metrics: [{reportingInterval: 5s}]}", "spec.metrics[0].reportingInterval"),
        ("{tracing: [{enableIstioTags: false}]}", "spec.tracing[0].enableIstioTags"),
        ("{tracing: [{customTags: {a: {formatter: {value: b}}}}]}", "spec.tracing[0].customTags[\"a\"].formatter"),
        ("{selector: {matchLabels: {a: b}}}", "spec.selector"),
    ] {
        let (_, remarks) = good(&object("telemetry.istio.io/v1", "Telemetry", spec));
        assert!(remarks.len() == 1 && remarks[0].starts_with(named), "{spec}: {remarks:?}");
    }
    for (spec, named) in [
        ("{accessLoging: []}", "spec.accessLoging"),
        ("{metrics: [{overrides: [{match: {metric: ALL}}]}]}", "spec.metrics[0].overrides[0].match.metric"),
        ("{tracing: [{randomSamplingPercentage: 101}]}", "spec.tracing[0].randomSamplingPercentage"),
    ] {
        check_refused(&object("telemetry.istio.io/v1", "Telemetry", spec), &[named]);
    }
}

fn mesh_config(text: &str) -> (MeshConfig, Vec<String>) {
    let value = serde_json::json!({"data": {"mesh": text}});
    let notes = Notes::new(true);
    let meta = crate::facts::Meta::named("istio-system", "istio");
    let fact = istio::mesh_config(&Field::root(&value, &notes), meta, &notes);
    let remarks = notes.unheeded().iter().map(ToString::to_string).collect();
    match fact {
        Fact::MeshConfig(it) => (*it, remarks),
        Fact::Otherwise(it) => match *it {
            Fact::MeshConfig(it) => (*it, remarks),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

#[test]
fn whom_the_configuration_of_the_mesh_names() {
    let (it, remarks) = mesh_config(
        "
accessLogFile: /dev/stdout
enableTracing: true
rootNamespace: istio-system
defaultConfig: {tracing: {sampling: 50}, discoveryAddress: x}
defaultProviders: {tracing: [otel], accessLogging: [envoy], metrics: [prometheus]}
extensionProviders:
- name: asker
  envoyExtAuthzHttp:
    service: shop/asker.shop.svc.cluster.local
    port: 8000
    timeout: 1s
    failOpen: true
    statusOnError: '503'
    pathPrefix: /check
    includeRequestHeadersInCheck: [X-A]
    includeAdditionalHeadersInCheck: {X-B: c}
    includeRequestBodyInCheck: {maxRequestBytes: 100, allowPartialMessage: true}
    headersToUpstreamOnAllow: [X-D]
    headersToDownstreamOnAllow: [X-E]
    headersToDownstreamOnDeny: [X-F]
- name: grpc
  envoyExtAuthzGrpc: {service: asker.shop.svc.cluster.local, port: 9000}
- {name: otel, opentelemetry: {service: otel.watch.svc.cluster.local, port: 4317}}
- {name: log, envoyFileAccessLog: {path: /dev/stdout}}
- {name: prom, prometheus: {}}
- {name: old, zipkin: {service: z, port: 1}}
",
    );
    assert_eq!((it.access_log, it.tracing, it.sampling), (Some(true), Some(true), Some(Fraction(500_000))));
    assert_eq!(it.default_tracing, ["otel".into()]);
    let Provider::Authorizer(asker) = &it.providers["asker"] else { panic!("{:?}", it.providers) };
    assert_eq!((asker.timeout, asker.fail_open, asker.status_on_error), (Duration::from_secs(1), true, 503));
    assert_eq!(asker.body.map(|body| (body.bytes_max, body.allow_partial)), Some((100, true)));
    let expected = AuthorizerProtocol::Http {
        path_prefix: "/check".into(),
        include_headers: vec!["x-a".into()],
        add_headers: vec![("x-b".into(), "c".into())],
        to_backend: vec!["x-d".into()],
        to_caller_on_allow: vec!["x-e".into()],
        to_caller_on_deny: vec!["x-f".into()],
    };
    assert_eq!(asker.protocol, expected);
    let Provider::Authorizer(grpc) = &it.providers["grpc"] else { panic!("{:?}", it.providers) };
    assert_eq!((grpc.timeout, grpc.fail_open, grpc.status_on_error), (Duration::from_secs(600), false, 403));
    assert!(matches!(it.providers["otel"], Provider::Collector(_)));
    assert_eq!((&it.providers["log"], &it.providers["prom"]), (&Provider::AccessLog, &Provider::Prometheus));
    assert_eq!(it.providers["old"], Provider::Unserved("zipkin".into()));
    assert_eq!(remarks.len(), 1, "{remarks:?}");
    assert!(it.refused.is_empty(), "{:?}", it.refused);
}

#[test]
fn a_configuration_of_the_mesh_that_is_not_understood_is_refused_whole() {
    for (text, named) in [
        ("a: [", "data.mesh: line "),
        ("extensionProviders: [{name: a}]", "data.mesh.extensionProviders[0]: "),
        (
            "extensionProviders: [{name: a, opentelemetry: {service: b, port: 1}}]",
            "data.mesh.extensionProviders[0].opentelemetry.service: ",
        ),
        (
            "extensionProviders: [{name: a, envoyExtAuthzGrpc: {service: b.c}}]",
            "data.mesh.extensionProviders[0].envoyExtAuthzGrpc.port: ",
        ),
        (
            "extensionProviders: [{name: a, envoyExtAuthzGrpc: {service: b.c, port: 1, statusOnError: x}}]",
            "data.mesh.extensionProviders[0].envoyExtAuthzGrpc.statusOnError: ",
        ),
    ] {
        let (it, _) = mesh_config(text);
        assert!(it.refused.iter().any(|refused| refused.starts_with(named)), "{:?} of {text}", it.refused);
        assert!(it.providers.is_empty());
    }
}
