//! Which endpoint of a service takes a connection.
//!
//! First those are left out that cannot take it (unhealthy, no such port, no address, weight 0),
//! then routing preferences keep the best, then the dice choose by weight.

use crate::{
    Service, View, Workload,
    service::{IpFamilies, LoadBalancingMode, Scope},
    workload::{Health, PortMap},
};
use std::{net::IpAddr, sync::Arc};

/// One workload behind a service, with the ports it serves there.
#[derive(Clone, Copy, Debug)]
pub struct Endpoint<'a> {
    /// The workload.
    pub workload: &'a Arc<Workload>,
    /// Service port → its port.
    pub ports: &'a PortMap,
}

/// What the choice depends on.
#[derive(Clone, Copy, Debug)]
pub struct Hints<'a> {
    /// Who calls; `None` when nobody knows, and then no preference matches.
    pub source: Option<&'a Workload>,
    /// The address that was dialled.
    pub dialled: IpAddr,
    /// The service port that was dialled.
    pub port: u16,
    /// A uniformly random number, the only chance in the choice.
    pub dice: u64,
}

/// The endpoint that was chosen.
#[derive(Clone, Debug)]
pub struct Choice {
    /// The workload.
    pub workload: Arc<Workload>,
    /// Its address; `None`: its hostname must be resolved first, or it is behind a gateway.
    pub address: Option<IpAddr>,
    /// The port on the workload.
    pub port: u16,
}

/// Chooses an endpoint of `service`, or none when none can take the connection.
pub fn pick(view: &View, service: &Service, hints: &Hints<'_>) -> Option<Choice> {
    pick_among(view, service, hints, |_| true)
}

/// The same among those endpoints that the caller leaves.
pub fn pick_among(
    view: &View,
    service: &Service,
    hints: &Hints<'_>,
    left: impl Fn(&Workload) -> bool,
) -> Option<Choice> {
    let mut best = 0;
    let mut usable: Vec<(&Arc<Workload>, Option<IpAddr>, u16)> = Vec::new();
    for endpoint in view.endpoints(&service.key()) {
        let workload = endpoint.workload;
        let Some(rank) = rank(service, workload, hints.source) else { continue };
        let Some(port) = port(service, &endpoint, hints.port) else { continue };
        let Some(address) = address(service, workload, hints) else { continue };
        let healthy = workload.health == Health::Healthy || service.load_balancing.allow_unhealthy;
        if !healthy || workload.capacity == 0 || !left(workload) || (rank < best && !usable.is_empty()) {
            continue;
        }
        if rank > best {
            usable.clear();
            best = rank;
        }
        usable.push((workload, address, port));
    }
    let weights: u64 = usable.iter().map(|(workload, ..)| u64::from(workload.capacity)).sum();
    let mut rest = scale(hints.dice, weights);
    for (workload, address, port) in usable {
        match rest.checked_sub(u64::from(workload.capacity)) {
            Some(less) => rest = less,
            None => return Some(Choice { workload: workload.clone(), address, port }),
        }
    }
    None
}

/// The dice, which are anywhere in the 64 bits, as a number under `sum`, without favouring the low ones.
fn scale(dice: u64, sum: u64) -> u64 {
    ((u128::from(dice) * u128::from(sum)) >> 64) as u64
}

/// How many leading preferences an endpoint matches; `None` when it may not be used at all.
pub fn rank(service: &Service, workload: &Workload, source: Option<&Workload>) -> Option<usize> {
    let wanted = &service.load_balancing.routing_preference;
    match service.load_balancing.mode {
        LoadBalancingMode::Unspecified | LoadBalancingMode::Passthrough => Some(0),
        LoadBalancingMode::Strict => {
            let all = wanted.iter().all(|scope| source.is_some_and(|source| shared(*scope, source, workload)));
            all.then_some(wanted.len())
        }
        LoadBalancingMode::Failover => Some(source.map_or(0, |source| leading(wanted, source, workload))),
    }
}

/// The network is special when it comes first: an endpoint on another network is still ranked by
/// what follows, and one on the same network is ahead of all of those.
fn leading(wanted: &[Scope], source: &Workload, workload: &Workload) -> usize {
    let matching = |scope: &&Scope| shared(**scope, source, workload);
    match wanted {
        [Scope::Network, rest @ ..] => {
            let ahead = if shared(Scope::Network, source, workload) { wanted.len() } else { 0 };
            ahead + rest.iter().take_while(matching).count()
        }
        _ => wanted.iter().take_while(matching).count(),
    }
}

fn shared(scope: Scope, a: &Workload, b: &Workload) -> bool {
    match scope {
        Scope::Region => a.locality.region == b.locality.region,
        Scope::Zone => a.locality.zone == b.locality.zone,
        Scope::Subzone => a.locality.subzone == b.locality.subzone,
        Scope::Node => a.node == b.node,
        Scope::Cluster => a.cluster_id == b.cluster_id,
        Scope::Network => a.network == b.network,
    }
}

/// The endpoint's own port, else the service's target port. A workload that takes tunnels over its
/// application tunnel serves every port.
pub fn port(service: &Service, endpoint: &Endpoint<'_>, dialled: u16) -> Option<u16> {
    let own = endpoint.ports.get(&dialled).copied();
    let target = || service.ports.get(&dialled).map(|port| port.target_port);
    let tunnel =
        || endpoint.workload.application_tunnel.map(|tunnel| if tunnel.port > 0 { tunnel.port } else { dialled });
    own.filter(|port| *port > 0).or_else(|| target().filter(|port| *port > 0)).or_else(tunnel)
}

/// The outer `None`: it cannot be reached. The inner one: by its hostname, or through its gateway.
fn address(service: &Service, workload: &Workload, hints: &Hints<'_>) -> Option<Option<IpAddr>> {
    let dialled = hints.dialled.to_canonical();
    let remote = hints.source.is_some_and(|source| source.network != workload.network);
    if remote && workload.network_gateway.is_none() {
        return None;
    }
    let own = || workload.addresses.iter().map(IpAddr::to_canonical);
    if own().any(|ip| ip == dialled) {
        return Some(Some(dialled));
    }
    let served = || own().filter(|ip| serves(service.ip_families, *ip));
    let found = served().find(|ip| ip.is_ipv6() == dialled.is_ipv6()).or_else(|| served().next());
    match found {
        Some(ip) => Some(Some(ip)),
        None => (workload.hostname.is_some() || (remote && workload.addresses.is_empty())).then_some(None),
    }
}

fn serves(families: IpFamilies, ip: IpAddr) -> bool {
    match families {
        IpFamilies::Automatic | IpFamilies::Dual => true,
        IpFamilies::Ipv4Only => ip.is_ipv4(),
        IpFamilies::Ipv6Only => ip.is_ipv6(),
    }
}

#[cfg(test)]
mod tests;
