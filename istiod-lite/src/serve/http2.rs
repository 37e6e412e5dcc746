//! HTTP/2 as it is served here: a connection and all its calls are one task.
//!
//! A library makes a task of each call, which wakes that of its connection in order to say something, and is woken by it
//! in order to hear. When the mesh changes a thousand calls say one thing each, from memory that is in no cache, and
//! most of what that costs is to reach it, layer by layer.

mod halves;

use self::halves::{Half, Halves};
use crate::limits;
use bytes::Bytes;
use h2::{
    Ping, PingPong, RecvStream, SendStream,
    server::{self, SendResponse},
};
use http_body::{Body, Frame};
use std::{
    fmt::Display,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, Sleep, sleep},
};

/// A call, from its request to the last byte of its answer. An error is that of [`answer`].
pub(super) type Call = Pin<Box<dyn Future<Output = Result<(), h2::Error>> + Send>>;

/// Turns of both halves before other connections have theirs: what is heard, answered and sent is two.
const ROUNDS: usize = 8;

/// A connection with its calls.
pub(super) struct Connection<I> {
    http: server::Connection<I, Bytes>,
    calls: Vec<Call>,
    halves: Halves,
    life: Life,
}

impl<I: AsyncRead + AsyncWrite + Unpin> Connection<I> {
    /// Waits until the peer has said that it speaks HTTP/2.
    pub(super) async fn begin(io: I) -> Result<Self, h2::Error> {
        let mut http = server::Builder::new()
            .max_concurrent_streams(limits::STREAMS_PER_CONNECTION_MAX)
            .max_send_buffer_size(limits::SEND_BUFFER_BYTES)
            .initial_window_size(limits::STREAM_WINDOW_BYTES)
            .initial_connection_window_size(limits::STREAM_WINDOW_BYTES)
            .max_header_list_size(limits::HEAD_BYTES_MAX)
            .handshake(io)
            .await?;
        let ping = http.ping_pong().expect("it is asked for once");
        Ok(Self { http, calls: Vec::new(), halves: Halves::new(), life: Life::new(ping) })
    }

    /// No call begins from now on; those that are under way go on.
    pub(super) fn shut_down(&mut self) {
        self.http.graceful_shutdown();
        self.halves.want(Half::Http);
    }

    /// Moves the connection and its calls on; ready when it has ended. `begin` makes a call of a request.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        mut begin: impl FnMut(http::Request<Received>, SendResponse<Bytes>) -> Call,
    ) -> Poll<Result<(), h2::Error>> {
        self.halves.begin(cx.waker());
        if self.life.poll(cx).is_ready() {
            // What waits for a peer that is gone goes with the connection.
            return Poll::Ready(Ok(()));
        }
        for _ in 0..ROUNDS {
            // Before the connection is: what they say leaves in the same turn.
            if self.halves.take(Half::Calls) {
                self.poll_calls();
            }
            if self.halves.take(Half::Http)
                && let Poll::Ready(ended) = self.poll_http(&mut begin)
            {
                return Poll::Ready(ended);
            }
            if self.halves.rest() {
                return Poll::Pending;
            }
            self.halves.begin(cx.waker());
        }
        cx.waker().wake_by_ref();
        let _not_yet = self.halves.rest();
        Poll::Pending
    }

    fn poll_calls(&mut self) {
        let mut cx = self.halves.context(Half::Calls);
        self.calls.retain_mut(|call| {
            let polled = call.as_mut().poll(&mut cx);
            if let Poll::Ready(Err(error)) = &polled {
                tracing::debug!(%error, "a call ended");
            }
            polled.is_pending()
        });
    }

    /// Ready when the connection has ended.
    fn poll_http(
        &mut self,
        begin: &mut impl FnMut(http::Request<Received>, SendResponse<Bytes>) -> Call,
    ) -> Poll<Result<(), h2::Error>> {
        let mut cx = self.halves.context(Half::Http);
        while let Some(accepted) = ready!(self.http.poll_accept(&mut cx)) {
            let (request, mut respond) = accepted?;
            self.halves.want(Half::Calls);
            // Those whose callers gave up are looked at once more before they are gone.
            if self.calls.len() < 2 * limits::STREAMS_PER_CONNECTION_MAX as usize {
                self.calls.push(begin(request.map(Received), respond));
            } else {
                respond.send_reset(h2::Reason::REFUSED_STREAM);
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// Asks a peer now and then whether it lives.
struct Life {
    ping: PingPong,
    timer: Pin<Box<Sleep>>,
    /// When the timer will wake this task; none: it does not know of it yet.
    due: Option<Instant>,
    /// The peer was asked, and has not answered.
    asked: bool,
}

impl Life {
    fn new(ping: PingPong) -> Self {
        Self { ping, timer: Box::pin(sleep(limits::KEEPALIVE_INTERVAL)), due: None, asked: false }
    }

    /// Ready when it did not answer.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.asked
            && let Poll::Ready(answered) = self.ping.poll_pong(cx)
        {
            if answered.is_err() {
                return Poll::Ready(());
            }
            self.wait(limits::KEEPALIVE_INTERVAL, false);
        }
        if self.due.is_some_and(|due| Instant::now() < due) {
            return Poll::Pending;
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            if self.asked || self.ping.send_ping(Ping::opaque()).is_err() {
                return Poll::Ready(());
            }
            self.wait(limits::KEEPALIVE_TIMEOUT, true);
        }
        self.due = Some(self.timer.deadline());
        Poll::Pending
    }

    fn wait(&mut self, time: Duration, asked: bool) {
        self.timer.as_mut().reset(Instant::now() + time);
        (self.due, self.asked) = (None, asked);
    }
}

/// The body of a request. What is read of it makes room for more.
#[derive(Debug)]
pub(super) struct Received(RecvStream);

impl Body for Received {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let data = ready!(self.0.poll_data(cx));
        Poll::Ready(match data {
            Some(Ok(bytes)) => {
                self.0.flow_control().release_capacity(bytes.len())?;
                Some(Ok(Frame::data(bytes)))
            }
            Some(Err(error)) => Some(Err(error)),
            None => ready!(self.0.poll_trailers(cx)).transpose().map(|trailers| trailers.map(Frame::trailers)),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }
}

/// Waits for an answer and sends it to its end. An error is that the peer is gone, or wants no more of it: nobody goes on
/// to make an answer then.
pub(super) async fn answer<B>(
    response: impl Future<Output = http::Response<B>>,
    mut respond: SendResponse<Bytes>,
) -> Result<(), h2::Error>
where
    B: Body<Data = Bytes, Error: Display> + Unpin,
{
    let mut response = pin!(response);
    let response = poll_fn(|cx| match respond.poll_reset(cx) {
        Poll::Ready(reset) => Poll::Ready(Err(reset.map_or_else(|error| error, Into::into))),
        Poll::Pending => response.as_mut().poll(cx).map(Ok),
    });
    let (head, mut body) = response.await?.into_parts();
    let ended = body.is_end_stream();
    let mut stream = respond.send_response(http::Response::from_parts(head, ()), ended)?;
    if ended {
        return Ok(());
    }
    loop {
        match poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(bytes) => send(&mut stream, bytes).await?,
                Err(frame) => return stream.send_trailers(frame.into_trailers().unwrap_or_default()),
            },
            Some(Err(error)) => {
                tracing::debug!(%error, "an answer broke off");
                stream.send_reset(h2::Reason::INTERNAL_ERROR);
                return Ok(());
            }
            None => return stream.send_data(Bytes::new(), true),
        }
    }
}

/// Sends bytes as there is room for them.
async fn send(stream: &mut SendStream<Bytes>, mut bytes: Bytes) -> Result<(), h2::Error> {
    while !bytes.is_empty() {
        stream.reserve_capacity(bytes.len());
        if stream.capacity() == 0 {
            match poll_fn(|cx| stream.poll_capacity(cx)).await {
                Some(more) => drop(more?),
                // Nobody wants any more of it.
                None => return Err(h2::Reason::CANCEL.into()),
            }
        }
        let part = bytes.split_to(stream.capacity().min(bytes.len()));
        if !part.is_empty() {
            stream.send_data(part, false)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
