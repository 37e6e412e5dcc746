//! Bytes both ways between two ends, counted as they are delivered.
//!
//! An end of one direction is an end of one direction at the other side; a reset is a reset. While
//! nothing moves no buffer is held.

use crate::stream::Tunnel;
use std::{io, sync::atomic::AtomicU64};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

/// Bytes that were delivered so far; may be read while they move.
#[derive(Debug, Default)]
pub struct Meter {
    /// From downstream (who asked) to upstream (who was asked).
    pub sent: AtomicU64,
    /// From upstream to downstream.
    pub received: AtomicU64,
}

/// One of the two ends of a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Who asked.
    Downstream,
    /// Who was asked.
    Upstream,
}

/// How a relay ended.
#[derive(Debug)]
pub enum RelayEnd {
    /// Both directions ended in order.
    Closed {
        /// Who ended first.
        first: Side,
    },
    /// One side broke off, and so the other was.
    Broken {
        /// Which side.
        by: Side,
        /// With what; `ConnectionReset` for a reset.
        error: io::Error,
    },
    /// We broke off both, because we were told to.
    Cancelled,
}

/// One end of a relay: a [`Tunnel`], or a TCP connection as [`Tcp`].
pub trait Wire: Send + Unpin {}

/// A TCP connection as an end of a relay.
pub struct Tcp {
    _stream: TcpStream,
}

impl From<TcpStream> for Tcp {
    fn from(stream: TcpStream) -> Self {
        Self { _stream: stream }
    }
}

impl Wire for Tcp {}
impl Wire for Tunnel {}

/// Moves bytes until both directions have ended, one side breaks off, or `cancel` is.
pub async fn relay(
    _downstream: impl Wire,
    _upstream: impl Wire,
    _meter: &Meter,
    _cancel: &CancellationToken,
) -> RelayEnd {
    todo!()
}
