//! `istio.workload.Service`.

use super::{
    DecodeError, Names,
    address::{gateway_of_wire, gateway_to_wire, ip_of_wire, ip_to_wire, network_address_to_wire, range_of_wire},
    known, port,
};
use mesh::{
    Service, Str,
    service::{AppProtocol, IpFamilies, LoadBalancing, LoadBalancingMode, Scope, ServicePort},
    workload::NetworkAddress,
};
use proto::workload as wire;
use proto::workload::load_balancing as balance;
use std::collections::BTreeMap;

/// A service as istiod would write it.
pub fn encode(service: &Service) -> wire::Service {
    let range = |(network, range): &(Str, ipnet::IpNet)| wire::NetworkAddress {
        network: network.to_string(),
        address: ip_to_wire(range.addr()),
        length: Some(range.prefix_len().into()),
    };
    let weighted = |(gateway, weight): &(mesh::workload::GatewayAddress, u32)| wire::WeightedWaypoint {
        destination: Some(gateway_to_wire(gateway)),
        weight: *weight,
    };
    let port = |(number, served): (&u16, &ServicePort)| wire::Port {
        service_port: (*number).into(),
        target_port: served.target_port.into(),
        app_protocol: app_protocol_to_wire(served.app_protocol).into(),
    };
    wire::Service {
        name: service.name.to_string(),
        namespace: service.namespace.to_string(),
        hostname: service.hostname.to_string(),
        addresses: service
            .vips
            .iter()
            .map(network_address_to_wire)
            .chain(service.cidr_vips.iter().map(range))
            .collect(),
        ports: service.ports.iter().map(port).collect(),
        subject_alt_names: service.subject_alt_names.iter().map(Str::to_string).collect(),
        waypoint: service.waypoint.as_ref().map(gateway_to_wire),
        load_balancing: balancing_to_wire(&service.load_balancing),
        ip_families: match service.ip_families {
            IpFamilies::Automatic => wire::IpFamilies::Automatic,
            IpFamilies::Ipv4Only => wire::IpFamilies::Ipv4Only,
            IpFamilies::Ipv6Only => wire::IpFamilies::Ipv6Only,
            IpFamilies::Dual => wire::IpFamilies::Dual,
        }
        .into(),
        extensions: Vec::new(),
        canonical: service.canonical,
        ingress_use_waypoint: service.ingress_use_waypoint,
        weighted_waypoints: service.weighted_waypoints.iter().map(weighted).collect(),
        visibility: match service.namespace_only {
            false => wire::service::Visibility::Public,
            true => wire::service::Visibility::Namespace,
        }
        .into(),
    }
}

/// Reads a service and fills in what the wire leaves out.
pub fn decode(service: wire::Service, names: &mut Names) -> Result<Service, DecodeError> {
    if service.hostname.is_empty() {
        return Err(DecodeError::Missing("hostname"));
    }
    let (mut vips, mut cidr_vips) = (Vec::new(), Vec::new());
    for vip in service.addresses {
        let network = names.share(&vip.network);
        match vip.length {
            None => vips.push(NetworkAddress { network, address: ip_of_wire("addresses", &vip.address)? }),
            Some(length) => cidr_vips.push((network, range_of_wire("addresses", &vip.address, length)?)),
        }
    }
    let weighted = |waypoint: wire::WeightedWaypoint| -> Result<_, DecodeError> {
        let destination = waypoint.destination.ok_or(DecodeError::Missing("weighted_waypoints"))?;
        Ok((gateway_of_wire("weighted_waypoints", destination)?, waypoint.weight))
    };
    Ok(Service {
        name: service.name.into(),
        namespace: names.share(&service.namespace),
        // The workloads behind it name it too.
        hostname: names.share(&service.hostname),
        vips,
        cidr_vips,
        ports: service.ports.iter().map(service_port).collect::<Result<BTreeMap<_, _>, _>>()?,
        subject_alt_names: service.subject_alt_names.into_iter().map(Str::from).collect(),
        waypoint: service.waypoint.map(|gateway| gateway_of_wire("waypoint", gateway)).transpose()?,
        weighted_waypoints: service.weighted_waypoints.into_iter().map(weighted).collect::<Result<_, _>>()?,
        load_balancing: service.load_balancing.map(balancing_of_wire).transpose()?.unwrap_or_default(),
        ip_families: match known("ip_families", service.ip_families)? {
            wire::IpFamilies::Automatic => IpFamilies::Automatic,
            wire::IpFamilies::Ipv4Only => IpFamilies::Ipv4Only,
            wire::IpFamilies::Ipv6Only => IpFamilies::Ipv6Only,
            wire::IpFamilies::Dual => IpFamilies::Dual,
        },
        canonical: service.canonical,
        ingress_use_waypoint: service.ingress_use_waypoint,
        // Visibility only narrows who prefers a service; a value of the future is read as the widest.
        namespace_only: service.visibility == i32::from(wire::service::Visibility::Namespace),
    })
}

fn service_port(wire: &wire::Port) -> Result<(u16, ServicePort), DecodeError> {
    let served = ServicePort {
        target_port: port("target_port", wire.target_port)?,
        app_protocol: match known("app_protocol", wire.app_protocol)? {
            wire::AppProtocol::Unknown => AppProtocol::Unknown,
            wire::AppProtocol::Http11 => AppProtocol::Http11,
            wire::AppProtocol::Http2 => AppProtocol::Http2,
            wire::AppProtocol::Grpc => AppProtocol::Grpc,
            wire::AppProtocol::Tcp => AppProtocol::Tcp,
            wire::AppProtocol::Tls => AppProtocol::Tls,
        },
    };
    Ok((port("service_port", wire.service_port)?, served))
}

fn app_protocol_to_wire(protocol: AppProtocol) -> wire::AppProtocol {
    match protocol {
        AppProtocol::Unknown => wire::AppProtocol::Unknown,
        AppProtocol::Http11 => wire::AppProtocol::Http11,
        AppProtocol::Http2 => wire::AppProtocol::Http2,
        AppProtocol::Grpc => wire::AppProtocol::Grpc,
        AppProtocol::Tcp => wire::AppProtocol::Tcp,
        AppProtocol::Tls => wire::AppProtocol::Tls,
    }
}

fn balancing_to_wire(balancing: &LoadBalancing) -> Option<wire::LoadBalancing> {
    let scope = |scope: &Scope| {
        i32::from(match scope {
            Scope::Region => balance::Scope::Region,
            Scope::Zone => balance::Scope::Zone,
            Scope::Subzone => balance::Scope::Subzone,
            Scope::Node => balance::Scope::Node,
            Scope::Cluster => balance::Scope::Cluster,
            Scope::Network => balance::Scope::Network,
        })
    };
    (*balancing != LoadBalancing::default()).then(|| wire::LoadBalancing {
        routing_preference: balancing.routing_preference.iter().map(scope).collect(),
        mode: match balancing.mode {
            LoadBalancingMode::Unspecified => balance::Mode::UnspecifiedMode,
            LoadBalancingMode::Strict => balance::Mode::Strict,
            LoadBalancingMode::Failover => balance::Mode::Failover,
            LoadBalancingMode::Passthrough => balance::Mode::Passthrough,
        }
        .into(),
        health_policy: match balancing.allow_unhealthy {
            false => balance::HealthPolicy::OnlyHealthy,
            true => balance::HealthPolicy::AllowAll,
        }
        .into(),
    })
}

fn balancing_of_wire(balancing: wire::LoadBalancing) -> Result<LoadBalancing, DecodeError> {
    let scope = |value: i32| match known("routing_preference", value)? {
        balance::Scope::UnspecifiedScope => Err(DecodeError::UnknownEnum { field: "routing_preference", value }),
        balance::Scope::Region => Ok(Scope::Region),
        balance::Scope::Zone => Ok(Scope::Zone),
        balance::Scope::Subzone => Ok(Scope::Subzone),
        balance::Scope::Node => Ok(Scope::Node),
        balance::Scope::Cluster => Ok(Scope::Cluster),
        balance::Scope::Network => Ok(Scope::Network),
    };
    Ok(LoadBalancing {
        routing_preference: balancing.routing_preference.into_iter().map(scope).collect::<Result<_, _>>()?,
        mode: match known("mode", balancing.mode)? {
            balance::Mode::UnspecifiedMode => LoadBalancingMode::Unspecified,
            balance::Mode::Strict => LoadBalancingMode::Strict,
            balance::Mode::Failover => LoadBalancingMode::Failover,
            balance::Mode::Passthrough => LoadBalancingMode::Passthrough,
        },
        allow_unhealthy: match known("health_policy", balancing.health_policy)? {
            balance::HealthPolicy::OnlyHealthy => false,
            balance::HealthPolicy::AllowAll => true,
        },
    })
}
