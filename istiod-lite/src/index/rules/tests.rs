//! What routes and policies mean for services: manifests in, rules and conditions out.

mod attachment;
mod guarded;
mod history;
mod reached;
mod refused;
mod requests;
mod show;
mod streams;
mod tls;
mod virtual_services;

use crate::{
    facts::Fact,
    files,
    index::{Index, Mesh},
};
use std::path::Path;

/// Two services behind a waypoint, and one that is not.
pub(super) const SHOP: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop, labels: {istio.io/use-waypoint: wp}}
spec: {clusterIP: 10.1.0.1, ports: [{name: http, port: 80}, {name: admin, port: 81}, {name: tcp-raw, port: 82}]}
---
apiVersion: v1
kind: Service
metadata: {name: api, namespace: shop, labels: {istio.io/use-waypoint: wp}}
spec: {clusterIP: 10.1.0.2, ports: [{name: http, port: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: bare, namespace: other}
spec: {clusterIP: 10.1.0.3, ports: [{name: http, port: 90}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: ext, namespace: shop, labels: {istio.io/use-waypoint: wp}}
spec: {hosts: [api.example], resolution: DNS, ports: [{number: 443, name: https, protocol: HTTPS}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: wp, namespace: shop}
spec: {gatewayClassName: istio-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}
status: {addresses: [{type: Hostname, value: wp.shop.svc.cluster.local}]}
";

/// The facts of manifests, with those that could not be understood.
pub(super) fn facts(text: &str) -> Vec<Fact> {
    let (objects, problems) = chassis::objects::parse(Path::new("test.yaml"), text);
    assert!(problems.is_empty(), "{problems:?}");
    objects.iter().filter_map(|object| files::read(object).fact).collect()
}

pub(super) fn tell(index: &mut Index, text: &str) {
    for fact in facts(text) {
        index.apply(fact);
    }
}

pub(super) fn shop(text: &str) -> Index {
    let mut index = Index::new(Mesh::default());
    tell(&mut index, SHOP);
    tell(&mut index, text);
    index
}

/// A route of the shop's namespace for the service `web`.
pub(super) fn route(kind: &str, name: &str, spec: &str) -> String {
    format!(
        "
---
apiVersion: gateway.networking.k8s.io/v1
kind: {kind}
metadata: {{name: {name}, namespace: shop}}
spec:
{}
",
        spec.trim_matches('\n').lines().map(|line| format!("  {line}\n")).collect::<String>()
    )
}
