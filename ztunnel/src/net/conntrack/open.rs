//! Which connections the programs of a namespace have open.
//!
//! The kernel is asked by `sock_diag(7)`. `/proc/net/tcp` is no way to know: a reader gets a page at a time, and where
//! a socket went meanwhile the kernel counts from the beginning again to where the page before ended, by which open ones
//! are passed over. An end that is overlooked here is a connection torn.

use std::io;
use std::net::SocketAddr;

use nix::libc;

use super::super::links::address_of;
use super::super::netlink::{Family, Message, Socket};
use super::super::netns::Netns;

/// Asks about the sockets of one address family: `SOCK_DIAG_BY_FAMILY`.
const BY_FAMILY: u16 = 20;
/// Numbers of states as the kernel has them (`include/net/tcp_states.h`): established, and those in which one side has
/// ended or both are about to. An end that waits for late packets is none of them: nothing comes any more.
const STATES_OPEN: [u8; 6] = [1, 4, 5, 8, 9, 11];
/// SYN_SENT, SYN_RECV and NEW_SYN_RECV.
const STATES_OPENING: [u8; 3] = [2, 3, 12];

/// An open connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Connection {
    /// The end that is here.
    pub(super) local: SocketAddr,
    /// The other one.
    pub(super) remote: SocketAddr,
    /// Both sides have not agreed to it yet.
    pub(super) opening: bool,
}

/// The TCP connections of a namespace through which something may come yet, but for those within it.
pub(super) fn connections(netns: &Netns) -> io::Result<Vec<Connection>> {
    let socket = Socket::open(netns, Family::SocketDiagnosis)?;
    let mut open = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        let listed = socket.dump(Message::new(BY_FAMILY, 0, &question(family as u8)))?;
        open.extend(listed.iter().filter_map(|(_, answer)| read(answer)));
    }
    open.retain(|connection| !connection.local.ip().is_loopback());
    Ok(open)
}

/// `struct inet_diag_req_v2`: TCP of a family, no extensions, these states, any ends.
fn question(family: u8) -> [u8; 56] {
    let mut question = [0; 56];
    question[0] = family;
    question[1] = libc::IPPROTO_TCP as u8;
    let states = STATES_OPEN.iter().chain(&STATES_OPENING).fold(0_u32, |states, state| states | 1 << state);
    question[4..8].copy_from_slice(&states.to_ne_bytes());
    question
}

/// `struct inet_diag_msg`: family, state, timer, retransmits, then the ports and the addresses of both ends.
fn read(answer: &[u8]) -> Option<Connection> {
    let (family, state) = (*answer.first()?, *answer.get(1)?);
    let bytes = if i32::from(family) == libc::AF_INET { 4 } else { 16 };
    let end = |port: usize, ip: usize| {
        let port = u16::from_be_bytes(answer.get(port..port + 2)?.try_into().ok()?);
        // A socket of both families has IPv4 in IPv6.
        Some(SocketAddr::new(address_of(answer.get(ip..ip + bytes)?)?.to_canonical(), port))
    };
    let opening = STATES_OPENING.contains(&state);
    let counts = opening || STATES_OPEN.contains(&state);
    Some(Connection { local: end(4, 8)?, remote: end(6, 24)?, opening }).filter(|_| counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(family: i32, state: u8, local: &str, remote: &str) -> Vec<u8> {
        let mut answer = vec![family as u8, state, 0, 0];
        let ends: [SocketAddr; 2] = [local, remote].map(|end| end.parse().unwrap());
        for end in ends {
            answer.extend(end.port().to_be_bytes());
        }
        for end in ends {
            let mut bytes = match end.ip() {
                std::net::IpAddr::V4(ip) => ip.octets().to_vec(),
                std::net::IpAddr::V6(ip) => ip.octets().to_vec(),
            };
            bytes.resize(16, 0);
            answer.extend(bytes);
        }
        answer.resize(72, 0);
        answer
    }

    #[test]
    fn answers_of_the_kernel_are_read() {
        let (server, client) = ("10.244.1.10:8081", "10.244.2.12:49748");
        let connection = |local: &str, remote: &str, opening| {
            Some(Connection { local: local.parse().unwrap(), remote: remote.parse().unwrap(), opening })
        };
        let v4 = |state| read(&answer(libc::AF_INET, state, server, client));
        assert_eq!(v4(1), connection(server, client, false));
        assert_eq!(v4(3), connection(server, client, true));
        assert_eq!(v4(6), None, "what has ended");
        assert_eq!(v4(10), None, "who listens");
        let v6 = answer(libc::AF_INET6, 8, "[fd00::1]:80", "[fd00::2]:4000");
        assert_eq!(read(&v6), connection("[fd00::1]:80", "[fd00::2]:4000", false));
        let mapped = answer(libc::AF_INET6, 1, "[::ffff:10.244.1.10]:8081", "[::ffff:10.244.2.12]:49748");
        assert_eq!(read(&mapped), connection(server, client, false), "IPv4 on a socket of both families");
        assert_eq!(read(&v6[..30]), None);
        assert_eq!(read(&[]), None);
    }
}
