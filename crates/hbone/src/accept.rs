//! The receiving end of a connection: requests for tunnels, one after the other.
//!
//! It never judges a request beyond its form, and never dials. The caller drives the connection by
//! calling [`Connection::next`] until it says none; tunnels already handed out live on that drive.

use crate::{
    head::{BadConnect, Baggage, ConnectHead},
    limits::Limits,
    stream::Tunnel,
};
use http::StatusCode;
use std::{io, marker::PhantomData, time::Duration};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

/// When and how fast a connection is to be given up.
#[derive(Clone, Debug)]
pub struct Drain {
    /// Cancelled when no new tunnel shall begin: the peer is told (GOAWAY), open tunnels go on.
    pub start: CancellationToken,
    /// How long they may go on after that.
    pub deadline: Duration,
}

/// Why a peer never got as far as asking for a tunnel.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The HTTP/2 preface did not come in time.
    #[error("the peer did not begin HTTP/2 within {0:?}")]
    Deadline(Duration),
    /// Something else came.
    #[error("the peer does not speak HTTP/2")]
    Protocol(#[source] io::Error),
}

/// How a connection ended.
#[derive(Debug)]
pub enum ConnectionEnd {
    /// In order: by the peer, or drained.
    Closed,
    /// The deadline of the drain passed with tunnels open.
    DrainDeadline,
    /// The peer did not answer any more.
    Silent,
    /// The peer opened and reset streams faster than they could be answered.
    Flood,
    /// The connection broke, or the peer broke the protocol.
    Broken(io::Error),
}

/// A peer's connection.
pub struct Connection<IO> {
    io: PhantomData<IO>,
}

/// Begins HTTP/2 on a stream whose TLS handshake is done.
pub async fn serve<IO>(_io: IO, _limits: &Limits, _drain: Drain) -> Result<Connection<IO>, HandshakeError>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    todo!()
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Connection<IO> {
    /// The next request; none when the connection has ended, which [`Connection::end`] explains.
    /// Cancel safe. Nothing on the connection moves unless this is awaited.
    pub async fn next(&mut self) -> Option<Request> {
        todo!()
    }

    /// How it ended; none while it has not.
    pub fn end(&self) -> Option<&ConnectionEnd> {
        todo!()
    }
}

/// Somebody asks for a tunnel. Dropping it unanswered resets the stream.
pub struct Request {
    head: Result<ConnectHead, BadConnect>,
}

/// The peer gave up before it was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the peer gave up before it was answered")]
pub struct Gone;

impl Request {
    /// What was asked; an error is to be refused with 400.
    pub fn head(&self) -> Result<&ConnectHead, &BadConnect> {
        self.head.as_ref()
    }

    /// Resolves when the peer gives up. To be raced with whatever must happen before the answer.
    pub async fn cancelled(&mut self) -> Gone {
        todo!()
    }

    /// Answers 200, with our workload's baggage where there is any.
    pub fn accept(self, _baggage: Option<&Baggage>) -> Result<Tunnel, Gone> {
        todo!()
    }

    /// Answers with a status that opens no tunnel: 400, 401 or 503.
    pub fn refuse(self, _status: StatusCode) {
        todo!()
    }
}
