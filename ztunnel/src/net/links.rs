//! Interfaces, addresses, routes and kernel settings of a namespace.
//!
//! Everything goes over netlink from Rust; no `ip` program is needed. All
//! calls block for the microseconds the kernel takes and never wait for a
//! peer, so they may be made from anywhere.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Component, Path};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use nix::libc;

use super::netlink::{F_CREATE, F_EXCL, F_REPLACE, Family, Message, Socket, attribute, text};
use super::netns::Netns;

/// Longest interface name the kernel takes, without its zero byte.
const NAME_BYTES_MAX: usize = 15;

/// The kernel handles link events at most once a second; twice that is late.
const USABLE_DEADLINE: Duration = Duration::from_secs(2);
/// Between two looks at a link. Usually the first look already sees it.
const USABLE_INTERVAL: Duration = Duration::from_micros(500);

// From linux/if_link.h, if_addr.h, rtnetlink.h and veth.h.
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_OPERSTATE: u16 = 16;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_FLAGS: u16 = 8;
const IFA_F_NODAD: u32 = 0x02;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PREFSRC: u16 = 7;
const RTA_VIA: u16 = 18;
const RTNH_F_ONLINK: u32 = 4;
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const OPERSTATE_UP: u8 = 6;
const NUD_PERMANENT: u8 = 0x80;
const PROTOCOL_STATIC: u8 = 4;

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

/// The links of one namespace: a route socket that lives in it.
#[derive(Debug)]
pub struct Links {
    socket: Socket,
}

impl Links {
    /// Opens the links of a namespace.
    pub fn open(netns: &Netns) -> io::Result<Self> {
        Ok(Self { socket: Socket::open(netns, Family::Route)? })
    }

    /// Sets an interface up. `lo` is one, and is down in a new namespace.
    pub fn up(&self, name: &str) -> io::Result<()> {
        self.set_flags(name, libc::IFF_UP as u32).map_err(|error| about(error, format_args!("set {name} up")))
    }

    /// Waits until an interface carries packets and answers at its addresses. The kernel brings
    /// both about some time after it was asked and drops what comes before, which costs the
    /// first connection a second.
    pub fn wait_until_usable(&self, name: &str) -> io::Result<()> {
        let deadline = Instant::now() + USABLE_DEADLINE;
        while !self.is_usable(name)? {
            if Instant::now() > deadline {
                let reason = format!("{name} does not carry packets, is its other end up");
                return Err(io::Error::new(io::ErrorKind::TimedOut, reason));
            }
            #[expect(clippy::disallowed_methods, reason = "this is how the condition is waited for: nothing tells it")]
            std::thread::sleep(USABLE_INTERVAL);
        }
        Ok(())
    }

    /// Sets an interface down.
    pub fn down(&self, name: &str) -> io::Result<()> {
        self.set_flags(name, 0).map_err(|error| about(error, format_args!("set {name} down")))
    }

    /// Gives an interface an address. Without duplicate address detection, so
    /// that an IPv6 address works at once. An address it already has is fine.
    pub fn add_address(&self, name: &str, address: IpNet) -> io::Result<()> {
        self.address(libc::RTM_NEWADDR, F_CREATE | F_REPLACE, name, address)
            .map_err(|error| about(error, format_args!("give {name} the address {address}")))
    }

    /// Takes an address away. One it has not is fine.
    pub fn remove_address(&self, name: &str, address: IpNet) -> io::Result<()> {
        absent_is_fine(self.address(libc::RTM_DELADDR, 0, name, address), libc::EADDRNOTAVAIL)
            .map_err(|error| about(error, format_args!("take the address {address} from {name}")))
    }

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

    /// Removes an interface, and with one end of a veth pair the other.
    pub fn delete(&self, name: &str) -> io::Result<()> {
        let act = || {
            let mut message = Message::new(libc::RTM_DELLINK, 0, &link_header(0, 0, 0));
            message.text(IFLA_IFNAME, checked(name)?);
            self.socket.request(message)
        };
        act().map_err(|error| about(error, format_args!("delete {name}")))
    }

    /// The names of all interfaces.
    pub fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.links()?.into_values().collect())
    }

    /// The addresses of all interfaces, by interface name.
    pub fn addresses(&self) -> io::Result<Vec<(String, IpNet)>> {
        let names = self.links()?;
        let found = self.socket.dump(Message::new(libc::RTM_GETADDR, 0, &[0; 8]))?;
        Ok(found
            .iter()
            .filter(|(kind, _)| *kind == libc::RTM_NEWADDR)
            .filter_map(|(_, content)| parse_address(content))
            .map(|(index, net)| (names.get(&index).cloned().unwrap_or_default(), net))
            .collect())
    }

    /// Whether the namespace holds an address.
    pub fn holds(&self, address: IpAddr) -> io::Result<bool> {
        Ok(self.addresses()?.iter().any(|(_, net)| net.addr() == address))
    }

    /// The hardware address of an interface.
    pub fn hardware_address(&self, name: &str) -> io::Result<[u8; 6]> {
        let found = self.link(name)?;
        let value = found.get(16..).and_then(|rest| attribute(rest, IFLA_ADDRESS));
        let value = value.and_then(|value| value.try_into().ok());
        value.ok_or_else(|| io::Error::other(format!("{name} has no hardware address")))
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

    fn is_usable(&self, name: &str) -> io::Result<bool> {
        let found = self.link(name)?;
        let state = found.get(16..).and_then(|rest| attribute(rest, IFLA_OPERSTATE)).and_then(<[u8]>::first);
        if state != Some(&OPERSTATE_UP) {
            return Ok(false);
        }
        let addresses = self.addresses()?;
        Ok(addresses.iter().filter(|(link, _)| link == name).all(|(_, net)| self.is_delivered_here(net.addr())))
    }

    /// Whether packets to an address are for this namespace: of a new address of ours they are
    /// only when the kernel has made the route to it.
    fn is_delivered_here(&self, address: IpAddr) -> bool {
        let mut fixed = [0; 12];
        fixed[0] = family(address);
        fixed[1] = if address.is_ipv4() { 32 } else { 128 };
        let mut message = Message::new(libc::RTM_GETROUTE, 0, &fixed);
        message.attribute(RTA_DST, &octets(address));
        let found = self.socket.answered(message).unwrap_or_default();
        found.first().is_some_and(|(_, content)| content.get(7) == Some(&libc::RTN_LOCAL))
    }

    fn set_flags(&self, name: &str, flags: u32) -> io::Result<()> {
        let mut message = Message::new(libc::RTM_NEWLINK, 0, &link_header(0, flags, libc::IFF_UP as u32));
        message.text(IFLA_IFNAME, checked(name)?);
        self.socket.request(message)
    }

    fn address(&self, kind: u16, flags: u16, name: &str, address: IpNet) -> io::Result<()> {
        let mut fixed = [family(address.addr()), address.prefix_len(), 0, 0, 0, 0, 0, 0];
        fixed[4..8].copy_from_slice(&self.index(name)?.to_ne_bytes());
        let mut message = Message::new(kind, flags, &fixed);
        message.attribute(IFA_LOCAL, &octets(address.addr())).attribute(IFA_ADDRESS, &octets(address.addr()));
        message.attribute(IFA_FLAGS, &IFA_F_NODAD.to_ne_bytes());
        self.socket.request(message)
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

    /// The kernel's number for an interface.
    fn index(&self, name: &str) -> io::Result<u32> {
        number(&self.link(name)?, 4).ok_or_else(|| io::Error::other("the kernel's answer is cut off"))
    }

    /// What the kernel says of an interface.
    fn link(&self, name: &str) -> io::Result<Vec<u8>> {
        let mut message = Message::new(libc::RTM_GETLINK, 0, &link_header(0, 0, 0));
        message.text(IFLA_IFNAME, checked(name)?);
        let found = self.socket.answered(message).map_err(|error| about(error, format_args!("find {name}")))?;
        let first = found.into_iter().next().map(|(_, content)| content);
        first.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("there is no interface {name}")))
    }

    fn links(&self) -> io::Result<HashMap<u32, String>> {
        let found = self.socket.dump(Message::new(libc::RTM_GETLINK, 0, &link_header(0, 0, 0)))?;
        let parse = |content: &[u8]| Some((number(content, 4)?, text(attribute(content.get(16..)?, IFLA_IFNAME)?)));
        Ok(found.iter().filter_map(|(_, content)| parse(content)).collect())
    }
}

/// Readies a new namespace: loopback up, and IPv6 addresses of the links that
/// are still to come usable at once. Without it a link's own IPv6 address is
/// on probation for two seconds, and who forwards to it cannot even ask for
/// its neighbour. Call it before the first link is made.
pub fn settle(netns: &Netns) -> io::Result<()> {
    Links::open(netns)?.up("lo")?;
    match set_kernel_setting(netns, "net/ipv6/conf/default/accept_dad", "0") {
        // A kernel without IPv6 has no such setting.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Makes a veth pair with its ends in two namespaces. Both ends are down.
pub fn create_veth(one: VethEnd<'_>, other: VethEnd<'_>) -> io::Result<()> {
    let act = || {
        let links = Links::open(one.netns)?;
        let peer = checked(other.name)?;
        let mut message = Message::new(libc::RTM_NEWLINK, F_CREATE | F_EXCL, &link_header(0, 0, 0));
        message.text(IFLA_IFNAME, checked(one.name)?);
        message.nested(IFLA_LINKINFO, |link| {
            link.text(IFLA_INFO_KIND, "veth").nested(IFLA_INFO_DATA, |data| {
                data.nested(VETH_INFO_PEER, |end| {
                    end.fixed(&link_header(0, 0, 0)).text(IFLA_IFNAME, peer);
                    end.attribute(IFLA_NET_NS_FD, &other.netns.as_fd().as_raw_fd().to_ne_bytes());
                });
            });
        });
        links.socket.request(message)
    };
    act().map_err(|error| about(error, format_args!("make the veth pair {} and {}", one.name, other.name)))
}

/// Writes a kernel setting of a namespace, such as
/// `("net/ipv4/ip_forward", "1")` or `("net/ipv4/conf/all/rp_filter", "0")`.
/// Only names under `net/` are per namespace, others are refused.
pub fn set_kernel_setting(netns: &Netns, name: &str, value: &str) -> io::Result<()> {
    let path = setting_path(name)?;
    netns.run(|| fs::write(&path, value))?.map_err(|error| about(error, format_args!("set {name} to {value}")))
}

/// Reads a kernel setting of a namespace.
pub fn kernel_setting(netns: &Netns, name: &str) -> io::Result<String> {
    let path = setting_path(name)?;
    let value = netns.run(|| fs::read_to_string(&path))?.map_err(|error| about(error, format_args!("read {name}")))?;
    Ok(value.trim_end().to_owned())
}

fn setting_path(name: &str) -> io::Result<std::path::PathBuf> {
    let path = Path::new(name);
    let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
    if !plain || !name.starts_with("net/") {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{name} is not a setting of a namespace")));
    }
    Ok(Path::new("/proc/sys").join(path))
}

fn parse_address(content: &[u8]) -> Option<(u32, IpNet)> {
    let prefix_len = *content.get(1)?;
    let rest = content.get(8..)?;
    // On a point-to-point link IFA_ADDRESS is the other end; ours is LOCAL.
    let value = attribute(rest, IFA_LOCAL).or_else(|| attribute(rest, IFA_ADDRESS))?;
    Some((number(content, 4)?, IpNet::new(address_of(value)?, prefix_len).ok()?))
}

fn link_header(index: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut fixed = [0; 16];
    fixed[4..8].copy_from_slice(&index.to_ne_bytes());
    fixed[8..12].copy_from_slice(&flags.to_ne_bytes());
    fixed[12..16].copy_from_slice(&change.to_ne_bytes());
    fixed
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

fn number(content: &[u8], at: usize) -> Option<u32> {
    content.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

/// The kernel's number for an address family.
pub(super) fn family(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => libc::AF_INET as u8,
        IpAddr::V6(_) => libc::AF_INET6 as u8,
    }
}

/// An address as it stands in a packet.
pub(super) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// The address that stands in these bytes.
pub(super) fn address_of(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(value).ok()?).into()),
        16 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(value).ok()?).into()),
        _ => None,
    }
}

fn checked(name: &str) -> io::Result<&str> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains(['/', '\0', ' ']) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{name:?} is no name for an interface")));
    }
    Ok(name)
}

fn absent_is_fine(result: io::Result<()>, absent: i32) -> io::Result<()> {
    match result {
        Err(error) if error.raw_os_error() == Some(absent) => Ok(()),
        other => other,
    }
}

fn about(error: io::Error, act: std::fmt::Arguments<'_>) -> io::Error {
    io::Error::new(error.kind(), format!("cannot {act}: {error}"))
}
