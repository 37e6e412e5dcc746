//! The sending end of one connection: handshake, requests, and whether it still lives.
//!
//! Which connection a tunnel should use is asked of the [`pool`](crate::pool).

use crate::{
    credit::{Credit, Granter, Windows},
    head::{Baggage, ConnectHead},
    keep::{Keep, Watched},
    limits::{self, Limits},
    stream::{Tunnel, into_io},
};
use bytes::Bytes;
use h2::{Ping, Reason, client};
use http::StatusCode;
use std::{
    any::Any,
    future::poll_fn,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};
use tokio::io::{AsyncRead, AsyncWrite};

/// Asks for tunnels on one connection. Cheap to clone; when the last clone and the last tunnel
/// are gone, the connection closes.
#[derive(Clone)]
pub struct Link {
    h2: client::SendRequest<Bytes>,
    credit: Arc<Credit>,
    streams: usize,
    answer_deadline: Duration,
}

/// Moves one connection; to be spawned. Ends when the connection has.
#[must_use = "nothing moves unless this is polled"]
pub struct Drive<IO> {
    h2: client::Connection<Watched<IO>, Bytes>,
    keep: Keep,
    granter: Granter,
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
    tokio::time::timeout(limits.handshake_deadline, shake_hands(io, limits))
        .await
        .map_err(|_| BeginError::Deadline(limits.handshake_deadline))?
        .map_err(|error| BeginError::Protocol(into_io(error)))
}

async fn shake_hands<IO>(io: IO, limits: &Limits) -> Result<(Link, Drive<IO>), h2::Error>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let (io, heard) = Watched::new(io);
    let (send, mut h2) = client::Builder::new()
        .enable_push(false)
        .initial_window_size(limits.stream_window_bytes)
        .initial_connection_window_size(limits.connection_window_bytes)
        .max_frame_size(limits.frame_bytes)
        .max_header_list_size(limits::CLIENT_HEADER_BYTES)
        .max_send_buffer_size(limits::SEND_BUFFER_BYTES)
        .initial_max_send_streams(limits.pool_streams)
        .data_frame_budget(limits::DATA_FRAME_BUDGET_BYTES)
        .handshake::<_, Bytes>(io)
        .await?;
    let mut ping = h2.ping_pong().expect("a new connection's pings were not taken");
    // A peer's first frame is its SETTINGS, so with the answer to a ping they are here too.
    ping.send_ping(Ping::opaque())?;
    poll_fn(|cx| match Pin::new(&mut h2).poll(cx) {
        Poll::Ready(Ok(())) => Poll::Ready(Err(Reason::NO_ERROR.into())),
        Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
        Poll::Pending => ping.poll_pong(cx).map_ok(|_| ()),
    })
    .await?;
    let granter = Granter::new(limits);
    let link = Link {
        h2: send,
        credit: granter.credit().clone(),
        streams: limits.pool_streams,
        answer_deadline: limits.answer_deadline,
    };
    Ok((link, Drive { h2, keep: Keep::new(ping, heard, limits), granter }))
}

impl Link {
    /// How many tunnels this connection may carry at a time.
    pub fn streams(&self) -> usize {
        // A peer that says 0 takes none now; one may wait in the connection for its change of mind.
        self.streams.min(self.h2.current_max_send_streams()).max(1)
    }

    /// False once the peer said that it goes away, or the connection is gone.
    pub fn usable(&self) -> bool {
        let cx = &mut Context::from_waker(Waker::noop());
        !matches!(self.h2.clone().poll_ready(cx), Poll::Ready(Err(_)))
    }

    /// Asks for a tunnel and waits for the answer. `lease` is dropped when the stream is.
    pub async fn tunnel(
        &self,
        head: &ConnectHead,
        lease: Box<dyn Any + Send + Sync>,
    ) -> Result<(Tunnel, Baggage), TunnelError> {
        let stale = |error| TunnelError::Stale(into_io(error));
        let (response, send) = self.h2.clone().send_request(head.request(), false).map_err(stale)?;
        let response = tokio::time::timeout(self.answer_deadline, response)
            .await
            .map_err(|_| TunnelError::Deadline(self.answer_deadline))?
            .map_err(|error| match error.reason() {
                Some(reason) if error.is_reset() && reason != Reason::REFUSED_STREAM => {
                    TunnelError::Reset(into_io(error))
                }
                _ => TunnelError::Stale(into_io(error)),
            })?;
        if response.status() != StatusCode::OK {
            return Err(TunnelError::Refused(response.status()));
        }
        let baggage = Baggage::from_headers(response.headers());
        Ok((Tunnel::new(send, response.into_body(), self.credit.clone(), lease), baggage))
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Future for Drive<IO> {
    /// Why the connection ended; dropped by most, as every tunnel of it hears of the end itself.
    type Output = io::Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        loop {
            if let Poll::Ready(end) = Pin::new(&mut this.h2).poll(cx) {
                return Poll::Ready(end.map_err(into_io));
            }
            if this.keep.poll(cx).is_ready() {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer is silent")));
            }
            if !this.granter.adapt(cx, &mut this.h2) {
                return Poll::Pending;
            }
        }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Windows for client::Connection<Watched<IO>, Bytes> {
    fn set_connection_window(&mut self, bytes: u32) {
        self.set_target_window_size(bytes);
    }

    fn set_stream_window(&mut self, bytes: u32) -> Result<(), h2::Error> {
        self.set_initial_window_size(bytes)
    }
}
