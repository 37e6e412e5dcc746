//! What workloads and services have in common: addresses, gateways, ports, and the resource
//! type that holds either.

use super::{DecodeError, Names, port, service, workload};
use bytes::Bytes;
use ipnet::IpNet;
use mesh::{
    Change, Service, ServiceKey, Workload,
    workload::{Destination, GatewayAddress, NetworkAddress},
};
use proto::workload as wire;
use std::{net::IpAddr, sync::Arc};

/// The resource of a workload.
pub fn of_workload(workload: &Workload) -> wire::Address {
    wire::Address { r#type: Some(wire::address::Type::Workload(workload::encode(workload))) }
}

/// The resource of a service.
pub fn of_service(service: &Service) -> wire::Address {
    wire::Address { r#type: Some(wire::address::Type::Service(service::encode(service))) }
}

/// What an address resource adds.
pub fn decode(address: wire::Address, names: &mut Names) -> Result<Change, DecodeError> {
    match address.r#type.ok_or(DecodeError::Missing("workload or service"))? {
        wire::address::Type::Workload(workload) => Ok(Change::Workload(Arc::new(workload::decode(workload, names)?))),
        wire::address::Type::Service(service) => Ok(Change::Service(Arc::new(service::decode(service, names)?))),
    }
}

/// The other names of a workload: `network/IP` for each address.
pub fn workload_aliases(workload: &Workload) -> Vec<String> {
    workload.addresses.iter().map(|address| format!("{}/{address}", workload.network)).collect()
}

/// The other names of a service: `network/VIP`, and `network/IP/length` for a range.
pub fn service_aliases(service: &Service) -> Vec<String> {
    let single = service.vips.iter().map(|vip| format!("{}/{}", vip.network, vip.address));
    let ranges = service.cidr_vips.iter().map(|(network, range)| format!("{network}/{range}"));
    single.chain(ranges).collect()
}

pub(super) fn ip_to_wire(address: IpAddr) -> Bytes {
    match address {
        IpAddr::V4(v4) => Bytes::copy_from_slice(&v4.octets()),
        IpAddr::V6(v6) => Bytes::copy_from_slice(&v6.octets()),
    }
}

pub(super) fn ip_of_wire(field: &'static str, bytes: &[u8]) -> Result<IpAddr, DecodeError> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Ok(v4.into());
    }
    let v6 = <[u8; 16]>::try_from(bytes).map_err(|_| DecodeError::Address { field, bytes: bytes.len() })?;
    Ok(v6.into())
}

/// A range; bits behind the prefix say nothing and are dropped.
pub(super) fn range_of_wire(field: &'static str, bytes: &[u8], length: u32) -> Result<IpNet, DecodeError> {
    let address = ip_of_wire(field, bytes)?;
    let too_long = DecodeError::Prefix { field, length };
    let prefix = u8::try_from(length).map_err(|_| too_long.clone())?;
    Ok(IpNet::new(address, prefix).map_err(|_| too_long)?.trunc())
}

pub(super) fn network_address_to_wire(address: &NetworkAddress) -> wire::NetworkAddress {
    wire::NetworkAddress { network: address.network.to_string(), address: ip_to_wire(address.address), length: None }
}

pub(super) fn gateway_to_wire(gateway: &GatewayAddress) -> wire::GatewayAddress {
    use wire::gateway_address::Destination as Wire;
    let destination = match &gateway.destination {
        Destination::Service(key) => Wire::Hostname(wire::NamespacedHostname {
            namespace: key.namespace.to_string(),
            hostname: key.hostname.to_string(),
        }),
        Destination::Address(address) => Wire::Address(network_address_to_wire(address)),
    };
    wire::GatewayAddress { destination: Some(destination), hbone_mtls_port: gateway.hbone_mtls_port.into() }
}

/// A waypoint that is configured but says nothing must not become "no waypoint": that would be
/// weaker than asked.
pub(super) fn gateway_of_wire(
    field: &'static str,
    gateway: wire::GatewayAddress,
) -> Result<GatewayAddress, DecodeError> {
    use wire::gateway_address::Destination as Wire;
    let destination = match gateway.destination.ok_or(DecodeError::Missing(field))? {
        Wire::Hostname(name) => {
            Destination::Service(ServiceKey { namespace: name.namespace.into(), hostname: name.hostname.into() })
        }
        Wire::Address(address) => Destination::Address(NetworkAddress {
            network: address.network.into(),
            address: ip_of_wire(field, &address.address)?,
        }),
    };
    Ok(GatewayAddress { destination, hbone_mtls_port: port("hbone_mtls_port", gateway.hbone_mtls_port)? })
}
