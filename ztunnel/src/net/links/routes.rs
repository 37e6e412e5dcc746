//! Where packets go: routes, and the hardware addresses of neighbours.

use std::io;
use std::net::IpAddr;

use ipnet::IpNet;
use nix::libc;

use super::{Links, about, absent_is_fine, family, octets};
use crate::net::netlink::{F_CREATE, F_REPLACE, Message};

// From linux/rtnetlink.h and neighbour.h.
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PREFSRC: u16 = 7;
const RTA_VIA: u16 = 18;
const RTNH_F_ONLINK: u32 = 4;
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NUD_PERMANENT: u8 = 0x80;
const PROTOCOL_STATIC: u8 = 4;

/// Where packets for a prefix go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The prefix; `0.0.0.0/0` or `::/0` for a default route.
    pub destination: IpNet,
    /// The next hop, if the destination is not on the link itself. For an
    /// IPv4 destination it may be an IPv6 address.
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

impl Links {
    /// Adds a route, or replaces the one to the same destination.
    pub fn add_route(&self, route: &Route) -> io::Result<()> {
        self.new_route(route).map_err(|error| about(error, format_args!("route {route:?}")))
    }

    /// Removes the route to a destination. One that is not there is fine.
    pub fn remove_route(&self, destination: IpNet) -> io::Result<()> {
        let mut message = Message::new(libc::RTM_DELROUTE, 0, &route_header(destination, libc::RT_SCOPE_NOWHERE, 0));
        message.attribute(RTA_DST, &octets(destination.network()));
        absent_is_fine(self.socket.request(message), libc::ESRCH)
            .map_err(|error| about(error, format_args!("remove the route to {destination}")))
    }

    /// Says for good which hardware address a neighbour has, so that nobody
    /// need ask: asking costs the first packets, and in IPv6 up to seconds
    /// while a link is new.
    pub fn pin_neighbour(&self, device: &str, neighbour: IpAddr, hardware: [u8; 6]) -> io::Result<()> {
        let act = || {
            let mut fixed = [family(neighbour), 0, 0, 0, 0, 0, 0, 0, NUD_PERMANENT, 0, 0, 0];
            fixed[4..8].copy_from_slice(&self.index(device)?.to_ne_bytes());
            let mut message = Message::new(libc::RTM_NEWNEIGH, F_CREATE | F_REPLACE, &fixed);
            message.attribute(NDA_DST, &octets(neighbour)).attribute(NDA_LLADDR, &hardware);
            self.socket.request(message)
        };
        act().map_err(|error| about(error, format_args!("pin the neighbour {neighbour} on {device}")))
    }

    fn new_route(&self, route: &Route) -> io::Result<()> {
        let scope = if route.via.is_none() { libc::RT_SCOPE_LINK } else { libc::RT_SCOPE_UNIVERSE };
        let flags = if route.on_link { RTNH_F_ONLINK } else { 0 };
        let mut message =
            Message::new(libc::RTM_NEWROUTE, F_CREATE | F_REPLACE, &route_header(route.destination, scope, flags));
        message.attribute(RTA_DST, &octets(route.destination.network()));
        match route.via {
            None => {}
            Some(via) if family(via) == family(route.destination.addr()) => {
                message.attribute(RTA_GATEWAY, &octets(via));
            }
            Some(via) => {
                let mut value = u16::from(family(via)).to_ne_bytes().to_vec();
                value.extend(octets(via));
                message.attribute(RTA_VIA, &value);
            }
        }
        if let Some(device) = &route.device {
            message.attribute(RTA_OIF, &self.index(device)?.to_ne_bytes());
        }
        if let Some(source) = route.source {
            message.attribute(RTA_PREFSRC, &octets(source));
        }
        self.socket.request(message)
    }

    /// Whether packets to an address are for this namespace: of a new address of ours they are
    /// only when the kernel has made the route to it.
    pub(super) fn is_delivered_here(&self, address: IpAddr) -> bool {
        let mut fixed = [0; 12];
        fixed[0] = family(address);
        fixed[1] = if address.is_ipv4() { 32 } else { 128 };
        let mut message = Message::new(libc::RTM_GETROUTE, 0, &fixed);
        message.attribute(RTA_DST, &octets(address));
        let found = self.socket.answered(message).unwrap_or_default();
        found.first().is_some_and(|(_, content)| content.get(7) == Some(&libc::RTN_LOCAL))
    }
}

fn route_header(destination: IpNet, scope: u8, flags: u32) -> [u8; 12] {
    let mut fixed = [0; 12];
    fixed[0] = family(destination.addr());
    fixed[1] = destination.prefix_len();
    fixed[4] = libc::RT_TABLE_MAIN;
    fixed[5] = PROTOCOL_STATIC;
    fixed[6] = scope;
    fixed[7] = libc::RTN_UNICAST;
    fixed[8..12].copy_from_slice(&flags.to_ne_bytes());
    fixed
}
