//! The receiving end of a connection: requests for tunnels, one after the other.
//!
//! It never judges a request beyond its form, and never dials. The caller drives the connection by
//! calling [`Connection::next`] until it says none; tunnels already handed out live on that drive.

use crate::{
    engine,
    h2::accept as fallback,
    head::{BadConnect, BaggageText, ConnectHead},
    limits::{Engine, Limits},
    stream::Tunnel,
};
use http::StatusCode;
use std::{future::poll_fn, io, time::Duration};
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
    /// The peer made more work for nothing than is borne: opened and reset streams faster than they could
    /// be answered, or said nothing at length.
    Flood,
    /// The connection broke, or the peer broke the protocol.
    Broken(io::Error),
}

/// A peer's connection.
pub struct Connection<IO>(Inner<IO>);

enum Inner<IO> {
    Own(Box<engine::accept::Connection<IO>>),
    H2(Box<fallback::Connection<IO>>),
}

/// Begins HTTP/2 on a stream whose TLS handshake is done.
pub async fn serve<IO>(io: IO, limits: &Limits, drain: Drain) -> Result<Connection<IO>, HandshakeError>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let begin = async {
        Ok(Connection(match limits.engine {
            Engine::Own => Inner::Own(Box::new(engine::accept::serve(io, limits, drain).await?)),
            Engine::H2 => Inner::H2(Box::new(fallback::serve(io, limits, drain).await?)),
        }))
    };
    tokio::time::timeout(limits.handshake_deadline, begin)
        .await
        .map_err(|_| HandshakeError::Deadline(limits.handshake_deadline))?
        .map_err(HandshakeError::Protocol)
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Connection<IO> {
    /// The next request; none when the connection has ended, which [`Connection::end`] explains.
    /// Cancel safe. Nothing on the connection moves unless this is awaited.
    pub async fn next(&mut self) -> Option<Request> {
        poll_fn(|cx| match &mut self.0 {
            Inner::Own(connection) => {
                connection.poll_next(cx).map(|next| next.map(|own| Request(Asked::Own(Box::new(own)))))
            }
            Inner::H2(connection) => {
                connection.poll_next(cx).map(|next| next.map(|h2| Request(Asked::H2(Box::new(h2)))))
            }
        })
        .await
    }

    /// How it ended; none while it has not.
    pub fn end(&self) -> Option<&ConnectionEnd> {
        match &self.0 {
            Inner::Own(connection) => connection.end(),
            Inner::H2(connection) => connection.end(),
        }
    }
}

/// Somebody asks for a tunnel. Dropping it unanswered resets the stream.
pub struct Request(Asked);

enum Asked {
    Own(Box<engine::accept::Request>),
    H2(Box<fallback::Request>),
}

/// The peer gave up before it was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the peer gave up before it was answered")]
pub struct Gone;

impl Request {
    /// What was asked; an error is to be refused with 400.
    pub fn head(&self) -> Result<&ConnectHead, &BadConnect> {
        match &self.0 {
            Asked::Own(request) => request.head(),
            Asked::H2(request) => request.head(),
        }
    }

    /// Resolves when the peer gives up. To be raced with whatever must happen before the answer.
    pub async fn cancelled(&mut self) -> Gone {
        match &mut self.0 {
            Asked::Own(request) => request.cancelled().await,
            Asked::H2(request) => request.cancelled().await,
        }
    }

    /// Answers 200, with our workload's baggage where there is any.
    pub fn accept(self, baggage: Option<&BaggageText>) -> Result<Tunnel, Gone> {
        match self.0 {
            Asked::Own(request) => request.accept(baggage).map(Tunnel::own),
            Asked::H2(request) => request.accept(baggage).map(Tunnel::h2),
        }
    }

    /// Answers with a status that opens no tunnel: 400, 401 or 503.
    pub fn refuse(self, status: StatusCode) {
        match self.0 {
            Asked::Own(request) => request.refuse(status),
            Asked::H2(request) => request.refuse(status),
        }
    }
}
