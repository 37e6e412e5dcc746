//! Services and workloads that Kubernetes does not run.

use super::{Distribution, Labels, Meta, ServicePort};
use ipnet::IpNet;
use mesh::{Str, workload::Locality};
use std::{collections::BTreeMap, fmt, net::IpAddr};

/// A `ServiceEntry`: one service for each of its hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceEntry {
    /// Name and labels.
    pub meta: Meta,
    /// Its hostnames.
    pub hosts: Vec<Str>,
    /// What the user said it is reached at.
    pub vips: Vec<Vip>,
    /// What somebody allocated for a host.
    pub allocated: BTreeMap<Str, Vec<IpAddr>>,
    /// Addresses are allocated when the user gives none.
    pub auto_allocate: bool,
    /// Its TCP ports.
    pub ports: Vec<ServicePort>,
    /// How its endpoints are found.
    pub resolution: Resolution,
    /// Its endpoints that are written in it.
    pub endpoints: Vec<Entry>,
    /// The pods and workload entries behind it.
    pub selector: Labels,
    /// How endpoints are chosen.
    pub distribution: Option<Distribution>,
    /// SPIFFE URIs accepted beside those of its workloads.
    pub subject_alt_names: Vec<Str>,
}

/// A single address or a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vip {
    /// One address.
    One(IpAddr),
    /// Several.
    Range(IpNet),
}

/// How the endpoints of a service entry are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Resolution {
    /// Not at all: the dialled address is the endpoint.
    #[default]
    None,
    /// They are written down, or selected.
    Static,
    /// By DNS when they are connected to.
    Dns,
    /// By DNS, of the name that the caller asked for, at a waypoint.
    DynamicDns,
}

/// A `WorkloadEntry`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadEntry {
    /// Name and labels of the object.
    pub meta: Meta,
    /// What it says.
    pub entry: Entry,
}

/// Something that runs outside, or is pretended to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it is.
    pub address: EntryAddress,
    /// Its labels.
    pub labels: Labels,
    /// Service port's name → its port.
    pub ports: BTreeMap<Str, u16>,
    /// Its network, when it is not the local one.
    pub network: Option<Str>,
    /// Where it is.
    pub locality: Locality,
    /// Its weight in load balancing.
    pub weight: u32,
    /// Its service account.
    pub service_account: Str,
}

/// Where an [`Entry`] is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryAddress {
    /// At an address.
    Ip(IpAddr),
    /// At whatever a name resolves to.
    Name(Str),
}

impl Entry {
    /// An entry that is only a name.
    pub fn named(host: &Str) -> Self {
        Self {
            address: EntryAddress::Name(host.clone()),
            labels: Labels::new(),
            ports: BTreeMap::new(),
            network: None,
            locality: Locality::default(),
            weight: 1,
            service_account: "default".into(),
        }
    }
}

impl fmt::Display for EntryAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(ip) => ip.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}
