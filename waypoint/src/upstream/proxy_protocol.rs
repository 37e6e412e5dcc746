//! The header of the PROXY protocol, by which an endpoint learns who its caller is. Pure.

use std::net::{IpAddr, SocketAddr};

use mesh::route::traffic::ProxyProtocol;

use crate::context::Call;

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, command PROXY.
const PROXY: u8 = 0x21;
/// Version 2, command LOCAL.
const LOCAL: u8 = 0x20;
const TCP_OVER_IPV4: u8 = 0x11;
const TCP_OVER_IPV6: u8 = 0x21;

/// Who called, and what was called: what the header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ends {
    /// The caller.
    pub from: SocketAddr,
    /// What it dialled.
    pub to: SocketAddr,
}

impl Ends {
    /// Those of a tunnel. What was asked for by name has no address; its port is known.
    pub fn of(call: &Call) -> Self {
        let nowhere = || {
            let ip: IpAddr = match call.from {
                SocketAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
                SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
            };
            SocketAddr::new(ip, call.target.port())
        };
        Self { from: call.from, to: call.target.address().unwrap_or_else(nowhere) }
    }

    /// Where the two are of different families both are written as IPv6.
    fn header(&self, version: ProxyProtocol) -> Vec<u8> {
        let of_one = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
        match (of_one(self.from), of_one(self.to), version) {
            (SocketAddr::V4(from), SocketAddr::V4(to), ProxyProtocol::V1) => {
                format!("PROXY TCP4 {} {} {} {}\r\n", from.ip(), to.ip(), from.port(), to.port()).into()
            }
            (from, to, ProxyProtocol::V1) => {
                let (source, target) = (in_ipv6(from), in_ipv6(to));
                format!("PROXY TCP6 {source} {target} {} {}\r\n", from.port(), to.port()).into()
            }
            (SocketAddr::V4(from), SocketAddr::V4(to), ProxyProtocol::V2) => {
                binary(TCP_OVER_IPV4, &[from.ip().octets(), to.ip().octets()].concat(), from.port(), to.port())
            }
            (from, to, ProxyProtocol::V2) => {
                let both = [in_ipv6(from).octets(), in_ipv6(to).octets()].concat();
                binary(TCP_OVER_IPV6, &both, from.port(), to.port())
            }
        }
    }
}

/// The header of a connection that is made for a caller, or for ourselves.
pub fn header(version: ProxyProtocol, ends: Option<&Ends>) -> Vec<u8> {
    match (ends, version) {
        (Some(ends), version) => ends.header(version),
        (None, ProxyProtocol::V1) => b"PROXY UNKNOWN\r\n".into(),
        (None, ProxyProtocol::V2) => [&SIGNATURE[..], &[LOCAL, 0, 0, 0]].concat(),
    }
}

fn binary(family: u8, addresses: &[u8], from: u16, to: u16) -> Vec<u8> {
    // Two addresses of 16 bytes and two ports at most.
    let length = addresses.len() as u16 + 4;
    let ports = [from.to_be_bytes(), to.to_be_bytes()].concat();
    [&SIGNATURE[..], &[PROXY, family], &length.to_be_bytes(), addresses, &ports].concat()
}

fn in_ipv6(address: SocketAddr) -> std::net::Ipv6Addr {
    match address {
        SocketAddr::V4(v4) => v4.ip().to_ipv6_mapped(),
        SocketAddr::V6(v6) => *v6.ip(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(version: ProxyProtocol, from: &str, to: &str, expected: &[u8]) {
        let ends = Ends { from: from.parse().expect("an address"), to: to.parse().expect("an address") };
        assert_eq!(header(version, Some(&ends)), expected, "{from} {to}");
    }

    #[test]
    fn the_header_is_that_of_the_specification() {
        let (one, two) = (ProxyProtocol::V1, ProxyProtocol::V2);
        check(one, "10.0.0.1:1000", "10.1.0.1:80", b"PROXY TCP4 10.0.0.1 10.1.0.1 1000 80\r\n");
        check(one, "[::ffff:10.0.0.1]:1000", "10.1.0.1:80", b"PROXY TCP4 10.0.0.1 10.1.0.1 1000 80\r\n");
        check(one, "[fd00::1]:1", "[fd00::2]:2", b"PROXY TCP6 fd00::1 fd00::2 1 2\r\n");
        check(one, "10.0.0.1:1", "[fd00::2]:2", b"PROXY TCP6 ::ffff:10.0.0.1 fd00::2 1 2\r\n");
        let v4 = [&SIGNATURE[..], b"\x21\x11\x00\x0c", &[10, 0, 0, 1, 10, 1, 0, 1, 3, 0xe8, 0, 80]].concat();
        check(two, "10.0.0.1:1000", "10.1.0.1:80", &v4);
        let mut v6 = [&SIGNATURE[..], b"\x21\x21\x00\x24"].concat();
        v6.extend(std::net::Ipv4Addr::new(10, 0, 0, 1).to_ipv6_mapped().octets());
        v6.extend("fd00::2".parse::<std::net::Ipv6Addr>().expect("an address").octets());
        v6.extend([0, 1, 0, 2]);
        check(two, "10.0.0.1:1", "[fd00::2]:2", &v6);
        assert_eq!(header(one, None), b"PROXY UNKNOWN\r\n");
        assert_eq!(header(two, None), b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0");
    }
}
