//! What a namespace remembers of connections.
//!
//! A connection that is remembered keeps the way it once took, whatever the rules say since. It is
//! never looked at here whose connection that is: everything is forgotten, or nothing.

use std::io;

use super::netlink::{Family, Message, Socket};
use super::netns::Netns;

/// Subsystem 1 of nfnetlink is connection tracking, act 2 is to delete; without saying which, all.
const DELETE: u16 = 1 << 8 | 2;
/// Both address families, version 0, no resource.
const EVERY_FAMILY: [u8; 4] = [0; 4];

/// Forgets every connection: the next packet of each is judged by the rules of now.
pub fn forget(netns: &Netns) -> io::Result<()> {
    Socket::open(netns, Family::Netfilter)?.request(Message::new(DELETE, 0, &EVERY_FAMILY))
}
