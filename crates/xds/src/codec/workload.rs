//! `istio.workload.Workload`.

use super::{
    DecodeError, Names,
    address::{gateway_of_wire, gateway_to_wire, ip_of_wire, ip_to_wire},
    known, port,
};
use mesh::{
    ServiceKey, Str, Workload,
    identity::DEFAULT_TRUST_DOMAIN,
    workload::{ApplicationTunnel, Health, Locality, Memberships, PortMap, Protocol, WorkloadType},
};
use proto::workload as wire;

/// Service account of a workload that names none.
const DEFAULT_SERVICE_ACCOUNT: &str = "default";

/// Cluster of a workload that names none.
const DEFAULT_CLUSTER: &str = "Kubernetes";

/// A workload as istiod would write it.
pub fn encode(workload: &Workload) -> wire::Workload {
    let unless = |text: &Str, default: &str| if **text == *default { String::new() } else { text.to_string() };
    let services = workload.services.iter().map(|(key, ports)| (key.to_string(), ports_to_wire(ports)));
    wire::Workload {
        name: workload.name.to_string(),
        namespace: workload.namespace.to_string(),
        addresses: workload.addresses.iter().map(|address| ip_to_wire(*address)).collect(),
        network: workload.network.to_string(),
        tunnel_protocol: match workload.protocol {
            Protocol::Plain => wire::TunnelProtocol::None,
            Protocol::Hbone => wire::TunnelProtocol::Hbone,
        }
        .into(),
        trust_domain: unless(&workload.trust_domain, DEFAULT_TRUST_DOMAIN),
        service_account: unless(&workload.service_account, DEFAULT_SERVICE_ACCOUNT),
        waypoint: workload.waypoint.as_ref().map(gateway_to_wire),
        node: workload.node.to_string(),
        canonical_name: workload.canonical_name.to_string(),
        canonical_revision: workload.canonical_revision.to_string(),
        workload_type: match workload.workload_type {
            WorkloadType::Deployment => wire::WorkloadType::Deployment,
            WorkloadType::CronJob => wire::WorkloadType::Cronjob,
            WorkloadType::Pod => wire::WorkloadType::Pod,
            WorkloadType::Job => wire::WorkloadType::Job,
        }
        .into(),
        workload_name: workload.workload_name.to_string(),
        native_tunnel: workload.native_tunnel,
        authorization_policies: workload.authorization_policies.iter().map(Str::to_string).collect(),
        status: match workload.health {
            Health::Healthy => wire::WorkloadStatus::Healthy,
            Health::Unhealthy => wire::WorkloadStatus::Unhealthy,
        }
        .into(),
        cluster_id: workload.cluster_id.to_string(),
        network_gateway: workload.network_gateway.as_ref().map(gateway_to_wire),
        uid: workload.uid.to_string(),
        hostname: workload.hostname.as_ref().map(Str::to_string).unwrap_or_default(),
        services: services.collect(),
        application_tunnel: workload.application_tunnel.map(tunnel_to_wire),
        locality: locality_to_wire(&workload.locality),
        network_mode: match workload.host_network {
            false => wire::NetworkMode::Standard,
            true => wire::NetworkMode::HostNetwork,
        }
        .into(),
        extensions: Vec::new(),
        capacity: (workload.capacity != 1).then_some(workload.capacity),
    }
}

/// Reads a workload and fills in what the wire leaves out.
pub fn decode(workload: wire::Workload, names: &mut Names) -> Result<Workload, DecodeError> {
    if workload.uid.is_empty() {
        return Err(DecodeError::Missing("uid"));
    }
    let mut services = Memberships::with_capacity(workload.services.len());
    for (key, ports) in workload.services {
        services.insert(service_key(&key, names)?, ports_of_wire(&ports)?);
    }
    Ok(Workload {
        uid: workload.uid.into(),
        name: workload.name.into(),
        namespace: names.share(&workload.namespace),
        addresses: workload.addresses.iter().map(|ip| ip_of_wire("addresses", ip)).collect::<Result<_, _>>()?,
        hostname: (!workload.hostname.is_empty()).then(|| workload.hostname.into()),
        network: names.share(&workload.network),
        protocol: match known("tunnel_protocol", workload.tunnel_protocol)? {
            wire::TunnelProtocol::None => Protocol::Plain,
            wire::TunnelProtocol::Hbone => Protocol::Hbone,
            wire::TunnelProtocol::LegacyIstioMtls => return Err(DecodeError::LegacyTunnel),
        },
        native_tunnel: workload.native_tunnel,
        trust_domain: names.share(or(&workload.trust_domain, DEFAULT_TRUST_DOMAIN)),
        service_account: names.share(or(&workload.service_account, DEFAULT_SERVICE_ACCOUNT)),
        waypoint: workload.waypoint.map(|gateway| gateway_of_wire("waypoint", gateway)).transpose()?,
        network_gateway: workload
            .network_gateway
            .map(|gateway| gateway_of_wire("network_gateway", gateway))
            .transpose()?,
        node: names.share(&workload.node),
        canonical_name: names.share(&workload.canonical_name),
        canonical_revision: names.share(&workload.canonical_revision),
        workload_type: match known("workload_type", workload.workload_type)? {
            wire::WorkloadType::Deployment => WorkloadType::Deployment,
            wire::WorkloadType::Cronjob => WorkloadType::CronJob,
            wire::WorkloadType::Pod => WorkloadType::Pod,
            wire::WorkloadType::Job => WorkloadType::Job,
        },
        workload_name: names.share(&workload.workload_name),
        authorization_policies: workload.authorization_policies.iter().map(|name| names.share(name)).collect(),
        health: match known("status", workload.status)? {
            wire::WorkloadStatus::Healthy => Health::Healthy,
            wire::WorkloadStatus::Unhealthy => Health::Unhealthy,
        },
        cluster_id: names.share(or(&workload.cluster_id, DEFAULT_CLUSTER)),
        services,
        application_tunnel: workload.application_tunnel.map(tunnel_of_wire).transpose()?,
        locality: workload.locality.map(|locality| locality_of_wire(&locality, names)).unwrap_or_default(),
        host_network: match known("network_mode", workload.network_mode)? {
            wire::NetworkMode::Standard => false,
            wire::NetworkMode::HostNetwork => true,
        },
        capacity: workload.capacity.unwrap_or(1),
    })
}

fn or<'a>(text: &'a str, default: &'a str) -> &'a str {
    if text.is_empty() { default } else { text }
}

fn service_key(text: &str, names: &mut Names) -> Result<ServiceKey, DecodeError> {
    let wrong = |_| DecodeError::Key { field: "services", text: text.chars().take(200).collect() };
    let key: ServiceKey = text.parse().map_err(wrong)?;
    Ok(ServiceKey { namespace: names.share(&key.namespace), hostname: names.share(&key.hostname) })
}

fn ports_to_wire(ports: &PortMap) -> wire::PortList {
    let port = |(service, target): (&u16, &u16)| wire::Port {
        service_port: (*service).into(),
        target_port: (*target).into(),
        app_protocol: wire::AppProtocol::Unknown.into(),
    };
    wire::PortList { ports: ports.iter().map(port).collect() }
}

fn ports_of_wire(ports: &wire::PortList) -> Result<PortMap, DecodeError> {
    let pair = |p: &wire::Port| Ok((port("service_port", p.service_port)?, port("target_port", p.target_port)?));
    ports.ports.iter().map(pair).collect()
}

fn tunnel_to_wire(tunnel: ApplicationTunnel) -> wire::ApplicationTunnel {
    let protocol = match tunnel.proxy_protocol {
        false => wire::application_tunnel::Protocol::None,
        true => wire::application_tunnel::Protocol::Proxy,
    };
    wire::ApplicationTunnel { protocol: protocol.into(), port: tunnel.port.into() }
}

fn tunnel_of_wire(tunnel: wire::ApplicationTunnel) -> Result<ApplicationTunnel, DecodeError> {
    let proxy_protocol = match known("application_tunnel.protocol", tunnel.protocol)? {
        wire::application_tunnel::Protocol::None => false,
        wire::application_tunnel::Protocol::Proxy => true,
    };
    Ok(ApplicationTunnel { proxy_protocol, port: port("application_tunnel.port", tunnel.port)? })
}

fn locality_to_wire(locality: &Locality) -> Option<wire::Locality> {
    (*locality != Locality::default()).then(|| wire::Locality {
        region: locality.region.to_string(),
        zone: locality.zone.to_string(),
        subzone: locality.subzone.to_string(),
    })
}

fn locality_of_wire(locality: &wire::Locality, names: &mut Names) -> Locality {
    Locality {
        region: names.share(&locality.region),
        zone: names.share(&locality.zone),
        subzone: names.share(&locality.subzone),
    }
}
