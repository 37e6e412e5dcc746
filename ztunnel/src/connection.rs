//! The words in which a connection is described and its end is told.
//!
//! `plan` and `connect` fill in a [`Connection`], [`crate::report`] prints it. Nothing here decides.

use std::net::SocketAddr;
use std::sync::Arc;

use hbone::head::{Authority, Baggage, TraceParent};
use hbone::relay::RelayEnd;
use mesh::{Identity, Service, Workload};

use crate::{inbound, live, outbound};

/// One connection, as the access log and the metrics tell of it.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Which of its two ends we stand for.
    pub direction: Direction,
    /// Who connected. Its address is the client's own for outbound, the peer's for inbound.
    pub source: Party,
    /// Who is connected to: the waypoint, where one is in between. Its address is the one that we
    /// dialled for outbound, and the one that was dialled for inbound; `:15008` for a tunnel.
    pub destination: Party,
    /// What the tunnel was asked for; none for plain TCP.
    pub authority: Option<Authority>,
    /// The service that was meant, where one was.
    pub service: Option<Arc<Service>>,
    /// The span that the two lines of one connection share.
    pub trace: Option<TraceParent>,
}

/// Which end of a connection we stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// The one that is connected to; `reporter="destination"`.
    Inbound,
    /// The one that connects; `reporter="source"`.
    Outbound,
}

/// One end of a connection.
#[derive(Clone, Debug)]
pub struct Party {
    /// Its address.
    pub address: SocketAddr,
    /// The workload there, where the view knows it.
    pub workload: Option<Arc<Workload>>,
    /// What it says about itself. Only for what the view does not know; never believed.
    pub said: Option<Box<Baggage>>,
    /// Who it is, as mutual TLS proved. Both ends have one, or neither.
    pub identity: Option<Identity>,
}

impl Party {
    /// An end of which nothing but the address is known.
    pub fn unknown(address: SocketAddr) -> Self {
        Self { address, workload: None, said: None, identity: None }
    }
}

/// How a connection ended, or why there was none.
#[derive(Debug)]
pub enum End {
    /// Bytes moved, until this.
    Relayed(RelayEnd),
    /// Bytes moved, until we broke it off.
    BrokenOff(live::Cause),
    /// We would not connect. Nothing was opened.
    Rejected(outbound::Reject),
    /// We would have, but could not. Nothing was opened.
    Unreachable(outbound::Failure),
    /// We would not let it in. Nothing was opened.
    Refused(Arc<inbound::Reject>),
    /// We would have let it in, but what was asked for cannot be served. Nothing was opened.
    NotServed(Arc<inbound::Failure>),
}

impl End {
    /// How a relay ended, with the reason if it was we who broke it off.
    pub fn of(end: RelayEnd, breaker: &live::Breaker) -> Self {
        match (end, breaker.cause()) {
            (RelayEnd::Cancelled, Some(cause)) => Self::BrokenOff(cause),
            (end, _) => Self::Relayed(end),
        }
    }
}
