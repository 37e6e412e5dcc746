//! The expressions that firewall rules are made of, each as the kernel wants
//! it: a name and attributes.
//!
//! A rule reads a packet left to right: load something into a register,
//! compare it, and when nothing objected, act.

use std::net::IpAddr;

use super::Verdict;
use crate::net::links::octets;
use crate::net::netlink::{Attributes, attribute};

/// The register that rules compute in. The kernel calls it both 1 and 8 and
/// answers with 1, so that is what is written too.
const REGISTER: u32 = 1;

// From linux/netfilter/nf_tables.h.
const META_NFPROTO: u32 = 15;
const META_L4PROTO: u32 = 16;
const META_MARK: u32 = 3;
const META_IIFNAME: u32 = 6;
const META_OIFNAME: u32 = 7;
const CT_STATE: u32 = 0;
const CT_STATUS: u32 = 2;
const CT_MARK: u32 = 3;
const CT_ZONE: u32 = 17;
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;
const DATA_VALUE: u16 = 1;
const NFPROTO_IPV4: u8 = 2;
const NFPROTO_IPV6: u8 = 10;
const INTERFACE_NAME_BYTES: usize = 16;

/// `IPS_DST_NAT`: the connection's destination was translated.
const STATUS_DST_NAT: u32 = 1 << 5;
/// `NF_CT_STATE_BIT(IP_CT_ESTABLISHED)`: the connection was known before this packet, and both sides were heard.
const STATE_ESTABLISHED: u32 = 1 << 1;
/// `NF_CT_STATE_INVALID_BIT`: the packet belongs to no connection that is known, and cannot begin one.
const STATE_INVALID: u32 = 1;
/// Where a TCP header has its flags, and those of them that say what a packet is for.
const TCP_FLAGS_AT: u32 = 13;
const FIN_SYN_RST_ACK: u8 = 0x17;
const SYN: u8 = 0x02;

/// One expression of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::net) struct Expr {
    pub(in crate::net) name: &'static str,
    attributes: Vec<(u16, Vec<u8>)>,
}

impl Expr {
    fn new<const N: usize>(name: &'static str, attributes: [(u16, Vec<u8>); N]) -> Self {
        Self { name, attributes: attributes.into() }
    }

    /// Its attributes as bytes.
    pub(in crate::net) fn encode(&self) -> Vec<u8> {
        let mut into = Attributes::default();
        for (kind, value) in &self.attributes {
            into.attribute(*kind, value);
        }
        into.into_bytes()
    }

    /// Whether these attributes, read back from the kernel, say the same. The
    /// kernel adds the ones whose defaults we leave out.
    pub(in crate::net) fn is_within(&self, there: &[u8]) -> bool {
        self.attributes.iter().all(|(kind, value)| attribute(there, *kind) == Some(value))
    }
}

/// Which end of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::net) enum End {
    Source,
    Destination,
}

/// A packet address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::net) enum Version {
    V4,
    V6,
}

impl Version {
    pub(in crate::net) const BOTH: [Self; 2] = [Self::V4, Self::V6];

    pub(in crate::net) fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    pub(in crate::net) fn address_len(self) -> usize {
        match self {
            Self::V4 => 4,
            Self::V6 => 16,
        }
    }

    fn number(self) -> u8 {
        match self {
            Self::V4 => NFPROTO_IPV4,
            Self::V6 => NFPROTO_IPV6,
        }
    }
}

/// Whether equal or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::net) enum Op {
    Is,
    IsNot,
}

/// The packet is of this address family.
pub(in crate::net) fn version(version: Version) -> Vec<Expr> {
    vec![load_meta(META_NFPROTO, REGISTER), compare(Op::Is, &[version.number()])]
}

/// The packet is of this transport protocol.
pub(in crate::net) fn protocol(number: u8) -> Vec<Expr> {
    vec![load_meta(META_L4PROTO, REGISTER), compare(Op::Is, &[number])]
}

/// An address of the packet, which must be known to be of its family.
pub(in crate::net) fn address(end: End, op: Op, address: IpAddr) -> Vec<Expr> {
    vec![load_address(end, Version::of(address), REGISTER), compare(op, &octets(address))]
}

/// An address of the packet lies in a network.
pub(in crate::net) fn within(end: End, op: Op, net: ipnet::IpNet) -> Vec<Expr> {
    let network = octets(net.network());
    let mask = octets(net.netmask());
    vec![
        load_address(end, Version::of(net.addr()), REGISTER),
        masked(&mask, &vec![0; mask.len()]),
        compare(op, &network),
    ]
}

/// A port of the packet, which must be known to be TCP or UDP.
pub(in crate::net) fn port(end: End, op: Op, port: u16) -> Vec<Expr> {
    vec![load_port(end, REGISTER), compare(op, &port.to_be_bytes())]
}

/// The name of the interface a packet came by.
pub(in crate::net) fn arrived_by(name: &str) -> Vec<Expr> {
    vec![load_meta(META_IIFNAME, REGISTER), compare(Op::Is, &interface(name))]
}

/// The name of the interface a packet leaves by.
pub(in crate::net) fn leaves_by(op: Op, name: &str) -> Vec<Expr> {
    vec![load_meta(META_OIFNAME, REGISTER), compare(op, &interface(name))]
}

/// The packet's mark, under a mask.
pub(in crate::net) fn mark(op: Op, mark: u32, mask: u32) -> Vec<Expr> {
    vec![load_meta(META_MARK, REGISTER), masked_number(mask, 0), compare(op, &mark.to_ne_bytes())]
}

/// The connection's mark, under a mask.
pub(in crate::net) fn connection_mark(op: Op, mark: u32, mask: u32) -> Vec<Expr> {
    vec![load_connection(CT_MARK), masked_number(mask, 0), compare(op, &mark.to_ne_bytes())]
}

/// Marks the connection, under a mask.
pub(in crate::net) fn mark_connection(mark: u32, mask: u32) -> Vec<Expr> {
    vec![load_connection(CT_MARK), masked_number(!mask, mark), store_connection(CT_MARK)]
}

/// Gives the packet the mark of its connection.
pub(in crate::net) fn mark_as_connection() -> Vec<Expr> {
    vec![load_connection(CT_MARK), Expr::new("meta", [(2, be(META_MARK)), (3, be(REGISTER))])]
}

/// Tracks the packet in a zone of its own.
pub(in crate::net) fn track_in_zone(zone: u16) -> Vec<Expr> {
    let value = Expr::new("immediate", [(1, be(REGISTER)), (2, value(&zone.to_ne_bytes()))]);
    vec![value, store_connection(CT_ZONE)]
}

/// Tracks the packet in a zone of its own in the direction of who opened the connection.
pub(in crate::net) fn track_original_in_zone(zone: u16) -> Vec<Expr> {
    const ORIGINAL: u8 = 0;
    let value = Expr::new("immediate", [(1, be(REGISTER)), (2, value(&zone.to_ne_bytes()))]);
    vec![value, Expr::new("ct", [(2, be(CT_ZONE)), (3, vec![ORIGINAL]), (4, be(REGISTER))])]
}

/// The connection's destination was translated.
pub(in crate::net) fn translated() -> Vec<Expr> {
    vec![load_connection(CT_STATUS), masked_number(STATUS_DST_NAT, 0), compare(Op::IsNot, &0_u32.to_ne_bytes())]
}

/// The connection's destination was not translated.
pub(in crate::net) fn untranslated() -> Vec<Expr> {
    vec![load_connection(CT_STATUS), masked_number(STATUS_DST_NAT, 0), compare(Op::Is, &0_u32.to_ne_bytes())]
}

/// The packet belongs to a connection that was known before it, and of which both sides were heard.
pub(in crate::net) fn established() -> Vec<Expr> {
    vec![load_connection(CT_STATE), masked_number(STATE_ESTABLISHED, 0), compare(Op::IsNot, &0_u32.to_ne_bytes())]
}

/// The packet belongs to no connection, and cannot begin one: nothing of it is translated.
pub(in crate::net) fn invalid() -> Vec<Expr> {
    vec![load_connection(CT_STATE), masked_number(STATE_INVALID, 0), compare(Op::IsNot, &0_u32.to_ne_bytes())]
}

/// The packet, which must be known to be TCP, asks for a connection.
pub(in crate::net) fn opens() -> Vec<Expr> {
    vec![
        payload(REGISTER, TRANSPORT_HEADER, TCP_FLAGS_AT, 1),
        masked(&[FIN_SYN_RST_ACK], &[0]),
        compare(Op::Is, &[SYN]),
    ]
}

/// The packet's source is an address of this very namespace.
pub(in crate::net) fn from_here() -> Vec<Expr> {
    const ADDRESS_TYPE: u32 = 3;
    const OF_SOURCE: u32 = 1;
    const LOCAL: u32 = 2;
    let load = Expr::new("fib", [(1, be(REGISTER)), (2, be(ADDRESS_TYPE)), (3, be(OF_SOURCE))]);
    vec![load, compare(Op::Is, &LOCAL.to_ne_bytes())]
}

/// One address of the packet is in a set.
pub(in crate::net) fn address_in(end: End, version: Version, set: &str) -> Vec<Expr> {
    vec![load_address(end, version, REGISTER), lookup(set, None)]
}

/// Source and destination address of the packet are together in a set.
pub(in crate::net) fn pair_in(version: Version, set: &str) -> Vec<Expr> {
    let words = version.address_len() as u32 / 4;
    vec![
        load_address(End::Source, version, REGISTER),
        load_address(End::Destination, version, later(words)),
        lookup(set, None),
    ]
}

/// Destination address, protocol and destination port are in a set, or, for a
/// map of verdicts, whatever the map says is done.
pub(in crate::net) fn destination_in(version: Version, set: &str, verdicts: bool) -> Vec<Expr> {
    let words = version.address_len() as u32 / 4;
    vec![
        load_address(End::Destination, version, REGISTER),
        load_meta(META_L4PROTO, later(words)),
        load_port(End::Destination, later(words + 1)),
        lookup(set, verdicts.then_some(0)),
    ]
}

/// Translates the destination to one that a map gives for a random number.
pub(in crate::net) fn translate_to_one_of(version: Version, map: &str, count: u32) -> Vec<Expr> {
    const RANDOM: u32 = 1;
    const DESTINATION: u32 = 1;
    let words = version.address_len() as u32 / 4;
    vec![
        Expr::new("numgen", [(1, be(REGISTER)), (2, be(count)), (3, be(RANDOM))]),
        lookup(map, Some(REGISTER)),
        Expr::new(
            "nat",
            [(1, be(DESTINATION)), (2, be(version.number().into())), (3, be(REGISTER)), (5, be(later(words)))],
        ),
    ]
}

/// Translates the source to a fixed address.
pub(in crate::net) fn translate_source(to: IpAddr) -> Vec<Expr> {
    const SOURCE: u32 = 0;
    let load = Expr::new("immediate", [(1, be(REGISTER)), (2, value(&octets(to)))]);
    let act = [(1, be(SOURCE)), (2, be(Version::of(to).number().into())), (3, be(REGISTER))];
    vec![load, Expr::new("nat", act)]
}

/// Hides the source behind the address of the interface it leaves by.
pub(in crate::net) fn masquerade() -> Vec<Expr> {
    vec![Expr::new("masq", [])]
}

/// Leads the packet to a port of this very namespace.
pub(in crate::net) fn redirect(to: u16) -> Vec<Expr> {
    let load = Expr::new("immediate", [(1, be(REGISTER)), (2, value(&to.to_be_bytes()))]);
    vec![load, Expr::new("redir", [(1, be(REGISTER))])]
}

/// Refuses the packet: TCP with a reset, which unlike an ICMP error also
/// reaches a sender that is still inside `connect`.
pub(in crate::net) fn refuse(protocol: u8) -> Vec<Expr> {
    const RESET: u32 = 1;
    const ICMP_OF_EITHER_FAMILY: u32 = 2;
    const PORT_UNREACHABLE: u8 = 1;
    let kind = if i32::from(protocol) == nix::libc::IPPROTO_TCP { RESET } else { ICMP_OF_EITHER_FAMILY };
    vec![Expr::new("reject", [(1, be(kind)), (2, vec![PORT_UNREACHABLE])])]
}

/// Ends the rule with a verdict.
pub(in crate::net) fn verdict(verdict: &Verdict) -> Vec<Expr> {
    let mut data = Attributes::default();
    verdict.encode(&mut data);
    vec![Expr::new("immediate", [(1, be(0)), (2, data.into_bytes())])]
}

fn load_meta(key: u32, register: u32) -> Expr {
    Expr::new("meta", [(1, be(register)), (2, be(key))])
}

fn load_connection(key: u32) -> Expr {
    Expr::new("ct", [(1, be(REGISTER)), (2, be(key))])
}

fn store_connection(key: u32) -> Expr {
    Expr::new("ct", [(2, be(key)), (4, be(REGISTER))])
}

fn load_address(end: End, version: Version, register: u32) -> Expr {
    let at = match (version, end) {
        (Version::V4, End::Source) => 12,
        (Version::V4, End::Destination) => 16,
        (Version::V6, End::Source) => 8,
        (Version::V6, End::Destination) => 24,
    };
    payload(register, NETWORK_HEADER, at, version.address_len() as u32)
}

fn load_port(end: End, register: u32) -> Expr {
    let at = if end == End::Source { 0 } else { 2 };
    payload(register, TRANSPORT_HEADER, at, 2)
}

fn payload(register: u32, base: u32, at: u32, len: u32) -> Expr {
    Expr::new("payload", [(1, be(register)), (2, be(base)), (3, be(at)), (4, be(len))])
}

fn compare(op: Op, with: &[u8]) -> Expr {
    let op = if op == Op::Is { 0 } else { 1 };
    Expr::new("cmp", [(1, be(REGISTER)), (2, be(op)), (3, value(with))])
}

fn masked_number(mask: u32, xor: u32) -> Expr {
    masked(&mask.to_ne_bytes(), &xor.to_ne_bytes())
}

fn masked(mask: &[u8], xor: &[u8]) -> Expr {
    let len = be(mask.len() as u32);
    Expr::new("bitwise", [(1, be(REGISTER)), (2, be(REGISTER)), (3, len), (4, value(mask)), (5, value(xor))])
}

fn lookup(set: &str, into: Option<u32>) -> Expr {
    let mut name = set.as_bytes().to_vec();
    name.push(0);
    let mut expr = Expr::new("lookup", [(1, name), (2, be(REGISTER))]);
    if let Some(register) = into {
        expr.attributes.push((3, be(register)));
    }
    expr
}

/// The register `words` times four bytes after the first.
fn later(words: u32) -> u32 {
    8 + words
}

fn value(bytes: &[u8]) -> Vec<u8> {
    let mut data = Attributes::default();
    data.attribute(DATA_VALUE, bytes);
    data.into_bytes()
}

fn interface(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(INTERFACE_NAME_BYTES, 0);
    bytes
}

fn be(number: u32) -> Vec<u8> {
    number.to_be_bytes().to_vec()
}
