//! The sending end of a connection that h2 drives.

use super::{
    credit::{Credit, Granter, Windows},
    stream::{Tunnel, into_io},
    watched::{Watch, Watched},
};
use crate::{
    head::{BaggageText, ConnectHead, Hints},
    limits::{self, Limits},
    open::TunnelError,
};
use ::h2::{Ping, Reason, client};
use bytes::Bytes;
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

/// Asks for tunnels on one connection.
#[derive(Clone)]
pub(crate) struct Link {
    h2: client::SendRequest<Bytes>,
    credit: Arc<Credit>,
    streams: usize,
    answer_deadline: Duration,
}

/// Moves one connection.
pub(crate) struct Drive<IO> {
    h2: client::Connection<Watched<IO>, Bytes>,
    watch: Watch,
    granter: Granter,
}

pub(crate) async fn begin<IO>(io: IO, limits: &Limits) -> io::Result<(Link, Drive<IO>)>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    shake_hands(io, limits).await.map_err(into_io)
}

async fn shake_hands<IO>(io: IO, limits: &Limits) -> Result<(Link, Drive<IO>), ::h2::Error>
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
    Ok((link, Drive { h2, watch: Watch::new(ping, heard, limits), granter }))
}

impl Link {
    pub(crate) fn streams(&self) -> usize {
        // A peer that says 0 takes none now; one may wait in the connection for its change of mind.
        self.streams.min(self.h2.current_max_send_streams()).max(1)
    }

    pub(crate) fn usable(&self) -> bool {
        let cx = &mut Context::from_waker(Waker::noop());
        !matches!(self.h2.clone().poll_ready(cx), Poll::Ready(Err(_)))
    }

    pub(crate) async fn tunnel(
        &self,
        head: &ConnectHead,
        lease: Box<dyn Any + Send + Sync>,
    ) -> Result<(Tunnel, BaggageText), TunnelError> {
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
        let baggage = Hints::of(response.headers()).baggage;
        Ok((Tunnel::new(send, response.into_body(), self.credit.clone(), lease), baggage))
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Drive<IO> {
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if let Poll::Ready(end) = Pin::new(&mut self.h2).poll(cx) {
                return Poll::Ready(end.map_err(into_io));
            }
            if self.watch.poll(cx).is_ready() {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer is silent")));
            }
            if !self.granter.adapt(cx, &mut self.h2) {
                return Poll::Pending;
            }
        }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Windows for client::Connection<Watched<IO>, Bytes> {
    fn set_connection_window(&mut self, bytes: u32) {
        self.set_target_window_size(bytes);
    }

    fn set_stream_window(&mut self, bytes: u32) -> Result<(), ::h2::Error> {
        self.set_initial_window_size(bytes)
    }
}
