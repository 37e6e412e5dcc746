//! The rows of Gateway API's kinds.

use super::Row;

const ROUTES: &str = "HTTPRoute, GRPCRoute, TCPRoute, TLSRoute";

pub(super) const ROWS: &[Row] = &[
    Row {
        kind: ROUTES,
        field: "`parentRefs`",
        shown: &[
            ("Service", "parentRefs: [{ group: '', kind: Service, name: store, port: 80 }]"),
            ("ServiceEntry", "parentRefs: [{ group: networking.istio.io, kind: ServiceEntry, name: outer }]"),
            ("port", "parentRefs: [{ group: '', kind: Service, name: store, port: 90 }]"),
            ("sectionName", "parentRefs: [{ group: '', kind: Service, name: store, sectionName: http }]"),
            ("namespace", "parentRefs: [{ group: '', kind: Service, name: store, namespace: mall, port: 80 }]"),
        ],
        aside: &["parentRefs"],
    },
    Row {
        kind: ROUTES,
        field: "`rules[].name`",
        shown: &[("rules[].name", "kind: HTTPRoute, name: targets, sectionName: two }]")],
        aside: &[],
    },
    Row {
        kind: ROUTES,
        field: "`rules[].backendRefs[]`",
        shown: &[
            ("Service", "backendRefs: [{ name: store-v2, port: 80 }]"),
            ("port", "backendRefs: [{ name: store-v1, port: 81 }]"),
            ("Hostname", "kind: Hostname, name: store-v2.mall.svc.cluster.local, port: 80 }]"),
            (
                "networking.istio.io",
                "group: networking.istio.io, kind: Hostname, name: store-v2.mall.svc.cluster.local }]",
            ),
            (
                "weight",
                "backendRefs: [{ name: store-v1, port: 80, weight: 1 }, { name: nothing, port: 80, weight: 1 }]",
            ),
            ("of another namespace", "kind: HTTPRoute, namespace: visitors }]"),
            ("that is not there", "matches: [{ path: { value: /none } }]"),
        ],
        aside: &["rules[].backendRefs[]"],
    },
    Row { kind: ROUTES, field: "`useDefaultGateways`", shown: &[], aside: &["useDefaultGateways", "Accepted"] },
    Row { kind: "HTTPRoute", field: "`hostnames`", shown: &[], aside: &["hostnames", "Accepted"] },
    Row {
        kind: "HTTPRoute",
        field: "`matches[].path`",
        shown: &[
            ("Exact", "path: { type: Exact, value: /p/a }"),
            ("PathPrefix", "path: { type: PathPrefix, value: /p/long/er }"),
            ("RegularExpression", "path: { type: RegularExpression, value: '/r/[0-9]+' }"),
        ],
        aside: &["matches[].path"],
    },
    Row {
        kind: "HTTPRoute",
        field: "`matches[].headers`, `queryParams`",
        shown: &[
            ("matches[].headers", "headers: [{ name: X-Color, value: red }]"),
            ("queryParams", "queryParams: [{ name: v, value: '1' }]"),
            ("Exact", "headers: [{ name: x-color, value: red }, { name: x-size, value: big }]"),
            ("RegularExpression", "queryParams: [{ name: v, type: RegularExpression, value: '[2-9]' }]"),
            ("the first entry of a name", "/?v=1&v=7"),
        ],
        aside: &[],
    },
    Row {
        kind: "HTTPRoute",
        field: "`matches[].method`",
        shown: &[("matches[].method", "- matches: [{ method: POST }]")],
        aside: &[],
    },
    Row {
        kind: "HTTPRoute",
        field: "`filters` `RequestHeaderModifier`, `ResponseHeaderModifier`",
        shown: &[
            ("RequestHeaderModifier", "requestHeaderModifier: { add: [{ name: x-add, value: three }] }"),
            (
                "ResponseHeaderModifier",
                "responseHeaderModifier: { set: [{ name: x-answer, value: set }], remove: [date] }",
            ),
            ("on backends", "responseHeaderModifier: { add: [{ name: x-part, value: v1 }] }"),
        ],
        aside: &["filters"],
    },
    Row {
        kind: "HTTPRoute",
        field: "`filters` `RequestRedirect`",
        shown: &[
            ("RequestRedirect", "requestRedirect: { hostname: other.example, statusCode: 301 }"),
            ("scheme, status 302", "requestRedirect: { scheme: https } }]"),
            ("port, status 303", "requestRedirect: { port: 8443, scheme: https, statusCode: 303 }"),
            ("path, status 307", "statusCode: 307, path: { type: ReplaceFullPath, replaceFullPath: /else }"),
            ("prefix, status 308", "statusCode: 308, path: { type: ReplacePrefixMatch, replacePrefixMatch: /new }"),
        ],
        aside: &["filters"],
    },
    Row {
        kind: "HTTPRoute",
        field: "`filters` `URLRewrite`",
        shown: &[
            ("URLRewrite", "urlRewrite: { path: { type: ReplaceFullPath, replaceFullPath: /whole } }"),
            ("hostname, prefix", "urlRewrite: { hostname: inner.example, path: { type: ReplacePrefixMatch"),
        ],
        aside: &["filters"],
    },
    Row {
        kind: "HTTPRoute",
        field: "`filters` `RequestMirror`",
        shown: &[
            ("RequestMirror", "type: RequestMirror, requestMirror: {{ backendRef: {{ name: store-v2, port: 80 }}"),
            ("percent", "percent: 25"),
            ("fraction", "fraction: { numerator: 1, denominator: 4 }"),
            ("several", "filters(&[copy(\"percent: 100\"), copy(\"percent: 50\")])"),
        ],
        aside: &["filters"],
    },
    Row {
        kind: "HTTPRoute",
        field: "`filters` `CORS`",
        shown: &[
            ("CORS", "allowOrigins: ['https://good.example', 'https://*.wild.example']"),
            ("*", "allowOrigins: ['*'], allowMethods: ['*'], allowHeaders: ['*']"),
            ("allowMethods", "allowMethods: [GET, PUT]"),
            ("allowHeaders", "allowHeaders: [x-one]"),
            ("exposeHeaders", "exposeHeaders: [x-two]"),
            ("allowCredentials", "allowCredentials: true"),
            ("maxAge", "maxAge: 60"),
        ],
        aside: &["filters"],
    },
    Row {
        kind: "HTTPRoute",
        field: "`filters` `ExternalAuth`, `ExtensionRef`",
        shown: &[("ExtensionRef", "type: ExtensionRef, extensionRef: { group: example.org, kind: Cake, name: one }")],
        aside: &["filters", "ExternalAuth", "CUSTOM"],
    },
    Row {
        kind: "HTTPRoute",
        field: "`filters` on backends other than the header modifiers",
        shown: &[("filters", "filters: [{ type: URLRewrite, urlRewrite: { hostname: a.example } }] }]")],
        aside: &[],
    },
    Row {
        kind: "HTTPRoute",
        field: "`timeouts.request`, `timeouts.backendRequest`",
        shown: &[
            ("timeouts.request", "timeouts: { request: 500ms }"),
            ("timeouts.backendRequest", "timeouts: { request: 3s, backendRequest: 300ms }"),
            ("0s", "timeouts: { request: 0s }"),
        ],
        aside: &[],
    },
    Row {
        kind: "HTTPRoute",
        field: "`retry`",
        shown: &[("codes", "codes: [503]"), ("attempts", "attempts: 2"), ("backoff", "backoff: 10ms")],
        aside: &["retry"],
    },
    Row {
        kind: "HTTPRoute",
        field: "`sessionPersistence`",
        shown: &[
            ("Cookie", "(route, \"Cookie\", \"session\")"),
            ("Header", "type: Header, sessionName: x-short"),
            ("sessionName", "sessionPersistence: {{ type: {kind}, sessionName: {name} }}"),
            ("session-<namespace>-<route>-<rule>", "session-mall-copies-"),
            ("absoluteTimeout", "absoluteTimeout: 2s"),
            ("cookieConfig.lifetimeType", "cookieConfig: { lifetimeType: Permanent }"),
        ],
        aside: &["sessionPersistence"],
    },
    Row { kind: "GRPCRoute", field: "`hostnames`", shown: &[], aside: &["hostnames", "Accepted"] },
    Row {
        kind: "GRPCRoute",
        field: "`matches[].method`",
        shown: &[
            ("Exact", "method: { service: mall.Store, method: Buy }"),
            ("RegularExpression", "method: { type: RegularExpression, service: 'mall\\\\..*', method: 'L.*' }"),
            ("a service alone", "method: { service: mall.Store } }]"),
            ("a method alone", "method: { method: Buy }"),
        ],
        aside: &["matches[].method"],
    },
    Row {
        kind: "GRPCRoute",
        field: "`matches[].headers`",
        shown: &[
            ("matches[].headers", "headers: [{ name: x-a, value: b }] }]"),
            ("RegularExpression", "headers: [{ name: x-kind, type: RegularExpression, value: 'c.*' }]"),
        ],
        aside: &[],
    },
    Row {
        kind: "GRPCRoute",
        field: "`filters`",
        shown: &[
            ("filters", "responseHeaderModifier: { add: [{ name: x-rule, value: method }], remove: [x-backend] }"),
            ("RequestMirror", "\"25 % of a GRPCRoute\""),
        ],
        aside: &["ExtensionRef"],
    },
    Row {
        kind: "GRPCRoute",
        field: "`sessionPersistence`",
        shown: &[
            ("sessionPersistence", "(grpc_route, \"Header\", \"x-session\")"),
            ("Cookie", "(grpc_route, \"Cookie\", \"session\")"),
        ],
        aside: &[],
    },
    Row {
        kind: "TCPRoute",
        field: "`rules[0].backendRefs`",
        shown: &[(
            "rules[0].backendRefs",
            "backendRefs: [{ name: store-v1, port: 80, weight: 0 }, { name: store-v2, port: 80, weight: 1 }]",
        )],
        aside: &[],
    },
    Row {
        kind: "TLSRoute",
        field: "`hostnames`",
        shown: &[("hostnames", "route(\"b\", \"[b.example]\", \"secure-b\")"), ("a suffix", "['*.wild.example']")],
        aside: &[],
    },
    Row {
        kind: "TLSRoute",
        field: "`rules[0].backendRefs`",
        shown: &[("rules[0].backendRefs", "rules: [{{ backendRefs: [{{ name: {backend}, port: 443 }}] }}]")],
        aside: &[],
    },
    Row {
        kind: "ReferenceGrant",
        field: "`from`, `to`",
        shown: &[
            ("from", "from: [{ group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: visitors }]"),
            ("to", "to: [{ group: '', kind: Service, name: store-v1 }]"),
        ],
        aside: &[],
    },
    Row {
        kind: "BackendTLSPolicy",
        field: "`targetRefs`",
        shown: &[
            ("Service", "targetRefs: [{{ group: '', kind: Service, name: secure-a{target} }}]"),
            ("ServiceEntry", "group: networking.istio.io, kind: ServiceEntry, name: outer\""),
            ("sectionName", "policy(\", sectionName: http\""),
        ],
        aside: &["targetRefs"],
    },
    Row {
        kind: "BackendTLSPolicy",
        field: "`validation.hostname`, `subjectAltNames`",
        shown: &[
            ("validation.hostname", "hostname: other.example, {ours}"),
            ("subjectAltNames", "subjectAltNames: [{{ type: Hostname, hostname: {NAME} }}]"),
        ],
        aside: &[],
    },
    Row {
        kind: "BackendTLSPolicy",
        field: "`validation.caCertificateRefs`",
        shown: &[
            ("validation.caCertificateRefs", "caCertificateRefs: [{ group: '', kind: ConfigMap, name: authorities }]"),
            ("ca.crt", "ca.crt: |"),
            ("without any", "without authorities nobody is trusted"),
        ],
        aside: &["ConfigMap"],
    },
    Row {
        kind: "BackendTLSPolicy",
        field: "`validation.wellKnownCACertificates`",
        shown: &[("System", "wellKnownCACertificates: System")],
        aside: &["validation.wellKnownCACertificates"],
    },
    Row { kind: "BackendTLSPolicy", field: "`options`", shown: &[], aside: &["options", "Accepted"] },
    Row {
        kind: "XBackendTrafficPolicy",
        field: "`targetRefs`",
        shown: &[
            ("Service", "backend_policy(\"\", \"Service\", \"store-v1\")"),
            ("ServiceEntry", "backend_policy(\"networking.istio.io\", \"ServiceEntry\", \"outer\")"),
        ],
        aside: &["targetRefs"],
    },
    Row {
        kind: "XBackendTrafficPolicy",
        field: "`retryConstraint`",
        shown: &[
            ("budget.percent", "budget: {{ percent: 1 }}"),
            ("minRetryRate.count", "minRetryRate: {{ count: 3 }}"),
        ],
        aside: &["retryConstraint", "Accepted"],
    },
    Row {
        kind: "XBackendTrafficPolicy",
        field: "`sessionPersistence`",
        shown: &[],
        aside: &["sessionPersistence", "Accepted"],
    },
];
