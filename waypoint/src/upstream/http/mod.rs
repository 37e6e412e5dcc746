//! HTTP connections to endpoints, used again and again: one set a core, and all sets where a limit is reached.
//!
//! HTTP/1 connections are idle or carry one request; HTTP/2 connections carry many, and one that is
//! being made is waited for by all who could share it. A connection is left when it has had its
//! number of requests, its age or its idle time. Nothing is ever sent twice here: a request that
//! comes back unsent because its connection had just closed goes out on another one.
//!
//! [`kept`] (the connections) · [`received`] (a response's body, which gives its
//! connection back) · [`turn`] (waiting where there may be no more of them).

mod kept;
mod received;
mod turn;

pub use kept::{AllClients, Clients};
pub use received::Received;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

use chassis::task;
use http::{Request, Response};
use hyper::client::conn::{http1, http2};
use hyper::ext::Protocol;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use mesh::route::traffic::HttpVersion;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::Upstream;
use super::cluster::{Cluster, Hosts};
use super::connect::Told;
use super::failure::{ConnectFailure, TryFailure, chain};
use super::hosts::Host;
use super::origination::Io;
use super::proxy_protocol::Ends;
use crate::body::Outgoing;
use crate::budget::Permit;
use crate::limits::{
    CONNECT_DEADLINE, HEAD_BYTES_MAX, HTTP2_PING, RESPONSE_CONNECTION_WINDOW_BYTES, RESPONSE_WINDOW_BYTES,
    SEND_BUFFER_BYTES, SETTINGS_WAIT,
};
use kept::{Entry, Idle, Life, Shared, Stream};
use received::Lease;
use turn::Turn;

/// How often a request that came back unsent goes out again on another connection that was idle.
const STALE_MAX: usize = 4;

/// The way a request takes.
pub struct Way<'a> {
    /// The destination.
    pub cluster: &'a Arc<Cluster>,
    /// Its endpoints.
    pub hosts: &'a Arc<Hosts>,
    /// The one that was chosen.
    pub host: &'a Arc<Host>,
    /// What is spoken.
    pub version: HttpVersion,
    /// The name in a handshake of our own, where the policy has none.
    pub server_name: &'a str,
    /// Who calls, and what; none: we do.
    pub ends: Option<Ends>,
    /// What its node is told, made where a connection is: most requests find one.
    pub told: &'a (dyn Fn() -> Told + Sync),
    /// A random number.
    pub throw: u64,
    /// Set when a byte of the request may have left.
    pub sent: &'a AtomicBool,
}

impl Upstream {
    /// Sends a request and waits for the head of its response. Dropping the future resets it.
    pub async fn send(&self, way: &Way<'_>, mut request: Request<Outgoing>) -> Result<Response<Received>, TryFailure> {
        let entry = self.clients.entry(way);
        for stale in 0.. {
            let sent = match way.version {
                HttpVersion::Http1 => self.send_http1(&entry, way, request, stale >= STALE_MAX).await,
                HttpVersion::Http2 => self.send_http2(&entry, way, request).await,
            };
            match sent {
                Err(Sent::Back(back)) if stale <= STALE_MAX => {
                    way.sent.store(false, Relaxed);
                    request = *back;
                }
                Err(Sent::Back(_)) => {
                    way.sent.store(false, Relaxed);
                    break;
                }
                Err(Sent::Failed(failure)) => return Err(failure),
                Ok(response) => return Ok(response),
            }
        }
        Err(TryFailure::Unsent)
    }

    async fn send_http1(
        &self,
        entry: &Arc<Entry>,
        way: &Way<'_>,
        request: Request<Outgoing>,
        fresh: bool,
    ) -> Result<Response<Received>, Sent> {
        let idle = if fresh { None } else { entry.take(&way.hosts.traffic.pool) };
        let (mut sender, mut life) = match idle {
            Some(idle) => (idle.sender, idle.life),
            None => Box::pin(self.http1(way)).await?,
        };
        life.served += 1;
        way.sent.store(true, Relaxed);
        let response = sender.try_send_request(request).await.map_err(Sent::from)?;
        let settings = way.hosts.traffic.pool;
        let freed = way.cluster.breakers.freed.clone();
        let lease = Lease::One { sender, life, settings, entry: Arc::downgrade(entry), freed };
        Ok(response.map(|incoming| Received::new(incoming, lease)))
    }

    /// A new connection, or one that came free while there was no place for a new one.
    async fn http1(&self, way: &Way<'_>) -> Result<(http1::SendRequest<Outgoing>, Life), Sent> {
        let breakers = &way.cluster.breakers;
        let place = match breakers.connect(&way.hosts.most) {
            Some(place) => place,
            None => {
                let wait = breakers.wait(&way.hosts.most);
                let _waiting = wait.ok_or(TryFailure::Overflow("waiting requests"))?;
                match self.turn(way, |entry| entry.take(&way.hosts.traffic.pool)).await? {
                    Turn::Kept(Idle { sender, life, .. }) => return Ok((sender, life)),
                    Turn::Place(place) => place,
                }
            }
        };
        let io = self.endpoint(way).await.map_err(TryFailure::from)?;
        let begun = http1::Builder::new().max_buf_size(HEAD_BYTES_MAX).handshake(TokioIo::new(io)).await;
        let (sender, connection) = begun.map_err(|error| no_http(&error))?;
        task::spawn("upstream connection", async move {
            let end = connection.with_upgrades().await;
            tracing::trace!(?end, "an upstream connection ended");
            drop(place);
        })
        .detach();
        Ok((sender, Life { born: Instant::now(), served: 0 }))
    }

    async fn send_http2(
        &self,
        entry: &Arc<Entry>,
        way: &Way<'_>,
        request: Request<Outgoing>,
    ) -> Result<Response<Received>, Sent> {
        let stream = match entry.stream(&way.hosts.traffic.pool) {
            Some(stream) => stream,
            None => Box::pin(self.http2(entry, way)).await?,
        };
        if request.extensions().get::<Protocol>().is_some() && !stream.connection.takes_extended_connect().await {
            return Err(TryFailure::NoWebSocket.into());
        }
        way.sent.store(true, Relaxed);
        let response = stream.connection.sender.clone().try_send_request(request).await.map_err(Sent::from)?;
        let lease = Lease::Two { _stream: stream };
        Ok(response.map(|incoming| Received::new(incoming, lease)))
    }

    /// A place in a new connection; of those who want one at the same time one makes it.
    async fn http2(&self, entry: &Arc<Entry>, way: &Way<'_>) -> Result<Stream, Sent> {
        let settings = &way.hosts.traffic.pool;
        let failed_before = entry.failed.load(Relaxed);
        let waiting = way.cluster.breakers.wait(&way.hosts.most);
        let _waiting = waiting.ok_or(TryFailure::Overflow("waiting requests"))?;
        let deadline = settings.connect_timeout.unwrap_or(CONNECT_DEADLINE);
        let Ok(Ok(_turn)) = timeout(deadline, entry.dialling.acquire()).await else {
            return Err(TryFailure::from(ConnectFailure::Deadline(deadline)).into());
        };
        if let Some(stream) = entry.stream(settings) {
            return Ok(stream);
        }
        // Those who waited for a dial that failed fail with it, instead of one after the other.
        if entry.failed.load(Relaxed) != failed_before
            && let Some(failure) = kept::lock(&entry.failure).clone()
        {
            return Err(failure.into());
        }
        let place = match self.turn(way, |entry| entry.stream(settings)).await? {
            Turn::Kept(stream) => return Ok(stream),
            Turn::Place(place) => place,
        };
        match self.dial_http2(way, place).await {
            Ok(connection) => {
                // Entered first, or others who look for an unused one would close it.
                let stream = Stream::enter(Arc::new(connection));
                kept::lock(&entry.shared).push(stream.connection.clone());
                Ok(stream)
            }
            Err(failure) => {
                *kept::lock(&entry.failure) = Some(failure.clone());
                entry.failed.fetch_add(1, Relaxed);
                Err(failure.into())
            }
        }
    }

    async fn dial_http2(&self, way: &Way<'_>, place: Permit) -> Result<Shared, TryFailure> {
        let io = self.endpoint(way).await?;
        let begun = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(RESPONSE_WINDOW_BYTES)
            .initial_connection_window_size(RESPONSE_CONNECTION_WINDOW_BYTES)
            .max_header_list_size(HEAD_BYTES_MAX as u32)
            .max_send_buf_size(SEND_BUFFER_BYTES)
            .keep_alive_interval(HTTP2_PING.0)
            .keep_alive_timeout(HTTP2_PING.1)
            .handshake(TokioIo::new(io))
            .await;
        let (sender, connection) = begun.map_err(|error| no_http(&error))?;
        let born = Instant::now();
        let (ask, asked) = mpsc::channel(1);
        task::spawn("upstream connection", async move {
            let end = kept::driven(Box::pin(connection), asked, born + SETTINGS_WAIT).await;
            tracing::trace!(?end, "an upstream connection ended");
            drop(place);
        })
        .detach();
        let (streams, served) = (AtomicU32::new(0), AtomicU32::new(0));
        let freed = way.cluster.breakers.freed.clone();
        Ok(Shared { sender, streams, served, born, used: born.into(), ask, freed })
    }

    /// A connection to the endpoint, in TLS of our own where the policy wants that.
    async fn endpoint(&self, way: &Way<'_>) -> Result<Io, ConnectFailure> {
        let raw = self.reach(way.hosts, way.host, way.ends, &(way.told)(), way.throw).await?;
        match &way.hosts.origination {
            None => Ok(Io::Raw(raw)),
            Some(origination) => origination.begin(raw, way.server_name, Some(way.version)).await,
        }
    }
}

fn no_http(error: &hyper::Error) -> TryFailure {
    ConnectFailure::Http(chain(error).into()).into()
}

/// What sending came to, when it was no response.
enum Sent {
    /// The request came back unsent.
    Back(Box<Request<Outgoing>>),
    Failed(TryFailure),
}

impl From<TryFailure> for Sent {
    fn from(failure: TryFailure) -> Self {
        Self::Failed(failure)
    }
}

impl From<hyper::client::conn::TrySendError<Request<Outgoing>>> for Sent {
    fn from(mut error: hyper::client::conn::TrySendError<Request<Outgoing>>) -> Self {
        match error.take_message() {
            Some(request) => Self::Back(Box::new(request)),
            None => Self::Failed(failure(error.error())),
        }
    }
}

/// What an error of a request that was sent, wholly or in part, means.
fn failure(error: &hyper::Error) -> TryFailure {
    let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    let h2 = causes.filter_map(|cause| cause.downcast_ref::<h2::Error>()).next();
    let text = || chain(error).into();
    match h2 {
        Some(h2) if h2.reason() == Some(h2::Reason::REFUSED_STREAM) => TryFailure::RefusedStream,
        // Streams above the last one that a GOAWAY names were not looked at.
        Some(h2) if h2.is_go_away() && h2.is_remote() && h2.reason() == Some(h2::Reason::NO_ERROR) => {
            TryFailure::RefusedStream
        }
        Some(_) => TryFailure::Reset(text()),
        None if error.is_parse() => TryFailure::Malformed(text()),
        None if error.is_user() || error.is_body_write_aborted() => TryFailure::Caller(text()),
        None => TryFailure::Reset(text()),
    }
}
