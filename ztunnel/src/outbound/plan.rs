//! Where a captured connection goes, and through what; or why nowhere. Pure.
//!
//! The rows, in order: a call of the proxy itself is refused · an address of a service with a
//! waypoint goes through that, and of one without to an endpoint · an address of a workload with a
//! waypoint goes through that, unless it is the waypoint that calls, and of one without to the
//! workload · any other address is left as it is. A waypoint that is configured and cannot be
//! reached is never gone around.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use hbone::head::Authority;
use mesh::balance::{self, Hints};
use mesh::identity::IdentityError;
use mesh::service::LoadBalancingMode;
use mesh::workload::{Destination, GatewayAddress, Protocol};
use mesh::{Identity, Service, ServiceKey, Str, View, Workload};

use crate::PROXY_PORTS;

/// The port on which pods take tunnels.
pub const HBONE_PORT: u16 = 15008;

/// What the decision depends on.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// What is known of the mesh.
    pub view: &'a View,
    /// Our own network.
    pub network: &'a str,
    /// The pod that connects.
    pub source: &'a Workload,
    /// Where it wanted to go.
    pub target: SocketAddr,
    /// All chance there is in it.
    pub dice: Dice,
    /// Replicas (uids) of the waypoint that could not be reached for this connection.
    pub tried: &'a [Str],
    /// Whether a workload is a pod that this process proxies for, so that no tunnel is needed.
    pub is_here: &'a (dyn Fn(&Workload) -> bool + Sync),
}

/// Uniformly random numbers, one for each thing that is left to chance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dice {
    /// Which of several waypoints.
    pub waypoint: u64,
    /// Which endpoint.
    pub endpoint: u64,
}

/// What was decided, and about what.
#[derive(Clone, Debug)]
pub struct Decision {
    /// The service that was addressed.
    pub service: Option<Arc<Service>>,
    /// The workload to connect to: an endpoint, or the waypoint.
    pub destination: Option<Arc<Workload>>,
    /// That is a replica of a waypoint; another would do as well.
    pub replica: bool,
    /// Where to go.
    pub plan: Result<Plan, Reject>,
}

/// Where a connection goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Through a tunnel.
    Tunnel {
        /// Where the tunnel's TCP connection goes.
        to: SocketAddr,
        /// What the tunnel is asked for.
        authority: Authority,
        /// Who may be at its other end.
        expected: Vec<Identity>,
    },
    /// To a pod of this node that would take a tunnel, without one. Its admission is asked, and is
    /// the same as if there were.
    SameNode {
        /// The pod's address and port.
        address: SocketAddr,
        /// Who it is.
        identity: Identity,
    },
    /// Without a tunnel.
    Plain {
        /// Where to.
        to: SocketAddr,
    },
    /// The endpoint has a name and no address: resolve it and ask [`resolved`].
    ResolveFirst {
        /// The name.
        hostname: Str,
        /// The endpoint's port.
        port: u16,
    },
}

/// Why a connection of a pod goes nowhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reject {
    /// It is meant for one of our own listeners, and would come back to us.
    #[error("{0} is a port of the proxy itself")]
    SelfCall(SocketAddr),
    /// The control plane did not tell of the pod that sends.
    #[error("the pod that sends is not known to the control plane")]
    UnknownSource,
    /// A waypoint is configured, and none can take the connection. It does not go around it.
    #[error("no usable endpoint of waypoint {0}")]
    NoWaypoint(String),
    /// No endpoint of the service can take the connection.
    #[error("no healthy endpoint of {0}")]
    NoEndpoint(ServiceKey),
    /// The endpoint is on another network, which this proxy has no way to.
    #[error("workload {workload} is on network {network:?}, which cannot be reached from here")]
    OtherNetwork {
        /// Its uid.
        workload: Str,
        /// Its network.
        network: Str,
    },
    /// The endpoint has neither an address nor a name.
    #[error("workload {0} has no address")]
    NoAddress(Str),
    /// The control plane describes an endpoint whose identity is none.
    #[error("workload {workload} cannot be told from others: {source}")]
    BadIdentity {
        /// Its uid.
        workload: Str,
        /// What is wrong.
        source: IdentityError,
    },
}

/// Decides where a connection goes.
pub fn plan(asked: &Asked<'_>) -> Decision {
    let (ip, port) = (asked.target.ip(), asked.target.port());
    let of_this_pod = ip.is_loopback() || asked.source.addresses.contains(&ip);
    if of_this_pod && PROXY_PORTS.contains(&port) {
        return Decision::of(None, Err(Reject::SelfCall(asked.target)));
    }
    if let Some(service) = asked.view.service_by_vip(asked.network, ip, &asked.source.namespace) {
        return to_service(asked, service);
    }
    match asked.view.workload_by_address(asked.network, ip) {
        Some(workload) => to_workload(asked, workload),
        None => Decision::of(None, Ok((None, Plan::Plain { to: asked.target }))),
    }
}

/// The plan for an endpoint whose name was resolved to `address`.
pub fn resolved(asked: &Asked<'_>, decision: &Decision, address: IpAddr, port: u16) -> Result<Plan, Reject> {
    match &decision.destination {
        Some(workload) => to_endpoint(asked, workload, decision.service.as_deref(), SocketAddr::new(address, port)),
        None => Ok(Plan::Plain { to: SocketAddr::new(address, port) }),
    }
}

type Step = Result<(Option<Arc<Workload>>, Plan), (Option<Arc<Workload>>, Reject)>;

impl Decision {
    fn of(service: Option<&Arc<Service>>, plan: Result<(Option<Arc<Workload>>, Plan), Reject>) -> Self {
        Self::step(service, plan.map_err(|reject| (None, reject)))
    }

    fn step(service: Option<&Arc<Service>>, step: Step) -> Self {
        let service = service.cloned();
        match step {
            Ok((destination, plan)) => Self { service, destination, replica: false, plan: Ok(plan) },
            Err((destination, reject)) => Self { service, destination, replica: false, plan: Err(reject) },
        }
    }
}

fn to_service(asked: &Asked<'_>, service: &Arc<Service>) -> Decision {
    if let Some(waypoint) = waypoint_of(service, asked.dice.waypoint) {
        return Decision { replica: true, ..Decision::step(Some(service), through(asked, waypoint)) };
    }
    let hints = Hints {
        source: Some(asked.source),
        dialled: asked.target.ip(),
        port: asked.target.port(),
        dice: asked.dice.endpoint,
    };
    let Some(choice) = balance::pick(asked.view, service, &hints) else {
        let plan = match service.load_balancing.mode {
            LoadBalancingMode::Passthrough => Ok((None, Plan::Plain { to: asked.target })),
            _ => Err(Reject::NoEndpoint(service.key())),
        };
        return Decision::of(Some(service), plan);
    };
    let workload = choice.workload;
    let plan = match (choice.address, &workload.hostname) {
        _ if *workload.network != *asked.network => Err(other_network(&workload)),
        (Some(ip), _) => to_endpoint(asked, &workload, Some(service), SocketAddr::new(ip, choice.port)),
        (None, Some(hostname)) => Ok(Plan::ResolveFirst { hostname: hostname.clone(), port: choice.port }),
        (None, None) => Err(Reject::NoAddress(workload.uid.clone())),
    };
    Decision { service: Some(service.clone()), destination: Some(workload), replica: false, plan }
}

fn to_workload(asked: &Asked<'_>, workload: &Arc<Workload>) -> Decision {
    match &workload.waypoint {
        Some(waypoint) if !is_part_of(asked, waypoint) => {
            Decision { replica: true, ..Decision::step(None, through(asked, waypoint)) }
        }
        _ => {
            let plan = to_endpoint(asked, workload, None, asked.target);
            Decision { service: None, destination: Some(workload.clone()), replica: false, plan }
        }
    }
}

/// To a workload on our own network, at its own address.
fn to_endpoint(
    asked: &Asked<'_>,
    workload: &Workload,
    service: Option<&Service>,
    address: SocketAddr,
) -> Result<Plan, Reject> {
    if workload.protocol == Protocol::Plain {
        return Ok(Plan::Plain { to: address });
    }
    let identity = identity_of(workload)?;
    let without_tunnel = !workload.native_tunnel && workload.application_tunnel.is_none();
    if without_tunnel && (asked.is_here)(workload) {
        return Ok(Plan::SameNode { address, identity });
    }
    Ok(Plan::Tunnel {
        to: SocketAddr::new(address.ip(), HBONE_PORT),
        authority: Authority::address(address.ip(), address.port()),
        expected: expected(identity, service),
    })
}

/// Through a waypoint, which is told where the connection wanted to go.
fn through(asked: &Asked<'_>, waypoint: &GatewayAddress) -> Step {
    let missing = || (None, Reject::NoWaypoint(name_of(waypoint)));
    let Reached { workload, address, service } = resolve(asked, waypoint).ok_or_else(missing)?;
    let rejected = |reject| (Some(workload.clone()), reject);
    if *workload.network != *asked.network {
        return Err(rejected(other_network(&workload)));
    }
    let to = address.ok_or_else(|| rejected(Reject::NoWaypoint(name_of(waypoint))))?;
    let expected = expected(identity_of(&workload).map_err(rejected)?, service);
    let authority = Authority::address(asked.target.ip(), asked.target.port());
    Ok((Some(workload), Plan::Tunnel { to, authority, expected }))
}

struct Reached<'a> {
    workload: Arc<Workload>,
    address: Option<SocketAddr>,
    service: Option<&'a Service>,
}

/// The workload behind a reference to a waypoint.
fn resolve<'a>(asked: &Asked<'a>, waypoint: &GatewayAddress) -> Option<Reached<'a>> {
    let port = waypoint.hbone_mtls_port;
    let service = match &waypoint.destination {
        Destination::Service(key) => asked.view.service(key)?,
        Destination::Address(at) => match asked.view.workload_by_address(&at.network, at.address) {
            Some(workload) if asked.tried.contains(&workload.uid) => return None,
            Some(workload) => {
                let address = Some(SocketAddr::new(at.address, tunnel_port(workload, port)));
                return Some(Reached { workload: workload.clone(), address, service: None });
            }
            None => asked.view.service_by_vip(&at.network, at.address, &asked.source.namespace)?,
        },
    };
    let hints = Hints { source: Some(asked.source), dialled: asked.target.ip(), port, dice: asked.dice.endpoint };
    let choice = balance::pick_among(asked.view, service, &hints, |replica| !asked.tried.contains(&replica.uid))?;
    let port = tunnel_port(&choice.workload, choice.port);
    let address = choice.address.map(|ip| SocketAddr::new(ip, port));
    Some(Reached { workload: choice.workload, address, service: Some(service) })
}

/// Whether the caller is itself the waypoint, whose calls go to the workload it stands before.
fn is_part_of(asked: &Asked<'_>, waypoint: &GatewayAddress) -> bool {
    match &waypoint.destination {
        Destination::Service(key) => asked.source.services.contains_key(key),
        Destination::Address(at) if *at.network != *asked.source.network => false,
        Destination::Address(at) => {
            let behind = asked.view.service_by_vip(&at.network, at.address, &asked.source.namespace);
            asked.source.addresses.contains(&at.address)
                || behind.is_some_and(|service| asked.source.services.contains_key(&service.key()))
        }
    }
}

/// The waypoint of a service: one of the weighted ones, where there are any.
fn waypoint_of(service: &Service, dice: u64) -> Option<&GatewayAddress> {
    let weights: u64 = service.weighted_waypoints.iter().map(|(_, weight)| u64::from(*weight)).sum();
    if weights == 0 {
        // A list in which nothing has weight still says that there is a waypoint.
        return service.weighted_waypoints.first().map(|(waypoint, _)| waypoint).or(service.waypoint.as_ref());
    }
    let mut left = ((u128::from(dice) * u128::from(weights)) >> 64) as u64;
    service.weighted_waypoints.iter().find_map(|(waypoint, weight)| match left.checked_sub(u64::from(*weight)) {
        Some(rest) => {
            left = rest;
            None
        }
        None => Some(waypoint),
    })
}

/// Who may be at the other end: the workload, or whom its service names besides. A name that is no
/// identity of a mesh is nobody.
fn expected(identity: Identity, service: Option<&Service>) -> Vec<Identity> {
    let others = service.into_iter().flat_map(|service| &service.subject_alt_names);
    std::iter::once(identity).chain(others.filter_map(|name| name.parse().ok())).collect()
}

fn identity_of(workload: &Workload) -> Result<Identity, Reject> {
    workload.identity().map_err(|source| Reject::BadIdentity { workload: workload.uid.clone(), source })
}

fn other_network(workload: &Workload) -> Reject {
    Reject::OtherNetwork { workload: workload.uid.clone(), network: workload.network.clone() }
}

/// Where a workload takes tunnels: behind a node proxy that hands them on, where that says.
fn tunnel_port(workload: &Workload, port: u16) -> u16 {
    match workload.application_tunnel {
        Some(tunnel) if tunnel.port != 0 => tunnel.port,
        _ => port,
    }
}

fn name_of(waypoint: &GatewayAddress) -> String {
    match &waypoint.destination {
        Destination::Service(key) => key.to_string(),
        Destination::Address(at) => format!("{}/{}", at.network, at.address),
    }
}

#[cfg(test)]
mod tests;
