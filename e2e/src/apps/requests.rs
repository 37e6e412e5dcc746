//! An open-loop load of HTTP requests over kept connections: requests are due on a fixed schedule,
//! and their latency counts from when they were due, so that a stall is seen and not hidden.
//!
//! A request that fails on a kept connection is a failure, not a reason to try again: a server that
//! wants to close a connection says so in an answer.

use anyhow::{Context, Result};
use bytes::Bytes;
use clap::Args;
use http::{HeaderName, HeaderValue, Method, Request, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client::conn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::net::TcpStream;

/// Failures whose time is remembered.
const FAILED_AT_MAX: usize = 100;

/// What to do.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// `http://host:port/path`.
    pub url: Uri,
    /// Requests a second.
    #[arg(long, default_value_t = 100.0)]
    pub rate: f64,
    /// For how many seconds.
    #[arg(long, default_value_t = 5.0)]
    pub seconds: f64,
    /// Over so many connections.
    #[arg(long, default_value_t = 16)]
    pub connections: usize,
    /// How long one request may take, in seconds from when it was due.
    #[arg(long, default_value_t = 5.0)]
    pub deadline: f64,
    /// A file that is written when each connection had its first answer.
    #[arg(long)]
    pub ready_file: Option<std::path::PathBuf>,
    /// Method.
    #[arg(long, default_value = "GET")]
    pub method: Method,
    /// Bytes of the body.
    #[arg(long, default_value_t = 0)]
    pub body: usize,
    /// Further headers, `name: value`.
    #[arg(long, short = 'H')]
    pub header: Vec<String>,
    /// Each request gets an `x-call` header of its own, beginning with this.
    #[arg(long)]
    pub call: Option<String>,
    /// HTTP/2 without TLS; each connection carries one request at a time.
    #[arg(long)]
    pub http2: bool,
}

/// What happened.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// Requests that were due.
    pub due: u64,
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Answers by the backend that `x-backend` names.
    pub backends: BTreeMap<String, u64>,
    /// Requests without a whole answer, by reason.
    pub failed: BTreeMap<String, u64>,
    /// When failures happened, in milliseconds since the start (the first hundred).
    pub failed_at_ms: Vec<u64>,
    /// Connections that were opened.
    pub connections: u64,
    /// Median of all answers, in milliseconds.
    pub p50_ms: f64,
    /// 99th percentile of all answers, in milliseconds.
    pub p99_ms: f64,
    /// Slowest answer, in milliseconds.
    pub max_ms: f64,
}

impl Report {
    /// Answers with this status.
    pub fn status(&self, status: u16) -> u64 {
        self.statuses.get(&status).copied().unwrap_or(0)
    }

    /// Requests without a whole answer.
    pub fn failures(&self) -> u64 {
        self.failed.values().sum()
    }

    /// The share of the answers that a backend gave, from 0 to 1.
    pub fn share(&self, backend: &str) -> f64 {
        let all: u64 = self.backends.values().sum();
        self.backends.get(backend).copied().unwrap_or(0) as f64 / all.max(1) as f64
    }
}

/// What the connections share.
struct Load {
    options: Options,
    target: SocketAddr,
    start: Instant,
    total: u64,
    next: AtomicU64,
    seen: Mutex<(Vec<Duration>, Report)>,
}

/// Runs the load to its end and reports it.
pub async fn run(options: Options) -> Result<Report> {
    let authority = options.url.authority().context("the URL names no host")?.clone();
    let port = authority.port_u16().unwrap_or(80);
    let found = tokio::net::lookup_host((authority.host(), port)).await?.next();
    let target = found.with_context(|| format!("{authority} has no address"))?;
    let total = (options.rate * options.seconds) as u64;
    let connections = options.connections.max(1);
    let load = Arc::new(Load {
        options,
        target,
        start: Instant::now(),
        total,
        next: AtomicU64::new(0),
        seen: Mutex::default(),
    });
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..connections {
        tasks.spawn(connection(load.clone()));
    }
    while tasks.join_next().await.is_some() {}
    let (mut times, mut report) = std::mem::take(&mut *load.seen.lock().expect("no holder panics"));
    times.sort();
    let at = |q: f64| super::quantile(&times, q).map_or(0.0, super::millis);
    (report.p50_ms, report.p99_ms, report.max_ms) = (at(0.5), at(0.99), at(1.0));
    report.due = total;
    Ok(report)
}

/// One connection's share of the load: it takes the next request that is due, until there are none.
async fn connection(load: Arc<Load>) {
    let mut kept = None;
    loop {
        let number = load.next.fetch_add(1, Ordering::Relaxed);
        if number >= load.total {
            return;
        }
        let due = load.start + Duration::from_secs_f64(number as f64 / load.options.rate);
        tokio::time::sleep_until(due.into()).await;
        let deadline = due + Duration::from_secs_f64(load.options.deadline);
        let end = match tokio::time::timeout_at(deadline.into(), load.one(&mut kept, number)).await {
            Ok(end) => end,
            Err(_late) => Err("deadline".into()),
        };
        load.record(due, end);
    }
}

enum Sender {
    Http1(conn::http1::SendRequest<Full<Bytes>>),
    Http2(conn::http2::SendRequest<Full<Bytes>>),
}

impl Sender {
    async fn ready(&mut self) -> bool {
        match self {
            Self::Http1(sender) => sender.ready().await.is_ok(),
            Self::Http2(sender) => sender.ready().await.is_ok(),
        }
    }

    async fn send(&mut self, request: Request<Full<Bytes>>) -> hyper::Result<http::Response<Incoming>> {
        match self {
            Self::Http1(sender) => sender.send_request(request).await,
            Self::Http2(sender) => sender.send_request(request).await,
        }
    }
}

impl Load {
    /// One request to the end of its answer: its status, and who answered. The connection is kept
    /// unless something went wrong on it.
    async fn one(&self, kept: &mut Option<Sender>, number: u64) -> Result<(u16, String), String> {
        let mut sender = match kept.take() {
            Some(mut sender) => sender.ready().await.then_some(sender),
            None => None,
        };
        if sender.is_none() {
            sender = Some(self.open().await?);
        }
        let mut sender = sender.ok_or("no connection")?;
        let request = self.request(number).map_err(|error| format!("request: {error}"))?;
        let answer = sender.send(request).await.map_err(|error| format!("send: {error}"))?;
        let status = answer.status().as_u16();
        let backend = answer.headers().get("x-backend").and_then(|value| value.to_str().ok()).unwrap_or("-").to_owned();
        let mut body = answer.into_body();
        while let Some(frame) = body.frame().await {
            frame.map_err(|error| format!("body: {error}"))?;
        }
        *kept = Some(sender);
        Ok((status, backend))
    }

    async fn open(&self) -> Result<Sender, String> {
        let stream = TcpStream::connect(self.target).await.map_err(|error| format!("connect: {:?}", error.kind()))?;
        stream.set_nodelay(true).map_err(|error| format!("connect: {:?}", error.kind()))?;
        self.seen.lock().expect("no holder panics").1.connections += 1;
        let handshake = |error: hyper::Error| format!("handshake: {error}");
        let io = TokioIo::new(stream);
        Ok(if self.options.http2 {
            let (sender, connection) = conn::http2::handshake(TokioExecutor::new(), io).await.map_err(handshake)?;
            super::go_on(connection);
            Sender::Http2(sender)
        } else {
            let (sender, connection) = conn::http1::handshake(io).await.map_err(handshake)?;
            super::go_on(connection);
            Sender::Http1(sender)
        })
    }

    fn request(&self, number: u64) -> Result<Request<Full<Bytes>>> {
        let options = &self.options;
        let uri = if options.http2 {
            options.url.clone()
        } else {
            options.url.path_and_query().map_or("/", |path| path.as_str()).parse()?
        };
        let mut request = Request::builder().method(options.method.clone()).uri(uri);
        if !options.http2 {
            request = request.header(header::HOST, options.url.authority().map_or("", |authority| authority.as_str()));
        }
        for line in &options.header {
            let (name, value) = line.split_once(':').context("a header is `name: value`")?;
            request = request.header(name.trim().parse::<HeaderName>()?, value.trim().parse::<HeaderValue>()?);
        }
        if let Some(call) = &options.call {
            request = request.header("x-call", format!("{call}{number}"));
        }
        Ok(request.body(Full::new(Bytes::from(vec![b'x'; options.body])))?)
    }

    fn record(&self, due: Instant, end: Result<(u16, String), String>) {
        let mut seen = self.seen.lock().expect("no holder panics");
        match end {
            Ok((status, backend)) => {
                seen.0.push(due.elapsed());
                *seen.1.statuses.entry(status).or_default() += 1;
                *seen.1.backends.entry(backend).or_default() += 1;
                // Connections take turns while nothing is late, so by then each had one.
                if seen.0.len() == self.options.connections * 2 {
                    super::tell(self.options.ready_file.as_deref());
                }
            }
            Err(reason) => {
                *seen.1.failed.entry(reason).or_default() += 1;
                if seen.1.failed_at_ms.len() < FAILED_AT_MAX {
                    seen.1.failed_at_ms.push(self.start.elapsed().as_millis() as u64);
                }
            }
        }
    }
}
