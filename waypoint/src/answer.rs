//! Answers on their way to a caller: an endpoint's, or one of our own.
//!
//! An answer carries the request's [`Outcome`] and tells it when its last byte is gone, whichever way
//! that comes about. Exactly one is told for each request.

use std::borrow::Cow;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::body::{BodyError, Passage};
use crate::context::Core;
use crate::phase::busy::Held;
use crate::report::{Flag, Flags, Outcome, details};
use crate::rules::Prepared;
use crate::trace::Span;
use crate::upstream::http::Received;

/// An answer of our own.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Its status.
    pub status: StatusCode,
    /// What gRPC is told instead; none: what its status means there.
    pub grpc: Option<u8>,
    /// What went wrong.
    pub flags: Flags,
    /// Why, in Envoy's words.
    pub details: Cow<'static, str>,
    /// Headers beside those of every answer.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Its body, as text.
    pub body: Bytes,
    /// Why there was no connection to an endpoint.
    pub failure: Option<Cow<'static, str>>,
    /// The whole answer, where somebody else wrote it; it goes to the caller as it is.
    pub ready: Option<Box<Response<Bytes>>>,
}

impl Reply {
    /// An answer that somebody else wrote.
    pub fn ready(response: Response<Bytes>, flags: Flags, details: impl Into<Cow<'static, str>>) -> Self {
        let status = response.status();
        Self { ready: Some(Box::new(response)), ..Self::new(status, flags, details) }
    }

    /// A status and why.
    pub fn new(status: StatusCode, flags: Flags, details: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            grpc: None,
            flags,
            details: details.into(),
            headers: Vec::new(),
            body: Bytes::new(),
            failure: None,
            ready: None,
        }
    }

    /// The same with a text for the caller.
    #[must_use]
    pub fn saying(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// As the caller's protocol wants it: gRPC is told with 200 and a status of its own, in headers
    /// that are trailers too.
    pub fn into_response(self, grpc: bool) -> (Response<Bytes>, Option<u32>) {
        if let Some(ready) = self.ready {
            let code = grpc_status(ready.headers());
            if !grpc || code.is_some() {
                return (*ready, code);
            }
            // Who wrote it did not know of gRPC.
            let body = ready.into_body();
            return Self::new(self.status, self.flags, "").saying(body).into_response(true);
        }
        let mut response = Response::new(Bytes::new());
        let headers = response.headers_mut();
        for (name, value) in self.headers {
            headers.append(name, value);
        }
        if grpc {
            let code = self.grpc.unwrap_or_else(|| grpc_of(self.status));
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            headers.insert("grpc-status", HeaderValue::from(u16::from(code)));
            if let Some(message) = grpc_message(&self.body) {
                headers.insert("grpc-message", message);
            }
            return (response, Some(code.into()));
        }
        if !self.body.is_empty() && !headers.contains_key(header::CONTENT_TYPE) {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        }
        *response.status_mut() = self.status;
        *response.body_mut() = self.body;
        (response, None)
    }
}

/// What a status of HTTP means to gRPC (its document "HTTP to gRPC Status Code Mapping").
fn grpc_of(status: StatusCode) -> u8 {
    match status.as_u16() {
        200 => 0,
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

/// Percent-encoded, as gRPC wants it.
fn grpc_message(body: &[u8]) -> Option<HeaderValue> {
    let mut text = String::with_capacity(body.len());
    for byte in body {
        match byte {
            b'%' => text.push_str("%25"),
            b' '..=b'~' => text.push(char::from(*byte)),
            other => text.push_str(&format!("%{other:02X}")),
        }
    }
    (!text.is_empty()).then(|| HeaderValue::try_from(text).ok()).flatten()
}

/// The body of an answer, and the end of its request.
pub struct Answer {
    inner: Inner,
    telling: Option<Box<Teller>>,
}

enum Inner {
    Whole(Option<Bytes>),
    Received(Received),
}

/// What tells how a request ended. Dropping it untold tells that the caller left.
pub struct Teller {
    outcome: Outcome,
    core: Arc<Core>,
    rules: Arc<Prepared>,
    passage: Arc<Passage>,
    began: Instant,
    patience: Option<Patience>,
    held: Option<Held>,
    told: bool,
    span: Option<Span>,
}

/// How long an answer may take.
struct Patience {
    idle: Option<Duration>,
    until: Option<Instant>,
    timer: Pin<Box<Sleep>>,
}

/// The answer took too long.
#[derive(Debug, thiserror::Error)]
#[error("the answer took too long")]
struct TooLate;

impl Teller {
    /// For a request that has just come.
    pub fn new(outcome: Outcome, core: Arc<Core>, rules: Arc<Prepared>, passage: Arc<Passage>, began: Instant) -> Self {
        Self { outcome, core, rules, passage, began, patience: None, held: None, told: false, span: None }
    }

    /// What is known so far.
    pub fn outcome(&mut self) -> &mut Outcome {
        &mut self.outcome
    }

    /// The request's span.
    pub fn span(&mut self, span: Span) {
        self.span = Some(span);
    }

    /// Holds places until the end.
    pub fn hold(&mut self, held: Held) {
        self.held = Some(held);
    }

    /// The answer may be idle for so long, and must be over then.
    pub fn limit(&mut self, idle: Option<Duration>, until: Option<Instant>) {
        let first = idle.map(|idle| Instant::now() + idle).into_iter().chain(until).min();
        self.patience = first.map(|first| Patience { idle, until, timer: Box::pin(sleep_until(first)) });
    }

    /// Tells how it ended.
    pub fn tell(mut self: Box<Self>) {
        self.told = true;
        self.report();
    }

    fn report(&mut self) {
        self.outcome.duration = self.began.elapsed();
        self.outcome.received_bytes = self.passage.bytes();
        self.core.waypoint.reporter.request(&self.outcome, &self.rules.telling);
        if let Some(span) = &self.span {
            self.core.waypoint.tracer.end(span, &self.outcome, &self.rules.tracing);
        }
    }

    /// Ready when the answer took too long.
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<Flag> {
        let Some(patience) = &mut self.patience else { return Poll::Pending };
        loop {
            ready!(patience.timer.as_mut().poll(cx));
            let now = Instant::now();
            if patience.until.is_some_and(|until| until <= now) {
                return Poll::Ready(Flag::UpstreamTimeout);
            }
            let quiet = patience.idle.map(|idle| self.passage.moved() + idle);
            if quiet.is_some_and(|quiet| quiet <= now) {
                return Poll::Ready(Flag::StreamIdleTimeout);
            }
            let Some(next) = quiet.into_iter().chain(patience.until).min() else { return Poll::Pending };
            patience.timer.as_mut().reset(next);
        }
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        if !self.told {
            self.outcome.flags.add(Flag::DownstreamTermination);
            self.outcome.details = Cow::Borrowed(details::DOWNSTREAM_DISCONNECT);
            self.report();
        }
    }
}

impl Answer {
    /// All at once.
    pub fn whole(bytes: Bytes, telling: Box<Teller>) -> Self {
        let bytes = Some(bytes).filter(|bytes| !bytes.is_empty());
        let mut answer = Self { inner: Inner::Whole(bytes), telling: Some(telling) };
        answer.notice_end();
        answer
    }

    /// Nothing, of a request that is told elsewhere.
    pub fn nothing() -> Self {
        Self { inner: Inner::Whole(None), telling: None }
    }

    /// As the endpoint sends it.
    pub fn received(received: Received, telling: Box<Teller>) -> Self {
        let mut answer = Self { inner: Inner::Received(received), telling: Some(telling) };
        answer.notice_end();
        answer
    }

    /// Nobody reads it: of HEAD, and of statuses without a body.
    #[must_use]
    pub fn without_body(mut self) -> Self {
        self.tell();
        self
    }

    fn tell(&mut self) {
        if let Some(telling) = self.telling.take() {
            telling.tell();
        }
    }

    fn notice_end(&mut self) {
        if self.is_end_stream() {
            self.tell();
        }
    }

    fn passed(&mut self, frame: &Frame<Bytes>) {
        let Some(telling) = &mut self.telling else { return };
        if let Some(bytes) = frame.data_ref() {
            telling.outcome.sent_bytes += bytes.len() as u64;
            telling.passage.touch();
        } else if let Some(trailers) = frame.trailers_ref() {
            telling.outcome.grpc_status = grpc_status(trailers).or(telling.outcome.grpc_status);
        }
    }
}

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// The status of gRPC among headers or trailers.
pub fn grpc_status(headers: &HeaderMap) -> Option<u32> {
    headers.get(&GRPC_STATUS)?.to_str().ok()?.parse().ok()
}

impl Body for Answer {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let polled = match &mut this.inner {
            Inner::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Inner::Received(received) => Pin::new(received).poll_frame(cx),
        };
        match polled {
            Poll::Ready(Some(Ok(frame))) => {
                this.passed(&frame);
                this.notice_end();
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                if let Some(mut telling) = this.telling.take() {
                    let caller = telling.passage.failed();
                    let outcome = telling.outcome();
                    outcome.flags.add(if caller {
                        Flag::DownstreamTermination
                    } else {
                        Flag::UpstreamConnectionTermination
                    });
                    outcome.details =
                        Cow::Borrowed(if caller { details::DOWNSTREAM_DISCONNECT } else { details::RESET_AFTER_START });
                    telling.tell();
                }
                Poll::Ready(Some(Err(error)))
            }
            Poll::Ready(None) => {
                this.tell();
                Poll::Ready(None)
            }
            Poll::Pending => {
                let late = this.telling.as_mut().map(|telling| telling.poll_patience(cx));
                let Some(Poll::Ready(flag)) = late else { return Poll::Pending };
                if let Some(mut telling) = this.telling.take() {
                    let outcome = telling.outcome();
                    outcome.flags.add(flag);
                    outcome.details = Cow::Borrowed(match flag {
                        Flag::StreamIdleTimeout => details::IDLE_TIMEOUT,
                        _ => details::RESPONSE_TIMEOUT,
                    });
                    telling.tell();
                }
                this.inner = Inner::Whole(None);
                Poll::Ready(Some(Err(TooLate.into())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.inner {
            Inner::Whole(bytes) => bytes.is_none(),
            Inner::Received(received) => received.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Inner::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Inner::Received(received) => received.size_hint(),
        }
    }
}
