//! Two ends of a connection in one process, without TLS: what a test needs around the crate.
#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "each test uses a part of it"
)]

use hbone::{
    accept::{self, ConnectionEnd, Drain, Request},
    head::{Authority, ConnectHead},
    limits::{Engine, Limits},
    open::{self, Link},
    relay::{Meter, RelayEnd, Tcp, Wire, relay},
    stream::Tunnel,
};
use std::{pin::pin, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

/// What a client says first: the preface, and SETTINGS that say nothing.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// Far more than anything takes, for machines that do much else.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for what a test is about, but not for ever.
pub async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("the test waited in vain")
}

/// The usual limits, with the engine that this test is about: the same tests run over both, and the
/// programs that run them over `h2` are called so.
pub fn limits() -> Limits {
    let engine = if env!("CARGO_CRATE_NAME").ends_with("over_h2") { Engine::H2 } else { Engine::Own };
    Limits { engine, ..Limits::default() }
}

pub fn head() -> ConnectHead {
    ConnectHead::to(Authority::parse("10.0.0.1:80").unwrap())
}

/// A served connection: its requests, and how it ended.
pub struct Served {
    pub requests: mpsc::Receiver<Request>,
    pub drain: CancellationToken,
    pub end: JoinHandle<ConnectionEnd>,
}

impl Served {
    pub async fn request(&mut self) -> Request {
        soon(self.requests.recv()).await.expect("the connection ended")
    }

    pub async fn tunnel(&mut self) -> Tunnel {
        self.request().await.accept(None).unwrap()
    }
}

pub fn serve<IO>(io: IO, limits: Limits) -> Served
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, requests) = mpsc::channel(1024);
    let drain = CancellationToken::new();
    let signal = Drain { start: drain.clone(), deadline: Duration::from_secs(2) };
    let end = tokio::spawn(async move {
        let mut connection = accept::serve(io, &limits, signal).await.expect("the client begins HTTP/2");
        while let Some(request) = connection.next().await {
            let _ = sender.send(request).await;
        }
        match connection.end() {
            Some(ConnectionEnd::Closed) => ConnectionEnd::Closed,
            Some(ConnectionEnd::DrainDeadline) => ConnectionEnd::DrainDeadline,
            Some(ConnectionEnd::Silent) => ConnectionEnd::Silent,
            Some(ConnectionEnd::Flood) => ConnectionEnd::Flood,
            Some(ConnectionEnd::Broken(error)) => {
                ConnectionEnd::Broken(std::io::Error::new(error.kind(), error.to_string()))
            }
            None => panic!("a connection that ended says how"),
        }
    });
    Served { requests, drain, end }
}

/// Both ends over a pipe of this many bytes.
pub async fn connected(pipe_bytes: usize) -> (Link, Served) {
    connected_with(pipe_bytes, limits()).await
}

pub async fn connected_with(pipe_bytes: usize, limits: Limits) -> (Link, Served) {
    let (near, far): (DuplexStream, DuplexStream) = tokio::io::duplex(pipe_bytes);
    let served = serve(far, limits.clone());
    let (link, drive) = soon(open::begin(near, &limits)).await.unwrap();
    tokio::spawn(drive);
    (link, served)
}

/// One tunnel, both ends.
pub async fn tunnel(link: &Link, served: &mut Served) -> (Tunnel, Tunnel) {
    let head = head();
    let near = link.tunnel(&head, Box::new(()));
    let (near, far) = tokio::join!(near, served.tunnel());
    (near.unwrap().0, far)
}

/// Two ends of a TCP connection over the loopback device.
pub async fn tcp() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dial = TcpStream::connect(listener.local_addr().unwrap());
    let (near, far) = tokio::join!(dial, listener.accept());
    (near.unwrap(), far.unwrap().0)
}

/// A relay that runs.
pub struct Relaying {
    pub meter: Arc<Meter>,
    pub cancel: CancellationToken,
    pub end: JoinHandle<RelayEnd>,
}

pub fn relaying(downstream: impl Wire + 'static, upstream: impl Wire + 'static) -> Relaying {
    let (meter, cancel) = (Arc::new(Meter::default()), CancellationToken::new());
    let (counted, cancelled) = (meter.clone(), cancel.clone());
    let end = tokio::spawn(async move { relay(downstream, upstream, counted, pin!(cancelled.cancelled())).await });
    Relaying { meter, cancel, end }
}

/// A client application and a server application, joined by: TCP, relay, tunnel, relay, TCP.
pub struct Path {
    pub client: TcpStream,
    pub server: TcpStream,
    pub outbound: Relaying,
    pub inbound: Relaying,
}

pub async fn path(link: &Link, served: &mut Served) -> Path {
    let (client, captured) = tcp().await;
    let (dialled, server) = tcp().await;
    let (near, far) = tunnel(link, served).await;
    let outbound = relaying(Tcp::from(captured), near);
    let inbound = relaying(far, Tcp::from(dialled));
    Path { client, server, outbound, inbound }
}

/// Bytes that tell where they belong: no two places in a few megabytes look alike for long.
pub fn pattern(at: usize, length: usize) -> Vec<u8> {
    const PERIOD: usize = 65_521;
    static TABLE: std::sync::LazyLock<Vec<u8>> =
        std::sync::LazyLock::new(|| (0..2 * PERIOD).map(|i| ((i % PERIOD) ^ ((i % PERIOD) >> 8)) as u8).collect());
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        let from = (at + bytes.len()) % PERIOD;
        let until = TABLE.len().min(from + length - bytes.len());
        bytes.extend_from_slice(&TABLE[from..until]);
    }
    bytes
}

/// Writes the first `total` bytes of the pattern, in pieces, and ends.
pub async fn send_pattern(to: &mut (impl AsyncWrite + Unpin), total: usize, piece: usize) {
    let mut at = 0;
    while at < total {
        let length = piece.min(total - at);
        to.write_all(&pattern(at, length)).await.unwrap();
        at += length;
    }
    to.shutdown().await.unwrap();
}

/// Reads to the end, which must come after the first `total` bytes of the pattern.
pub async fn expect_pattern(from: &mut (impl AsyncRead + Unpin), total: usize) {
    let mut at = 0;
    let mut buffer = vec![0; 100_000];
    loop {
        let read = from.read(&mut buffer).await.unwrap();
        if read == 0 {
            break;
        }
        assert!(buffer[..read] == pattern(at, read), "bytes from {at} on are wrong");
        at += read;
    }
    assert_eq!(at, total);
}
