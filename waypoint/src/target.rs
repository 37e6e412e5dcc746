//! What a tunnel was asked for, and whether it is ours to serve.
//!
//! A service by its address or name, or a workload by its address, and only what is bound to this
//! waypoint: whoever asks for anything else has come to the wrong place, and must not get around the
//! waypoint that is responsible by coming here.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use hbone::head::Authority;
use http::StatusCode;
use mesh::service::{AppProtocol, ServicePort};
use mesh::workload::{Destination, GatewayAddress};
use mesh::{Service, Str, View, Workload};

use crate::config::Own;

/// What was asked for.
#[derive(Clone, Debug)]
pub enum Target {
    /// A port of a service.
    Service {
        /// The service.
        service: Arc<Service>,
        /// Its port.
        port: u16,
        /// How it is served there.
        served: ServicePort,
        /// The address that the caller dialled, where it dialled one.
        dialled: Option<SocketAddr>,
    },
    /// A port of a workload.
    Workload {
        /// The workload.
        workload: Arc<Workload>,
        /// Its address and port.
        address: SocketAddr,
    },
}

/// Why a tunnel is not for us.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reject {
    /// Nobody told us of it.
    #[error("{0} is no service and no workload that this waypoint knows")]
    Unknown(Authority),
    /// The service has no such port.
    #[error("service {service} has no port {port}")]
    NoSuchPort {
        /// The service.
        service: Str,
        /// The port.
        port: u16,
    },
    /// Another waypoint is responsible, or none.
    #[error(
        "{0} is not bound to this waypoint; whoever sent this has an older view of the mesh, or means to go around policy"
    )]
    NotBound(Str),
}

impl Reject {
    /// What the caller is answered.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Unknown(_) | Self::NoSuchPort { .. } | Self::NotBound(_) => StatusCode::NOT_FOUND,
        }
    }
}

impl Target {
    /// Its port.
    pub fn port(&self) -> u16 {
        match self {
            Self::Service { port, .. } => *port,
            Self::Workload { address, .. } => address.port(),
        }
    }

    /// What is spoken there, as far as anybody said.
    pub fn protocol(&self) -> AppProtocol {
        match self {
            Self::Service { served, .. } => served.app_protocol,
            Self::Workload { .. } => AppProtocol::Unknown,
        }
    }

    /// The address that policies call the destination's.
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Service { service, port, dialled, .. } => {
                dialled.or_else(|| service.vips.first().map(|vip| SocketAddr::new(vip.address, *port)))
            }
            Self::Workload { address, .. } => Some(*address),
        }
    }

    /// The service, if it is one.
    pub fn service(&self) -> Option<&Arc<Service>> {
        match self {
            Self::Service { service, .. } => Some(service),
            Self::Workload { .. } => None,
        }
    }
}

/// What is meant by `authority`, if that is ours to serve.
pub fn of(view: &View, network: &str, own: &Own, authority: &Authority) -> Result<Target, Reject> {
    match authority {
        Authority::Address(address) => match view.service_by_vip(network, address.ip(), own.namespace()) {
            Some(service) => of_service(view, own, service, address.port(), Some(*address)),
            None => of_workload(view, network, own, *address, authority),
        },
        Authority::Host { host, port } => match view.service_by_hostname(host, own.namespace()) {
            Some(service) => of_service(view, own, service, *port, None),
            None => Err(Reject::Unknown(authority.clone())),
        },
    }
}

fn of_service(
    view: &View,
    own: &Own,
    service: &Arc<Service>,
    port: u16,
    dialled: Option<SocketAddr>,
) -> Result<Target, Reject> {
    if !is_bound(view, own, service) {
        return Err(Reject::NotBound(service.hostname.clone()));
    }
    let Some(served) = service.ports.get(&port) else {
        return Err(Reject::NoSuchPort { service: service.hostname.clone(), port });
    };
    Ok(Target::Service { service: service.clone(), port, served: *served, dialled })
}

/// Whether a service is bound to us.
pub fn is_bound(view: &View, own: &Own, service: &Service) -> bool {
    let weighted = service.weighted_waypoints.iter().map(|(waypoint, _)| waypoint);
    service.waypoint.iter().chain(weighted).any(|waypoint| names_us(view, own, waypoint))
}

fn of_workload(
    view: &View,
    network: &str,
    own: &Own,
    address: SocketAddr,
    authority: &Authority,
) -> Result<Target, Reject> {
    let workload = view.workload_by_address(network, address.ip()).ok_or_else(|| Reject::Unknown(authority.clone()))?;
    if !workload.waypoint.as_ref().is_some_and(|waypoint| names_us(view, own, waypoint)) {
        return Err(Reject::NotBound(workload.name.clone()));
    }
    Ok(Target::Workload { workload: workload.clone(), address })
}

/// Whether a reference to a waypoint means us: our Gateway's service, by name or by address, any
/// service that our pod is part of, or the pod itself.
fn names_us(view: &View, own: &Own, waypoint: &GatewayAddress) -> bool {
    let is_own = |service: &Service| service.namespace == *own.namespace() && service.hostname == own.hostname;
    let pod = view.workload_of_pod(own.namespace(), &own.pod, own.identity.service_account());
    let of_pod = |key: &mesh::ServiceKey| pod.is_some_and(|pod| pod.services.contains_key(key));
    match &waypoint.destination {
        Destination::Service(key) => (key.namespace == *own.namespace() && key.hostname == own.hostname) || of_pod(key),
        Destination::Address(at) => {
            let pod_itself = own.ip.is_some_and(|ip| IpAddr::to_canonical(&ip) == at.address.to_canonical());
            let behind = view.service_by_vip(&at.network, at.address, own.namespace());
            pod_itself || behind.is_some_and(|service| is_own(service) || of_pod(&service.key()))
        }
    }
}

#[cfg(test)]
mod tests;
