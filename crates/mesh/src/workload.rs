//! Something that runs: a pod, a VM, or an address behind a ServiceEntry.
//!
//! The fields and their defaults are those of `istio.workload.Workload`.

use crate::{Identity, ServiceKey, Str, identity::IdentityError};
use litemap::LiteMap;
use std::{collections::BTreeMap, net::IpAddr};

/// One workload, as the control plane describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// Opaque name of the resource, unique in the mesh.
    pub uid: Str,
    /// Pod name or the like.
    pub name: Str,
    /// Namespace.
    pub namespace: Str,
    /// Every address it has; empty when it is reached by `hostname`.
    pub addresses: Vec<IpAddr>,
    /// A name to resolve when it is connected to.
    pub hostname: Option<Str>,
    /// Network it is on; "" is the default one.
    pub network: Str,
    /// How it is reached.
    pub protocol: Protocol,
    /// It terminates HBONE itself, without a node proxy.
    pub native_tunnel: bool,
    /// Trust domain of its identity.
    pub trust_domain: Str,
    /// Service account of its identity.
    pub service_account: Str,
    /// The waypoint that traffic addressed to this workload goes through.
    pub waypoint: Option<GatewayAddress>,
    /// The gateway to use from another network.
    pub network_gateway: Option<GatewayAddress>,
    /// Node it runs on.
    pub node: Str,
    /// `service.name` of its telemetry.
    pub canonical_name: Str,
    /// `service.version` of its telemetry.
    pub canonical_revision: Str,
    /// What kind of owner it has.
    pub workload_type: WorkloadType,
    /// Name of its owner (Deployment, Job, …).
    pub workload_name: Str,
    /// `namespace/name` of the policies that select it.
    pub authorization_policies: Vec<Str>,
    /// Whether traffic may be sent to it.
    pub health: Health,
    /// Cluster it runs in.
    pub cluster_id: Str,
    /// The services it belongs to and the port it serves each of theirs on.
    pub services: Memberships,
    /// How traffic is handed to it after the tunnel, for waypoints behind a node proxy.
    pub application_tunnel: Option<ApplicationTunnel>,
    /// Where it is.
    pub locality: Locality,
    /// It shares the node's address, so an address does not name it.
    pub host_network: bool,
    /// Weight in load balancing; 0 is never chosen.
    pub capacity: u32,
}

impl Workload {
    /// A workload with every default of the wire, to fill in.
    pub fn named(uid: &str) -> Self {
        let empty: Str = "".into();
        Self {
            uid: uid.into(),
            name: empty.clone(),
            namespace: empty.clone(),
            addresses: Vec::new(),
            hostname: None,
            network: empty.clone(),
            protocol: Protocol::Plain,
            native_tunnel: false,
            trust_domain: crate::identity::DEFAULT_TRUST_DOMAIN.into(),
            service_account: "default".into(),
            waypoint: None,
            network_gateway: None,
            node: empty.clone(),
            canonical_name: empty.clone(),
            canonical_revision: empty.clone(),
            workload_type: WorkloadType::Pod,
            workload_name: empty,
            authorization_policies: Vec::new(),
            health: Health::Healthy,
            cluster_id: "Kubernetes".into(),
            services: Memberships::new(),
            application_tunnel: None,
            locality: Locality::default(),
            host_network: false,
            capacity: 1,
        }
    }

    /// The identity its certificates carry.
    pub fn identity(&self) -> Result<Identity, IdentityError> {
        Identity::new(&self.trust_domain, &self.namespace, &self.service_account)
    }
}

/// Service → the ports of it. Most workloads belong to one: a list takes 72 bytes for that, and a tree ten times as much.
pub type Memberships = LiteMap<ServiceKey, PortMap>;

/// Service port → port the workload listens on; 0: the service's own target port counts.
pub type PortMap = BTreeMap<u16, u16>;

/// How a workload is reached (`TunnelProtocol`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// Plain TCP.
    Plain,
    /// Through an HBONE tunnel to its port 15008.
    Hbone,
}

/// Whether a workload takes traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Health {
    /// It does.
    Healthy,
    /// Only where the service's policy says so.
    Unhealthy,
}

/// What owns a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WorkloadType {
    /// A Deployment.
    Deployment,
    /// A CronJob.
    CronJob,
    /// Just a pod; what the control plane sends for every pod.
    Pod,
    /// A Job.
    Job,
}

/// Where a workload is; "" is unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Locality {
    /// Region.
    pub region: Str,
    /// Zone of the region.
    pub zone: Str,
    /// Part of the zone.
    pub subzone: Str,
}

/// How a node proxy hands over a tunnel's content to a workload that is itself a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApplicationTunnel {
    /// With a PROXY protocol v2 header in front.
    pub proxy_protocol: bool,
    /// To this port; 0 keeps the one that was asked for.
    pub port: u16,
}

/// A gateway or waypoint, by name or by address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayAddress {
    /// Which one.
    pub destination: Destination,
    /// Its HBONE port, 15008 as a rule.
    pub hbone_mtls_port: u16,
}

/// What a [`GatewayAddress`] points at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// A service by name.
    Service(ServiceKey),
    /// A workload or service by address on a network.
    Address(NetworkAddress),
}

/// An address on a network.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NetworkAddress {
    /// Network; "" is the default one.
    pub network: Str,
    /// Address.
    pub address: IpAddr,
}
