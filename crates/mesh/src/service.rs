//! A name, and addresses that stand for it, behind which workloads answer.
//!
//! The fields are those of `istio.workload.Service`. Which workloads answer is not here: the
//! [`View`](crate::View) joins services and workloads.

use crate::{
    Str,
    workload::{GatewayAddress, NetworkAddress},
};
use ipnet::IpNet;
use std::{collections::BTreeMap, fmt, str::FromStr};

/// One service, as the control plane describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Kubernetes or ServiceEntry name.
    pub name: Str,
    /// Namespace.
    pub namespace: Str,
    /// Fully qualified hostname; may begin with `*.`.
    pub hostname: Str,
    /// Single addresses that stand for it.
    pub vips: Vec<NetworkAddress>,
    /// Ranges that stand for it: network and prefix.
    pub cidr_vips: Vec<(Str, IpNet)>,
    /// Service port → how it is served.
    pub ports: BTreeMap<u16, ServicePort>,
    /// SPIFFE URIs accepted beside those of the workloads.
    pub subject_alt_names: Vec<Str>,
    /// The waypoint that traffic addressed to this service goes through.
    pub waypoint: Option<GatewayAddress>,
    /// When not empty it takes the place of `waypoint`: (waypoint, weight).
    pub weighted_waypoints: Vec<(GatewayAddress, u32)>,
    /// How an endpoint is chosen.
    pub load_balancing: LoadBalancing,
    /// Which address families it is served on.
    pub ip_families: IpFamilies,
    /// It owns the hostname in the whole mesh.
    pub canonical: bool,
    /// Ingress gateways send through the waypoint too.
    pub ingress_use_waypoint: bool,
    /// Only its own namespace sees it.
    pub namespace_only: bool,
}

impl Service {
    /// A service with every default of the wire, to fill in.
    pub fn named(namespace: &str, hostname: &str) -> Self {
        Self {
            name: hostname.split('.').next().unwrap_or_default().into(),
            namespace: namespace.into(),
            hostname: hostname.into(),
            vips: Vec::new(),
            cidr_vips: Vec::new(),
            ports: BTreeMap::new(),
            subject_alt_names: Vec::new(),
            waypoint: None,
            weighted_waypoints: Vec::new(),
            load_balancing: LoadBalancing::default(),
            ip_families: IpFamilies::Automatic,
            canonical: false,
            ingress_use_waypoint: false,
            namespace_only: false,
        }
    }

    /// The name of its resource.
    pub fn key(&self) -> ServiceKey {
        ServiceKey { namespace: self.namespace.clone(), hostname: self.hostname.clone() }
    }
}

/// `namespace/hostname`, the name of a service's resource.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceKey {
    /// Namespace.
    pub namespace: Str,
    /// Fully qualified hostname.
    pub hostname: Str,
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.hostname)
    }
}

/// A text that is not `namespace/hostname`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not of the form <namespace>/<hostname>")]
pub struct ServiceKeyError(pub String);

impl FromStr for ServiceKey {
    type Err = ServiceKeyError;

    fn from_str(text: &str) -> Result<Self, ServiceKeyError> {
        match text.split_once('/') {
            Some((namespace, hostname)) if !namespace.is_empty() && !hostname.is_empty() && !hostname.contains('/') => {
                Ok(Self { namespace: namespace.into(), hostname: hostname.into() })
            }
            _ => Err(ServiceKeyError(text.chars().take(300).collect())),
        }
    }
}

/// One port of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Port the endpoints listen on; 0: each endpoint's own map says.
    pub target_port: u16,
    /// What is spoken on it.
    pub app_protocol: AppProtocol,
}

/// What is spoken on a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum AppProtocol {
    /// Nobody said.
    #[default]
    Unknown,
    /// HTTP/1.1.
    Http11,
    /// HTTP/2.
    Http2,
    /// gRPC.
    Grpc,
    /// Any bytes.
    Tcp,
    /// TLS.
    Tls,
}

/// How an endpoint of a service is chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadBalancing {
    /// What to compare with the caller, most important first.
    pub routing_preference: Vec<Scope>,
    /// What the preferences mean.
    pub mode: LoadBalancingMode,
    /// Endpoints that are not healthy are chosen too.
    pub allow_unhealthy: bool,
}

/// Something that a caller and an endpoint can have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Region.
    Region,
    /// Zone.
    Zone,
    /// Part of a zone.
    Subzone,
    /// Node.
    Node,
    /// Cluster.
    Cluster,
    /// Network.
    Network,
}

/// What routing preferences mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum LoadBalancingMode {
    /// Nothing was said: every endpoint is as good as another.
    #[default]
    Unspecified,
    /// Every preference must match.
    Strict,
    /// The more leading preferences match, the better; the best are used.
    Failover,
    /// As `Unspecified`, and without an endpoint the original address is dialled.
    Passthrough,
}

/// Which address families a service is served on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum IpFamilies {
    /// Nobody said.
    #[default]
    Automatic,
    /// IPv4.
    Ipv4Only,
    /// IPv6.
    Ipv6Only,
    /// Both.
    Dual,
}
