//! An HTTP server that says who called it and calls others, and a client.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

/// Longest body of a request that is sent back.
const BODY_BYTES_MAX: usize = 1 << 20;
/// Longest answer that is read: the config dump of a proxy that knows 100,000
/// workloads, at 1.5 KB each.
const ANSWER_BYTES_MAX: usize = 160 << 20;
/// How long one call to another service may take.
const CALL_DEADLINE: Duration = Duration::from_secs(5);

/// An HTTP server that says who called it and calls others.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Serve {
    /// The port to listen on, IPv4 and IPv6.
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// What it calls itself.
    #[arg(long, default_value = "http")]
    name: String,
    /// A URL to call for each request; the answer is put into ours.
    #[arg(long, value_name = "URL")]
    call: Vec<Uri>,
}

/// One HTTP request; prints what comes back.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Get {
    /// The URL, http only.
    url: Uri,
    /// Further headers, as `Name: value`.
    #[arg(long, short = 'H', value_name = "HEADER")]
    header: Vec<String>,
    /// Send a POST without a body.
    #[arg(long)]
    post: bool,
    /// Print the status line and headers too.
    #[arg(long, short)]
    include: bool,
    /// Give up after this many seconds.
    #[arg(long, short = 'm', default_value_t = 10.0)]
    max_time: f64,
}

pub(crate) async fn serve(serve: Serve) -> anyhow::Result<ExitCode> {
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, serve.port)).await?;
    println!("{} listens on {}", serve.name, listener.local_addr()?);
    let serve = Arc::new(serve);
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    loop {
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => accepted?,
            _ = terminate.recv() => return Ok(ExitCode::SUCCESS),
        };
        let serve = serve.clone();
        chassis::task::spawn("http connection", async move {
            let answer = service_fn(move |request| {
                let serve = serve.clone();
                async move { Ok::<_, Infallible>(answer(&serve, peer, request).await) }
            });
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
        })
        .detach();
    }
}

async fn answer(serve: &Serve, peer: SocketAddr, request: Request<Incoming>) -> Response<Full<Bytes>> {
    if request.uri().path() == "/healthz" {
        return Response::new(Full::from("ok\n"));
    }
    let headers: BTreeMap<_, _> = request
        .headers()
        .iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let body = Limited::new(request.into_body(), BODY_BYTES_MAX).collect().await;
    let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let mut calls = Vec::new();
    let mut failed = false;
    for url in &serve.call {
        let called = tokio::time::timeout(CALL_DEADLINE, fetch(&Method::GET, url, &[])).await;
        let result = match called {
            Ok(Ok((head, body))) => {
                failed |= !head.status.is_success();
                let value = serde_json::from_slice(&body);
                value.unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&body).into_owned()))
            }
            Ok(Err(error)) => {
                failed = true;
                json!({ "error": format!("{error:#}") })
            }
            Err(_) => {
                failed = true;
                json!({ "error": "no answer in time" })
            }
        };
        calls.push(json!({ "url": url.to_string(), "answer": result }));
    }
    let mut said = json!({
        "name": serve.name,
        "peer": peer.ip().to_canonical().to_string(),
        "method": method.as_str(),
        "path": path,
        "headers": headers,
    });
    if !body.is_empty() {
        said["body"] = String::from_utf8_lossy(&body).into_owned().into();
    }
    if !calls.is_empty() {
        said["calls"] = calls.into();
    }
    let mut response = Response::new(Full::from(format!("{said:#}\n")));
    if failed {
        *response.status_mut() = StatusCode::BAD_GATEWAY;
    }
    response
}

pub(crate) async fn get(get: Get) -> anyhow::Result<ExitCode> {
    let headers: Vec<_> = get
        .header
        .iter()
        .map(|header| header.split_once(':').map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned())))
        .collect::<Option<_>>()
        .context("a header is written `Name: value`")?;
    let deadline = Duration::try_from_secs_f64(get.max_time).context("--max-time is not a time")?;
    let method = if get.post { Method::POST } else { Method::GET };
    let (head, body) =
        tokio::time::timeout(deadline, fetch(&method, &get.url, &headers)).await.context("no answer in time")??;
    if get.include {
        println!("{:?} {}", head.version, head.status);
        for (name, value) in &head.headers {
            println!("{name}: {}", String::from_utf8_lossy(value.as_bytes()));
        }
        println!();
    }
    print!("{}", String::from_utf8_lossy(&body));
    Ok(if head.status.is_success() { ExitCode::SUCCESS } else { ExitCode::from(22) })
}

/// One request without a body, over a connection of its own.
pub(crate) async fn fetch(
    method: &Method,
    url: &Uri,
    headers: &[(String, String)],
) -> anyhow::Result<(http::response::Parts, Bytes)> {
    anyhow::ensure!(url.scheme_str().is_none_or(|scheme| scheme == "http"), "{url} is not an http URL");
    let host = url.host().with_context(|| format!("{url} names no host"))?;
    let port = url.port_u16().unwrap_or(80);
    let stream = TcpStream::connect((host.trim_matches(['[', ']']), port)).await;
    let stream = stream.with_context(|| format!("cannot connect to {host}:{port}"))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = chassis::task::spawn("http client", connection);
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    let mut request = Request::builder().method(method).uri(path).header("host", format!("{host}:{port}"));
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let response = sender.send_request(request.body(Empty::<Bytes>::new())?).await;
    let response = response.with_context(|| format!("{host}:{port} does not answer"))?;
    let (head, body) = response.into_parts();
    let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(|error| anyhow::anyhow!(error))?;
    drop(connection);
    Ok((head, body.to_bytes()))
}
