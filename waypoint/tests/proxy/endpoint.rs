//! Endpoints: small servers that say what they were asked.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use bytes::Bytes;
use chassis::task;
use hbone::accept::Drain;
use hbone::limits::Limits;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use mesh::route::traffic::HttpVersion;
use pki::WorkloadCertificate;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// How often an endpoint was asked, and for how many of those that it holds back it was told to answer.
#[derive(Clone)]
pub(crate) struct Hits(Arc<(AtomicUsize, Semaphore)>);

impl Default for Hits {
    fn default() -> Self {
        Self(Arc::new((AtomicUsize::new(0), Semaphore::new(0))))
    }
}

impl Hits {
    pub(crate) fn count(&self) -> usize {
        self.0.0.load(SeqCst)
    }

    pub(crate) fn hit(&self) -> usize {
        self.0.0.fetch_add(1, SeqCst)
    }

    /// Lets one answer to `/held` go.
    pub(crate) fn let_go(&self) {
        self.0.1.add_permits(1);
    }

    async fn held(&self) {
        self.0.1.acquire().await.unwrap().forget();
    }
}

async fn bind(address: &str) -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Says method, target, headers and body; `/slow` never answers, `/held` when it is let go.
pub(crate) async fn echo(address: &str) -> (u16, Hits) {
    speaking(HttpVersion::Http1, address).await
}

/// As [`echo`], in this version of HTTP.
pub(crate) async fn speaking(version: HttpVersion, address: &str) -> (u16, Hits) {
    let (listener, address) = bind(address).await;
    let hits = Hits::default();
    let seen = hits.clone();
    task::spawn("endpoint", async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let hits = seen.clone();
            let service = service_fn(move |request: Request<Incoming>| {
                hits.hit();
                let hits = hits.clone();
                async move { Ok::<_, Infallible>(answer(request, &hits).await) }
            });
            task::spawn("endpoint connection", async move {
                let io = TokioIo::new(stream);
                let _end = match version {
                    HttpVersion::Http1 => http1::Builder::new().serve_connection(io, service).await,
                    HttpVersion::Http2 => http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await,
                };
            })
            .detach();
        }
    })
    .detach();
    (address.port(), hits)
}

async fn answer(request: Request<Incoming>, hits: &Hits) -> Response<Full<Bytes>> {
    match request.uri().path() {
        "/slow" => std::future::pending().await,
        "/held" => hits.held().await,
        _ => {}
    }
    let (parts, body) = request.into_parts();
    let mut text = format!("{} {}\n", parts.method, parts.uri);
    let mut headers: Vec<String> =
        parts.headers.iter().map(|(name, value)| format!("{name}: {}\n", value.to_str().unwrap())).collect();
    headers.sort();
    text.extend(headers);
    let body = body.collect().await.unwrap().to_bytes();
    text.push_str(&format!("{} bytes", body.len()));
    let status = parts.headers.get("x-answer").map_or(200, |status| status.to_str().unwrap().parse().unwrap());
    let answer = Response::builder().status(status);
    let answer = match parts.version {
        http::Version::HTTP_2 => answer,
        _ => answer.header("connection", "x-hop").header("x-hop", "1"),
    };
    answer.body(Full::from(text)).unwrap()
}

/// Takes tunnels at an address of its own, as the node of a pod in the mesh does, and answers every
/// request in them with this body.
pub(crate) async fn tunnelled(ip: &str, certificate: Arc<WorkloadCertificate>, body: Bytes) {
    let (listener, _) = bind(&format!("{ip}:15008")).await;
    task::spawn("endpoint", async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (end, body) = (pki::tls::server_config(&certificate), body.clone());
            task::spawn("endpoint connection", async move {
                let (stream, _) = pki::tls::accept(stream, end).await.unwrap();
                let drain = Drain { start: CancellationToken::new(), deadline: Duration::ZERO };
                let mut connection = hbone::accept::serve(stream, &Limits::default(), drain).await.unwrap();
                while let Some(asked) = connection.next().await {
                    let (tunnel, body) = (asked.accept(None).unwrap(), body.clone());
                    let service = service_fn(move |_| {
                        let body = Full::new(body.clone());
                        async move { Ok::<_, Infallible>(Response::new(body)) }
                    });
                    task::spawn("endpoint tunnel", async move {
                        let _end = http1::Builder::new().serve_connection(TokioIo::new(tunnel), service).await;
                    })
                    .detach();
                }
            })
            .detach();
        }
    })
    .detach();
}

/// Reads something and closes without an answer.
pub(crate) async fn closing(address: &str) -> (u16, Hits) {
    saying(address, String::new()).await
}

/// Reads something, says this and closes.
pub(crate) async fn saying(address: &str, answer: String) -> (u16, Hits) {
    let (listener, address) = bind(address).await;
    let hits = Hits::default();
    let seen = hits.clone();
    task::spawn("endpoint", async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            seen.hit();
            let _read = stream.read(&mut [0; 4096]).await;
            let _gone = stream.write_all(answer.as_bytes()).await;
        }
    })
    .detach();
    (address.port(), hits)
}

/// Sends back what comes, byte for byte, after `greeting`.
pub(crate) async fn bytes(address: &str, greeting: &'static [u8]) -> u16 {
    let (listener, address) = bind(address).await;
    task::spawn("endpoint", async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            task::spawn("endpoint connection", async move {
                let _gone = stream.write_all(greeting).await;
                let (mut read, mut write) = stream.split();
                let _end = tokio::io::copy(&mut read, &mut write).await;
            })
            .detach();
        }
    })
    .detach();
    address.port()
}
