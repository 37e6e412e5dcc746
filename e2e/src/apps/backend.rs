//! An HTTP backend that does what it is told, and counts what it was asked.
//!
//! Every answer names the backend in `x-backend` and, but for the paths below, describes the request
//! as JSON. How it behaves is set by `/_/mode?…`: `good`, `status=503`, `delay_ms=200`, `drop`
//! (the connection ends without an answer), `fail_first=2` (the next two requests get 503), `refuse_ms=1500` (nobody listens for so long),
//! `flip=7&slow_ms=50` (each request meets a state of its own, see [`flip`]).
//! `/_/counts` tells what was asked, by method and by the header `x-call`; `/_/take` does too, and begins anew.
//!
//! `/bytes/N` answers N bytes; `/sink` says how many it was sent; `/trailers` ends with a trailer;
//! `/ws` upgrades and echoes, and so does CONNECT (see [`switch`]); `/status/N` answers N; `/slow/N` waits N milliseconds.

mod flip;
mod switch;

use anyhow::Result;
use bytes::Bytes;
use clap::Args;
use flip::State;
use futures_util::stream;
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
};

/// Connections that may wait to be accepted: more than any scenario opens at once.
const BACKLOG: u32 = 4096;
/// Calls that are counted by name; a scenario has a few thousand.
const CALLS_MAX: usize = 100_000;
/// One piece of a long answer.
const PIECE_BYTES: usize = 64 * 1024;
/// How long nobody listens after a request that met the state `Refused`.
const REFUSED: Duration = Duration::from_millis(30);

pub(crate) use switch::accept;

/// What to do.
#[derive(Debug, Args)]
pub struct Options {
    /// What to call itself.
    #[arg(long)]
    pub name: String,
    /// Port of HTTP/1.
    #[arg(long, default_value_t = 8080)]
    pub http: u16,
    /// Port of HTTP/2 without TLS.
    #[arg(long, default_value_t = 8090)]
    pub http2: u16,
}

/// Printed if it ever ends.
#[derive(Debug, Serialize, Deserialize)]
pub struct Report {
    /// Why.
    pub end: String,
}

/// What it was asked.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Requests.
    pub total: u64,
    /// Requests by method.
    pub methods: BTreeMap<String, u64>,
    /// Requests by their `x-call` header.
    pub calls: BTreeMap<String, u64>,
    /// The states that calls met while it flipped, by their `x-call` header: `g`ood, `s`low, `5`03, `r`eset, `x` refused.
    #[serde(default)]
    pub states: BTreeMap<String, String>,
    /// Requests without an `x-request-id`: no waypoint has seen them.
    pub unnamed: u64,
    /// Connections that were accepted.
    pub connections: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Mode {
    status: Option<StatusCode>,
    delay: Option<Duration>,
    dropped: bool,
    fail_first: u32,
    /// The seed of the states.
    flip: Option<u64>,
    /// How late a slow answer is.
    slow: Duration,
}

struct Backend {
    name: String,
    mode: Mutex<Mode>,
    counts: Mutex<Counts>,
    refuse_until: watch::Sender<Instant>,
}

type Body = UnsyncBoxBody<Bytes, Infallible>;
/// The connection ends without an answer, as it was told.
#[derive(Debug)]
struct Dropped;

impl std::fmt::Display for Dropped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the connection ends, as it was told")
    }
}

impl std::error::Error for Dropped {}

/// Serves until it is stopped.
pub async fn run(options: Options) -> Result<Report> {
    let backend = Arc::new(Backend {
        name: options.name,
        mode: Mutex::default(),
        counts: Mutex::default(),
        refuse_until: watch::Sender::new(Instant::now()),
    });
    tokio::select! {
        end = listen(options.http, backend.clone(), false) => end?,
        end = listen(options.http2, backend, true) => end?,
    }
    Ok(Report { end: "a listener closed".into() })
}

/// Accepts, but while it refuses.
async fn listen(port: u16, backend: Arc<Backend>, http2: bool) -> Result<()> {
    let mut refuse = backend.refuse_until.subscribe();
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let until = *refuse.borrow_and_update();
        tokio::time::sleep_until(until.into()).await;
        let listener = bind(port)?;
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    let (stream, _) = accepted?;
                    backend.counts.lock().expect("no holder panics").connections += 1;
                    connections.spawn(connection(stream, backend.clone(), http2));
                    while connections.try_join_next().is_some() {}
                }
                _ = refuse.changed() => break,
            }
        }
        // They end where it begins to refuse, unless each request has a state of its own.
        if backend.mode.lock().expect("no holder panics").flip.is_none() {
            connections.abort_all();
        }
    }
}

fn bind(port: u16) -> std::io::Result<TcpListener> {
    let socket = TcpSocket::new_v6()?;
    socket.set_reuseaddr(true)?;
    socket.bind((std::net::Ipv6Addr::UNSPECIFIED, port).into())?;
    socket.listen(BACKLOG)
}

async fn connection(stream: TcpStream, backend: Arc<Backend>, http2: bool) {
    // Only a socket that is gone already refuses.
    let _gone = stream.set_nodelay(true);
    let service = service_fn(move |request: Request<Incoming>| {
        let (head, backend) = (request.method() == http::Method::HEAD, backend.clone());
        // An answer to HEAD has no body (RFC 9110 §9.3.2), whatever it says of its length.
        let bare =
            move |answer: Response<Body>| if head { answer.map(|_| Full::default().boxed_unsync()) } else { answer };
        async move { answer(backend, request).await.map(bare) }
    });
    let io = TokioIo::new(stream);
    // The peer's errors are the scenario's business, not ours.
    let _end = if http2 {
        let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        builder.enable_connect_protocol().serve_connection(io, service).await
    } else {
        hyper::server::conn::http1::Builder::new().serve_connection(io, service).with_upgrades().await
    };
}

async fn answer(backend: Arc<Backend>, request: Request<Incoming>) -> Result<Response<Body>, Dropped> {
    let path = request.uri().path().to_owned();
    if let Some(control) = path.strip_prefix("/_/") {
        return Ok(backend.control(control, request.uri().query().unwrap_or_default()));
    }
    let mode = backend.count(&request);
    if let Some(delay) = mode.delay {
        tokio::time::sleep(delay).await;
    }
    if mode.dropped {
        return Err(Dropped);
    }
    if let Some(status) = mode.status {
        // An answer that comes before the whole request ends the connection, and with it who comes next on it.
        drain(request.into_body()).await;
        return Ok(backend.said(Response::builder().status(status), "as it was told"));
    }
    let number = |prefix: &str| path.strip_prefix(prefix).and_then(|rest| rest.parse::<u64>().ok());
    if let Some(bytes) = number("/bytes/") {
        return Ok(backend.bytes(bytes));
    }
    if let Some(status) = number("/status/").and_then(|n| StatusCode::from_u16(n as u16).ok()) {
        return Ok(backend.said(Response::builder().status(status), "as it was asked"));
    }
    if let Some(millis) = number("/slow/") {
        tokio::time::sleep(Duration::from_millis(millis)).await;
    }
    if switch::is_asked_for(&request) {
        return Ok(backend.finish(switch::agree(request), Full::default().boxed_unsync()));
    }
    match path.as_str() {
        "/sink" => {
            let bytes = drain(request.into_body()).await;
            Ok(backend.said(Response::builder(), &bytes.to_string()))
        }
        "/trailers" => Ok(backend.trailers()),
        _ => Ok(backend.describe(request).await),
    }
}

async fn drain(mut body: Incoming) -> u64 {
    let mut bytes = 0;
    while let Some(Ok(frame)) = body.frame().await {
        bytes += frame.data_ref().map_or(0, |piece| piece.len() as u64);
    }
    bytes
}

impl Backend {
    fn count(&self, request: &Request<Incoming>) -> Mode {
        let mut counts = self.counts.lock().expect("no holder panics");
        counts.total += 1;
        counts.unnamed += u64::from(!request.headers().contains_key("x-request-id"));
        *counts.methods.entry(request.method().to_string()).or_default() += 1;
        if let Some(call) = request.headers().get("x-call").and_then(|value| value.to_str().ok())
            && counts.calls.len() < CALLS_MAX
        {
            *counts.calls.entry(call.to_owned()).or_default() += 1;
        }
        drop(counts);
        let mut mode = self.mode.lock().expect("no holder panics");
        let mut now = *mode;
        if let Some(seed) = mode.flip {
            let call = request.headers().get("x-call").and_then(|value| value.to_str().ok()).unwrap_or_default();
            let mut counts = self.counts.lock().expect("no holder panics");
            let met = counts.states.entry(call.to_owned()).or_default();
            let state = State::of(seed, call, met.len());
            met.push(state.letter());
            match state {
                State::Good => {}
                State::Slow => now.delay = Some(mode.slow),
                State::Unavailable => now.status = Some(StatusCode::SERVICE_UNAVAILABLE),
                State::Reset => now.dropped = true,
                State::Refused => {
                    now.dropped = true;
                    self.refuse_until.send_replace(Instant::now() + REFUSED);
                }
            }
        }
        if mode.fail_first > 0 {
            mode.fail_first -= 1;
            now.status = Some(StatusCode::SERVICE_UNAVAILABLE);
        }
        now
    }

    fn control(&self, what: &str, query: &str) -> Response<Body> {
        match what {
            "counts" => {
                let counts = self.counts.lock().expect("no holder panics").clone();
                self.said(Response::builder(), &serde_json::to_string(&counts).unwrap_or_default())
            }
            "take" => {
                // In one step: what arrives in between belongs to the next count.
                let counts = std::mem::take(&mut *self.counts.lock().expect("no holder panics"));
                self.said(Response::builder(), &serde_json::to_string(&counts).unwrap_or_default())
            }
            "mode" => match self.mode(query) {
                Some(mode) => {
                    *self.mode.lock().expect("no holder panics") = mode;
                    self.said(Response::builder(), query)
                }
                None => self.said(Response::builder().status(400), "no such mode"),
            },
            _ => self.said(Response::builder().status(404), "no such control"),
        }
    }

    fn mode(&self, query: &str) -> Option<Mode> {
        let mut mode = Mode::default();
        for pair in query.split('&') {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            match key {
                "good" => {}
                "drop" => mode.dropped = true,
                "status" => mode.status = Some(value.parse().ok()?),
                "delay_ms" => mode.delay = Some(Duration::from_millis(value.parse().ok()?)),
                "flip" => mode.flip = Some(value.parse().ok()?),
                "slow_ms" => mode.slow = Duration::from_millis(value.parse().ok()?),
                "fail_first" => mode.fail_first = value.parse().ok()?,
                "refuse_ms" => {
                    let until = Instant::now() + Duration::from_millis(value.parse().ok()?);
                    self.refuse_until.send_replace(until);
                }
                _ => return None,
            }
        }
        Some(mode)
    }

    fn said(&self, builder: http::response::Builder, text: &str) -> Response<Body> {
        self.finish(builder, Full::new(Bytes::from(text.to_owned())).boxed_unsync())
    }

    fn finish(&self, builder: http::response::Builder, body: Body) -> Response<Body> {
        builder.header("x-backend", &self.name).body(body).expect("a name of a backend is a header value")
    }

    fn bytes(&self, mut left: u64) -> Response<Body> {
        let piece = Bytes::from(vec![b'x'; PIECE_BYTES]);
        let length = left;
        let frames = std::iter::from_fn(move || {
            let now = left.min(PIECE_BYTES as u64);
            left -= now;
            (now > 0).then(|| Ok(Frame::data(piece.slice(..now as usize))))
        });
        let body = StreamBody::new(stream::iter(frames)).boxed_unsync();
        self.finish(Response::builder().header(header::CONTENT_LENGTH, length), body)
    }

    fn trailers(&self) -> Response<Body> {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-end", header::HeaderValue::from_static("reached"));
        let frames = [Ok(Frame::data(Bytes::from_static(b"body"))), Ok(Frame::trailers(trailers))];
        let body = StreamBody::new(stream::iter(frames)).boxed_unsync();
        self.finish(Response::builder().header(header::TRAILER, "x-end"), body)
    }

    /// The request, as it arrived.
    async fn describe(&self, request: Request<Incoming>) -> Response<Body> {
        let (head, body) = request.into_parts();
        let bytes = drain(body).await;
        let headers: Vec<(&str, String)> = head
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
            .collect();
        let description = serde_json::json!({
            "backend": self.name,
            "method": head.method.as_str(),
            "path": head.uri.path(),
            "query": head.uri.query(),
            "authority": head.uri.authority().map(ToString::to_string),
            "version": format!("{:?}", head.version),
            "headers": headers,
            "body_bytes": bytes,
        });
        self.said(Response::builder().header(header::CONTENT_TYPE, "application/json"), &description.to_string())
    }
}
