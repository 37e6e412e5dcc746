//! Whether a connection may come in, and where it goes; or why not. Pure.
//!
//! In order: is it for this pod · which port is meant · is that none of the proxy's own · does
//! policy let it pass. Policy is asked about the port where the bytes really go.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use hbone::head::{Authority, BadConnect};
use http::StatusCode;
use mesh::authz::{self, Attributes, Verdict};
use mesh::workload::{Destination, GatewayAddress};
use mesh::{Identity, Service, View, Workload};

use crate::PROXY_PORTS;

/// What the decision depends on.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// What is known of the mesh.
    pub view: &'a View,
    /// Our own network.
    pub network: &'a str,
    /// The pod that is called.
    pub own: &'a Workload,
    /// The address of it that the connection came to.
    pub reached: IpAddr,
    /// It came through a tunnel, or as if through one.
    pub through_tunnel: bool,
    /// What was asked for: the head of a CONNECT, or where a plain connection wanted to go.
    pub authority: &'a Authority,
    /// The hostname of the service that the caller says it meant; only for telling.
    pub hint: Option<&'a str>,
    /// Who calls, as its certificate proved; none for a plain connection.
    pub source: Option<&'a Identity>,
    /// The address that the connection came from.
    pub source_ip: IpAddr,
    /// Proxies behind this one are reached on the loopback.
    pub tunnel_to_localhost: bool,
}

/// What was decided, and about what.
#[derive(Clone, Debug)]
pub struct Decision {
    /// The service that was meant, as far as that is known.
    pub service: Option<Arc<Service>>,
    /// What policy said, where it was asked.
    pub verdict: Option<Verdict>,
    /// Where to go.
    pub plan: Result<Plan, Reject>,
}

/// Where a connection that may come in goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The application.
    pub address: SocketAddr,
    /// What policy was asked about; the same will be asked again when policy changes.
    pub judged: SocketAddr,
    /// The application is itself a proxy and is told by the PROXY protocol what was asked for.
    pub announce: Option<SocketAddr>,
}

/// Why a connection may not come in.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Reject {
    /// It is no proper CONNECT.
    #[error(transparent)]
    BadConnect(#[from] BadConnect),
    /// The control plane did not tell of the pod that is called.
    #[error("the pod that is called is not known to the control plane")]
    UnknownDestination,
    /// The tunnel asks for somebody else's address.
    #[error("the tunnel asks for {asked}, but it ended at {reached}")]
    OtherAddress {
        /// What it asked for.
        asked: SocketAddr,
        /// Whose listener it came to.
        reached: IpAddr,
    },
    /// The tunnel asks for a service that this pod is no part of.
    #[error("{0} is not served by this pod")]
    NoSuchService(Authority),
    /// The port is one of the proxy itself.
    #[error("{0} is a port of the proxy itself")]
    SelfCall(SocketAddr),
    /// Policy says no.
    #[error("connection closed due to policy rejection: {}", reason(.0))]
    Denied(Box<Verdict>),
}

impl Reject {
    /// What the sender of a CONNECT is told.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::BadConnect(_) | Self::OtherAddress { .. } => StatusCode::BAD_REQUEST,
            Self::Denied(_) => StatusCode::UNAUTHORIZED,
            Self::UnknownDestination | Self::NoSuchService(_) | Self::SelfCall(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

fn reason(verdict: &Verdict) -> String {
    use mesh::authz::Reason;
    match &verdict.reason {
        Reason::DeniedBy(policy) => format!("explicitly denied by {}", policy.key()),
        Reason::NothingAllows => "allow policies exist, but none allowed".into(),
        Reason::AllowedBy(policy) => format!("allowed by {}", policy.key()),
        Reason::NoPolicy => "no policy".into(),
    }
}

/// Decides whether a connection may come in.
pub fn admit(asked: &Asked<'_>) -> Decision {
    let (service, port) = match target(asked) {
        Ok(found) => found,
        Err(reject) => return Decision { service: None, verdict: None, plan: Err(reject) },
    };
    let service = service.or_else(|| meant(asked, port)).cloned();
    let judged = SocketAddr::new(asked.reached, port);
    if PROXY_PORTS.contains(&port) {
        return Decision { service, verdict: None, plan: Err(Reject::SelfCall(judged)) };
    }
    let attributes = Attributes {
        source: asked.source,
        source_ip: asked.source_ip,
        destination_ip: asked.reached,
        destination_port: port,
        server_name: None,
        request: None,
    };
    let verdict = authz::decide(asked.view, asked.own, &attributes);
    let plan = match verdict.allowed {
        true => Ok(to_application(asked, judged)),
        false => Err(Reject::Denied(Box::new(verdict.clone()))),
    };
    Decision { service, verdict: Some(verdict), plan }
}

/// The service and the port of the pod that are meant.
fn target<'a>(asked: &Asked<'a>) -> Result<(Option<&'a Arc<Service>>, u16), Reject> {
    let port = match asked.authority {
        Authority::Address(address) if may_ask_for(asked, address.ip()) => {
            return Ok((None, final_port(asked, address.port())));
        }
        Authority::Address(address) => {
            return Err(Reject::OtherAddress { asked: *address, reached: asked.reached });
        }
        Authority::Host { port, .. } => *port,
    };
    let Authority::Host { host, .. } = asked.authority else {
        return Err(Reject::NoSuchService(asked.authority.clone()));
    };
    let service = service_of(asked, host).ok_or_else(|| Reject::NoSuchService(asked.authority.clone()))?;
    let own = asked.own.services.get(&service.key()).and_then(|ports| ports.get(&port)).copied();
    let own = own.filter(|port| *port != 0);
    let common = service.ports.get(&port).map(|port| port.target_port).filter(|port| *port != 0);
    match own.or(common) {
        Some(port) => Ok((Some(service), final_port(asked, port))),
        None => Err(Reject::NoSuchService(asked.authority.clone())),
    }
}

/// A tunnel may ask for the pod it came to. A waypoint, and a proxy that is told what was asked
/// for, take tunnels to others.
fn may_ask_for(asked: &Asked<'_>, ip: IpAddr) -> bool {
    if ip == asked.reached || asked.own.application_tunnel.is_some() {
        return true;
    }
    let service = asked.view.service_by_vip(asked.network, ip, &asked.own.namespace);
    let workload = asked.view.workload_by_address(asked.network, ip);
    let of_service = service.into_iter().flat_map(|service| {
        service.waypoint.iter().chain(service.weighted_waypoints.iter().map(|(waypoint, _)| waypoint))
    });
    let of_workload = workload.and_then(|workload| workload.waypoint.as_ref()).filter(|_| service.is_none());
    of_service.chain(of_workload).any(|waypoint| is_own(asked, waypoint))
}

fn is_own(asked: &Asked<'_>, waypoint: &GatewayAddress) -> bool {
    match &waypoint.destination {
        Destination::Service(key) => asked.own.services.contains_key(key),
        Destination::Address(at) if *at.network != *asked.own.network => false,
        Destination::Address(at) => {
            let behind = asked.view.service_by_vip(&at.network, at.address, &asked.own.namespace);
            asked.own.addresses.contains(&at.address)
                || behind.is_some_and(|service| asked.own.services.contains_key(&service.key()))
        }
    }
}

fn final_port(asked: &Asked<'_>, port: u16) -> u16 {
    match asked.own.application_tunnel {
        Some(tunnel) if tunnel.port != 0 && asked.through_tunnel => tunnel.port,
        _ => port,
    }
}

/// The service of this hostname that the pod is part of: of several the one of its own namespace,
/// then the canonical one, then the smaller key.
fn service_of<'a>(asked: &Asked<'a>, hostname: &str) -> Option<&'a Arc<Service>> {
    let own = asked.own.services.keys().filter(|key| *key.hostname == *hostname);
    own.filter_map(|key| asked.view.service(key))
        .min_by_key(|service| (service.namespace != asked.own.namespace, !service.canonical))
}

/// The service that the caller says it meant, where the pod is part of it; else the only one of the
/// pod that leads to this port.
fn meant<'a>(asked: &Asked<'a>, port: u16) -> Option<&'a Arc<Service>> {
    if let Some(hostname) = asked.hint {
        return service_of(asked, hostname);
    }
    let mut leading = asked.own.services.iter().filter_map(|(key, ports)| {
        let service = asked.view.service(key)?;
        let leads = service
            .ports
            .iter()
            .any(|(from, to)| ports.get(from).copied().filter(|port| *port != 0).unwrap_or(to.target_port) == port);
        leads.then_some(service)
    });
    leading.next().filter(|_| leading.next().is_none())
}

fn to_application(asked: &Asked<'_>, judged: SocketAddr) -> Plan {
    let wants = asked.own.application_tunnel.filter(|tunnel| tunnel.proxy_protocol && asked.through_tunnel);
    let Some(tunnel) = wants else {
        return Plan { address: judged, judged, announce: None };
    };
    let port = if tunnel.port == 0 { judged.port() } else { tunnel.port };
    let ip = match (asked.tunnel_to_localhost, asked.reached) {
        (false, ip) => ip,
        (true, IpAddr::V4(_)) => Ipv4Addr::LOCALHOST.into(),
        (true, IpAddr::V6(_)) => Ipv6Addr::LOCALHOST.into(),
    };
    let announced = match asked.authority {
        Authority::Address(address) => *address,
        // A service by its address on our network, IPv4 first; one without is told as the pod itself.
        Authority::Host { host, port } => {
            let vips = service_of(asked, host).map(|service| service.vips.as_slice()).unwrap_or_default();
            let vip = vips.iter().filter(|vip| *vip.network == *asked.network).map(|vip| vip.address);
            SocketAddr::new(vip.min_by_key(IpAddr::is_ipv6).unwrap_or(asked.reached), *port)
        }
    };
    Plan { address: SocketAddr::new(ip, port), judged, announce: Some(announced) }
}

#[cfg(test)]
mod tests;
