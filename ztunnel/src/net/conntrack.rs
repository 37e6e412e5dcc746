//! What a namespace remembers of connections.
//!
//! A connection that is remembered keeps the way it once took, whatever the rules say since; one that is not is
//! judged by them with its next packet. It is never looked at here whose connection that is: all are remembered, or
//! all forgotten.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use nix::libc;

use super::netlink::{Attributes, F_CREATE, F_EXCL, Family, Message, Socket};
use super::netns::Netns;

/// Subsystem 1 of nfnetlink is connection tracking, act 0 is to add, and act 2 to delete; without saying which, all.
const ADD: u16 = 1 << 8;
const DELETE: u16 = 1 << 8 | 2;
/// Both address families, version 0, no resource.
const EVERY_FAMILY: [u8; 4] = [0; 4];

/// Attributes of an entry, of a tuple in it, of its address and of its protocol.
const ORIGINAL: u16 = 1;
const REPLY: u16 = 2;
const STATUS: u16 = 3;
const PROTOCOL_STATE: u16 = 4;
const TIMEOUT: u16 = 7;
const ADDRESS: u16 = 1;
const PROTOCOL: u16 = 2;
const NUMBER: u16 = 1;
const SOURCE_PORT: u16 = 2;
const DESTINATION_PORT: u16 = 3;
const TCP: u16 = 1;
const TCP_STATE: u16 = 1;
const TCP_FLAGS: [u16; 2] = [4, 5];
/// Both sides have been heard, it is not to be dropped early, and it is an entry like others.
const HEARD_ASSURED_CONFIRMED: u32 = 1 << 1 | 1 << 2 | 1 << 3;
const ESTABLISHED: u8 = 3;
/// Nothing is known of its sequence numbers: flag and mask.
const LIBERAL: [u8; 2] = [0x08, 0x08];
/// What the kernel itself gives to an established connection: five days.
const ESTABLISHED_SECONDS: u32 = 432_000;

/// As `/proc/net/tcp` writes it.
const STATE_ESTABLISHED: &str = "01";

/// Forgets every connection: the next packet of each is judged by the rules of now.
pub fn forget(netns: &Netns) -> io::Result<()> {
    Socket::open(netns, Family::Netfilter)?.request(Message::new(DELETE, 0, &EVERY_FAMILY))
}

/// Remembers every TCP connection that is open, as one that goes its own way: rules that come now do not touch it. The
/// kernel remembers none by itself while there are no rules. How many there were.
pub fn adopt(netns: &Netns) -> io::Result<usize> {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/thread-self/net/{name}"));
    // Without IPv6 there is no such file.
    let tables = netns.run(|| Ok::<_, io::Error>([read("tcp")?, read("tcp6").unwrap_or_default()]))??;
    let open: Vec<_> = tables.iter().flat_map(|table| established(table)).collect();
    let socket = Socket::open(netns, Family::Netfilter)?;
    for (local, remote) in &open {
        match socket.request(entry(*local, *remote)) {
            // It is remembered already.
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {}
            done => done?,
        }
    }
    Ok(open.len())
}

/// The established connections in a table of `/proc`: our end and the other.
fn established(table: &str) -> Vec<(SocketAddr, SocketAddr)> {
    let of = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        let ends = (address(words.next()?)?, address(words.next()?)?);
        (words.next()? == STATE_ESTABLISHED).then_some(ends)
    };
    table.lines().skip(1).filter_map(of).filter(|(local, _)| !local.ip().is_loopback()).collect()
}

/// `0100007F:1F90`: words of the machine's byte order, and the port as a number.
fn address(text: &str) -> Option<SocketAddr> {
    let (words, port) = text.split_once(':')?;
    let mut bytes = Vec::new();
    for at in (0..words.len()).step_by(8) {
        bytes.extend(u32::from_str_radix(words.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    }
    let ip: IpAddr = match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok()?.into(),
        _ => Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).to_canonical(),
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

/// An entry for an established connection. Which end has begun makes no difference to rules any more.
fn entry(local: SocketAddr, remote: SocketAddr) -> Message {
    let family = if local.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let mut message = Message::new(ADD, F_CREATE | F_EXCL, &[family as u8, 0, 0, 0]);
    message.nested(ORIGINAL, |tuple| fill(tuple, local, remote));
    message.nested(REPLY, |tuple| fill(tuple, remote, local));
    message.attribute(STATUS, &HEARD_ASSURED_CONFIRMED.to_be_bytes());
    message.attribute(TIMEOUT, &ESTABLISHED_SECONDS.to_be_bytes());
    message.nested(PROTOCOL_STATE, |state| {
        state.nested(TCP, |tcp| {
            tcp.attribute(TCP_STATE, &[ESTABLISHED]);
            for flags in TCP_FLAGS {
                tcp.attribute(flags, &LIBERAL);
            }
        });
    });
    message
}

fn fill(tuple: &mut Attributes, source: SocketAddr, destination: SocketAddr) {
    tuple.nested(ADDRESS, |address| {
        for (at, ip) in [source.ip(), destination.ip()].into_iter().enumerate() {
            let at = at as u16;
            match ip {
                IpAddr::V4(ip) => address.attribute(1 + at, &ip.octets()),
                IpAddr::V6(ip) => address.attribute(3 + at, &ip.octets()),
            };
        }
    });
    tuple.nested(PROTOCOL, |protocol| {
        protocol.attribute(NUMBER, &[libc::IPPROTO_TCP as u8]);
        protocol.attribute(SOURCE_PORT, &source.port().to_be_bytes());
        protocol.attribute(DESTINATION_PORT, &destination.port().to_be_bytes());
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn tables_of_proc_are_read() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue\n\
             \x20  0: 00000000:1F91 00000000:0000 0A 00000000:00000000\n\
             \x20  1: 0A01F40A:1F91 0C02F40A:C254 01 00000000:00000000\n\
             \x20  2: 0A01F40A:1F91 0C02F40A:C255 06 00000000:00000000\n\
             \x20  3: 0100007F:1F91 0100007F:C256 01 00000000:00000000\n";
        assert_eq!(established(table), [("10.244.1.10:8081".parse().unwrap(), "10.244.2.12:49748".parse().unwrap())]);
        let mapped = "0000000000000000FFFF00000A01F40A:1F91";
        assert_eq!(address(mapped), Some("10.244.1.10:8081".parse().unwrap()), "IPv4 on a socket of both families");
        assert_eq!(address("000000FD000000000000000001000000:0050"), Some("[fd00::1]:80".parse().unwrap()));
        assert_eq!(address("0A01F40A"), None);
    }
}
