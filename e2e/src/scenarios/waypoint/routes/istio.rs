//! The cases of VirtualService and DestinationRule, on the service `store-v1`.

use super::Case;

pub(super) const CASES: &[Case] = &[
    Case {
        name: "virtual-service-matches",
        yaml: "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: matches, namespace: mall }
spec:
  hosts: [store-v1]
  http:
    - match: [{ uri: { exact: /Exact }, ignoreUriCase: true }]
      route: [{ destination: { host: store-v2 } }]
    - match: [{ uri: { prefix: /pre } }]
      route: [{ destination: { host: store-v2.mall.svc.cluster.local, port: { number: 80 } } }]
    - match: [{ uri: { regex: '/re/[a-z]+' } }]
      route: [{ destination: { host: store-v2 } }]
    - match: [{ method: { exact: DELETE } }]
      route: [{ destination: { host: store-v2 } }]
    - match: [{ headers: { x-user: { prefix: al } }, withoutHeaders: { x-not: {} } }]
      route: [{ destination: { host: store-v2 } }]
    - match: [{ queryParams: { v: { exact: '2' } } }]
      route: [{ destination: { host: store-v2 } }]
    - match: [{ authority: { regex: 'other.*' } }]
      route: [{ destination: { host: store-v2 } }]
    - match: [{ sourceNamespace: visitors }]
      route: [{ destination: { host: store-v2 } }]
    - route: [{ destination: { host: store-v1 } }]",
        asks: &[
            (&[], "/exact", "200 by=v2"),
            (&[], "/prefixed", "200 by=v2"),
            (&[], "/re/abc", "200 by=v2"),
            (&[], "/re/abc1", "200 by=v1"),
            (&["-X", "DELETE"], "/", "200 by=v2"),
            (&["-H", "x-user: alice"], "/", "200 by=v2"),
            (&["-H", "x-user: alice", "-H", "x-not: 1"], "/", "200 by=v1"),
            (&[], "/?v=2", "200 by=v2"),
            (&["-H", "Host: other.example"], "/", "200 by=v2"),
            (&["guest"], "/", "200 by=v2"),
            (&[], "/", "200 by=v1"),
        ],
    },
    Case {
        name: "virtual-service-actions",
        yaml: "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: actions, namespace: mall }
spec:
  hosts: [store-v1.mall.svc.cluster.local]
  http:
    - match: [{ uri: { prefix: /redirect } }]
      redirect: { uri: /there, authority: moved.example, redirectCode: 307 }
    - match: [{ uri: { prefix: /direct } }]
      directResponse: { status: 503, body: { string: closed } }
    - match: [{ uri: { prefix: /old } }]
      rewrite: { uri: /new, authority: inner.example }
      route: [{ destination: { host: store-v1 } }]
    - match: [{ uri: { prefix: /items/ } }]
      rewrite: { uriRegexRewrite: { match: '/items/([0-9]+)', rewrite: '/item?id=\\1' } }
      route: [{ destination: { host: store-v1 } }]
    - match: [{ uri: { prefix: /headers } }]
      headers:
        request: { set: { x-one: a }, add: { x-two: b }, remove: [x-three] }
        response: { set: { x-four: d } }
      route: [{ destination: { host: store-v1 }, headers: { response: { add: { x-five: e } } } }]
    - match: [{ uri: { prefix: /abort } }]
      fault: { abort: { httpStatus: 418, percentage: { value: 100 } } }
      route: [{ destination: { host: store-v1 } }]",
        asks: &[
            (&[], "/redirect/x", "307 res.location=http://moved.example/there"),
            (&[], "/direct", "503 body=closed"),
            (&[], "/old/x", "200 path=/new/x req.host=inner.example"),
            (&["-H", "x-three: c"], "/headers", "200 req.x-one=a req.x-two=b req.x-three=- res.x-four=d res.x-five=e"),
            (&[], "/abort", "418"),
            (&[], "/nothing", "404"),
        ],
    },
    Case {
        name: "delegate",
        yaml: "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: root, namespace: mall }
spec:
  hosts: [store-v1]
  http:
    - match: [{ uri: { prefix: /team } }]
      delegate: { name: team, namespace: mall }
    - route: [{ destination: { host: store-v1 } }]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: team, namespace: mall }
spec:
  http:
    - match: [{ uri: { prefix: /team/two } }]
      route: [{ destination: { host: store-v2 } }]
    - route: [{ destination: { host: store-v1 } }]",
        asks: &[(&[], "/team/two/x", "200 by=v2"), (&[], "/team/one", "200 by=v1"), (&[], "/", "200 by=v1")],
    },
    Case {
        name: "subsets",
        yaml: "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: store, namespace: mall }
spec:
  host: store
  subsets:
    - { name: one, labels: { version: v1 } }
    - { name: two, labels: { version: v2 } }
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: subsets, namespace: mall }
spec:
  hosts: [store]
  http:
    - match: [{ uri: { prefix: /one } }]
      route: [{ destination: { host: store, subset: one } }]
    - match: [{ uri: { prefix: /two } }]
      route: [{ destination: { host: store, subset: two } }]
    - match: [{ uri: { prefix: /three } }]
      route: [{ destination: { host: store, subset: three } }]",
        asks: &[
            (&[], "http://store.mall/one", "200 by=v1"),
            (&[], "http://store.mall/one", "200 by=v1"),
            (&[], "http://store.mall/two", "200 by=v2"),
            (&[], "http://store.mall/two", "200 by=v2"),
            (&[], "http://store.mall/three", "503"),
        ],
    },
    Case {
        name: "every-host",
        yaml: "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: every-host, namespace: mall }
spec:
  hosts: ['*']
  http:
    - match: [{ uri: { prefix: /every } }]
      directResponse: { status: 418 }
    - route: [{ destination: { host: store-v1 } }]",
        asks: &[
            (&[], "/every", "418"),
            (&[], "http://store.mall/every", "418"),
            (&[], "http://store.mall/other", "200 by=v1"),
        ],
    },
    Case {
        name: "rules-of-places",
        yaml: "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: of-the-mesh, namespace: istio-system }
spec: { host: store.mall.svc.cluster.local, subsets: [{ name: root, labels: { version: v2 } }] }
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: hidden, namespace: mall }
spec: { host: store, exportTo: [visitors], subsets: [{ name: hidden, labels: { version: v2 } }] }
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: of-some-callers, namespace: mall }
spec: { host: store, workloadSelector: { matchLabels: { app: client } }, subsets: [{ name: some, labels: { version: v2 } }] }
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: rules-of-places, namespace: mall }
spec:
  hosts: [store-v1]
  http:
    - match: [{ uri: { prefix: /root } }]
      route: [{ destination: { host: store, subset: root } }]
    - match: [{ uri: { prefix: /hidden } }]
      route: [{ destination: { host: store, subset: hidden } }]
    - match: [{ uri: { prefix: /some } }]
      route: [{ destination: { host: store, subset: some } }]",
        asks: &[(&[], "/root", "200 by=v2"), (&[], "/hidden", "503"), (&[], "/some", "503")],
    },
    Case {
        name: "nearer-rules",
        yaml: "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: of-the-mesh, namespace: istio-system }
spec: { host: store.mall.svc.cluster.local, subsets: [{ name: far, labels: { version: v2 } }] }
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: wide, namespace: mall }
spec: { host: '*.mall.svc.cluster.local', subsets: [{ name: wide, labels: { version: v2 } }] }
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: near, namespace: mall }
spec: { host: store, subsets: [{ name: near, labels: { version: v2 } }] }
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: nearer-rules, namespace: mall }
spec:
  hosts: [store-v1]
  http:
    - match: [{ uri: { prefix: /near } }]
      route: [{ destination: { host: store, subset: near } }]
    - match: [{ uri: { prefix: /wide } }]
      route: [{ destination: { host: store, subset: wide } }]
    - match: [{ uri: { prefix: /far } }]
      route: [{ destination: { host: store, subset: far } }]",
        asks: &[(&[], "/near", "200 by=v2"), (&[], "/wide", "503"), (&[], "/far", "503")],
    },
    Case {
        name: "targets-of-policies",
        yaml: concat!(
            outer!(8080, "app: store, version: v1"),
            "apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: of-the-service, namespace: mall }
spec:
  targetRefs: [{ group: '', kind: Service, name: store-v1 }]
  action: DENY
  rules: [{ to: [{ operation: { paths: [/of-service] } }] }]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: of-the-entry, namespace: mall }
spec:
  targetRefs: [{ group: networking.istio.io, kind: ServiceEntry, name: outer }]
  action: DENY
  rules: [{ to: [{ operation: { paths: [/of-entry] } }] }]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: of-the-gateway, namespace: mall }
spec:
  targetRefs: [{ group: gateway.networking.k8s.io, kind: Gateway, name: waypoint }]
  action: DENY
  rules: [{ to: [{ operation: { paths: [/of-gateway] } }] }]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: of-the-class, namespace: istio-system }
spec:
  targetRefs: [{ group: gateway.networking.k8s.io, kind: GatewayClass, name: istio-waypoint }]
  action: DENY
  rules: [{ to: [{ operation: { paths: [/of-class] } }] }]
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: { name: of-the-gateway, namespace: mall }
spec:
  targetRefs: [{ group: gateway.networking.k8s.io, kind: Gateway, name: waypoint }]
  jwtRules: [{ issuer: a, jwks: '{\"keys\":[]}' }]"
        ),
        asks: &[
            (&[], "/of-service", "403"),
            (&[], "http://store-v2.mall/of-service", "200 by=v2"),
            (&["--resolve", "outer.example:80:240.241.9.9"], "http://outer.example/of-entry", "403"),
            (&["--resolve", "outer.example:80:240.241.9.9"], "http://outer.example/of-service", "200 by=v1"),
            (&[], "/of-entry", "200 by=v1"),
            (&[], "/of-gateway", "403"),
            (&[], "http://store-v2.mall/of-gateway", "403"),
            (&[], "/of-class", "403"),
            (&["-H", "Authorization: Bearer abc"], "/", "401"),
        ],
    },
    Case {
        name: "sticky",
        yaml: "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: store, namespace: mall }
spec:
  host: store
  trafficPolicy: { loadBalancer: { consistentHash: { httpHeaderName: x-user } } }",
        asks: &[(&["-H", "x-user: a"], "http://store.mall/", "200")],
    },
];
