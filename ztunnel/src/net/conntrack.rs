//! What a namespace remembers of connections.
//!
//! A connection that is remembered keeps the way it once took, whatever the rules say since; one that is not is
//! judged by them with its next packet. When rules come into a namespace where programs work already, what is open is
//! first remembered ([`adopt`]) and so goes on, and what has ended is forgotten after ([`prune`]), for a new connection
//! with the same addresses and ports would be taken for it and keep its way.

mod entry;
mod open;

use std::collections::HashSet;
use std::io;

use nix::libc;

use self::entry::Entry;
use super::netlink::{Family, Message, Socket};
use super::netns::Netns;

/// Subsystem 1 of nfnetlink is connection tracking, acts 0, 1 and 2 are to add, to list and to delete; delete without
/// saying which, and all are.
const ADD: u16 = 1 << 8;
const LIST: u16 = 1 << 8 | 1;
const DELETE: u16 = 1 << 8 | 2;
/// Both address families, version 0, no resource.
const EVERY_FAMILY: [u8; 4] = [0; 4];

/// Forgets every connection: the next packet of each is judged by the rules of now.
pub fn forget(netns: &Netns) -> io::Result<()> {
    Socket::open(netns, Family::Netfilter)?.request(Message::new(DELETE, 0, &EVERY_FAMILY))
}

/// Remembers every TCP connection that is open or about to be, as one that goes its own way: rules that come now do not
/// touch it. The kernel by itself remembers only those of which it saw a packet while there were rules. How many it was
/// that the kernel did not remember.
pub fn adopt(netns: &Netns) -> io::Result<usize> {
    let socket = Socket::open(netns, Family::Netfilter)?;
    let mut adopted = 0;
    for connection in open::connections(netns)? {
        match socket.request(entry::of(&connection)) {
            Ok(()) => adopted += 1,
            // It is remembered already.
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(adopted)
}

/// How many TCP connections are open that need rules to go on: those that were led elsewhere, and those with this mark,
/// the answers to which find their way by it.
pub fn led(netns: &Netns, mark: u32, mask: u32) -> io::Result<usize> {
    let listed = listed(&Socket::open(netns, Family::Netfilter)?)?;
    Ok(listed.iter().filter(|entry| entry.open && (entry.led || entry.mark & mask == mark)).count())
}

/// Forgets the TCP connections that go their own way, those of the proxy too, and are not open any more. How many there were.
pub fn prune(netns: &Netns) -> io::Result<usize> {
    let socket = Socket::open(netns, Family::Netfilter)?;
    // In this order: what is listed and has no end here has ended, and is not one that only comes.
    let listed = listed(&socket)?;
    let open: HashSet<_> = open::connections(netns)?.into_iter().map(|open| (open.local, open.remote)).collect();
    let mut pruned = 0;
    for entry in listed {
        let (source, destination) = entry.ends;
        if entry.led || open.contains(&(source, destination)) || open.contains(&(destination, source)) {
            continue;
        }
        match socket.request(entry.forget()) {
            Ok(()) => pruned += 1,
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(pruned)
}

/// The TCP connections that are remembered, but for those in zones that answers are in too.
fn listed(socket: &Socket) -> io::Result<Vec<Entry>> {
    let listed = socket.dump(Message::new(LIST, 0, &EVERY_FAMILY))?;
    Ok(listed.iter().filter_map(|(_, answer)| Entry::read(answer)).collect())
}
