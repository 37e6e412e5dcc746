//! The receiving end of a connection that h2 drives.

use super::{
    credit::{Credit, Granter, Windows},
    stream::{Tunnel, into_io},
    watched::{Watch, Watched},
};
use crate::{
    accept::{ConnectionEnd, Drain, Gone},
    drain::{Draining, Step},
    flood::{Flood, Unanswered, Verdict},
    head::{self, BadConnect, BaggageText, ConnectHead},
    limits::{self, Limits},
};
use ::h2::{Reason, RecvStream, server};
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode};
use std::{
    future::poll_fn,
    io,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::Instant,
};

/// A peer's connection.
pub(crate) struct Connection<IO> {
    h2: server::Connection<Watched<IO>, Bytes>,
    watch: Watch,
    granter: Granter,
    flood: Flood,
    draining: Draining,
    end: Option<ConnectionEnd>,
}

pub(crate) async fn serve<IO>(io: IO, limits: &Limits, drain: Drain) -> io::Result<Connection<IO>>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let (io, heard) = Watched::new(io);
    let mut h2 = server::Builder::new()
        .initial_window_size(limits.stream_window_bytes)
        .initial_connection_window_size(limits.connection_window_bytes)
        .max_frame_size(limits.frame_bytes)
        .max_concurrent_streams(limits.server_streams)
        .max_header_list_size(limits::SERVER_HEADER_BYTES)
        .max_send_buffer_size(limits::SEND_BUFFER_BYTES)
        .max_pending_accept_reset_streams(limits::PENDING_RESETS)
        .data_frame_budget(limits::DATA_FRAME_BUDGET_BYTES)
        .handshake(io)
        .await
        .map_err(into_io)?;
    let ping = h2.ping_pong().expect("a new connection's pings were not taken");
    Ok(Connection {
        h2,
        watch: Watch::new(ping, heard, limits),
        granter: Granter::new(limits),
        flood: Flood::new(limits.server_streams, Instant::now()),
        draining: Draining::new(drain),
        end: None,
    })
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Connection<IO> {
    pub(crate) fn end(&self) -> Option<&ConnectionEnd> {
        self.end.as_ref()
    }

    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Request>> {
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
        if self.watch.poll(cx).is_ready() {
            self.end = Some(ConnectionEnd::Silent);
            return true;
        }
        match self.draining.poll(cx) {
            // The GOAWAY leaves with the next poll of the connection.
            Poll::Ready(Step::Begin) => {
                self.h2.graceful_shutdown();
                return true;
            }
            Poll::Ready(Step::Deadline) => {
                self.end_with(cx, Reason::NO_ERROR, ConnectionEnd::DrainDeadline);
                return true;
            }
            Poll::Pending => {}
        }
        self.granter.adapt(cx, &mut self.h2)
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

    fn set_stream_window(&mut self, bytes: u32) -> Result<(), ::h2::Error> {
        self.set_initial_window_size(bytes)
    }
}

/// Somebody asks for a tunnel.
pub(crate) struct Request {
    head: Result<ConnectHead, BadConnect>,
    respond: server::SendResponse<Bytes>,
    body: RecvStream,
    unanswered: Unanswered,
    credit: Arc<Credit>,
}

impl Request {
    pub(crate) fn head(&self) -> Result<&ConnectHead, &BadConnect> {
        self.head.as_ref()
    }

    pub(crate) async fn cancelled(&mut self) -> Gone {
        // Reset or lost connection: either way nobody waits for the answer.
        let _ = poll_fn(|cx| self.respond.poll_reset(cx)).await;
        self.unanswered.wasted();
        Gone
    }

    pub(crate) fn accept(mut self, baggage: Option<&BaggageText>) -> Result<Tunnel, Gone> {
        let mut response = Response::new(());
        if let Some(text) = baggage.and_then(BaggageText::as_str).and_then(|text| HeaderValue::from_str(text).ok()) {
            response.headers_mut().insert(head::BAGGAGE, text);
        }
        match self.respond.send_response(response, false) {
            Ok(send) => Ok(Tunnel::new(send, self.body, self.credit, Box::new(()))),
            Err(_) => {
                self.unanswered.wasted();
                Err(Gone)
            }
        }
    }

    pub(crate) fn refuse(mut self, status: StatusCode) {
        let mut response = Response::new(());
        *response.status_mut() = status;
        if self.respond.send_response(response, true).is_err() {
            self.unanswered.wasted();
        }
    }
}
