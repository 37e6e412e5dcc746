//! One service as proxies are told of it.

use super::{Mesh, binding::Binding};
use crate::facts::{Distribution, Labels, Resolution, Service, ServiceEntry, ServicePort, TargetPort, Vip};
use mesh::{
    Str,
    service::{self, LoadBalancing, LoadBalancingMode, Scope},
    workload::NetworkAddress,
};
use std::{collections::BTreeMap, net::IpAddr};

/// What a service takes from around it.
pub(super) struct Surroundings<'a> {
    pub(super) mesh: &'a Mesh,
    pub(super) network: &'a Str,
    pub(super) namespace: Option<&'a crate::facts::Namespace>,
    pub(super) binding: &'a Binding,
    /// It owns its hostname in the mesh.
    pub(super) canonical: bool,
    /// Addresses that were allocated for it.
    pub(super) allocated: Vec<IpAddr>,
}

pub(super) fn hostname(mesh: &Mesh, namespace: &str, name: &str) -> Str {
    format!("{name}.{namespace}.svc.{}", mesh.domain).into()
}

pub(super) fn of_service(fact: &Service, around: &Surroundings<'_>) -> mesh::Service {
    let hostname = hostname(around.mesh, &fact.meta.namespace, &fact.meta.name);
    let named = mesh::Service::named(&fact.meta.namespace, &hostname);
    mesh::Service {
        name: fact.meta.name.clone(),
        vips: fact.addresses.iter().map(|ip| on(around.network, *ip)).collect(),
        ports: ports(&fact.ports),
        load_balancing: LoadBalancing {
            allow_unhealthy: fact.publish_not_ready,
            ..if fact.only_local { node_only() } else { distributed(fact.distribution, around) }
        },
        ip_families: fact.ip_families,
        canonical: around.canonical,
        ..attached(named, &fact.meta.labels, around)
    }
}

pub(super) fn of_entry(fact: &ServiceEntry, host: &Str, around: &Surroundings<'_>) -> mesh::Service {
    let named = mesh::Service::named(&fact.meta.namespace, host);
    let mut vips: Vec<NetworkAddress> = Vec::new();
    let mut cidr_vips = Vec::new();
    for vip in &fact.vips {
        match vip {
            Vip::One(ip) => vips.push(on(around.network, *ip)),
            Vip::Range(range) => cidr_vips.push((around.network.clone(), *range)),
        }
    }
    vips.extend(around.allocated.iter().map(|ip| on(around.network, *ip)));
    let passthrough =
        LoadBalancing { mode: LoadBalancingMode::Passthrough, allow_unhealthy: true, routing_preference: Vec::new() };
    mesh::Service {
        name: fact.meta.name.clone(),
        vips,
        cidr_vips,
        ports: ports(&fact.ports),
        subject_alt_names: fact.subject_alt_names.clone(),
        load_balancing: match fact.resolution {
            Resolution::None => passthrough,
            _ => distributed(fact.distribution, around),
        },
        canonical: around.canonical,
        ..attached(named, &fact.meta.labels, around)
    }
}

fn on(network: &Str, address: IpAddr) -> NetworkAddress {
    NetworkAddress { network: network.clone(), address }
}

fn ports(ports: &[ServicePort]) -> BTreeMap<u16, service::ServicePort> {
    let one = |port: &ServicePort| {
        let target_port = match port.target {
            TargetPort::Number(number) => number,
            // Each pod says itself which of its ports has the name.
            TargetPort::Name(_) => 0,
        };
        (port.port, service::ServicePort { target_port, app_protocol: port.app_protocol })
    };
    ports.iter().map(one).collect()
}

fn node_only() -> LoadBalancing {
    LoadBalancing { mode: LoadBalancingMode::Strict, routing_preference: vec![Scope::Node], allow_unhealthy: false }
}

fn distributed(own: Option<Distribution>, around: &Surroundings<'_>) -> LoadBalancing {
    let distribution = own.or_else(|| around.namespace?.distribution);
    let routing_preference = match distribution {
        None | Some(Distribution::Any) => return LoadBalancing::default(),
        Some(Distribution::SameZone) => vec![Scope::Network, Scope::Region, Scope::Zone],
        Some(Distribution::SameNode) => vec![Scope::Network, Scope::Region, Scope::Zone, Scope::Subzone, Scope::Node],
    };
    LoadBalancing { mode: LoadBalancingMode::Failover, routing_preference, allow_unhealthy: false }
}

fn attached(service: mesh::Service, labels: &Labels, around: &Surroundings<'_>) -> mesh::Service {
    let inherited = around.namespace.map(|namespace| &namespace.meta.labels);
    let said = |labels: &Labels| labels.get("istio.io/ingress-use-waypoint").map(|value| &**value == "true");
    mesh::Service {
        waypoint: around.binding.waypoint.clone(),
        weighted_waypoints: around.binding.weighted.clone(),
        ingress_use_waypoint: said(labels).or_else(|| inherited.and_then(said)).unwrap_or(false),
        ..service
    }
}
