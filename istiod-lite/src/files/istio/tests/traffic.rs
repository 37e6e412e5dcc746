//! VirtualService.

use super::{check_refused, good, object};
use crate::facts::{Exports, Fact, VirtualService, by_host, by_name};
use mesh::route::{
    Backend, Destination, Fault, HttpRule,
    http::{
        Action, Cors, DirectResponse, HeaderEdit, HttpMatch, Mirror, PathRewrite, Redirect, Retry, RetryOn, Rewrite,
    },
    limit::AbortStatus,
    text::{FieldMatch, Fraction, PathMatch, TextMatch},
};
use std::time::Duration;

fn virtual_service(spec: &str) -> String {
    object("networking.istio.io/v1", "VirtualService", spec)
}

fn read_virtual_service(spec: &str) -> (VirtualService, Vec<String>) {
    let (fact, remarks) = good(&virtual_service(spec));
    let Fact::VirtualService(it) = fact else { panic!("not a virtual service") };
    assert_eq!(it.unheeded.len(), remarks.len());
    (*it, remarks)
}

/// The one rule of a route with these fields.
fn rule(fields: &str) -> HttpRule {
    let (it, remarks) = read_virtual_service(&format!("{{hosts: [web], http: [{{{fields}}}]}}"));
    assert!(remarks.is_empty(), "{remarks:?}");
    it.http[0].rule.clone()
}

const TO_WEB: &str = "route: [{destination: {host: web}}]";

fn to(host: &str, port: u16, subset: Option<&str>) -> Destination {
    let service = if host.contains('.') { by_host(host) } else { by_name("shop", host) };
    Destination::Service { service, port, subset: subset.map(Into::into) }
}

fn backend(destination: Destination, weight: u32) -> Backend {
    Backend { destination, weight, request_headers: HeaderEdit::default(), response_headers: HeaderEdit::default() }
}

fn field(name: &str, value: TextMatch) -> FieldMatch {
    FieldMatch { name: name.into(), value, ignore_case: false }
}

fn exact(text: &str) -> TextMatch {
    TextMatch::Exact(text.into())
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn what_a_virtual_service_is_for() {
    let (it, remarks) = read_virtual_service("{hosts: [web, '*.Shop.example'], exportTo: ['.', other]}");
    assert!(remarks.is_empty() && it.for_mesh);
    assert_eq!(it.hosts, ["web".into(), "*.shop.example".into()]);
    assert_eq!(it.exports, Exports::Only(["shop".into(), "other".into()].into()));
    for (fields, for_mesh, exported, remarks) in [
        ("gateways: [mesh]", true, true, 0),
        ("gateways: [mesh, edge]", true, true, 1),
        ("gateways: [edge]", false, true, 1),
        ("exportTo: ['*', '.']", true, true, 0),
        ("exportTo: ['~']", true, false, 0),
    ] {
        let (it, found) = read_virtual_service(&format!("{{hosts: [web], {fields}}}"));
        assert_eq!((it.for_mesh, it.exports.reach("far"), found.len()), (for_mesh, exported, remarks), "{fields}");
    }
}

#[test]
fn what_a_route_asks_for() {
    for (asked, expected) in [
        ("uri: {exact: /a}", HttpMatch { path: Some(PathMatch::Exact("/a".into())), ..HttpMatch::default() }),
        (
            "uri: {prefix: /a}, ignoreUriCase: true",
            HttpMatch { path: Some(PathMatch::Prefix("/a".into())), path_ignore_case: true, ..HttpMatch::default() },
        ),
        (
            "uri: {regex: '/a.*'}, ignoreUriCase: true",
            HttpMatch { path: Some(PathMatch::Regex("/a.*".into())), ..HttpMatch::default() },
        ),
        (
            "scheme: {exact: http}, method: {regex: 'GET|HEAD'}, authority: {prefix: web}",
            HttpMatch {
                scheme: Some(exact("http")),
                method: Some(TextMatch::Regex("GET|HEAD".into())),
                authority: Some(TextMatch::Prefix("web".into())),
                ..HttpMatch::default()
            },
        ),
        (
            "headers: {X-Env: {exact: dev}, x-any: {}}, withoutHeaders: {x-no: {}}",
            HttpMatch {
                headers: vec![field("x-env", exact("dev")), field("x-any", TextMatch::Present)],
                without_headers: vec![field("x-no", TextMatch::Present)],
                ..HttpMatch::default()
            },
        ),
        (
            "headers: {'@request.auth.claims.group': {exact: admin}, '@request.auth.claims[a.b][c]': {prefix: x}}",
            HttpMatch {
                claims: vec![
                    (vec!["group".into()], exact("admin")),
                    (vec!["a.b".into(), "c".into()], TextMatch::Prefix("x".into())),
                ],
                ..HttpMatch::default()
            },
        ),
        (
            "queryParams: {v: {exact: '1'}}, port: 80, sourceNamespace: front, gateways: [edge, mesh], name: n",
            HttpMatch {
                query: vec![field("v", exact("1"))],
                ports: vec![80],
                caller_namespace: Some("front".into()),
                ..HttpMatch::default()
            },
        ),
    ] {
        let mut found = rule(&format!("match: [{{{asked}}}], {TO_WEB}")).matches;
        for one in &mut found {
            one.headers.sort_by(|a, b| b.name.cmp(&a.name));
            one.claims.sort_by(|a, b| b.0.cmp(&a.0));
        }
        assert_eq!(found, [expected], "{asked}");
    }
}

#[test]
fn a_match_that_cannot_be_honoured_never_hits() {
    for (asked, named) in [
        ("sourceLabels: {app: a}", "spec.http[0].match[0].sourceLabels: "),
        ("gateways: [edge]", "spec.http[0].match[0].gateways: "),
        ("withoutHeaders: {'@request.auth.claims.a': {}}", "spec.http[0].match[0].withoutHeaders"),
    ] {
        let spec = |more: &str| format!("{{hosts: [web], http: [{{match: [{{{asked}}}{more}], {TO_WEB}}}]}}");
        let (it, remarks) = read_virtual_service(&spec(""));
        assert!(it.http.is_empty(), "{asked} must not become a route for everything");
        assert!(remarks[0].starts_with(named), "{remarks:?}");
        let (it, _) = read_virtual_service(&spec(", {uri: {exact: /a}}"));
        assert_eq!(it.http[0].rule.matches.len(), 1, "{asked}");
    }
}

#[test]
fn where_a_route_sends() {
    let Action::Forward(backends) = rule(
        "route: [{destination: {host: web, subset: v1, port: {number: 80}}, weight: 3}, \
         {destination: {host: a.Example}, weight: 1, headers: {request: {set: {X-A: b}, add: {c: d}, remove: [E]}}}]",
    )
    .action
    else {
        panic!("does not forward")
    };
    let edit = HeaderEdit {
        set: vec![("x-a".into(), "b".into())],
        add: vec![("c".into(), "d".into())],
        remove: vec!["e".into()],
    };
    let second = Backend { request_headers: edit, ..backend(to("a.example", 0, None), 1) };
    assert_eq!(backends, [backend(to("web", 80, Some("v1")), 3), second]);
    assert_eq!(rule(TO_WEB).action, Action::Forward(vec![backend(to("web", 0, None), 100)]), "alone it has all");
}

#[test]
fn what_a_route_does_itself() {
    let plain = Redirect { scheme: None, host: None, port: None, path: None, status: 301 };
    for (fields, expected) in [
        (
            "uri: /b, authority: b.example, scheme: https, redirectCode: 308",
            Redirect {
                scheme: Some("https".into()),
                host: Some("b.example".into()),
                path: Some(PathRewrite::Full("/b".into())),
                status: 308,
                ..plain.clone()
            },
        ),
        ("authority: 'b.example:81'", Redirect { host: Some("b.example".into()), port: Some(81), ..plain.clone() }),
        ("uri: '%PREFIX()%/b'", Redirect { path: Some(PathRewrite::Prefix("/b".into())), ..plain.clone() }),
        ("port: 8080", Redirect { port: Some(8080), ..plain.clone() }),
        ("derivePort: FROM_PROTOCOL_DEFAULT", Redirect { port: Some(80), ..plain.clone() }),
        ("derivePort: FROM_REQUEST_PORT", plain),
    ] {
        assert_eq!(rule(&format!("redirect: {{{fields}}}")).action, Action::Redirect(expected), "{fields}");
    }
    let respond = rule("directResponse: {status: 418, body: {string: tea}}").action;
    let body = Some(("tea".into(), "text/plain".into()));
    assert_eq!(respond, Action::Respond(DirectResponse { status: 418, body }));
}

#[test]
fn what_a_route_changes() {
    let edited = rule(&format!("headers: {{request: {{set: {{Host: b}}}}, response: {{remove: [a]}}}}, {TO_WEB}"));
    assert_eq!(edited.filters.rewrite, Rewrite { host: Some("b".into()), path: None }, "the host is no header");
    assert!(edited.filters.request_headers.is_empty());
    assert_eq!(edited.filters.response_headers.remove, ["a".into()]);
    for (fields, path) in [
        ("uri: /b, authority: c", PathRewrite::Prefix("/b".into())),
        (
            "uriRegexRewrite: {match: 'a(.)', rewrite: '\\1'}, authority: c",
            PathRewrite::Regex { pattern: "a(.)".into(), substitution: "\\1".into() },
        ),
    ] {
        let found = rule(&format!("rewrite: {{{fields}}}, {TO_WEB}")).filters.rewrite;
        assert_eq!(found, Rewrite { host: Some("c".into()), path: Some(path) }, "{fields}");
    }
    let mirror = |share| Mirror { destination: to("m", 0, None), share: Fraction(share) };
    for (fields, expected) in [
        ("mirror: {host: m}", vec![mirror(1_000_000)]),
        ("mirror: {host: m}, mirrorPercentage: {value: 0.1}", vec![mirror(1_000)]),
        ("mirror: {host: m}, mirrorPercent: 25", vec![mirror(250_000)]),
        ("mirror: {host: m}, mirror_percent: 25", vec![mirror(250_000)]),
        (
            "mirrors: [{destination: {host: m}, percentage: {value: 50}}, {destination: {host: m}, percentage: {}}]",
            vec![mirror(500_000), mirror(0)],
        ),
    ] {
        assert_eq!(rule(&format!("{fields}, {TO_WEB}")).filters.mirrors, expected, "{fields}");
    }
    let cors = rule(&format!(
        "corsPolicy: {{allowOrigins: [{{exact: 'https://a'}}, {{regex: '.*b'}}], allowOrigin: ['*'], \
         allowMethods: [GET], allowHeaders: [X-A], exposeHeaders: [x-b], maxAge: 1h, allowCredentials: true, \
         unmatchedPreflights: IGNORE}}, {TO_WEB}"
    ))
    .filters
    .cors;
    let expected = Cors {
        allow_origins: vec![exact("https://a"), TextMatch::Regex(".*b".into()), TextMatch::Present],
        allow_methods: vec!["GET".into()],
        allow_headers: vec!["x-a".into()],
        expose_headers: vec!["x-b".into()],
        allow_credentials: true,
        max_age: Some(ms(3_600_000)),
        forward_unmatched: false,
    };
    assert_eq!(cors, Some(expected));
}

#[test]
fn how_long_and_how_often_a_route_tries() {
    assert_eq!(rule(&format!("timeout: 1.5s, {TO_WEB}")).timeouts.request, Some(ms(1_500)));
    let otherwise =
        RetryOn { connect_failure: true, refused_stream: true, grpc_status: vec![1, 14], ..Default::default() };
    for (fields, expected) in [
        (
            "attempts: 3, perTryTimeout: 2s, backoff: 10ms",
            Retry { attempts: 3, per_try_timeout: Some(ms(2_000)), on: otherwise.clone(), backoff: Some(ms(10)) },
        ),
        ("attempts: 0", Retry { on: otherwise, ..Retry::default() }),
        (
            "attempts: 1, retryOn: '5xx,gateway-error, reset,connect-failure,refused-stream,retriable-4xx,429'",
            Retry {
                attempts: 1,
                on: RetryOn {
                    server_error: true,
                    gateway_error: true,
                    reset: true,
                    connect_failure: true,
                    refused_stream: true,
                    conflict: true,
                    status: vec![429],
                    grpc_status: vec![],
                },
                ..Retry::default()
            },
        ),
        (
            "attempts: 1, retryOn: 'cancelled,deadline-exceeded,internal,resource-exhausted,unavailable'",
            Retry {
                attempts: 1,
                on: RetryOn { grpc_status: vec![1, 4, 13, 8, 14], ..RetryOn::default() },
                ..Retry::default()
            },
        ),
        (
            "attempts: 1, retryOn: retriable-status-codes",
            Retry { attempts: 1, on: RetryOn { status: vec![503], ..RetryOn::default() }, ..Retry::default() },
        ),
    ] {
        assert_eq!(rule(&format!("retries: {{{fields}}}, {TO_WEB}")).retry, Some(expected), "{fields}");
    }
    for (fields, expected) in [
        (
            "delay: {fixedDelay: 5s, percentage: {value: 0.1}}",
            Fault { delay: Some((ms(5_000), Fraction(1_000))), ..Fault::default() },
        ),
        (
            "delay: {fixedDelay: 5s, percent: 5}, abort: {httpStatus: 503}",
            Fault {
                delay: Some((ms(5_000), Fraction(50_000))),
                abort: Some((AbortStatus::Http(503), Fraction::ALL)),
                ..Fault::default()
            },
        ),
        (
            "abort: {grpcStatus: UNAVAILABLE, percentage: {}}",
            Fault { abort: Some((AbortStatus::Grpc(14), Fraction::NONE)), ..Fault::default() },
        ),
    ] {
        assert_eq!(rule(&format!("fault: {{{fields}}}, {TO_WEB}")).faults, [expected], "{fields}");
    }
}

#[test]
fn routes_of_connections() {
    let (it, remarks) = read_virtual_service(
        "{hosts: [web], tcp: [{match: [{port: 81}, {sourceNamespace: front}], route: [{destination: {host: a}}]}, \
         {route: [{destination: {host: b}, weight: 1}, {destination: {host: c}, weight: 2}]}], \
         tls: [{match: [{sniHosts: [a.example, '*.b.example'], port: 443}], route: [{destination: {host: d}}]}]}",
    );
    assert!(remarks.is_empty(), "{remarks:?}");
    let [one, two, three] = &it.tcp[..] else { panic!("{:?}", it.tcp) };
    assert_eq!((&one.ports[..], one.callers.as_deref()), (&[81][..], None));
    assert_eq!((&two.ports[..], two.callers.as_deref()), (&[][..], Some("front")));
    assert_eq!(three.backends, [(to("b", 0, None), 1), (to("c", 0, None), 2)]);
    assert_eq!(it.tls[0].server_names, ["a.example".into(), "*.b.example".into()]);
    assert_eq!(&*it.tls[0].name, "VirtualService/shop/it");
    let spec =
        "{hosts: [web], tcp: [{match: [{destinationSubnets: [10.0.0.0/8]}], route: [{destination: {host: a}}]}]}";
    let (it, remarks) = read_virtual_service(spec);
    assert!(it.tcp.is_empty() && remarks[0].starts_with("spec.tcp[0].match[0].destinationSubnets: "), "{remarks:?}");
}

#[test]
fn a_virtual_service_that_is_not_understood_is_refused_whole() {
    for (fields, named) in [
        ("mtch: []", "spec.http[0].mtch"),
        ("match: [{uri: {exakt: /}}]", "spec.http[0].match[0].uri.exakt"),
        ("match: [{uri: {exact: /, prefix: /}}]", "spec.http[0].match[0].uri"),
        ("match: [{headers: {'a b': {}}}]", "spec.http[0].match[0].headers[\"a b\"]"),
        ("match: [{port: 0}]", "spec.http[0].match[0].port"),
        ("timeout: 5", "spec.http[0].timeout"),
        ("timeout: 5x", "spec.http[0].timeout"),
        ("retries: {attempts: -1}", "spec.http[0].retries.attempts"),
        ("retries: {retryOn: '5xxx'}", "spec.http[0].retries.retryOn"),
        ("retries: {perTryTimeout: 0s}", "spec.http[0].retries.perTryTimeout"),
        ("fault: {abort: {httpStatus: 99}}", "spec.http[0].fault.abort.httpStatus"),
        ("fault: {abort: {grpcStatus: NEVER}}", "spec.http[0].fault.abort.grpcStatus"),
        ("fault: {abort: {http2Error: x}}", "spec.http[0].fault.abort"),
        ("fault: {delay: {percent: 200, fixedDelay: 1s}}", "spec.http[0].fault.delay.percent"),
        ("mirrors: [{destination: {}}]", "spec.http[0].mirrors[0].destination.host"),
        ("corsPolicy: {maxAge: x}", "spec.http[0].corsPolicy.maxAge"),
        ("headers: {request: {set: {a: \"b\\nc\"}}}", "spec.http[0].headers.request.set[\"a\"]"),
        ("rewrite: {uri: /, uriRegexRewrite: {match: a, rewrite: b}}", "spec.http[0].rewrite.uriRegexRewrite"),
        ("redirect: {uri: /}", "spec.http[0]"),
    ] {
        check_refused(&virtual_service(&format!("{{hosts: [web], http: [{{{fields}, {TO_WEB}}}]}}")), &[named]);
    }
    for (spec, named) in [
        ("{hosts: ['a*']}", "spec.hosts[0]"),
        ("{hosts: [web], http: [{name: a}]}", "spec.http[0]"),
        ("{hosts: [web], http: [{route: []}]}", "spec.http[0].route"),
        ("{hosts: [web], http: [{redirect: {redirectCode: 200}}]}", "spec.http[0].redirect.redirectCode"),
        ("{hosts: [web], http: [{directResponse: {}}]}", "spec.http[0].directResponse.status"),
        ("{hosts: [web], http: [{delegate: {}}]}", "spec.http[0].delegate.name"),
        ("{hosts: [web], http: [{route: [{destination: {host: a}}, {destination: {host: b}}]}]}", "spec.http[0].route"),
        (
            "{hosts: [web], tls: [{match: [{port: 443}], route: [{destination: {host: a}}]}]}",
            "spec.tls[0].match[0].sniHosts",
        ),
    ] {
        let Fact::VirtualService(it) = check_refused(&virtual_service(spec), &[named]) else { panic!("another kind") };
        assert!(it.hosts.is_empty() && it.http.is_empty(), "nothing of it counts");
    }
}
