//! The header of the PROXY protocol, version 2, by which a proxy behind us learns what a tunnel was
//! asked for and who asked. Pure.

use std::net::SocketAddr;

use mesh::Identity;

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, command PROXY.
const PROXY: u8 = 0x21;
const TCP_OVER_IPV4: u8 = 0x11;
const TCP_OVER_IPV6: u8 = 0x21;
/// Istio's own: the SPIFFE URI that the peer proved.
const PEER_IDENTITY: u8 = 0xD0;

/// The header for a connection of `client` that asked for `target`. Where the two are of different
/// families both are written as IPv6.
pub fn header(client: SocketAddr, target: SocketAddr, peer: Option<&Identity>) -> Vec<u8> {
    let mut rest = Vec::with_capacity(64);
    let family = match (client, target) {
        (SocketAddr::V4(client), SocketAddr::V4(target)) => {
            rest.extend(client.ip().octets());
            rest.extend(target.ip().octets());
            TCP_OVER_IPV4
        }
        (client, target) => {
            rest.extend(in_ipv6(client));
            rest.extend(in_ipv6(target));
            TCP_OVER_IPV6
        }
    };
    rest.extend(client.port().to_be_bytes());
    rest.extend(target.port().to_be_bytes());
    if let Some(peer) = peer {
        let uri = peer.to_string();
        // An identity is three names of at most 253 bytes: its length fits into 16 bits.
        let length = u16::try_from(uri.len()).unwrap_or(0);
        rest.push(PEER_IDENTITY);
        rest.extend(length.to_be_bytes());
        rest.extend(&uri.as_bytes()[..usize::from(length)]);
    }
    let length = u16::try_from(rest.len()).unwrap_or(u16::MAX);
    [&SIGNATURE[..], &[PROXY, family], &length.to_be_bytes(), &rest].concat()
}

fn in_ipv6(address: SocketAddr) -> [u8; 16] {
    match address {
        SocketAddr::V4(v4) => v4.ip().to_ipv6_mapped().octets(),
        SocketAddr::V6(v6) => v6.ip().octets(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn the_header_is_that_of_the_specification() {
        let peer = Identity::new("td", "a", "b").expect("an identity");
        let uri = b"spiffe://td/ns/a/sa/b";
        let header = header(address("10.0.0.1:1000"), address("10.1.0.1:80"), Some(&peer));
        let expected = [
            &b"\x0d\x0a\x0d\x0a\x00\x0d\x0aQUIT\x0a\x21\x11\x00\x24"[..],
            &[10, 0, 0, 1, 10, 1, 0, 1, 0x03, 0xe8, 0, 80, 0xd0, 0, uri.len() as u8],
            uri,
        ]
        .concat();
        assert_eq!(header, expected);
    }

    #[test]
    fn ends_of_different_families_are_both_written_as_ipv6() {
        let header = header(address("10.0.0.1:1"), address("[fd00::1]:2"), None);
        assert_eq!(header[12..16], [0x21, 0x21, 0, 36]);
        assert_eq!(header[16..32], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 1]);
        assert_eq!(header.len(), 16 + 36);
    }
}
