//! The mistakes: of each kind of configuration a good version, a broken one, and what shows that the
//! good one still holds.

use super::Mistake;

pub(super) const MISTAKES: &[Mistake] = &[
    Mistake {
        kind: "HTTPRoute",
        object: "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: mistake, namespace: mall }
spec:
  parentRefs: [{ group: '', kind: Service, name: store-v1, port: 80 }]
  rules:
    - matches: [{ headers: [{ name: x-any, type: RegularExpression, value: 'VALUE' }] }, { path: { value: / } }]
      filters: [{ type: ResponseHeaderModifier, responseHeaderModifier: { set: [{ name: x-mark, value: HTTPRoute }] } }]
      backendRefs: [{ name: store-v1, port: 80 }]",
        good: ".*",
        broken: "(",
        told: &["rules[0]"],
        asks: (&[], STORE, "200 res.x-mark=HTTPRoute"),
        closes: false,
    },
    Mistake {
        kind: "VirtualService",
        object: "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: mistake, namespace: mall }
spec:
  hosts: [store-v1]
  http:
    - match: [{ uri: { regex: 'VALUE' } }]
      headers: { response: { set: { x-mark: VirtualService } } }
      route: [{ destination: { host: store-v1 } }]",
        good: "/.*",
        broken: "/[",
        told: &["rule 0"],
        asks: (&[], STORE, "200 res.x-mark=VirtualService"),
        closes: false,
    },
    Mistake {
        kind: "GRPCRoute",
        object: "
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: { name: mistake, namespace: mall }
spec:
  parentRefs: [{ group: '', kind: Service, name: store-v1, port: 80 }]
  rules:
    - matches: [{ headers: [{ name: x-any, type: RegularExpression, value: 'VALUE' }] }, {}]
      filters: [{ type: ResponseHeaderModifier, responseHeaderModifier: { set: [{ name: x-mark, value: GRPCRoute }] } }]
      backendRefs: [{ name: store-v1, port: 80 }]",
        good: ".*",
        broken: "*",
        told: &["rules[0]"],
        asks: (&[], STORE, "200 res.x-mark=GRPCRoute"),
        closes: false,
    },
    Mistake {
        kind: "AuthorizationPolicy",
        object: "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: mistake, namespace: mall }
spec:
  targetRefs: [{ group: '', kind: Service, name: store-v1 }]
  rules: [{ when: [{ key: 'VALUE', notValues: [nothing] }] }]",
        good: "request.headers[x-any]",
        broken: "request.moods[x-any]",
        told: &["request.moods"],
        asks: (&["-H", "x-any: 1"], STORE, "200"),
        closes: true,
    },
    Mistake {
        kind: "RequestAuthentication",
        object: "
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: { name: mistake, namespace: mall }
spec:
  targetRefs: [{ group: '', kind: Service, name: store-v1 }]
  jwtRules: [{ issuer: a, jwks: 'VALUE' }]",
        good: "{\"keys\":[]}",
        broken: "no keys",
        told: &["jwtRules[0]"],
        asks: (&["-H", "Authorization: Bearer abc"], STORE, "401"),
        closes: false,
    },
    Mistake {
        kind: "Telemetry",
        object: "
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: { name: mistake, namespace: mall }
spec:
  targetRefs: [{ group: '', kind: Service, name: store-v1 }]
  accessLogging: [{ filter: { expression: 'VALUE' } }]",
        good: "response.code >= 400",
        broken: "response.code >=",
        told: &["filter of the access log"],
        asks: (&[], STORE, "200"),
        closes: false,
    },
    Mistake {
        kind: "DestinationRule",
        object: "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: mistake, namespace: mall }
spec:
  host: store
  subsets: [{ name: two, labels: { version: v2 } }]
  trafficPolicy: { loadBalancer: { simple: VALUE } }
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: uses-a-subset, namespace: mall }
spec: { hosts: [store-v1], http: [{ route: [{ destination: { host: store, subset: two } }] }] }",
        good: "ROUND_ROBIN",
        broken: "MOST_LOVED",
        told: &["spec.trafficPolicy.loadBalancer.simple", "MOST_LOVED"],
        asks: (&[], STORE, "200 by=v2"),
        closes: false,
    },
    Mistake {
        kind: "TrafficPolicy",
        object: "
apiVersion: istiod-lite.io/v1alpha1
kind: TrafficPolicy
metadata: { name: mistake, namespace: mall }
spec:
  targetRefs: [{ group: '', kind: Service, name: store-v1 }]
  rateLimit: [{ requests: 100000, per: VALUE }]
  fault: [{ matches: [{ headers: [{ name: x-fault, value: 'on' }] }], abort: { httpStatus: 418, percent: 100 } }]",
        good: "1s",
        broken: "soon",
        told: &["spec.rateLimit[0].per"],
        asks: (&["-H", "x-fault: on"], STORE, "418"),
        closes: false,
    },
    Mistake {
        kind: "TCPRoute",
        object: "
apiVersion: v1
kind: Service
metadata: { name: stream, namespace: mall }
spec: { selector: { app: store, version: v1 }, ports: [{ name: tcp, port: 9000, targetPort: 8080 }] }
---
apiVersion: gateway.networking.k8s.io/v1alpha2
kind: TCPRoute
metadata: { name: mistake, namespace: mall }
spec:
  parentRefs: [{ group: '', kind: Service, name: stream, port: 9000 }]
  rules: [{ backendRefs: [{ name: store-v2, port: 80, weight: VALUE }] }]",
        good: "1",
        broken: "heavy",
        told: &["spec.rules[0].backendRefs[0].weight"],
        asks: (&[], "http://stream.mall:9000/", "200 by=v2"),
        closes: false,
    },
    Mistake {
        kind: "Gateway",
        object: "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: { name: mistake, namespace: mall }
spec:
  gatewayClassName: istio-waypoint
  listeners: [{ name: mesh, port: 15008, protocol: HBONE, allowedRoutes: { namespaces: { from: VALUE } } }]
---
apiVersion: v1
kind: Service
metadata: { name: second, namespace: mall, labels: { istio.io/use-waypoint: mistake } }
spec: { selector: { app: store, version: v1 }, ports: [{ name: http, port: 80, targetPort: 8080 }] }
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: second, namespace: mall }
spec:
  parentRefs: [{ group: '', kind: Service, name: second, port: 80 }]
  rules:
    - filters: [{ type: ResponseHeaderModifier, responseHeaderModifier: { set: [{ name: x-mark, value: Gateway }] } }]
      backendRefs: [{ name: second, port: 80 }]",
        good: "Same",
        broken: "Nobody",
        told: &["spec.listeners[0].allowedRoutes.namespaces.from"],
        asks: (&[], "http://second.mall/", "200 res.x-mark=Gateway"),
        closes: false,
    },
    Mistake {
        kind: "ReferenceGrant",
        object: "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: needs-a-grant, namespace: visitors }
spec:
  parentRefs: [{ group: '', kind: Service, name: store-v1, namespace: mall, port: 80 }]
  rules: [{ backendRefs: [{ name: store-v2, namespace: mall, port: 80 }] }]
---
apiVersion: gateway.networking.k8s.io/v1
kind: ReferenceGrant
metadata: { name: mistake, namespace: mall }
spec:
  from: [{ group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: visitors }]
  to: [{ group: '', kind: VALUE }]",
        good: "Service",
        broken: "7",
        told: &["spec.to[0].kind"],
        asks: (&["guest"], STORE, "200 by=v2"),
        closes: false,
    },
];

/// Where most of them have a say.
const STORE: &str = "http://store-v1.mall/";
