//! Address translation on a node: Service addresses, hairpins, the way out
//! of the cluster, and the source address of host probes.
//!
//! The lab's kube-proxy owns the Service rules, the node agent the probe
//! rules; they are tables of their own and never touch each other.

use std::io;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::netns::Netns;

/// A transport protocol of a Service port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// One port of a Service address, and who answers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePort {
    /// Address and port that clients know.
    pub frontend: SocketAddr,
    /// The protocol.
    pub protocol: Protocol,
    /// Pods that answer, each as likely as the other; none means that
    /// connections are refused. All of the frontend's address family.
    pub backends: Vec<SocketAddr>,
}

/// Everything a node translates for Services.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServiceRules {
    /// The Service ports.
    pub ports: Vec<ServicePort>,
    /// Addresses inside the cluster (pods, Services, nodes): never hidden.
    pub cluster: Vec<IpNet>,
    /// Sources whose traffic that leaves the cluster is hidden behind the
    /// node's own address; empty: none.
    pub masquerade: Vec<IpNet>,
}

/// Replaces all Service rules of a node's namespace in one step; open
/// connections keep the backend they have.
pub fn apply_services(_netns: &Netns, _rules: &ServiceRules) -> io::Result<()> {
    todo!()
}

/// Makes the probe rules of a node: TCP from the node itself to a pod in the
/// set gets the source `169.254.7.127` or `fd16:9254:7127:1337:ffff:ffff:ffff:ffff`,
/// by which the rules in the pod know it. Keeps a set that is already there.
pub fn ensure_probe_rules(_netns: &Netns) -> io::Result<()> {
    todo!()
}

/// Adds pods to the probe set. One that is there already is fine.
pub fn add_probed(_netns: &Netns, _pods: &[IpAddr]) -> io::Result<()> {
    todo!()
}

/// Takes pods out of the probe set. One that is not there is fine.
pub fn remove_probed(_netns: &Netns, _pods: &[IpAddr]) -> io::Result<()> {
    todo!()
}

/// The pods in the probe set.
pub fn probed(_netns: &Netns) -> io::Result<Vec<IpAddr>> {
    todo!()
}
