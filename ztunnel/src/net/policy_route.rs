//! The policy route of a redirected pod: packets with the mark of redirected
//! connections are delivered in the pod itself, wherever they are addressed.
//!
//! It is what brings home the answers of an application to a proxy that
//! speaks with its client's address.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nix::libc;

use super::links::{Links, family};
use super::netlink::{F_CREATE, F_EXCL, F_REPLACE, Family, Message, Socket, attribute};
use super::netns::Netns;
use super::redirect::{MARK_MASK, REDIRECTED_MARK};

const TABLE: u32 = 100;
const PREFERENCE: u32 = 32764;
/// `lo` has this number in every namespace.
const LOOPBACK_INDEX: u32 = 1;

// From linux/fib_rules.h and rtnetlink.h.
const FRA_PRIORITY: u16 = 6;
const FRA_FWMARK: u16 = 10;
const FRA_TABLE: u16 = 15;
const FRA_FWMASK: u16 = 16;
const ACTION_TO_TABLE: u8 = 1;
const RTA_OIF: u16 = 4;
const RTA_TABLE: u16 = 15;
const PROTOCOL_STATIC: u8 = 4;

const BOTH_FAMILIES: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];

/// Puts the rule and the route in place, for every address family that the
/// kernel speaks.
pub(super) fn apply(netns: &Netns) -> io::Result<()> {
    let socket = Socket::open(netns, Family::Route)?;
    for any in BOTH_FAMILIES {
        let route = || socket.request(route(libc::RTM_NEWROUTE, F_CREATE | F_REPLACE, any));
        let route = match route() {
            // Runtimes set `lo` up while others ready the pod: who comes first does it.
            Err(error) if error.raw_os_error() == Some(libc::ENETDOWN) => {
                Links::open(netns)?.up("lo")?;
                route()
            }
            other => other,
        };
        if any.is_ipv6() && route.as_ref().is_err_and(not_spoken) {
            continue;
        }
        route?;
        unless(socket.request(rule(libc::RTM_NEWRULE, F_CREATE | F_EXCL, any)), libc::EEXIST)?;
    }
    Ok(())
}

/// Takes rule and route away; fine when they are not there.
pub(super) fn remove(netns: &Netns) -> io::Result<()> {
    let socket = Socket::open(netns, Family::Route)?;
    for any in BOTH_FAMILIES {
        let rule = unless(socket.request(rule(libc::RTM_DELRULE, 0, any)), libc::ENOENT);
        if any.is_ipv6() && rule.as_ref().is_err_and(not_spoken) {
            continue;
        }
        rule?;
        unless(socket.request(route(libc::RTM_DELROUTE, 0, any)), libc::ESRCH)?;
    }
    Ok(())
}

/// For how many of the families that the kernel speaks rule and route are in
/// place, and how many those are.
pub(super) fn count(netns: &Netns) -> io::Result<(usize, usize)> {
    let socket = Socket::open(netns, Family::Route)?;
    let (mut there, mut spoken) = (0, 0);
    for any in BOTH_FAMILIES {
        let mut ask = [0; 12];
        ask[0] = family(any);
        let rules = socket.dump(Message::new(libc::RTM_GETRULE, 0, &ask))?;
        let rules: Vec<_> = rules.iter().filter(|(_, content)| content.first() == Some(&family(any))).collect();
        if rules.is_empty() {
            // A family always has rules of its own, unless it is not there.
            continue;
        }
        spoken += 1;
        let routes = socket.dump(Message::new(libc::RTM_GETROUTE, 0, &ask))?;
        let rule = rules.iter().any(|(_, content)| is_rule(content));
        let route = routes.iter().any(|(_, content)| content.first() == Some(&family(any)) && is_route(content));
        there += usize::from(rule && route);
    }
    Ok((there, spoken))
}

fn rule(kind: u16, flags: u16, any: IpAddr) -> Message {
    let mut fixed = [0; 12];
    fixed[0] = family(any);
    fixed[4] = TABLE as u8;
    fixed[7] = ACTION_TO_TABLE;
    let mut message = Message::new(kind, flags, &fixed);
    message.attribute(FRA_PRIORITY, &PREFERENCE.to_ne_bytes()).attribute(FRA_TABLE, &TABLE.to_ne_bytes());
    message.attribute(FRA_FWMARK, &REDIRECTED_MARK.to_ne_bytes()).attribute(FRA_FWMASK, &MARK_MASK.to_ne_bytes());
    message
}

fn is_rule(content: &[u8]) -> bool {
    let Some(rest) = content.get(12..) else { return false };
    let holds = |kind, value: u32| attribute(rest, kind) == Some(&value.to_ne_bytes());
    content[7] == ACTION_TO_TABLE
        && holds(FRA_PRIORITY, PREFERENCE)
        && holds(FRA_TABLE, TABLE)
        && holds(FRA_FWMARK, REDIRECTED_MARK)
        && holds(FRA_FWMASK, MARK_MASK)
}

fn route(kind: u16, flags: u16, any: IpAddr) -> Message {
    let mut fixed = [0; 12];
    fixed[0] = family(any);
    fixed[4] = TABLE as u8;
    fixed[5] = PROTOCOL_STATIC;
    fixed[6] = libc::RT_SCOPE_HOST;
    fixed[7] = libc::RTN_LOCAL;
    let mut message = Message::new(kind, flags, &fixed);
    message.attribute(RTA_TABLE, &TABLE.to_ne_bytes()).attribute(RTA_OIF, &LOOPBACK_INDEX.to_ne_bytes());
    message
}

fn is_route(content: &[u8]) -> bool {
    let Some(rest) = content.get(12..) else { return false };
    // No destination attribute and no length: everything.
    content[1] == 0
        && content[7] == libc::RTN_LOCAL
        && attribute(rest, RTA_TABLE) == Some(&TABLE.to_ne_bytes())
        && attribute(rest, RTA_OIF) == Some(&LOOPBACK_INDEX.to_ne_bytes())
}

/// The kernel has no such address family, or it is switched off.
fn not_spoken(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EAFNOSUPPORT | libc::EACCES))
}

fn unless(result: io::Result<()>, fine: i32) -> io::Result<()> {
    match result {
        Err(error) if error.raw_os_error() == Some(fine) => Ok(()),
        other => other,
    }
}
