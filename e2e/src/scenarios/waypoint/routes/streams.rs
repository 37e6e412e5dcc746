//! The cases of connections: TCPRoute, and what VirtualServices say of TCP. A request over such a
//! port has no `x-request-id`: nobody has read it.

use super::Case;

pub(super) const CASES: &[Case] = &[
    Case {
        name: "tcp-route",
        yaml: "
apiVersion: v1
kind: Service
metadata: { name: stream, namespace: mall }
spec:
  selector: { app: store }
  ports: [{ name: tcp, port: 9000, targetPort: 8080 }, { name: tcp-two, port: 9001, targetPort: 8080 }, { name: tcp-three, port: 9002, targetPort: 8080 }, { name: tcp-four, port: 9003, targetPort: 8080 }]
---
apiVersion: gateway.networking.k8s.io/v1alpha2
kind: TCPRoute
metadata: { name: weights, namespace: mall }
spec:
  parentRefs: [{ group: '', kind: Service, name: stream, port: 9000 }]
  rules: [{ backendRefs: [{ name: store-v1, port: 80, weight: 0 }, { name: store-v2, port: 80, weight: 1 }] }]
---
apiVersion: gateway.networking.k8s.io/v1alpha2
kind: TCPRoute
metadata: { name: z-younger, namespace: mall }
spec:
  parentRefs: [{ group: '', kind: Service, name: stream, port: 9000 }]
  rules: [{ backendRefs: [{ name: store-v1, port: 80 }] }]
---
apiVersion: gateway.networking.k8s.io/v1alpha2
kind: TCPRoute
metadata: { name: nothing, namespace: mall }
spec:
  parentRefs: [{ group: '', kind: Service, name: stream, sectionName: tcp-two }]
  rules: [{ backendRefs: [{ name: nothing, port: 80 }] }]
---
apiVersion: gateway.networking.k8s.io/v1alpha2
kind: TCPRoute
metadata: { name: for-visitors, namespace: visitors }
spec:
  parentRefs: [{ group: '', kind: Service, name: stream, namespace: mall, port: 9003 }]
  rules: [{ backendRefs: [{ name: store-v1, namespace: mall, port: 80 }] }]
---
apiVersion: gateway.networking.k8s.io/v1
kind: ReferenceGrant
metadata: { name: streams, namespace: mall }
spec:
  from: [{ group: gateway.networking.k8s.io, kind: TCPRoute, namespace: visitors }]
  to: [{ group: '', kind: Service, name: store-v1 }]",
        asks: &[
            (&[], "http://stream.mall:9000/", "200 by=v2 req.x-request-id=-"),
            (&[], "http://stream.mall:9000/", "200 by=v2 req.x-request-id=-"),
            (&[], "http://stream.mall:9001/", "closed"),
            (&[], "http://stream.mall:9002/", "200 req.x-request-id=-"),
            (&["guest"], "http://stream.mall:9003/", "200 by=v1 req.x-request-id=-"),
            (&["guest"], "http://stream.mall:9003/", "200 by=v1 req.x-request-id=-"),
        ],
    },
    Case {
        name: "tcp-of-virtual-service",
        yaml: "
apiVersion: v1
kind: Service
metadata: { name: stream, namespace: mall }
spec:
  selector: { app: store }
  ports: [{ name: tcp, port: 9000, targetPort: 8080 }, { name: tcp-two, port: 9001, targetPort: 8080 }]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: stream, namespace: mall }
spec:
  hosts: [stream]
  tcp:
    - match: [{ port: 9000, sourceNamespace: visitors }]
      route: [{ destination: { host: store-v1, port: { number: 80 } } }]
    - match: [{ port: 9000 }]
      route:
        - { destination: { host: store-v2, port: { number: 80 } }, weight: 100 }
        - { destination: { host: store-v1, port: { number: 80 } }, weight: 0 }
    - match: [{ port: 9001 }]
      route: [{ destination: { host: nothing } }]",
        asks: &[
            (&[], "http://stream.mall:9000/", "200 by=v2 req.x-request-id=-"),
            (&["guest"], "http://stream.mall:9000/", "200 by=v1 req.x-request-id=-"),
            (&[], "http://stream.mall:9001/", "closed"),
        ],
    },
];
