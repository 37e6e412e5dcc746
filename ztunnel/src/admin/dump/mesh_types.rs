//! Workloads and services, as the dump spells them.

use mesh::{
    Str, View,
    service::{IpFamilies, LoadBalancing, LoadBalancingMode, Scope},
    workload::{Destination, GatewayAddress, Health, Locality, NetworkAddress, PortMap, Protocol, WorkloadType},
};
use serde::Serialize;
use std::{collections::BTreeMap, net::IpAddr};

/// One workload.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadDump {
    workload_ips: Vec<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    waypoint: Option<GatewayDump>,
    #[serde(skip_serializing_if = "Option::is_none")]
    network_gateway: Option<GatewayDump>,
    protocol: &'static str,
    network_mode: &'static str,
    uid: Str,
    name: Str,
    namespace: Str,
    #[serde(skip_serializing_if = "is_empty")]
    trust_domain: Str,
    #[serde(skip_serializing_if = "is_empty")]
    service_account: Str,
    #[serde(skip_serializing_if = "is_empty")]
    network: Str,
    #[serde(skip_serializing_if = "is_empty")]
    workload_name: Str,
    workload_type: &'static str,
    #[serde(skip_serializing_if = "is_empty")]
    canonical_name: Str,
    #[serde(skip_serializing_if = "is_empty")]
    canonical_revision: Str,
    #[serde(skip_serializing_if = "is_empty")]
    hostname: Str,
    #[serde(skip_serializing_if = "is_empty")]
    node: Str,
    #[serde(skip_serializing_if = "is_false")]
    native_tunnel: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    application_tunnel: Option<TunnelDump>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    authorization_policies: Vec<Str>,
    status: &'static str,
    cluster_id: Str,
    #[serde(skip_serializing_if = "LocalityDump::is_default")]
    locality: LocalityDump,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    services: BTreeMap<String, PortMap>,
    capacity: u32,
}

/// One service.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceDump {
    name: Str,
    namespace: Str,
    hostname: Str,
    vips: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cidr_vips: Vec<String>,
    ports: BTreeMap<u16, u16>,
    endpoints: BTreeMap<Str, EndpointDump>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    subject_alt_names: Vec<Str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    waypoint: Option<GatewayDump>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    weighted_waypoints: Vec<WeightedDump>,
    #[serde(skip_serializing_if = "Option::is_none")]
    load_balancer: Option<LoadBalancerDump>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip_families: Option<&'static str>,
    #[serde(skip_serializing_if = "is_false")]
    canonical: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    visibility: Option<&'static str>,
}

/// One workload behind a service.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct EndpointDump {
    workload_uid: Str,
    port: PortMap,
    status: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct GatewayDump {
    /// `network/address` or `namespace/hostname`.
    destination: String,
    hbone_mtls_port: u16,
}

#[derive(Debug, Serialize)]
struct WeightedDump {
    #[serde(flatten)]
    waypoint: GatewayDump,
    weight: u32,
}

#[derive(Debug, Serialize)]
struct TunnelDump {
    protocol: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
}

#[derive(Debug, Serialize)]
struct LocalityDump {
    #[serde(skip_serializing_if = "is_empty")]
    region: Str,
    #[serde(skip_serializing_if = "is_empty")]
    zone: Str,
    #[serde(skip_serializing_if = "is_empty")]
    subzone: Str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct LoadBalancerDump {
    routing_preferences: Vec<&'static str>,
    mode: &'static str,
    health_policy: &'static str,
}

impl WorkloadDump {
    /// The dump of a workload.
    pub fn of(workload: &mesh::Workload) -> Self {
        Self {
            workload_ips: workload.addresses.clone(),
            waypoint: workload.waypoint.as_ref().map(GatewayDump::of),
            network_gateway: workload.network_gateway.as_ref().map(GatewayDump::of),
            protocol: match workload.protocol {
                Protocol::Plain => "TCP",
                Protocol::Hbone => "HBONE",
            },
            network_mode: if workload.host_network { "HostNetwork" } else { "Standard" },
            uid: workload.uid.clone(),
            name: workload.name.clone(),
            namespace: workload.namespace.clone(),
            trust_domain: workload.trust_domain.clone(),
            service_account: workload.service_account.clone(),
            network: workload.network.clone(),
            workload_name: workload.workload_name.clone(),
            workload_type: match workload.workload_type {
                WorkloadType::Deployment => "deployment",
                WorkloadType::CronJob => "cronjob",
                WorkloadType::Pod => "pod",
                WorkloadType::Job => "job",
            },
            canonical_name: workload.canonical_name.clone(),
            canonical_revision: workload.canonical_revision.clone(),
            hostname: workload.hostname.clone().unwrap_or_else(|| "".into()),
            node: workload.node.clone(),
            native_tunnel: workload.native_tunnel,
            application_tunnel: workload.application_tunnel.map(|tunnel| TunnelDump {
                protocol: if tunnel.proxy_protocol { "PROXY" } else { "NONE" },
                port: (tunnel.port != 0).then_some(tunnel.port),
            }),
            authorization_policies: workload.authorization_policies.clone(),
            status: status(workload),
            cluster_id: workload.cluster_id.clone(),
            locality: LocalityDump::of(&workload.locality),
            services: workload.services.iter().map(|(key, ports)| (key.to_string(), ports.clone())).collect(),
            capacity: workload.capacity,
        }
    }
}

impl ServiceDump {
    /// The dump of a service and its endpoints.
    pub fn of(service: &mesh::Service, view: &View) -> Self {
        let endpoints = view.endpoints(&service.key());
        Self {
            name: service.name.clone(),
            namespace: service.namespace.clone(),
            hostname: service.hostname.clone(),
            vips: service.vips.iter().map(address).collect(),
            cidr_vips: service.cidr_vips.iter().map(|(network, range)| format!("{network}/{range}")).collect(),
            ports: service.ports.iter().map(|(port, served)| (*port, served.target_port)).collect(),
            endpoints: endpoints
                .map(|endpoint| (endpoint.workload.uid.clone(), EndpointDump::of(endpoint.workload, endpoint.ports)))
                .collect(),
            subject_alt_names: service.subject_alt_names.clone(),
            waypoint: service.waypoint.as_ref().map(GatewayDump::of),
            weighted_waypoints: service
                .weighted_waypoints
                .iter()
                .map(|(waypoint, weight)| WeightedDump { waypoint: GatewayDump::of(waypoint), weight: *weight })
                .collect(),
            load_balancer: LoadBalancerDump::of(&service.load_balancing),
            ip_families: match service.ip_families {
                IpFamilies::Automatic => None,
                IpFamilies::Ipv4Only => Some("IPv4"),
                IpFamilies::Ipv6Only => Some("IPv6"),
                IpFamilies::Dual => Some("Dual"),
            },
            canonical: service.canonical,
            visibility: service.namespace_only.then_some("Namespace"),
        }
    }
}

impl EndpointDump {
    pub(super) fn of(workload: &mesh::Workload, ports: &PortMap) -> Self {
        Self { workload_uid: workload.uid.clone(), port: ports.clone(), status: status(workload) }
    }
}

impl GatewayDump {
    fn of(gateway: &GatewayAddress) -> Self {
        let destination = match &gateway.destination {
            Destination::Service(key) => key.to_string(),
            Destination::Address(at) => address(at),
        };
        Self { destination, hbone_mtls_port: gateway.hbone_mtls_port }
    }
}

impl LocalityDump {
    fn of(locality: &Locality) -> Self {
        Self { region: locality.region.clone(), zone: locality.zone.clone(), subzone: locality.subzone.clone() }
    }

    fn is_default(&self) -> bool {
        self.region.is_empty() && self.zone.is_empty() && self.subzone.is_empty()
    }
}

impl LoadBalancerDump {
    fn of(balancing: &LoadBalancing) -> Option<Self> {
        let scope = |scope: &Scope| match scope {
            Scope::Region => "Region",
            Scope::Zone => "Zone",
            Scope::Subzone => "Subzone",
            Scope::Node => "Node",
            Scope::Cluster => "Cluster",
            Scope::Network => "Network",
        };
        (*balancing != LoadBalancing::default()).then(|| Self {
            routing_preferences: balancing.routing_preference.iter().map(scope).collect(),
            mode: match balancing.mode {
                LoadBalancingMode::Unspecified => "Standard",
                LoadBalancingMode::Strict => "Strict",
                LoadBalancingMode::Failover => "Failover",
                LoadBalancingMode::Passthrough => "Passthrough",
            },
            health_policy: if balancing.allow_unhealthy { "AllowAll" } else { "OnlyHealthy" },
        })
    }
}

fn address(address: &NetworkAddress) -> String {
    format!("{}/{}", address.network, address.address)
}

const fn status(workload: &mesh::Workload) -> &'static str {
    match workload.health {
        Health::Healthy => "Healthy",
        Health::Unhealthy => "Unhealthy",
    }
}

fn is_empty(text: &Str) -> bool {
    text.is_empty()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
const fn is_false(value: &bool) -> bool {
    !*value
}
