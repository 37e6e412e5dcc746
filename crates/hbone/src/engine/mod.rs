//! HTTP/2 for tunnels, and for nothing else: CONNECT streams over a connection that is up.
//!
//! In reading order: what is on the wire ([`frame`], [`code`], [`settings`], [`hpack`], [`message`]);
//! what one connection is told, knows and decides ([`config`], [`core`], with [`receive`], [`arrivals`], [`heads`],
//! [`transmit`], [`credit`], [`commands`], and what they are made of: [`stream`], [`pieces`], [`nuisance`],
//! [`failure`], [`batch`]); and what connects that to tokio ([`driver`], [`shared`], and [`tunnel`],
//! [`accept`], [`open`] for those who use it).
//!
//! All but the last four know no socket, no clock and no runtime: bytes and commands in, bytes and
//! wake-ups out. Whatever a peer sends costs bounded memory, and what it makes of it is either what
//! RFC 9113 says or the end of the connection.

pub(crate) mod accept;
mod arrivals;
mod batch;
mod code;
mod commands;
mod config;
mod core;
mod credit;
mod driver;
mod failure;
mod frame;
mod heads;
mod hpack;
mod message;
mod nuisance;
pub(crate) mod open;
mod pieces;
mod receive;
mod settings;
mod shared;
mod stream;
mod transmit;
pub(crate) mod trial;
pub(crate) mod tunnel;

#[cfg(test)]
mod tests;
