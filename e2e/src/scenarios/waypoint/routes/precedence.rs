//! The cases of who comes first, what a route is attached to and where it sends.

use super::Case;

pub(super) const CASES: &[Case] = &[
    Case {
        name: "alternatives",
        yaml: "
- matches: [{ path: { value: /one } }, { headers: [{ name: x-two, value: '2' }] }]
  backendRefs: [{ name: store-v1, port: 80 }]",
        asks: &[(&[], "/one", "200 by=v1"), (&["-H", "x-two: 2"], "/x", "200 by=v1"), (&[], "/x", "404")],
    },
    Case {
        name: "path-before-method",
        yaml: "
- matches: [{ path: { value: /p }, method: GET, headers: [{ name: x-a, value: '1' }] }]
  backendRefs: [{ name: store-v2, port: 80 }]
- matches: [{ path: { type: Exact, value: /p/a } }]
  backendRefs: [{ name: store-v1, port: 80 }]
- matches: [{ path: { type: RegularExpression, value: '/p/a/.*' }, method: GET }]
  backendRefs: [{ name: store-v1, port: 80 }]",
        asks: &[
            (&["-H", "x-a: 1"], "/p/b", "200 by=v2"),
            (&["-H", "x-a: 1"], "/p/a", "200 by=v1"),
            (&["-H", "x-a: 1"], "/p/a/b", "200 by=v2"),
            (&[], "/p/a/b", "200 by=v1"),
        ],
    },
    Case {
        name: "headers-before-parameters",
        yaml: "
- matches: [{ queryParams: [{ name: a, value: '1' }, { name: b, value: '1' }] }]
  backendRefs: [{ name: store-v1, port: 80 }]
- matches: [{ headers: [{ name: x-a, value: '1' }] }]
  backendRefs: [{ name: store-v2, port: 80 }]",
        asks: &[(&[], "/?a=1&b=1", "200 by=v1"), (&["-H", "x-a: 1"], "/?a=1&b=1", "200 by=v2")],
    },
    Case {
        name: "earlier-rule",
        yaml: "
- matches: [{ path: { value: /same } }]
  backendRefs: [{ name: store-v2, port: 80 }]
- matches: [{ path: { value: /same } }]
  backendRefs: [{ name: store-v1, port: 80 }]",
        asks: &[(&[], "/same", "200 by=v2"), (&[], "/same/x", "200 by=v2")],
    },
    Case {
        name: "two-kinds",
        yaml: "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: b-http, namespace: mall }
spec:
  parentRefs: [{ group: '', kind: Service, name: store, port: 90 }]
  rules:
    - matches: [{ path: { value: /mall.Store } }]
      filters: [{ type: ResponseHeaderModifier, responseHeaderModifier: { set: [{ name: x-rule, value: http }] } }]
      backendRefs: [{ name: store, port: 90 }]
---
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: { name: a-grpc, namespace: mall }
spec:
  parentRefs: [{ group: '', kind: Service, name: store, port: 90 }]
  rules:
    - matches: [{ method: { service: mall.Store, method: Buy } }]
      filters: [{ type: ResponseHeaderModifier, responseHeaderModifier: { set: [{ name: x-rule, value: grpc }] } }]
      backendRefs: [{ name: store, port: 90 }]",
        asks: &[
            (super::GRPC, "http://store.mall:90/mall.Store/Buy", "200 res.x-rule=grpc"),
            (super::GRPC, "http://store.mall:90/mall.Store/Sell", "200 res.x-rule=http"),
        ],
    },
    Case {
        name: "section-name",
        yaml: "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: section-name, namespace: mall }
spec:
  parentRefs: [{ group: '', kind: Service, name: store, sectionName: http }]
  rules: [{ matches: [{ path: { value: /named } }], backendRefs: [{ name: store-v2, port: 80 }] }]",
        asks: &[
            (&[], "/named", "200 by=v2"),
            (&[], "/other", "404"),
            (&["--http2-prior-knowledge"], "http://store.mall:90/other", "200"),
        ],
    },
    Case {
        name: "service-entry",
        yaml: concat!(
            outer!(8080, "app: store, version: v1"),
            "apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: outer, namespace: mall }
spec:
  parentRefs: [{ group: networking.istio.io, kind: ServiceEntry, name: outer }]
  rules:
    - matches: [{ path: { value: /in } }]
      backendRefs: [{ group: networking.istio.io, kind: Hostname, name: outer.example, port: 80 }]
    - matches: [{ path: { value: /else } }]
      backendRefs: [{ name: store-v2, port: 80 }]"
        ),
        asks: &[
            (OUTER, "http://outer.example/in", "200 by=v1"),
            (OUTER, "http://outer.example/else", "200 by=v2"),
            (OUTER, "http://outer.example/none", "404"),
        ],
    },
    Case {
        name: "backends-by-hostname",
        yaml: "
- matches: [{ path: { value: /host } }]
  backendRefs: [{ group: networking.istio.io, kind: Hostname, name: store-v2.mall.svc.cluster.local, port: 80 }]
- matches: [{ path: { value: /portless } }]
  backendRefs: [{ group: networking.istio.io, kind: Hostname, name: store-v2.mall.svc.cluster.local }]
- matches: [{ path: { value: /kind } }]
  backendRefs: [{ group: example.org, kind: Cake, name: store-v1, port: 80 }]",
        asks: &[(&[], "/host", "200 by=v2"), (&[], "/portless", "200 by=v2"), (&[], "/kind", "500")],
    },
    Case {
        name: "times-of-zero",
        yaml: "
- matches: [{ path: { value: /slow } }]
  timeouts: { request: 0s }
  backendRefs: [{ name: store-v1, port: 80 }]
- matches: [{ path: { value: /short } }]
  timeouts: { request: 100ms }
  filters: [{ type: URLRewrite, urlRewrite: { path: { type: ReplaceFullPath, replaceFullPath: /slow/500 } } }]
  backendRefs: [{ name: store-v1, port: 80 }]",
        asks: &[(&[], "/slow/500", "200 by=v1"), (&[], "/short", "504")],
    },
    Case {
        name: "weights",
        yaml: "
- matches: [{ path: { value: /half } }]
  backendRefs: [{ name: store-v1, port: 80, weight: 1 }, { name: nothing, port: 80, weight: 1 }]",
        asks: &[(&[], "/half", "200 by=v1"), (&[], "/half", "500")],
    },
    Case {
        name: "filters-that-are-not-honoured",
        yaml: "
- matches: [{ path: { value: /extension } }]
  filters: [{ type: ExtensionRef, extensionRef: { group: example.org, kind: Cake, name: one } }]
  backendRefs: [{ name: store-v1, port: 80 }]
- matches: [{ path: { value: /backend } }]
  backendRefs: [{ name: store-v1, port: 80, filters: [{ type: URLRewrite, urlRewrite: { hostname: a.example } }] }]
- matches: [{ path: { value: /good } }]
  backendRefs: [{ name: store-v1, port: 80 }]",
        asks: &[(&[], "/extension", "500"), (&[], "/backend", "500"), (&[], "/good", "200 by=v1")],
    },
    Case {
        name: "cors-for-all",
        yaml: "
- filters:
    - type: CORS
      cors: { allowOrigins: ['*'], allowMethods: ['*'], allowHeaders: ['*'] }
  backendRefs: [{ name: store-v1, port: 80 }]",
        asks: &[
            (
                &[
                    "-X",
                    "OPTIONS",
                    "-H",
                    "Origin: https://any.example",
                    "-H",
                    "Access-Control-Request-Method: PATCH",
                    "-H",
                    "Access-Control-Request-Headers: x-z",
                ],
                "/",
                "204 res.access-control-allow-origin=https://any.example res.access-control-allow-methods=PATCH \
                 res.access-control-allow-headers=x-z res.access-control-allow-credentials=-",
            ),
            (&["-X", "OPTIONS"], "/", "200 by=v1 res.access-control-allow-origin=-"),
        ],
    },
    Case {
        name: "grpc-filters",
        yaml: "
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: { name: grpc-filters, namespace: mall }
spec:
  parentRefs: [{ group: '', kind: Service, name: store, port: 90 }]
  rules:
    - matches: [{ method: { method: Buy }, headers: [{ name: x-kind, type: RegularExpression, value: 'c.*' }] }]
      filters:
        - type: RequestHeaderModifier
          requestHeaderModifier: { set: [{ name: x-set, value: new }], add: [{ name: x-add, value: two }], remove: [x-gone] }
        - type: ResponseHeaderModifier
          responseHeaderModifier: { add: [{ name: x-rule, value: method }], remove: [x-backend] }
      backendRefs: [{ name: store, port: 90, filters: [{ type: RequestHeaderModifier, requestHeaderModifier: { add: [{ name: x-add, value: three }] } }] }]
    - matches: [{ method: { service: mall.Gone } }]
      backendRefs: [{ name: nothing, port: 90 }]",
        asks: &[
            (
                &[
                    "--http2-prior-knowledge",
                    "-X",
                    "POST",
                    "-H",
                    "content-type: application/grpc",
                    "-H",
                    "x-kind: cake",
                    "-H",
                    "x-gone: 1",
                    "-H",
                    "x-set: old",
                    "-H",
                    "x-add: one",
                ],
                "http://store.mall:90/any.Shop/Buy",
                "200 req.x-set=new req.x-add=one,two,three req.x-gone=- res.x-rule=method by=-",
            ),
            // What nobody takes and what cannot be sent on is told in gRPC's way.
            (super::GRPC, "http://store.mall:90/any.Shop/Buy", "200 res.grpc-status=12"),
            (super::GRPC, "http://store.mall:90/mall.Gone/Buy", "200 res.grpc-status=14"),
        ],
    },
];

const OUTER: &[&str] = &["--resolve", "outer.example:80:240.241.9.9"];
