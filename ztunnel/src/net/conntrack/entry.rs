//! One remembered connection, as the kernel writes it and wants it written.

use std::net::{IpAddr, SocketAddr};

use nix::libc;

use super::super::links::{address_of, octets};
use super::super::netlink::{Attributes, F_CREATE, F_EXCL, Message, attribute};
use super::open::Connection;
use super::{ADD, DELETE};

/// Attributes of an entry, of a tuple in it, of its address and of its protocol.
const ORIGINAL: u16 = 1;
const REPLY: u16 = 2;
const STATUS: u16 = 3;
const PROTOCOL_STATE: u16 = 4;
const TIMEOUT: u16 = 7;
const MARK: u16 = 8;
const ZONE: u16 = 18;
const ADDRESS: u16 = 1;
const PROTOCOL: u16 = 2;
const TUPLE_ZONE: u16 = 3;
const SOURCE: u16 = 1;
const DESTINATION: u16 = 2;
/// The same two in IPv6 come this much later.
const IPV6: u16 = 2;
const NUMBER: u16 = 1;
const SOURCE_PORT: u16 = 2;
const DESTINATION_PORT: u16 = 3;
const TCP: u16 = 1;
const TCP_STATE: u16 = 1;
const TCP_FLAGS: [u16; 2] = [4, 5];

const TCP_NUMBER: u8 = libc::IPPROTO_TCP as u8;
/// The header that comes before the attributes.
const HEADER_BYTES: usize = 4;
/// `IPS_SRC_NAT` and `IPS_DST_NAT`.
const TRANSLATED: u32 = 1 << 4 | 1 << 5;
/// Both sides have been heard, it is not to be dropped early, and it is an entry like others.
const HEARD_ASSURED_CONFIRMED: u32 = 1 << 1 | 1 << 2 | 1 << 3;
const ESTABLISHED: u8 = 3;
/// SYN_SENT, SYN_RECV, ESTABLISHED, FIN_WAIT, CLOSE_WAIT, LAST_ACK (`nf_conntrack_tcp.h`).
const STATES_OPEN: std::ops::RangeInclusive<u8> = 1..=6;
/// Nothing is known of its sequence numbers: flag and mask.
const LIBERAL: [u8; 2] = [0x08, 0x08];
/// What the kernel itself gives to an established connection: five days.
const ESTABLISHED_SECONDS: u32 = 432_000;
/// One that is about to open and of which no packet comes any more is not remembered for longer.
const OPENING_SECONDS: u32 = 60;

/// The message that adds an entry. Which end has begun makes no difference to rules any more.
pub(super) fn of(connection: &Connection) -> Message {
    let Connection { local, remote, opening } = *connection;
    let mut message = Message::new(ADD, F_CREATE | F_EXCL, &header(local));
    message.nested(ORIGINAL, |tuple| fill(tuple, local, remote));
    message.nested(REPLY, |tuple| fill(tuple, remote, local));
    message.attribute(STATUS, &HEARD_ASSURED_CONFIRMED.to_be_bytes());
    let seconds = if opening { OPENING_SECONDS } else { ESTABLISHED_SECONDS };
    message.attribute(TIMEOUT, &seconds.to_be_bytes());
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

/// A remembered TCP connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    /// Who began, and to whom.
    pub(super) ends: (SocketAddr, SocketAddr),
    /// It was led elsewhere.
    pub(super) led: bool,
    /// What it is marked with, if with anything.
    pub(super) mark: u32,
    /// As far as the kernel has heard, which of one that was adopted may not be all.
    pub(super) open: bool,
    /// The zone in which it began, as the kernel writes it; none is that of all.
    zone: Option<[u8; 2]>,
}

impl Entry {
    /// What the kernel lists. None for other protocols, and for zones that answers are in too.
    pub(super) fn read(answer: &[u8]) -> Option<Self> {
        let attributes = answer.get(HEADER_BYTES..)?;
        let tuple = attribute(attributes, ORIGINAL)?;
        let (address, protocol) = (attribute(tuple, ADDRESS)?, attribute(tuple, PROTOCOL)?);
        let of_tcp = attribute(protocol, NUMBER)? == [TCP_NUMBER];
        if !of_tcp || attribute(attributes, ZONE).is_some() {
            return None;
        }
        let zone = attribute(tuple, TUPLE_ZONE).map(TryInto::try_into).transpose().ok()?;
        let end = |ip, port| Some(SocketAddr::new(read_ip(address, ip)?, number(attribute(protocol, port)?)?));
        let status = u32::from_be_bytes(attribute(attributes, STATUS)?.try_into().ok()?);
        let ends = (end(SOURCE, SOURCE_PORT)?, end(DESTINATION, DESTINATION_PORT)?);
        let state = attribute(attributes, PROTOCOL_STATE)
            .and_then(|state| attribute(state, TCP))
            .and_then(|tcp| attribute(tcp, TCP_STATE)?.first());
        let open = state.is_some_and(|state| STATES_OPEN.contains(state));
        let mark = attribute(attributes, MARK).and_then(|mark| mark.try_into().ok()).map_or(0, u32::from_be_bytes);
        Some(Self { ends, led: status & TRANSLATED != 0, mark, open, zone })
    }

    /// The message that deletes it.
    pub(super) fn forget(&self) -> Message {
        let mut message = Message::new(DELETE, 0, &header(self.ends.0));
        message.nested(ORIGINAL, |tuple| {
            fill(tuple, self.ends.0, self.ends.1);
            if let Some(zone) = self.zone {
                tuple.attribute(TUPLE_ZONE, &zone);
            }
        });
        message
    }
}

fn header(of: SocketAddr) -> [u8; HEADER_BYTES] {
    let family = if of.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    [family as u8, 0, 0, 0]
}

fn fill(tuple: &mut Attributes, source: SocketAddr, destination: SocketAddr) {
    tuple.nested(ADDRESS, |address| {
        for (kind, ip) in [(SOURCE, source.ip()), (DESTINATION, destination.ip())] {
            address.attribute(if ip.is_ipv4() { kind } else { kind + IPV6 }, &octets(ip));
        }
    });
    tuple.nested(PROTOCOL, |protocol| {
        protocol.attribute(NUMBER, &[TCP_NUMBER]);
        protocol.attribute(SOURCE_PORT, &source.port().to_be_bytes());
        protocol.attribute(DESTINATION_PORT, &destination.port().to_be_bytes());
    });
}

fn read_ip(address: &[u8], kind: u16) -> Option<IpAddr> {
    address_of(attribute(address, kind).or_else(|| attribute(address, kind + IPV6))?)
}

fn number(bytes: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(build: impl FnOnce(&mut Attributes)) -> Vec<u8> {
        let mut attributes = Attributes::default();
        attributes.fixed(&[0; HEADER_BYTES]);
        build(&mut attributes);
        attributes.into_bytes()
    }

    #[test]
    fn an_entry_is_read_as_it_is_written() {
        for (source, destination) in [("10.0.0.1:40000", "10.0.0.2:80"), ("[fd00::1]:40000", "[fd00::2]:80")] {
            let ends: (SocketAddr, SocketAddr) = (source.parse().unwrap(), destination.parse().unwrap());
            for (status, led, mark, zone, state, open) in [
                (HEARD_ASSURED_CONFIRMED, false, 0, None, ESTABLISHED, true),
                (HEARD_ASSURED_CONFIRMED, false, 0x111, Some([0, 2]), 7, false),
                (HEARD_ASSURED_CONFIRMED | 1 << 5, true, 0, None, 4, true),
            ] {
                let answer = listed(|entry| {
                    entry.nested(ORIGINAL, |tuple| {
                        fill(tuple, ends.0, ends.1);
                        if let Some(zone) = zone {
                            tuple.attribute(TUPLE_ZONE, &zone);
                        }
                    });
                    entry.attribute(STATUS, &status.to_be_bytes());
                    if mark != 0 {
                        entry.attribute(MARK, &u32::to_be_bytes(mark));
                    }
                    entry.nested(PROTOCOL_STATE, |protocol| {
                        protocol.nested(TCP, |tcp| {
                            tcp.attribute(TCP_STATE, &[state]);
                        });
                    });
                });
                assert_eq!(Entry::read(&answer), Some(Entry { ends, led, mark, open, zone }));
            }
        }
    }

    #[test]
    fn what_is_not_ours_to_look_at_is_none() {
        let ends: (SocketAddr, SocketAddr) = ("10.0.0.1:1".parse().unwrap(), "10.0.0.2:2".parse().unwrap());
        let zoned = listed(|entry| {
            entry.nested(ORIGINAL, |tuple| fill(tuple, ends.0, ends.1));
            entry.attribute(STATUS, &0_u32.to_be_bytes());
            entry.attribute(ZONE, &[0, 2]);
        });
        let udp = listed(|entry| {
            entry.nested(ORIGINAL, |tuple| {
                tuple.nested(ADDRESS, |_| {});
                tuple.nested(PROTOCOL, |protocol| {
                    protocol.attribute(NUMBER, &[libc::IPPROTO_UDP as u8]);
                });
            });
            entry.attribute(STATUS, &0_u32.to_be_bytes());
        });
        for answer in [zoned, udp, Vec::new(), vec![0; 3], vec![0; 9]] {
            assert_eq!(Entry::read(&answer), None);
        }
    }
}
