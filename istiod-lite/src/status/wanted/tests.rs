//! From YAML through the index to what is written, and back.

use super::*;
use crate::{files, index::Mesh, ledger::Ledger};
use std::path::Path;

struct Cluster {
    index: Index,
    ledger: Ledger,
}

impl Cluster {
    fn of(yaml: &str) -> Self {
        let mut cluster = Self { index: Index::new(Mesh::default()), ledger: Ledger::default() };
        let (objects, problems) = chassis::objects::parse(Path::new("test.yaml"), yaml);
        assert!(problems.is_empty(), "{problems:?}");
        objects.into_iter().for_each(|object| cluster.take(object));
        cluster
    }

    fn take(&mut self, object: chassis::objects::Object) {
        self.ledger.note(ledger::key(&object.key()).expect("kept"), &object);
        if let Some(fact) = files::read(&object).fact {
            self.index.apply(fact);
        }
    }

    fn writes(&self, now: &str) -> Vec<Write> {
        writes(&self.index, &self.ledger.read(), &Outcomes::default(), now)
    }

    /// Does what the server would with a write.
    fn written(&mut self, write: &Write) {
        let mut value = (**self.ledger.read().get(&write.key).expect("there")).clone();
        value["status"] = write.body["status"].clone();
        let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let origin = chassis::objects::Origin { file: Path::new("test.yaml").into(), line: 1 };
        let (api_version, kind) = (text("/apiVersion"), text("/kind"));
        let (namespace, name) = (text("/metadata/namespace"), text("/metadata/name"));
        let object = chassis::objects::Object { api_version, kind, namespace, name, value, origin };
        self.ledger.note(write.key.clone(), &object);
    }
}

const MESH: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: istio-waypoint, generation: 1}
spec: {controllerName: istio.io/mesh-controller}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: wp, namespace: shop, uid: u, generation: 4}
spec:
  gatewayClassName: istio-waypoint
  listeners: [{name: mesh, port: 15008, protocol: HBONE}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop, uid: v}
spec: {gatewayClassName: other, listeners: [{name: http, port: 80, protocol: HTTP}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop, labels: {istio.io/use-waypoint: wp}}
spec: {clusterIP: 10.0.0.1, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: plain, namespace: shop}
spec: {clusterIP: 10.0.0.2, ports: [{name: http, port: 80}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: both, namespace: shop, generation: 2, resourceVersion: '7'}
spec:
  parentRefs: [{group: '', kind: Service, name: web}, {name: edge}]
  rules: [{backendRefs: [{name: web, port: 80}]}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: paths, namespace: shop, generation: 1}
spec: {action: ALLOW, rules: [{to: [{operation: {paths: [/a]}}]}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: broken, namespace: shop, generation: 1}
spec: {rules: [{from: [{source: {ipBlocks: [10.0.0.0/99]}}]}]}
";

fn shown(writes: &[Write]) -> Vec<String> {
    let condition = |it: &Value| format!("{}={}/{}", it["type"], it["status"], it["reason"]).replace('"', "");
    let show = |write: &Write| {
        let all: Vec<String> = conditions(&write.body["status"]).into_iter().map(condition).collect();
        format!("{} by {}: {}", write.key, write.manager, all.join(" "))
    };
    writes.iter().map(show).collect()
}

#[test]
fn each_kind_of_object_is_told_what_became_of_it() {
    let cluster = Cluster::of(MESH);
    let found = shown(&cluster.writes("now"));
    let expected = [
        "Gateway shop/wp by istio.io/gateway-controller: Accepted=True/Accepted Programmed=False/UnsupportedAddress \
         ResolvedRefs=True/ResolvedRefs Accepted=True/Accepted Conflicted=False/NoConflicts Programmed=True/Programmed \
         ResolvedRefs=True/ResolvedRefs",
        "GatewayClass istio-waypoint by istio.io/gateway-controller: Accepted=True/Accepted",
        "Service shop/web by istio-ambient-service: istio.io/WaypointBound=False/WaypointIsNotReady",
        "AuthorizationPolicy shop/paths by istio-ambient-ztunnel-policy: ZtunnelAccepted=False/UnsupportedValue",
    ];
    for line in expected {
        assert!(found.iter().any(|found| found == line), "{line}\n is not in\n{}", found.join("\n"));
    }
    assert!(found.iter().any(|line| line.starts_with("AuthorizationPolicy shop/broken")), "{found:?}");
    assert!(!found.iter().any(|line| line.contains("shop/edge") || line.contains("shop/plain")), "{found:?}");
}

#[test]
fn a_route_is_told_only_of_parents_that_are_ours() {
    let cluster = Cluster::of(MESH);
    let writes = cluster.writes("now");
    let route = writes.iter().find(|write| write.key.kind == Kind::HTTPRoute).expect("a route");
    let parents = route.body["status"]["parents"].as_array().expect("a list");
    assert_eq!(parents.len(), 1, "{parents:?}");
    assert_eq!(parents[0]["parentRef"], json!({"group": "", "kind": "Service", "name": "web"}));
    assert_eq!(route.body["metadata"]["resourceVersion"], "7", "the list holds what others wrote");
}

#[test]
fn what_was_written_is_not_written_again() {
    let mut cluster = Cluster::of(MESH);
    let first = cluster.writes("2026-01-01T00:00:00Z");
    assert!(first.len() >= 6, "{:?}", shown(&first));
    first.iter().for_each(|write| cluster.written(write));
    assert_eq!(shown(&cluster.writes("2026-01-02T00:00:00Z")), Vec::<String>::new());
}

#[test]
fn only_what_is_newly_refused_is_worth_an_event() {
    let mut cluster = Cluster::of(MESH);
    let all = cluster.writes("now");
    let refused = |all: &[Write], name: &str| {
        let found = all.iter().find(|write| &*write.key.name == name);
        found.map(|write| write.refused.len())
    };
    assert_eq!((refused(&all, "wp"), refused(&all, "web"), refused(&all, "paths")), (Some(0), Some(0), Some(1)));
    all.iter().for_each(|write| cluster.written(write));
    // Another generation says the same.
    let (objects, _) = chassis::objects::parse(
        Path::new("test.yaml"),
        "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: paths, namespace: shop, generation: 2}
spec: {action: ALLOW, rules: [{to: [{operation: {paths: [/a]}}]}]}
",
    );
    for mut object in objects {
        let key = ledger::key(&object.key()).expect("kept");
        object.value["status"] = cluster.ledger.read()[&key]["status"].clone();
        cluster.take(object);
    }
    assert_eq!(refused(&cluster.writes("later"), "paths"), Some(0));
}
