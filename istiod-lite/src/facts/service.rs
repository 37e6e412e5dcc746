//! Services that Kubernetes runs, and their endpoints.

use super::{Labels, Meta};
use mesh::{
    Str,
    service::{AppProtocol, IpFamilies},
};
use std::{collections::BTreeMap, net::IpAddr};

/// A service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// Name and labels.
    pub meta: Meta,
    /// It is only another name for something (`ExternalName`); nothing is published for it.
    pub alias: bool,
    /// Its cluster addresses; none when it is headless.
    pub addresses: Vec<IpAddr>,
    /// The pods behind it; empty: only slices say.
    pub selector: Labels,
    /// Its TCP ports.
    pub ports: Vec<ServicePort>,
    /// Only endpoints on the caller's node are used.
    pub only_local: bool,
    /// How endpoints are chosen.
    pub distribution: Option<Distribution>,
    /// Endpoints that are not ready are used.
    pub publish_not_ready: bool,
    /// Address families.
    pub ip_families: IpFamilies,
}

/// A port of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Its name; may be "".
    pub name: Str,
    /// Its number.
    pub port: u16,
    /// Where the pods listen.
    pub target: TargetPort,
    /// What is spoken.
    pub app_protocol: AppProtocol,
}

/// Where the pods of a service listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetPort {
    /// On this port.
    Number(u16),
    /// On the container port of this name.
    Name(Str),
}

/// Which endpoints are preferred (`trafficDistribution`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distribution {
    /// None.
    Any,
    /// Those in the caller's zone.
    SameZone,
    /// Those on the caller's node.
    SameNode,
}

/// A slice of a service's endpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointSlice {
    /// Name and labels.
    pub meta: Meta,
    /// The name of the service; "" when it is for none.
    pub service: Str,
    /// Its endpoints.
    pub endpoints: Vec<SliceEndpoint>,
    /// Its TCP ports: name → number.
    pub ports: BTreeMap<Str, u16>,
}

/// One endpoint of a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SliceEndpoint {
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// It takes traffic.
    pub ready: bool,
    /// The pod that it is.
    pub pod: Option<Str>,
}
