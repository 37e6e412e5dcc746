//! The sending end of one connection: handshake, requests, and whether it still lives.
//!
//! Which connection a tunnel should use is asked of the [`pool`](crate::pool).

use crate::{
    engine,
    h2::open as fallback,
    head::{BaggageText, ConnectHead},
    limits::{Engine, Limits},
    stream::Tunnel,
};
use http::StatusCode;
use std::{
    any::Any,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::io::{AsyncRead, AsyncWrite};

/// Asks for tunnels on one connection. Cheap to clone; when the last clone and the last tunnel
/// are gone, the connection closes.
#[derive(Clone)]
pub struct Link(Asking);

#[derive(Clone)]
enum Asking {
    Own(engine::open::Link),
    H2(Box<fallback::Link>),
}

/// Moves one connection; to be spawned. Ends when the connection has.
#[must_use = "nothing moves unless this is polled"]
pub struct Drive<IO>(Driving<IO>);

enum Driving<IO> {
    Own(Box<engine::open::Drive<IO>>),
    H2(Box<fallback::Drive<IO>>),
}

/// Why HTTP/2 did not begin on a stream.
#[derive(Debug, thiserror::Error)]
pub enum BeginError {
    /// The peer's SETTINGS did not come in time.
    #[error("the peer did not begin HTTP/2 within {0:?}")]
    Deadline(Duration),
    /// Something else came, or nothing more.
    #[error("the peer does not speak HTTP/2")]
    Protocol(#[source] io::Error),
}

/// Why a connection gave no tunnel.
#[derive(Debug, thiserror::Error)]
pub enum TunnelError {
    /// The connection ended, or the peer did not take the stream up: worth another connection.
    #[error("the connection ended before the tunnel was answered")]
    Stale(#[source] io::Error),
    /// The peer took the stream up and reset it.
    #[error("the peer reset the tunnel before it was answered")]
    Reset(#[source] io::Error),
    /// The peer refused the tunnel with this status.
    #[error("the peer refused the tunnel with {0}")]
    Refused(StatusCode),
    /// No answer in time.
    #[error("the peer did not answer the CONNECT within {0:?}")]
    Deadline(Duration),
}

/// Begins HTTP/2 on a stream whose TLS handshake is done, and waits for the peer's SETTINGS.
pub async fn begin<IO>(io: IO, limits: &Limits) -> Result<(Link, Drive<IO>), BeginError>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let begin = async {
        Ok(match limits.engine {
            Engine::Own => {
                let (link, drive) = engine::open::begin(io, limits).await?;
                (Link(Asking::Own(link)), Drive(Driving::Own(Box::new(drive))))
            }
            Engine::H2 => {
                let (link, drive) = fallback::begin(io, limits).await?;
                (Link(Asking::H2(Box::new(link))), Drive(Driving::H2(Box::new(drive))))
            }
        })
    };
    tokio::time::timeout(limits.handshake_deadline, begin)
        .await
        .map_err(|_| BeginError::Deadline(limits.handshake_deadline))?
        .map_err(BeginError::Protocol)
}

impl Link {
    /// How many tunnels this connection may carry at a time.
    pub fn streams(&self) -> usize {
        match &self.0 {
            Asking::Own(link) => link.streams(),
            Asking::H2(link) => link.streams(),
        }
    }

    /// False once the peer said that it goes away, or the connection is gone.
    pub fn usable(&self) -> bool {
        match &self.0 {
            Asking::Own(link) => link.usable(),
            Asking::H2(link) => link.usable(),
        }
    }

    /// Asks for a tunnel and waits for the answer. `lease` is dropped when the stream is.
    pub async fn tunnel(
        &self,
        head: &ConnectHead,
        lease: Box<dyn Any + Send + Sync>,
    ) -> Result<(Tunnel, BaggageText), TunnelError> {
        match &self.0 {
            Asking::Own(link) => link.tunnel(head, lease).await.map(|(tunnel, baggage)| (Tunnel::own(tunnel), baggage)),
            Asking::H2(link) => link.tunnel(head, lease).await.map(|(tunnel, baggage)| (Tunnel::h2(tunnel), baggage)),
        }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Future for Drive<IO> {
    /// Why the connection ended; dropped by most, as every tunnel of it hears of the end itself.
    type Output = io::Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Driving::Own(drive) => drive.poll(cx),
            Driving::H2(drive) => drive.poll(cx),
        }
    }
}
