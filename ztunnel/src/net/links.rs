//! Interfaces, addresses, routes and kernel settings of a namespace.
//!
//! Everything goes over netlink from Rust; no `ip` program is needed. All
//! calls block for the microseconds the kernel takes and never wait for a
//! peer, so they may be made from anywhere.

use std::io;
use std::net::IpAddr;

use ipnet::IpNet;

use super::netns::Netns;

/// One end of a pair of virtual Ethernet interfaces.
#[derive(Debug, Clone, Copy)]
pub struct VethEnd<'a> {
    /// The namespace this end is born in.
    pub netns: &'a Netns,
    /// Its name there, at most 15 bytes.
    pub name: &'a str,
}

/// Where packets for a prefix go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The prefix; `0.0.0.0/0` or `::/0` for a default route.
    pub destination: IpNet,
    /// The next hop, if the destination is not on the link itself.
    pub via: Option<IpAddr>,
    /// The interface; may be left out when the next hop tells it.
    pub device: Option<String>,
    /// The next hop is on the link although no address of ours says so.
    pub on_link: bool,
    /// The source address of what this namespace itself sends there.
    pub source: Option<IpAddr>,
}

impl Route {
    /// A route to what is directly on an interface.
    pub fn device(destination: IpNet, device: &str) -> Self {
        Self { destination, via: None, device: Some(device.to_owned()), on_link: false, source: None }
    }

    /// A route through a next hop that is on the link of `device`, whether or
    /// not an address of ours says so.
    pub fn via(destination: IpNet, via: IpAddr, device: &str) -> Self {
        Self { destination, via: Some(via), device: Some(device.to_owned()), on_link: true, source: None }
    }
}

/// The links of one namespace: a route socket that lives in it.
#[derive(Debug)]
pub struct Links {}

impl Links {
    /// Opens the links of a namespace.
    pub fn open(_netns: &Netns) -> io::Result<Self> {
        todo!()
    }

    /// Sets an interface up. `lo` is one, and is down in a new namespace.
    pub fn up(&self, _name: &str) -> io::Result<()> {
        todo!()
    }

    /// Sets an interface down.
    pub fn down(&self, _name: &str) -> io::Result<()> {
        todo!()
    }

    /// Gives an interface an address. Without duplicate address detection, so
    /// that an IPv6 address works at once. An address it already has is fine.
    pub fn add_address(&self, _name: &str, _address: IpNet) -> io::Result<()> {
        todo!()
    }

    /// Takes an address away. One it has not is fine.
    pub fn remove_address(&self, _name: &str, _address: IpNet) -> io::Result<()> {
        todo!()
    }

    /// Adds a route, or replaces the one to the same destination.
    pub fn add_route(&self, _route: &Route) -> io::Result<()> {
        todo!()
    }

    /// Removes the route to a destination. One that is not there is fine.
    pub fn remove_route(&self, _destination: IpNet) -> io::Result<()> {
        todo!()
    }

    /// Removes an interface, and with one end of a veth pair the other.
    pub fn delete(&self, _name: &str) -> io::Result<()> {
        todo!()
    }

    /// The addresses of all interfaces, by interface name.
    pub fn addresses(&self) -> io::Result<Vec<(String, IpNet)>> {
        todo!()
    }

    /// Whether the namespace holds an address.
    pub fn holds(&self, address: IpAddr) -> io::Result<bool> {
        Ok(self.addresses()?.iter().any(|(_, net)| net.addr() == address))
    }
}

/// Makes a veth pair with its ends in two namespaces. Both ends are down.
pub fn create_veth(_one: VethEnd<'_>, _other: VethEnd<'_>) -> io::Result<()> {
    todo!()
}

/// Writes a kernel setting of a namespace, such as
/// `("net/ipv4/ip_forward", "1")` or `("net/ipv4/conf/all/rp_filter", "0")`.
/// Only names under `net/` are per namespace, others are refused.
pub fn set_kernel_setting(_netns: &Netns, _name: &str, _value: &str) -> io::Result<()> {
    todo!()
}

/// Reads a kernel setting of a namespace.
pub fn kernel_setting(_netns: &Netns, _name: &str) -> io::Result<String> {
    todo!()
}
