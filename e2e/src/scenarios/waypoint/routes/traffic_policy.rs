//! The cases of TrafficPolicy: what it is for, which requests it counts under what, and its faults. A
//! limit that lets one request an hour pass shows its keys: the second of a kind is refused.

use super::Case;

pub(super) const CASES: &[Case] = &[
    Case {
        name: "targets",
        yaml: "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: targets, namespace: mall }
spec:
  parentRefs: [{ group: '', kind: Service, name: store, port: 80 }]
  rules:
    - name: one
      matches: [{ path: { type: PathPrefix, value: /one } }]
      backendRefs: [{ name: store-v1, port: 80 }]
    - name: two
      matches: [{ path: { type: PathPrefix, value: /two } }]
      backendRefs: [{ name: store-v2, port: 80 }]
---
apiVersion: istiod-lite.io/v1alpha1
kind: TrafficPolicy
metadata: { name: of-a-rule, namespace: mall }
spec:
  targetRefs: [{ group: gateway.networking.k8s.io, kind: HTTPRoute, name: targets, sectionName: two }]
  fault: [{ abort: { httpStatus: 418, percent: 100 } }]
---
apiVersion: istiod-lite.io/v1alpha1
kind: TrafficPolicy
metadata: { name: of-a-route, namespace: mall }
spec:
  targetRefs: [{ group: gateway.networking.k8s.io, kind: HTTPRoute, name: targets }]
  fault: [{ matches: [{ headers: [{ name: x-a, value: route }] }], abort: { httpStatus: 419, percent: 100 } }]
---
apiVersion: istiod-lite.io/v1alpha1
kind: TrafficPolicy
metadata: { name: of-the-waypoint, namespace: mall }
spec:
  targetRefs: [{ group: gateway.networking.k8s.io, kind: Gateway, name: waypoint }]
  fault: [{ matches: [{ headers: [{ name: x-a, value: waypoint }] }], abort: { httpStatus: 420, percent: 100 } }]
---
apiVersion: istiod-lite.io/v1alpha1
kind: TrafficPolicy
metadata: { name: of-a-service, namespace: mall }
spec:
  targetRefs: [{ group: '', kind: Service, name: store }]
  fault: [{ matches: [{ path: { value: /mall.Store/Buy }, method: POST }], abort: { grpcStatus: UNAVAILABLE, percent: 100 } }]",
        asks: &[
            (&[], "/two", "418"),
            (&[], "/one", "200 by=v1"),
            (&["-H", "x-a: route"], "/one", "419"),
            // Where the rule has faults of its own, those of wider places are not tried.
            (&["-H", "x-a: waypoint"], "/one", "200 by=v1"),
            (&["-H", "x-a: waypoint"], "http://store-v1.mall/", "420"),
            (super::GRPC, "http://store.mall:90/mall.Store/Buy", "200 res.grpc-status=14"),
        ],
    },
    Case {
        name: "further-targets",
        yaml: concat!(
            outer!(8080, "app: store, version: v1"),
            "apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: { name: further-targets, namespace: mall }
spec:
  parentRefs: [{ group: '', kind: Service, name: store, port: 90 }]
  rules: [{ backendRefs: [{ name: store, port: 90 }] }]
---
apiVersion: istiod-lite.io/v1alpha1
kind: TrafficPolicy
metadata: { name: of-an-entry, namespace: mall }
spec:
  targetRefs: [{ group: networking.istio.io, kind: ServiceEntry, name: outer }]
  fault: [{ abort: { httpStatus: 418, percent: 100 } }]
---
apiVersion: istiod-lite.io/v1alpha1
kind: TrafficPolicy
metadata: { name: of-a-grpc-route, namespace: mall }
spec:
  targetRefs: [{ group: gateway.networking.k8s.io, kind: GRPCRoute, name: further-targets }]
  fault: [{ abort: { grpcStatus: UNAVAILABLE, percent: 100 } }]"
        ),
        asks: &[
            (&["--resolve", "outer.example:80:240.241.9.9"], "http://outer.example/", "418"),
            (super::GRPC, "http://store.mall:90/mall.Store/Buy", "200 res.grpc-status=14"),
        ],
    },
    Case {
        name: "keys-of-requests",
        yaml: "
apiVersion: istiod-lite.io/v1alpha1
kind: TrafficPolicy
metadata: { name: keys, namespace: mall }
spec:
  targetRefs: [{ group: '', kind: Service, name: store }]
  rateLimit:
    - { requests: 1, per: 1h, burst: 1, keys: [{ type: Header, name: x-user }], matches: [{ path: { type: PathPrefix, value: /header } }] }
    - { requests: 1, per: 1h, burst: 1, keys: [{ type: Path }], matches: [{ path: { type: PathPrefix, value: /path } }] }
    - { requests: 1, per: 1h, burst: 1, keys: [{ type: Method }], matches: [{ path: { type: PathPrefix, value: /method } }] }
    - { requests: 1, per: 1h, burst: 1, keys: [{ type: Host }], matches: [{ path: { type: PathPrefix, value: /host } }] }
    - { requests: 1, per: 1h, burst: 1, matches: [{ path: { type: PathPrefix, value: /posts }, method: POST }] }",
        asks: &[
            (&["-H", "x-user: ann"], "/header", "429"),
            (&["-H", "x-user: bob"], "/header", "200"),
            (&[], "/path/a", "429"),
            (&[], "/path/b", "200"),
            (&[], "/method", "429"),
            (&["-X", "PUT"], "/method", "200"),
            (&[], "/host", "429"),
            (&["-H", "Host: other.mall"], "/host", "200"),
            (&["-X", "POST"], "/posts", "429"),
            (&[], "/posts", "200"),
            (&[], "/free", "200"),
        ],
    },
    Case {
        name: "keys-of-callers",
        yaml: "
apiVersion: istiod-lite.io/v1alpha1
kind: TrafficPolicy
metadata: { name: keys, namespace: mall }
spec:
  targetRefs: [{ group: '', kind: Service, name: store }]
  rateLimit:
    - { requests: 1, per: 1h, burst: 1, keys: [{ type: CallerIdentity }], matches: [{ path: { type: PathPrefix, value: /identity } }] }
    - { requests: 1, per: 1h, burst: 1, keys: [{ type: CallerNamespace }], matches: [{ path: { type: PathPrefix, value: /namespace } }] }
    - { requests: 1, per: 1h, burst: 1, keys: [{ type: CallerAddress }], matches: [{ path: { type: PathPrefix, value: /address } }] }
    - { requests: 1, per: 1h, burst: 1, scope: Shared, matches: [{ path: { type: PathPrefix, value: /shared } }] }",
        asks: &[
            (&[], "/identity", "429"),
            (&["guest"], "/identity", "200"),
            (&[], "/namespace", "429"),
            (&["guest"], "/namespace", "200"),
            (&[], "/address", "429"),
            (&["guest"], "/address", "200"),
            (&[], "/shared", "429"),
            (&["guest"], "/shared", "429"),
        ],
    },
];
