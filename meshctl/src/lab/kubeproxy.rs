//! Which packets to Service addresses go where: the lab's kube-proxy. Pure;
//! `ztunnel::net::nat` programs it.

use std::net::SocketAddr;

use ztunnel::net::nat::{ServicePort, ServiceRules};

use super::plan::services::{ServicePlan, Slice};
use super::plan::{Plan, ledger};

/// The rules of every node: each Service port and the ready endpoints behind
/// it.
pub(crate) fn rules(plan: &Plan, slices: &[Slice]) -> ServiceRules {
    let ports = plan.services.values().flat_map(|service| ports(service, slices)).collect();
    ServiceRules { ports, cluster: ledger::cluster_networks(), masquerade: Vec::new() }
}

fn ports(service: &ServicePlan, slices: &[Slice]) -> Vec<ServicePort> {
    let mut ports = Vec::new();
    for address in &service.addresses {
        for port in &service.ports {
            let mine = slices.iter().filter(|slice| slice.service == service.key && slice.v6 == address.is_ipv6());
            let mut backends = Vec::new();
            for slice in mine {
                let found =
                    slice.ports.iter().find(|(name, _, protocol, _)| *name == port.name && *protocol == port.protocol);
                let Some((_, number, ..)) = found else { continue };
                let ready = slice.endpoints.iter().filter(|endpoint| endpoint.ready);
                backends.extend(ready.map(|endpoint| SocketAddr::new(endpoint.address, *number)));
            }
            backends.sort();
            backends.dedup();
            ports.push(ServicePort {
                frontend: SocketAddr::new(*address, port.number),
                protocol: port.protocol,
                backends,
            });
        }
    }
    ports
}
