//! Every field of the rules of HTTPRoute and GRPCRoute, and what each becomes.

use super::{route, shop, show};

const WEB: &str = "parentRefs: [{group: '', kind: Service, name: web}]";

fn check(kind: &str, table: &[(&str, &str)]) {
    for (rule, expected) in table {
        let index = shop(&route(kind, "r", &format!("{WEB}\nrules: [{rule}]")));
        assert_eq!(show::http(&index), [*expected], "{rule}");
        assert_eq!(show::unmet(&index), [""; 0], "{rule}");
    }
}

const TO: &str = "backendRefs: [{name: api, port: 8080}]";

#[test]
fn matches_of_requests() {
    let table = [
        ("", "//** → shop/api.shop:8080×1"),
        ("matches: [{}],", "//** → shop/api.shop:8080×1"),
        ("matches: [{path: {value: /a}}],", "/a/** → shop/api.shop:8080×1"),
        ("matches: [{path: {type: Exact, value: /a%20b}}],", "=/a%20b → shop/api.shop:8080×1"),
        ("matches: [{path: {type: RegularExpression, value: '/a.*'}}],", "~/a.* → shop/api.shop:8080×1"),
        ("matches: [{method: POST}, {path: {value: /x}}],", "=POST //** | /x/** → shop/api.shop:8080×1"),
        (
            "matches: [{headers: [{name: X-A, value: '1'}, {name: x-a, value: '2'}, {type: RegularExpression, name: b, value: '.+'}]}],",
            "//** header[x-a]=1 header[b]~.+ → shop/api.shop:8080×1",
        ),
        (
            "matches: [{queryParams: [{name: Q, value: '1'}, {name: q, type: RegularExpression, value: 'x|y'}]}],",
            "//** query[Q]=1 query[q]~x|y → shop/api.shop:8080×1",
        ),
    ];
    for (said, expected) in table {
        check("HTTPRoute", &[(&format!("{{{said} {TO}}}"), expected)]);
    }
}

#[test]
fn filters_of_requests() {
    check(
        "HTTPRoute",
        &[
            (
                "{filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-A, value: b c}, {name: x-a, value: d}], add: [{name: e, value: z}], remove: [Gone]}}, {type: ResponseHeaderModifier, responseHeaderModifier: {add: [{name: r, value: s}]}}]}",
                "//**; request -gone x-a=b c +e=z; response +r=s → 500",
            ),
            (
                "{filters: [{type: URLRewrite, urlRewrite: {hostname: api.example, path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}}}], backendRefs: [{name: api, port: 8080}]}",
                "//**; host api.example; path /new/** → shop/api.shop:8080×1",
            ),
            (
                "{filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replaceFullPath: /all}}}], backendRefs: [{name: api, port: 8080}]}",
                "//**; path =/all → shop/api.shop:8080×1",
            ),
            ("{filters: [{type: RequestRedirect, requestRedirect: {}}]}", "//** → redirect 302"),
            (
                "{filters: [{type: RequestRedirect, requestRedirect: {scheme: https, hostname: a.example, port: 8443, statusCode: 308, path: {type: ReplacePrefixMatch, replacePrefixMatch: ''}}}]}",
                "//** → redirect 308 https a.example 8443 /**",
            ),
            (
                "{filters: [{type: RequestMirror, requestMirror: {backendRef: {name: api, port: 8080}, percent: 5}}, {type: RequestMirror, requestMirror: {backendRef: {name: api, port: 8080}, fraction: {numerator: 1, denominator: 3}}}, {type: RequestMirror, requestMirror: {backendRef: {name: api, port: 8080}}}]}",
                "//**; mirror 50000 shop/api.shop:8080; mirror 333333 shop/api.shop:8080; mirror 1000000 shop/api.shop:8080 → 500",
            ),
            (
                "{filters: [{type: CORS, cors: {allowOrigins: ['https://a.example', 'https://*.b.example:8443'], allowMethods: [GET, PUT], allowHeaders: [X-A], exposeHeaders: [X-B], allowCredentials: true, maxAge: 60}}]}",
                r"//**; cors =https://a.example,~https://[A-Za-z0-9.-]+\.b\.example:8443 GET,PUT x-a x-b 60s credentials → 500",
            ),
            ("{filters: [{type: CORS, cors: {allowOrigins: ['*']}}]}", "//**; cors *    5s → 500"),
            (
                "{backendRefs: [{name: api, port: 8080, weight: 0, filters: [{type: RequestHeaderModifier, requestHeaderModifier: {remove: [a]}}, {type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: b, value: c}]}}]}]}",
                "//** → shop/api.shop:8080×0 (request -a; response b=c)",
            ),
        ],
    );
}

#[test]
fn times_tries_and_sessions() {
    check(
        "HTTPRoute",
        &[
            ("{timeouts: {request: 10s, backendRequest: 500ms}}", "//**; timeout 10s; try 500ms → 500"),
            ("{timeouts: {request: 0s, backendRequest: 1h}}", "//**; try 3600s → 500"),
            ("{retry: {}}", "//**; retry 2 on [] → 500"),
            (
                "{retry: {codes: [503, 429], attempts: 4, backoff: 100ms}}",
                "//**; retry 4 on [503, 429] wait 100ms → 500",
            ),
            ("{sessionPersistence: {}}", "//**; session cookie session-shop-r-0 → 500"),
            ("{name: one, sessionPersistence: {type: Header, sessionName: X-S}}", "//**; session header x-s → 500"),
            (
                "{sessionPersistence: {sessionName: s, absoluteTimeout: 1h, cookieConfig: {lifetimeType: Permanent}}}",
                "//**; session kept cookie s 3600s → 500",
            ),
        ],
    );
}

#[test]
fn calls_of_grpc() {
    check(
        "GRPCRoute",
        &[
            ("{backendRefs: [{name: api, port: 8080}]}", "any → shop/api.shop:8080×1"),
            ("{matches: [{method: {service: a.B, method: C}}]}", "=/a.B/C → 500"),
            ("{matches: [{method: {service: a.B}}, {method: {method: C.}}]}", r"/a.B/** | ~/[^/]+/C\. → 500"),
            (
                "{matches: [{method: {type: RegularExpression, service: 'a|b', method: 'C.*'}, headers: [{name: X, value: q}]}]}",
                "~/(?:a|b)/(?:C.*) header[x]=q → 500",
            ),
            ("{matches: [{method: {type: RegularExpression, service: 'a.*'}}]}", "~/(?:a.*)/(?:[^/]+) → 500"),
            (
                "{filters: [{type: RequestHeaderModifier, requestHeaderModifier: {remove: [a]}}, {type: RequestMirror, requestMirror: {backendRef: {name: api, port: 8080}}}]}",
                "any; request -a; mirror 1000000 shop/api.shop:8080 → 500",
            ),
        ],
    );
}

#[test]
fn a_filter_that_is_not_honoured_fails_its_rule_alone() {
    for (filter, kind) in [
        ("{type: ExtensionRef, extensionRef: {group: x, kind: Thing, name: z}}", "ExtensionRef"),
        (
            "{type: ExternalAuth, externalAuth: {protocol: GRPC, grpc: {}, backendRef: {name: api, port: 8080}}}",
            "ExternalAuth",
        ),
    ] {
        let rules =
            format!("{WEB}\nrules:\n- {{filters: [{filter}], {TO}}}\n- {{matches: [{{path: {{value: /b}}}}], {TO}}}");
        let index = shop(&route("HTTPRoute", "r", &rules));
        let why = format!("{kind} of a rule is not honoured here; requests that need it are answered with 500");
        let expected =
            [format!("//** → <spec.rules[0].filters[0]: {why}>×1"), "/b/** → shop/api.shop:8080×1".to_owned()];
        assert_eq!(show::http(&index), expected);
        let unmet =
            format!("HTTPRoute/shop/r Service/shop/web: !Accepted/UnsupportedValue: spec.rules[0].filters[0]: {why}");
        assert_eq!(show::unmet(&index), [unmet]);
    }
    let rule = "{backendRefs: [{name: api, port: 8080, filters: [{type: RequestRedirect, requestRedirect: {}}]}]}";
    let index = shop(&route("HTTPRoute", "r", &format!("{WEB}\nrules: [{rule}]")));
    assert!(show::http(&index)[0].contains("RequestRedirect of a backend is not honoured"), "{:?}", show::http(&index));
}

#[test]
fn fields_without_meaning_for_a_service_are_told() {
    let index = shop(&route("HTTPRoute", "r", &format!("{WEB}\nhostnames: [a.example]\nrules: [{{{TO}}}]")));
    let told = show::all_conditions(&index);
    assert!(
        told[0].ends_with("Accepted/Accepted: Route was valid; not heeded for a service: spec.hostnames"),
        "{told:?}"
    );
}
