//! The receiving end of a connection: requests for tunnels, one after the other.
//!
//! It never judges a request beyond its form, and never dials. The caller drives the connection by
//! calling [`Connection::next`] until it says none; tunnels already handed out live on that drive.

use crate::{
    credit::{Credit, Granter, Windows},
    flood::{Flood, Unanswered, Verdict},
    head::{BadConnect, Baggage, ConnectHead},
    keep::{Keep, Watched},
    limits::{self, Limits},
    stream::{Tunnel, into_io},
};
use bytes::Bytes;
use h2::{Reason, RecvStream, server};
use http::{Response, StatusCode};
use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, Sleep},
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

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
    h2: server::Connection<Watched<IO>, Bytes>,
    keep: Keep,
    granter: Granter,
    flood: Flood,
    draining: Draining,
    end: Option<ConnectionEnd>,
}

/// How far a drain has come.
enum Draining {
    NotYet { start: Pin<Box<WaitForCancellationFutureOwned>>, deadline: Duration },
    Until(Pin<Box<Sleep>>),
}

/// Begins HTTP/2 on a stream whose TLS handshake is done.
pub async fn serve<IO>(io: IO, limits: &Limits, drain: Drain) -> Result<Connection<IO>, HandshakeError>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let (io, heard) = Watched::new(io);
    let handshake = server::Builder::new()
        .initial_window_size(limits.stream_window_bytes)
        .initial_connection_window_size(limits.connection_window_bytes)
        .max_frame_size(limits.frame_bytes)
        .max_concurrent_streams(limits.server_streams)
        .max_header_list_size(limits::SERVER_HEADER_BYTES)
        .max_send_buffer_size(limits::SEND_BUFFER_BYTES)
        .max_pending_accept_reset_streams(limits::PENDING_RESETS)
        .data_frame_budget(limits::DATA_FRAME_BUDGET_BYTES)
        .handshake(io);
    let mut h2 = tokio::time::timeout(limits.handshake_deadline, handshake)
        .await
        .map_err(|_| HandshakeError::Deadline(limits.handshake_deadline))?
        .map_err(|error| HandshakeError::Protocol(into_io(error)))?;
    let ping = h2.ping_pong().expect("a new connection's pings were not taken");
    let start = Box::pin(drain.start.cancelled_owned());
    Ok(Connection {
        h2,
        keep: Keep::new(ping, heard, limits),
        granter: Granter::new(limits),
        flood: Flood::new(limits.server_streams, Instant::now()),
        draining: Draining::NotYet { start, deadline: drain.deadline },
        end: None,
    })
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Connection<IO> {
    /// The next request; none when the connection has ended, which [`Connection::end`] explains.
    /// Cancel safe. Nothing on the connection moves unless this is awaited.
    pub async fn next(&mut self) -> Option<Request> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// How it ended; none while it has not.
    pub fn end(&self) -> Option<&ConnectionEnd> {
        self.end.as_ref()
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Request>> {
        while self.end.is_none() {
            match self.h2.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, respond)))) => {
                    if let Some(request) = self.judge(request, respond) {
                        return Poll::Ready(Some(request));
                    }
                }
                Poll::Ready(Some(Err(error))) => self.end = Some(ConnectionEnd::Broken(into_io(error))),
                Poll::Ready(None) => self.end = Some(ConnectionEnd::Closed),
                Poll::Pending if self.attend(cx) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(None)
    }

    /// Looks after everything but requests; true if the connection must be polled again.
    fn attend(&mut self, cx: &mut Context<'_>) -> bool {
        if self.keep.poll(cx).is_ready() {
            self.end = Some(ConnectionEnd::Silent);
            return true;
        }
        if self.poll_drain(cx).is_ready() {
            self.end_with(cx, Reason::NO_ERROR, ConnectionEnd::DrainDeadline);
            return true;
        }
        self.granter.adapt(cx, &mut self.h2)
    }

    /// Tells the peer when a drain begins; ready when its deadline has passed.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match &mut self.draining {
                Draining::NotYet { start, deadline } => {
                    ready!(start.as_mut().poll(cx));
                    self.h2.graceful_shutdown();
                    // The GOAWAY leaves with the next poll of the connection.
                    cx.waker().wake_by_ref();
                    self.draining = Draining::Until(Box::pin(tokio::time::sleep(*deadline)));
                }
                Draining::Until(deadline) => return deadline.as_mut().poll(cx),
            }
        }
    }

    fn judge(
        &mut self,
        request: http::Request<RecvStream>,
        mut respond: server::SendResponse<Bytes>,
    ) -> Option<Request> {
        match self.flood.judge(Instant::now()) {
            Verdict::Take => {
                let (parts, body) = request.into_parts();
                let head = ConnectHead::parse(&parts);
                let (unanswered, credit) = (self.flood.take(), self.granter.credit().clone());
                return Some(Request { head, respond, body, unanswered, credit });
            }
            Verdict::Refuse => respond.send_reset(Reason::REFUSED_STREAM),
            Verdict::End => {
                let cx = &mut Context::from_waker(std::task::Waker::noop());
                self.end_with(cx, Reason::ENHANCE_YOUR_CALM, ConnectionEnd::Flood);
            }
        }
        None
    }

    /// Says why in a GOAWAY, as far as the socket takes it at once.
    fn end_with(&mut self, cx: &mut Context<'_>, reason: Reason, end: ConnectionEnd) {
        self.h2.abrupt_shutdown(reason);
        let _ = self.h2.poll_closed(cx);
        self.end = Some(end);
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Windows for server::Connection<Watched<IO>, Bytes> {
    fn set_connection_window(&mut self, bytes: u32) {
        self.set_target_window_size(bytes);
    }

    fn set_stream_window(&mut self, bytes: u32) -> Result<(), h2::Error> {
        self.set_initial_window_size(bytes)
    }
}

/// Somebody asks for a tunnel. Dropping it unanswered resets the stream.
pub struct Request {
    head: Result<ConnectHead, BadConnect>,
    respond: server::SendResponse<Bytes>,
    body: RecvStream,
    unanswered: Unanswered,
    credit: Arc<Credit>,
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
        // Reset or lost connection: either way nobody waits for the answer.
        let _ = poll_fn(|cx| self.respond.poll_reset(cx)).await;
        self.unanswered.wasted();
        Gone
    }

    /// Answers 200, with our workload's baggage where there is any.
    pub fn accept(mut self, baggage: Option<&Baggage>) -> Result<Tunnel, Gone> {
        let mut response = Response::new(());
        if let Some(baggage) = baggage {
            baggage.insert(response.headers_mut());
        }
        match self.respond.send_response(response, false) {
            Ok(send) => Ok(Tunnel::new(send, self.body, self.credit, Box::new(()))),
            Err(_) => {
                self.unanswered.wasted();
                Err(Gone)
            }
        }
    }

    /// Answers with a status that opens no tunnel: 400, 401 or 503.
    pub fn refuse(mut self, status: StatusCode) {
        let mut response = Response::new(());
        *response.status_mut() = status;
        if self.respond.send_response(response, true).is_err() {
            self.unanswered.wasted();
        }
    }
}
