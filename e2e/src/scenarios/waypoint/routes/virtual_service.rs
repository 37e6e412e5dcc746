//! Further cases of VirtualService, on the service `store-v1`: what else is compared, what else is
//! done, and which of several counts.

use super::Case;

pub(super) const CASES: &[Case] = &[
    Case {
        name: "further-matches",
        yaml: "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: further-matches, namespace: mall }
spec:
  hosts: [store-v1]
  gateways: [mesh]
  http:
    - match: [{ headers: { x-exact: { exact: 'yes' } } }]
      route: [{ destination: { host: store-v2 } }]
    - match: [{ headers: { x-regex: { regex: 'a[0-9]+' } } }]
      route: [{ destination: { host: store-v2 } }]
    - match: [{ headers: { x-present: {} } }]
      route: [{ destination: { host: store-v2 } }]
    - match: [{ queryParams: { p: { prefix: ab } } }, { queryParams: { r: { regex: '[0-9]+' } } }]
      route: [{ destination: { host: store-v2 } }]
    - match: [{ method: { regex: 'PUT|PATCH' } }]
      route: [{ destination: { host: store-v2 } }]
    - match: [{ authority: { prefix: pre. } }, { authority: { exact: exact.example } }]
      route: [{ destination: { host: store-v2 } }]
    - match: [{ scheme: { exact: http }, uri: { exact: /scheme } }]
      route: [{ destination: { host: store-v2 } }]
    - match: [{ port: 80, uri: { exact: /port } }]
      route: [{ destination: { host: store-v2 } }]
    - match: [{ port: 81, uri: { exact: /other-port } }]
      route: [{ destination: { host: store-v2 } }]
    - match: [{ gateways: [some/gateway], uri: { exact: /gateway } }]
      route: [{ destination: { host: store-v2 } }]
    - match: [{ sourceLabels: { app: client }, uri: { exact: /labels } }]
      route: [{ destination: { host: store-v2 } }]
    - match: [{ uri: { exact: /named }, name: first }, { uri: { prefix: /both }, method: { exact: POST } }]
      name: with-a-name
      route: [{ destination: { host: store-v2 } }]
    - route: [{ destination: { host: store-v1 } }]",
        asks: &[
            (&["-H", "x-exact: yes"], "/", "200 by=v2"),
            (&["-H", "x-exact: no"], "/", "200 by=v1"),
            (&["-H", "x-regex: a12"], "/", "200 by=v2"),
            (&["-H", "x-regex: a12b"], "/", "200 by=v1"),
            (&["-H", "x-present: 1"], "/", "200 by=v2"),
            (&[], "/?p=abc", "200 by=v2"),
            (&[], "/?p=ba", "200 by=v1"),
            (&[], "/?r=12", "200 by=v2"),
            (&[], "/?r=1x", "200 by=v1"),
            (&["-X", "PATCH"], "/", "200 by=v2"),
            (&["-H", "Host: pre.example"], "/", "200 by=v2"),
            (&["-H", "Host: exact.example"], "/", "200 by=v2"),
            (&[], "/scheme", "200 by=v2"),
            (&[], "/port", "200 by=v2"),
            (&[], "/other-port", "200 by=v1"),
            (&[], "/gateway", "200 by=v1"),
            (&[], "/labels", "200 by=v1"),
            (&[], "/named", "200 by=v2"),
            (&["-X", "POST"], "/both", "200 by=v2"),
            (&[], "/both", "200 by=v1"),
        ],
    },
    Case {
        name: "further-actions",
        yaml: "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: further-actions, namespace: mall }
spec:
  hosts: [store-v1]
  http:
    - match: [{ uri: { prefix: /weights } }]
      route: [{ destination: { host: store-v1 }, weight: 0 }, { destination: { host: store-v2 }, weight: 100 }]
    - match: [{ uri: { prefix: /secure } }]
      redirect: { scheme: https, port: 8443, redirectCode: 308 }
    - match: [{ uri: { prefix: /default-port } }]
      redirect: { derivePort: FROM_PROTOCOL_DEFAULT, uri: /x }
    - match: [{ uri: { prefix: /slow } }]
      timeout: 300ms
      route: [{ destination: { host: store-v1 } }]
    - match: [{ uri: { prefix: /host } }]
      headers: { request: { set: { Host: set.example } } }
      route: [{ destination: { host: store-v1 } }]
    - match: [{ uri: { prefix: /part } }]
      route:
        - destination: { host: store-v1 }
          headers: { request: { set: { x-part: one }, remove: [x-gone] }, response: { remove: [x-backend] } }
    - match: [{ uri: { prefix: /mall.Store/Abort } }]
      fault: { abort: { grpcStatus: UNAVAILABLE, percentage: { value: 100 } } }
      route: [{ destination: { host: store-v1 } }]
    - match: [{ uri: { prefix: /cors } }]
      corsPolicy: { allowOrigins: [{ exact: 'https://a.example' }, { regex: 'https://[a-z]+[.]b[.]example' }], allowMethods: [PUT], maxAge: 1m }
      route: [{ destination: { host: store-v1 } }]
    - match: [{ uri: { prefix: /nowhere } }]
      route: [{ destination: { host: nothing } }]",
        asks: &[
            (&[], "/weights", "200 by=v2"),
            (&[], "/weights", "200 by=v2"),
            (&[], "/secure/a?b=c", "308 res.location=https://store-v1.mall:8443/secure/a?b=c"),
            (&[], "/default-port", "301 res.location=http://store-v1.mall/x"),
            (&[], "/slow/2000", "504"),
            (&[], "/slow/1", "200 by=v1"),
            (&[], "/host", "200 req.host=set.example"),
            (&["-H", "x-gone: 1"], "/part", "200 req.x-part=one req.x-gone=- by=-"),
            (GRPC, "http://store-v1.mall/mall.Store/Abort", "200 res.grpc-status=14"),
            (&["-H", "Origin: https://a.example"], "/cors", "200 res.access-control-allow-origin=https://a.example"),
            (&["-H", "Origin: https://x.b.example"], "/cors", "200 res.access-control-allow-origin=https://x.b.example"),
            (&["-H", "Origin: https://c.example"], "/cors", "200 res.access-control-allow-origin=-"),
            (
                &["-X", "OPTIONS", "-H", "Origin: https://a.example", "-H", "Access-Control-Request-Method: PUT"],
                "/cors",
                "204 res.access-control-allow-methods=PUT res.access-control-max-age=60",
            ),
            (&[], "/nowhere", "500"),
        ],
    },
    Case {
        name: "which-of-several",
        yaml: "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: a-younger, namespace: mall, creationTimestamp: '2026-02-01T00:00:00Z' }
spec:
  hosts: ['*.mall.svc.cluster.local']
  http: [{ match: [{ uri: { prefix: /age } }], route: [{ destination: { host: store-v1 } }] }]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: b-older, namespace: mall, creationTimestamp: '2026-01-01T00:00:00Z' }
spec:
  hosts: [store-v1.mall.svc.cluster.local]
  http: [{ match: [{ uri: { prefix: /age } }, { uri: { prefix: /route } }], route: [{ destination: { host: store-v2 } }] }]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: elsewhere, namespace: visitors }
spec:
  hosts: [store-v1.mall.svc.cluster.local]
  http: [{ match: [{ uri: { prefix: /elsewhere } }], directResponse: { status: 418 } }]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: hidden, namespace: mall }
spec:
  hosts: [store-v1]
  exportTo: [visitors]
  http: [{ match: [{ uri: { prefix: /hidden } }], directResponse: { status: 418 } }]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: before, namespace: mall }
spec:
  parentRefs: [{ group: '', kind: Service, name: store-v1, port: 80 }]
  rules: [{ matches: [{ path: { value: /route/first } }], backendRefs: [{ name: store-v1, port: 80 }] }]",
        asks: &[
            (&[], "/age", "200 by=v2"),
            (&[], "/route/first", "200 by=v1"),
            (&[], "/route/second", "200 by=v2"),
            (&[], "/elsewhere", "404"),
            (&[], "/hidden", "404"),
        ],
    },
];

const GRPC: &[&str] = &["-X", "POST", "-H", "content-type: application/grpc"];
