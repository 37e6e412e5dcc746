//! Which connections the programs of a namespace have open.

use std::io;
use std::net::SocketAddr;

use super::super::links::address_of;
use super::super::netns::Netns;

/// As `/proc/net/tcp` writes them: established, and those in which one side has ended or both are about to…
const STATES_OPEN: [&str; 6] = ["01", "04", "05", "08", "09", "0B"];
/// …and SYN_SENT, SYN_RECV and NEW_SYN_RECV.
const STATES_OPENING: [&str; 3] = ["02", "03", "0C"];

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
    let read = |name: &str| std::fs::read_to_string(format!("/proc/thread-self/net/{name}"));
    // Without IPv6 there is no such file.
    let tables = netns.run(|| Ok::<_, io::Error>([read("tcp")?, read("tcp6").unwrap_or_default()]))??;
    Ok(tables.iter().flat_map(|table| listed(table)).collect())
}

fn listed(table: &str) -> Vec<Connection> {
    let of = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        let (local, remote) = (address(words.next()?)?, address(words.next()?)?);
        let state = words.next()?;
        let opening = STATES_OPENING.contains(&state);
        (opening || STATES_OPEN.contains(&state)).then_some(Connection { local, remote, opening })
    };
    table.lines().skip(1).filter_map(of).filter(|connection| !connection.local.ip().is_loopback()).collect()
}

/// `0100007F:1F90`: words of the machine's byte order, and the port as a number.
fn address(text: &str) -> Option<SocketAddr> {
    let (words, port) = text.split_once(':')?;
    let mut bytes = Vec::new();
    for at in (0..words.len()).step_by(8) {
        bytes.extend(u32::from_str_radix(words.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    }
    // A socket of both families has IPv4 in IPv6.
    let ip = address_of(&bytes)?.to_canonical();
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
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
             \x20  3: 0A01F40A:1F91 0C02F40A:C256 03 00000000:00000000\n\
             \x20  4: 0100007F:1F91 0100007F:C256 01 00000000:00000000\n";
        let local = "10.244.1.10:8081".parse().unwrap();
        let remote = |port| format!("10.244.2.12:{port}").parse().unwrap();
        let expected = [
            Connection { local, remote: remote(49748), opening: false },
            Connection { local, remote: remote(49750), opening: true },
        ];
        assert_eq!(listed(table), expected, "neither who listens, nor what has ended, nor loopback");
        let mapped = "0000000000000000FFFF00000A01F40A:1F91";
        assert_eq!(address(mapped), Some("10.244.1.10:8081".parse().unwrap()), "IPv4 on a socket of both families");
        assert_eq!(address("000000FD000000000000000001000000:0050"), Some("[fd00::1]:80".parse().unwrap()));
        assert_eq!(address("0A01F40A"), None);
    }
}
