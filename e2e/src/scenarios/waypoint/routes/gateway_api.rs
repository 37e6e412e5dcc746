//! The cases of HTTPRoute, GRPCRoute and ReferenceGrant.

use super::Case;

pub(super) const CASES: &[Case] = &[
    Case {
        name: "path",
        yaml: "
- matches: [{ path: { type: PathPrefix, value: /p } }]
  backendRefs: [{ name: store-v2, port: 80 }]
- matches: [{ path: { type: Exact, value: /p/a } }]
  backendRefs: [{ name: store-v1, port: 80 }]
- matches: [{ path: { type: PathPrefix, value: /p/long/er } }]
  backendRefs: [{ name: store-v1, port: 80 }]
- matches: [{ path: { type: RegularExpression, value: '/r/[0-9]+' } }]
  backendRefs: [{ name: store-v1, port: 80 }]",
        asks: &[
            (&[], "/p", "200 by=v2"),
            (&[], "/p/", "200 by=v2"),
            (&[], "/p/b", "200 by=v2"),
            (&[], "/p/a", "200 by=v1"),
            (&[], "/p/a/", "200 by=v2"),
            (&[], "/p/a?x=1", "200 by=v1 query=x=1"),
            (&[], "/p/long/er/x", "200 by=v1"),
            (&[], "/p/longer", "200 by=v2"),
            (&[], "/px", "404"),
            (&[], "/r/12", "200 by=v1"),
            (&[], "/r/12/3", "404"),
            (&[], "/P", "404"),
        ],
    },
    Case {
        name: "headers",
        yaml: "
- matches: [{ headers: [{ name: X-Color, value: red }] }]
  backendRefs: [{ name: store-v1, port: 80 }]
- matches: [{ headers: [{ name: x-color, type: RegularExpression, value: 'b.*' }] }]
  backendRefs: [{ name: store-v2, port: 80 }]
- matches: [{ headers: [{ name: x-color, value: red }, { name: x-size, value: big }] }]
  backendRefs: [{ name: store-v2, port: 80 }]",
        asks: &[
            (&["-H", "x-color: red"], "/", "200 by=v1"),
            (&["-H", "x-color: blue"], "/", "200 by=v2"),
            (&["-H", "x-color: not blue"], "/", "404"),
            (&["-H", "x-color: red", "-H", "x-size: big"], "/", "200 by=v2"),
            (&["-H", "x-color: RED"], "/", "404"),
            (&[], "/", "404"),
        ],
    },
    Case {
        name: "query",
        yaml: "
- matches: [{ queryParams: [{ name: v, value: '1' }] }]
  backendRefs: [{ name: store-v1, port: 80 }]
- matches: [{ queryParams: [{ name: v, type: RegularExpression, value: '[2-9]' }] }]
  backendRefs: [{ name: store-v2, port: 80 }]
- matches: [{ queryParams: [{ name: v, value: '1' }, { name: w, value: '1' }] }]
  backendRefs: [{ name: store-v2, port: 80 }]",
        asks: &[
            (&[], "/?v=1", "200 by=v1 query=v=1"),
            (&[], "/?v=7", "200 by=v2"),
            (&[], "/?v=1&w=1", "200 by=v2"),
            (&[], "/?v=10", "404"),
            (&[], "/?v=1&v=7", "200 by=v1"),
        ],
    },
    Case {
        name: "method",
        yaml: "
- matches: [{ method: POST }]
  backendRefs: [{ name: store-v1, port: 80 }]
- matches: [{ headers: [{ name: x-a, value: '1' }, { name: x-b, value: '1' }] }]
  backendRefs: [{ name: store-v2, port: 80 }]",
        asks: &[
            (&["-X", "POST"], "/", "200 by=v1"),
            (&["-H", "x-a: 1", "-H", "x-b: 1"], "/", "200 by=v2"),
            (&["-X", "POST", "-H", "x-a: 1", "-H", "x-b: 1"], "/", "200 by=v1"),
            (&["-X", "PUT"], "/", "404"),
        ],
    },
    Case {
        name: "age-and-name",
        yaml: "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: a-younger, namespace: mall, creationTimestamp: '2026-02-01T00:00:00Z' }
spec:
  parentRefs: [{ group: '', kind: Service, name: store, port: 80 }]
  rules: [{ matches: [{ path: { value: /age } }], backendRefs: [{ name: store-v1, port: 80 }] }]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: b-older, namespace: mall, creationTimestamp: '2026-01-01T00:00:00Z' }
spec:
  parentRefs: [{ group: '', kind: Service, name: store, port: 80 }]
  rules: [{ matches: [{ path: { value: /age } }], backendRefs: [{ name: store-v2, port: 80 }] }]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: c-twin, namespace: mall, creationTimestamp: '2026-01-01T00:00:00Z' }
spec:
  parentRefs: [{ group: '', kind: Service, name: store, port: 80 }]
  rules: [{ matches: [{ path: { value: /age } }], backendRefs: [{ name: store-v1, port: 80 }] }]",
        asks: &[(&[], "/age", "200 by=v2")],
    },
    Case {
        name: "parents",
        yaml: "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: other-port, namespace: mall }
spec:
  parentRefs: [{ group: '', kind: Service, name: store, port: 90 }]
  rules: [{ backendRefs: [{ name: store-v2, port: 80 }] }]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: every-port, namespace: mall }
spec:
  parentRefs: [{ group: '', kind: Service, name: store-v2 }]
  rules: [{ filters: [{ type: RequestHeaderModifier, requestHeaderModifier: { set: [{ name: x-route, value: all }] } }], backendRefs: [{ name: store-v1, port: 80 }] }]",
        asks: &[
            (&[], "http://store-v2.mall/", "200 by=v1 req.x-route=all"),
            (&["--http2-prior-knowledge"], "http://store.mall:90/", "200 by=v2"),
        ],
    },
    Case {
        name: "header-filters",
        yaml: "
- filters:
    - type: RequestHeaderModifier
      requestHeaderModifier:
        set: [{ name: x-set, value: new }]
        add: [{ name: X-Add, value: two }]
        remove: [x-gone]
    - type: ResponseHeaderModifier
      responseHeaderModifier: { set: [{ name: x-answer, value: set }], remove: [date] }
  backendRefs:
    - name: store-v1
      port: 80
      filters:
        - type: RequestHeaderModifier
          requestHeaderModifier: { add: [{ name: x-add, value: three }] }
        - type: ResponseHeaderModifier
          responseHeaderModifier: { add: [{ name: x-part, value: v1 }] }",
        asks: &[(
            &["-H", "x-set: old", "-H", "x-add: one", "-H", "x-gone: here"],
            "/",
            "200 req.x-set=new req.x-add=one,two,three req.x-gone=- res.x-answer=set res.date=- res.x-part=v1",
        )],
    },
    Case {
        name: "redirects",
        yaml: "
- matches: [{ path: { value: /r301 } }]
  filters: [{ type: RequestRedirect, requestRedirect: { hostname: other.example, statusCode: 301 } }]
- matches: [{ path: { value: /r302 } }]
  filters: [{ type: RequestRedirect, requestRedirect: { scheme: https } }]
- matches: [{ path: { value: /r303 } }]
  filters: [{ type: RequestRedirect, requestRedirect: { port: 8443, scheme: https, statusCode: 303 } }]
- matches: [{ path: { value: /r307 } }]
  filters: [{ type: RequestRedirect, requestRedirect: { statusCode: 307, path: { type: ReplaceFullPath, replaceFullPath: /else } } }]
- matches: [{ path: { value: /r308 } }]
  filters: [{ type: RequestRedirect, requestRedirect: { statusCode: 308, path: { type: ReplacePrefixMatch, replacePrefixMatch: /new } } }]",
        asks: &[
            (&[], "/r301/a?b=c", "301 res.location=http://other.example/r301/a?b=c"),
            (&[], "/r302", "302 res.location=https://store.mall/r302"),
            (&[], "/r303", "303 res.location=https://store.mall:8443/r303"),
            (&[], "/r307/x?q=1", "307 res.location=http://store.mall/else?q=1"),
            (&[], "/r308/tail", "308 res.location=http://store.mall/new/tail"),
            (&[], "/r308", "308 res.location=http://store.mall/new"),
        ],
    },
    Case {
        name: "rewrites",
        yaml: "
- matches: [{ path: { value: /full } }]
  filters: [{ type: URLRewrite, urlRewrite: { path: { type: ReplaceFullPath, replaceFullPath: /whole } } }]
  backendRefs: [{ name: store-v1, port: 80 }]
- matches: [{ path: { value: /prefix } }]
  filters: [{ type: URLRewrite, urlRewrite: { hostname: inner.example, path: { type: ReplacePrefixMatch, replacePrefixMatch: / } } }]
  backendRefs: [{ name: store-v1, port: 80 }]
- matches: [{ path: { value: /deep } }]
  filters: [{ type: URLRewrite, urlRewrite: { path: { type: ReplacePrefixMatch, replacePrefixMatch: /a/b/ } } }]
  backendRefs: [{ name: store-v1, port: 80 }]",
        asks: &[
            (&[], "/full/x?q=1", "200 path=/whole query=q=1"),
            (&[], "/prefix/x", "200 path=/x req.host=inner.example"),
            (&[], "/prefix", "200 path=/"),
            (&[], "/deep/c", "200 path=/a/b/c"),
        ],
    },
    Case {
        name: "cors",
        yaml: "
- filters:
    - type: CORS
      cors:
        allowOrigins: ['https://good.example', 'https://*.wild.example']
        allowMethods: [GET, PUT]
        allowHeaders: [x-one]
        exposeHeaders: [x-two]
        allowCredentials: true
        maxAge: 60
  backendRefs: [{ name: store-v1, port: 80 }]",
        asks: &[
            (
                &["-X", "OPTIONS", "-H", "Origin: https://good.example", "-H", "Access-Control-Request-Method: PUT"],
                "/",
                "204 res.access-control-allow-origin=https://good.example res.access-control-max-age=60 \
                 res.access-control-allow-credentials=true",
            ),
            (
                &["-H", "Origin: https://a.wild.example"],
                "/",
                "200 by=v1 res.access-control-allow-origin=https://a.wild.example res.access-control-expose-headers=x-two",
            ),
            (&["-H", "Origin: https://bad.example"], "/", "200 res.access-control-allow-origin=-"),
        ],
    },
    Case {
        name: "missing-backends",
        yaml: "
- matches: [{ path: { value: /none } }]
  backendRefs: [{ name: nothing, port: 80 }]
- matches: [{ path: { value: /port } }]
  backendRefs: [{ name: store-v1, port: 81 }]
- matches: [{ path: { value: /zero } }]
  backendRefs: [{ name: store-v1, port: 80, weight: 0 }, { name: store-v2, port: 80, weight: 1 }]
- matches: [{ path: { value: /no-weight } }]
  backendRefs: [{ name: store-v1, port: 80, weight: 0 }]
- matches: [{ path: { value: /nobody } }]",
        asks: &[
            (&[], "/none", "500"),
            (&[], "/port", "500"),
            (&[], "/zero", "200 by=v2"),
            (&[], "/no-weight", "500"),
            (&[], "/nobody", "500"),
        ],
    },
    Case {
        name: "consumer",
        yaml: "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: for-visitors, namespace: visitors }
spec:
  parentRefs: [{ group: '', kind: Service, name: store, namespace: mall, port: 80 }]
  rules:
    - filters: [{ type: RequestHeaderModifier, requestHeaderModifier: { set: [{ name: x-consumer, value: 'yes' }] } }]
      backendRefs: [{ name: store, namespace: mall, port: 80 }]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: for-all, namespace: mall }
spec:
  parentRefs: [{ group: '', kind: Service, name: store, port: 80 }]
  rules: [{ backendRefs: [{ name: store-v2, port: 80 }] }]
---
apiVersion: gateway.networking.k8s.io/v1
kind: ReferenceGrant
metadata: { name: visitors, namespace: mall }
spec:
  from: [{ group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: visitors }]
  to: [{ group: '', kind: Service }]",
        asks: &[(&["guest"], "/", "200 req.x-consumer=yes"), (&[], "/", "200 by=v2 req.x-consumer=-")],
    },
    Case {
        name: "no-grant",
        yaml: "
apiVersion: v1
kind: Service
metadata: { name: theirs, namespace: visitors }
spec: { selector: { app: guest }, ports: [{ name: http, port: 80 }] }
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: no-grant, namespace: mall }
spec:
  parentRefs: [{ group: '', kind: Service, name: store, port: 80 }]
  rules: [{ backendRefs: [{ name: theirs, namespace: visitors, port: 80 }] }]",
        asks: &[(&[], "/", "500")],
    },
    Case {
        name: "named-rule-and-session",
        yaml: "
- name: sticky
  sessionPersistence: { type: Header, sessionName: x-session }
  backendRefs: [{ name: store, port: 80 }]",
        asks: &[(&[], "/", "200")],
    },
    Case {
        name: "grpc",
        yaml: "
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: { name: grpc, namespace: mall }
spec:
  parentRefs: [{ group: '', kind: Service, name: store, port: 90 }]
  rules:
    - matches: [{ method: { service: mall.Store, method: Buy } }]
      filters: [{ type: ResponseHeaderModifier, responseHeaderModifier: { set: [{ name: x-rule, value: exact }] } }]
      backendRefs: [{ name: store, port: 90 }]
    - matches: [{ method: { service: mall.Store } }]
      filters: [{ type: ResponseHeaderModifier, responseHeaderModifier: { set: [{ name: x-rule, value: service }] } }]
      backendRefs: [{ name: store, port: 90 }]
    - matches: [{ method: { type: RegularExpression, service: 'mall\\..*', method: 'L.*' }, headers: [{ name: x-a, value: b }] }]
      filters: [{ type: ResponseHeaderModifier, responseHeaderModifier: { set: [{ name: x-rule, value: regex }] } }]
      backendRefs: [{ name: store, port: 90 }]",
        asks: &[
            (super::GRPC, "http://store.mall:90/mall.Store/Buy", "200 res.x-rule=exact"),
            (super::GRPC, "http://store.mall:90/mall.Store/Sell", "200 res.x-rule=service"),
            (
                &["--http2-prior-knowledge", "-X", "POST", "-H", "content-type: application/grpc", "-H", "x-a: b"],
                "http://store.mall:90/mall.Other/List",
                "200 res.x-rule=regex",
            ),
        ],
    },
];
