//! Workloads and services, as a local state spells them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use mesh::service::{AppProtocol, IpFamilies, LoadBalancing, LoadBalancingMode, Scope, ServicePort};
use mesh::workload::{
    ApplicationTunnel, Destination, GatewayAddress, Health, Locality, NetworkAddress, Protocol, WorkloadType,
};
use mesh::{Service, Str, Workload};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::told;

/// One workload. What is left out is as on the wire.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct WorkloadItem {
    uid: Str,
    #[serde(default)]
    workload_ips: Vec<IpAddr>,
    waypoint: Option<GatewayItem>,
    network_gateway: Option<GatewayItem>,
    #[serde(default)]
    protocol: ProtocolItem,
    #[serde(default)]
    network_mode: NetworkMode,
    name: Option<Str>,
    namespace: Option<Str>,
    trust_domain: Option<Str>,
    service_account: Option<Str>,
    network: Option<Str>,
    workload_name: Option<Str>,
    #[serde(default)]
    workload_type: TypeItem,
    canonical_name: Option<Str>,
    canonical_revision: Option<Str>,
    hostname: Option<Str>,
    node: Option<Str>,
    #[serde(default)]
    native_tunnel: bool,
    application_tunnel: Option<TunnelItem>,
    #[serde(default)]
    authorization_policies: Vec<Str>,
    #[serde(default)]
    status: StatusItem,
    cluster_id: Option<Str>,
    #[serde(default)]
    locality: LocalityItem,
    #[serde(default)]
    services: BTreeMap<String, BTreeMap<u16, u16>>,
    capacity: Option<u32>,
}

/// One service.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ServiceItem {
    name: Option<Str>,
    namespace: Str,
    hostname: Str,
    #[serde(default)]
    vips: Vec<String>,
    #[serde(default)]
    cidr_vips: Vec<String>,
    #[serde(default)]
    ports: BTreeMap<u16, u16>,
    /// Follows from the workloads; a dump has it all the same.
    #[serde(default, rename = "endpoints")]
    _endpoints: Option<IgnoredAny>,
    #[serde(default)]
    subject_alt_names: Vec<Str>,
    waypoint: Option<GatewayItem>,
    #[serde(default)]
    weighted_waypoints: Vec<WeightedItem>,
    load_balancer: Option<LoadBalancerItem>,
    ip_families: Option<FamiliesItem>,
    #[serde(default)]
    canonical: bool,
    visibility: Option<VisibilityItem>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct GatewayItem {
    destination: String,
    #[serde(default = "hbone_port")]
    hbone_mtls_port: u16,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WeightedItem {
    destination: String,
    #[serde(default = "hbone_port")]
    hbone_mtls_port: u16,
    weight: u32,
}

#[derive(Debug, Default, Deserialize)]
enum ProtocolItem {
    #[default]
    #[serde(rename = "TCP")]
    Tcp,
    #[serde(rename = "HBONE")]
    Hbone,
}

#[derive(Debug, Default, Deserialize)]
enum NetworkMode {
    #[default]
    Standard,
    HostNetwork,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum TypeItem {
    Deployment,
    CronJob,
    #[default]
    Pod,
    Job,
}

#[derive(Debug, Default, Deserialize)]
enum StatusItem {
    #[default]
    Healthy,
    Unhealthy,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TunnelItem {
    protocol: TunnelProtocol,
    port: Option<u16>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum TunnelProtocol {
    None,
    Proxy,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct LocalityItem {
    region: Option<Str>,
    zone: Option<Str>,
    subzone: Option<Str>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct LoadBalancerItem {
    #[serde(default)]
    routing_preferences: Vec<ScopeItem>,
    #[serde(default)]
    mode: ModeItem,
    #[serde(default)]
    health_policy: HealthPolicyItem,
}

#[derive(Debug, Deserialize)]
enum ScopeItem {
    Region,
    Zone,
    Subzone,
    Node,
    Cluster,
    Network,
}

#[derive(Debug, Default, Deserialize)]
enum ModeItem {
    #[default]
    Standard,
    Strict,
    Failover,
    Passthrough,
}

#[derive(Debug, Default, Deserialize)]
enum HealthPolicyItem {
    #[default]
    OnlyHealthy,
    AllowAll,
}

#[derive(Debug, Deserialize)]
enum FamiliesItem {
    #[serde(rename = "IPv4")]
    Ipv4,
    #[serde(rename = "IPv6")]
    Ipv6,
    Dual,
}

#[derive(Debug, Deserialize)]
enum VisibilityItem {
    Public,
    Namespace,
}

const fn hbone_port() -> u16 {
    crate::outbound::plan::HBONE_PORT
}

impl WorkloadItem {
    pub(super) fn into_workload(self) -> Result<Workload, String> {
        let plain = Workload::named(&self.uid);
        let services = self.services.into_iter().map(|(key, ports)| Ok((key.parse().map_err(told)?, ports)));
        let empty = || Str::from("");
        Ok(Workload {
            name: self.name.unwrap_or(plain.name),
            namespace: self.namespace.unwrap_or(plain.namespace),
            addresses: self.workload_ips,
            hostname: self.hostname.filter(|name| !name.is_empty()),
            network: self.network.unwrap_or(plain.network),
            protocol: match self.protocol {
                ProtocolItem::Tcp => Protocol::Plain,
                ProtocolItem::Hbone => Protocol::Hbone,
            },
            native_tunnel: self.native_tunnel,
            trust_domain: self.trust_domain.unwrap_or(plain.trust_domain),
            service_account: self.service_account.unwrap_or(plain.service_account),
            waypoint: self.waypoint.map(GatewayItem::into_gateway).transpose()?,
            network_gateway: self.network_gateway.map(GatewayItem::into_gateway).transpose()?,
            node: self.node.unwrap_or(plain.node),
            canonical_name: self.canonical_name.unwrap_or(plain.canonical_name),
            canonical_revision: self.canonical_revision.unwrap_or(plain.canonical_revision),
            workload_type: match self.workload_type {
                TypeItem::Deployment => WorkloadType::Deployment,
                TypeItem::CronJob => WorkloadType::CronJob,
                TypeItem::Pod => WorkloadType::Pod,
                TypeItem::Job => WorkloadType::Job,
            },
            workload_name: self.workload_name.unwrap_or(plain.workload_name),
            authorization_policies: self.authorization_policies,
            health: match self.status {
                StatusItem::Healthy => Health::Healthy,
                StatusItem::Unhealthy => Health::Unhealthy,
            },
            cluster_id: self.cluster_id.unwrap_or(plain.cluster_id),
            services: services.collect::<Result<_, String>>()?,
            application_tunnel: self.application_tunnel.map(|tunnel| ApplicationTunnel {
                proxy_protocol: matches!(tunnel.protocol, TunnelProtocol::Proxy),
                port: tunnel.port.unwrap_or(0),
            }),
            locality: Locality {
                region: self.locality.region.unwrap_or_else(empty),
                zone: self.locality.zone.unwrap_or_else(empty),
                subzone: self.locality.subzone.unwrap_or_else(empty),
            },
            host_network: matches!(self.network_mode, NetworkMode::HostNetwork),
            capacity: self.capacity.unwrap_or(plain.capacity),
            ..Workload::named(&self.uid)
        })
    }
}

impl ServiceItem {
    pub(super) fn into_service(self) -> Result<Service, String> {
        let plain = Service::named(&self.namespace, &self.hostname);
        let port = |target_port| ServicePort { target_port, app_protocol: AppProtocol::Unknown };
        let weighted =
            self.weighted_waypoints.into_iter().map(|WeightedItem { destination, hbone_mtls_port, weight }| {
                Ok((GatewayItem { destination, hbone_mtls_port }.into_gateway()?, weight))
            });
        Ok(Service {
            name: self.name.unwrap_or(plain.name),
            vips: self.vips.iter().map(|text| address(text)).collect::<Result<_, _>>()?,
            cidr_vips: self.cidr_vips.iter().map(|text| range(text)).collect::<Result<_, _>>()?,
            ports: self.ports.into_iter().map(|(from, to)| (from, port(to))).collect(),
            subject_alt_names: self.subject_alt_names,
            waypoint: self.waypoint.map(GatewayItem::into_gateway).transpose()?,
            weighted_waypoints: weighted.collect::<Result<_, String>>()?,
            load_balancing: self.load_balancer.map(LoadBalancerItem::into_balancing).unwrap_or_default(),
            ip_families: match self.ip_families {
                None => IpFamilies::Automatic,
                Some(FamiliesItem::Ipv4) => IpFamilies::Ipv4Only,
                Some(FamiliesItem::Ipv6) => IpFamilies::Ipv6Only,
                Some(FamiliesItem::Dual) => IpFamilies::Dual,
            },
            canonical: self.canonical,
            namespace_only: matches!(self.visibility, Some(VisibilityItem::Namespace)),
            ..Service::named(&self.namespace, &self.hostname)
        })
    }
}

impl GatewayItem {
    /// `network/address`, or `namespace/hostname`.
    fn into_gateway(self) -> Result<GatewayAddress, String> {
        let destination = match address(&self.destination) {
            Ok(address) => Destination::Address(address),
            Err(_) => Destination::Service(self.destination.parse().map_err(told)?),
        };
        Ok(GatewayAddress { destination, hbone_mtls_port: self.hbone_mtls_port })
    }
}

impl LoadBalancerItem {
    fn into_balancing(self) -> LoadBalancing {
        let scope = |scope: ScopeItem| match scope {
            ScopeItem::Region => Scope::Region,
            ScopeItem::Zone => Scope::Zone,
            ScopeItem::Subzone => Scope::Subzone,
            ScopeItem::Node => Scope::Node,
            ScopeItem::Cluster => Scope::Cluster,
            ScopeItem::Network => Scope::Network,
        };
        LoadBalancing {
            routing_preference: self.routing_preferences.into_iter().map(scope).collect(),
            mode: match self.mode {
                ModeItem::Standard => LoadBalancingMode::Unspecified,
                ModeItem::Strict => LoadBalancingMode::Strict,
                ModeItem::Failover => LoadBalancingMode::Failover,
                ModeItem::Passthrough => LoadBalancingMode::Passthrough,
            },
            allow_unhealthy: matches!(self.health_policy, HealthPolicyItem::AllowAll),
        }
    }
}

/// `network/address`; the network may be empty.
fn address(text: &str) -> Result<NetworkAddress, String> {
    let parts = text.split_once('/').and_then(|(network, ip)| Some((network, ip.parse().ok()?)));
    let (network, address) = parts.ok_or_else(|| format!("{text:?} is not of the form <network>/<address>"))?;
    Ok(NetworkAddress { network: network.into(), address })
}

/// `network/address/length`.
fn range(text: &str) -> Result<(Str, IpNet), String> {
    let parts = text.split_once('/').and_then(|(network, range)| Some((network.into(), range.parse().ok()?)));
    parts.ok_or_else(|| format!("{text:?} is not of the form <network>/<address>/<length>"))
}
