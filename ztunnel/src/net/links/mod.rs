//! Interfaces, addresses, routes and kernel settings of a namespace.
//!
//! Everything goes over netlink from Rust; no `ip` program is needed. All
//! calls block for the microseconds the kernel takes and never wait for a
//! peer, so they may be made from anywhere.

mod routes;
mod settings;

pub use routes::Route;
pub use settings::{kernel_setting, set_kernel_setting, settle};

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd};
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
const OPERSTATE_UP: u8 = 6;

/// One end of a pair of virtual Ethernet interfaces.
#[derive(Debug, Clone, Copy)]
pub struct VethEnd<'a> {
    /// The namespace this end is born in.
    pub netns: &'a Netns,
    /// Its name there, at most 15 bytes.
    pub name: &'a str,
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

    fn is_usable(&self, name: &str) -> io::Result<bool> {
        let found = self.link(name)?;
        let state = found.get(16..).and_then(|rest| attribute(rest, IFLA_OPERSTATE)).and_then(<[u8]>::first);
        if state != Some(&OPERSTATE_UP) {
            return Ok(false);
        }
        let addresses = self.addresses()?;
        Ok(addresses.iter().filter(|(link, _)| link == name).all(|(_, net)| self.is_delivered_here(net.addr())))
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
