//! A small HTTP/1 server for health, metrics and the like. It serves few and trusted clients;
//! what it bounds, it bounds against mistakes and against strangers on a port that is open to the node.
//!
//! The listener is given, so it may have been made in another network namespace.

use crate::{drain::Signal, limits, metrics::Exposition, ready::Ready, task, telemetry::Level};
use bytes::Bytes;
use http::{Method, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{convert::Infallible, fmt, future::Future, net::IpAddr, pin::Pin, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};

/// A request with its whole body.
pub type Request = http::Request<Bytes>;
/// A response with its whole body.
pub type Response = http::Response<Bytes>;

type Handler = Arc<dyn Fn(Request) -> Pin<Box<dyn Future<Output = Response> + Send>> + Send + Sync>;

/// What a server answers to. A path that is not here is 404, a method that is not here 405.
#[derive(Clone, Default)]
pub struct Routes {
    routes: Vec<Route>,
}

#[derive(Clone)]
struct Route {
    method: Method,
    path: &'static str,
    doc: &'static str,
    handler: Handler,
}

impl fmt::Debug for Routes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.routes.iter().map(|r| (&r.method, r.path))).finish()
    }
}

impl Routes {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// `GET path` (and HEAD). `doc` is a line for the index.
    #[must_use]
    pub fn get<F>(
        self,
        path: &'static str,
        doc: &'static str,
        handler: impl Fn(Request) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Response> + Send + 'static,
    {
        self.route(Method::GET, path, doc, handler)
    }

    /// `POST path`.
    #[must_use]
    pub fn post<F>(
        self,
        path: &'static str,
        doc: &'static str,
        handler: impl Fn(Request) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Response> + Send + 'static,
    {
        self.route(Method::POST, path, doc, handler)
    }

    /// Any method.
    #[must_use]
    pub fn route<F>(
        mut self,
        method: Method,
        path: &'static str,
        doc: &'static str,
        handler: impl Fn(Request) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Response> + Send + 'static,
    {
        let handler: Handler = Arc::new(move |request| Box::pin(handler(request)));
        self.routes.push(Route { method, path, doc, handler });
        self
    }

    /// `GET /metrics` and `GET /stats/prometheus`.
    #[must_use]
    pub fn metrics(self, exposition: Arc<Exposition>) -> Self {
        let again = exposition.clone();
        self.get("/metrics", "what Prometheus reads", move |request| std::future::ready(scrape(&exposition, &request)))
            .get("/stats/prometheus", "the same", move |request| std::future::ready(scrape(&again, &request)))
    }

    /// `GET path`: 200 `ready`, or 500 with what is pending.
    #[must_use]
    pub fn ready(self, path: &'static str, ready: Ready) -> Self {
        self.get(path, "whether this process serves", move |_| {
            let pending = ready.pending();
            std::future::ready(if pending.is_empty() {
                text(StatusCode::OK, "ready\n")
            } else {
                text(StatusCode::INTERNAL_SERVER_ERROR, format!("not ready, pending: {}\n", pending.join(", ")))
            })
        })
    }

    /// `POST /logging[?level=<filter>|reset]`: changes what is logged, and tells it.
    #[must_use]
    pub fn logging(self, level: Level) -> Self {
        self.post("/logging", "what is logged; ?level=<filter> changes it, ?reset goes back", move |request| {
            std::future::ready(logging(&level, &request))
        })
    }

    /// `GET /`: a page that lists what was added before.
    #[must_use]
    pub fn index(self, title: &str) -> Self {
        let mut page = format!("<!DOCTYPE html><title>{title}</title><h1>{title}</h1><table>\n");
        for Route { method, path, doc, .. } in &self.routes {
            let link = if method == Method::GET { format!("<a href=\"{path}\">{path}</a>") } else { (*path).into() };
            page.push_str(&format!("<tr><td>{method}<td>{link}<td>{doc}\n"));
        }
        page.push_str("</table>\n");
        let page = Bytes::from(page);
        self.get("/", "this page", move |_| {
            std::future::ready(respond(StatusCode::OK, "text/html; charset=utf-8", page.clone()))
        })
    }

    async fn answer(&self, request: Request) -> Response {
        let at_path = || self.routes.iter().filter(|route| route.path == request.uri().path());
        let asked = if request.method() == Method::HEAD { &Method::GET } else { request.method() };
        if let Some(route) = at_path().find(|route| route.method == asked) {
            return (route.handler)(request).await;
        }
        let allowed: Vec<&str> = at_path().map(|route| route.method.as_str()).collect();
        if allowed.is_empty() {
            return text(StatusCode::NOT_FOUND, "not found\n");
        }
        let allowed = allowed.join(", ");
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, format!("use {allowed}\n"));
        if let Ok(value) = header::HeaderValue::from_str(&allowed) {
            response.headers_mut().insert(header::ALLOW, value);
        }
        response
    }
}

fn scrape(exposition: &Exposition, request: &Request) -> Response {
    let accept = request.headers().get_all(header::ACCEPT).into_iter().filter_map(|value| value.to_str().ok());
    if accept.into_iter().any(wants_open_metrics) {
        let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        respond(StatusCode::OK, kind, exposition.open_metrics())
    } else {
        respond(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", exposition.prometheus_text())
    }
}

/// Whether one of the media types of an Accept header is OpenMetrics, and not ruled out by `q=0`.
fn wants_open_metrics(accept: &str) -> bool {
    accept.split(',').any(|range| {
        let mut parts = range.split(';').map(str::trim);
        parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("application/openmetrics-text"))
            && !parts.any(|part| part.strip_prefix("q=").and_then(|q| q.parse::<f32>().ok()) == Some(0.0))
    })
}

fn logging(level: &Level, request: &Request) -> Response {
    if query(request, "reset").is_some() {
        level.reset();
    }
    match query(request, "level").as_deref() {
        None | Some("") => {}
        Some("reset") => level.reset(),
        Some(filter) => {
            if let Err(error) = level.set(filter) {
                return text(StatusCode::BAD_REQUEST, format!("{error}\n"));
            }
        }
    }
    text(StatusCode::OK, format!("current log level is {}\n", level.current()))
}

/// The value of a query parameter, percent-decoded. `?reset` has the value "".
pub fn query(request: &Request, name: &str) -> Option<String> {
    request.uri().query()?.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(key) == name).then(|| decode(value))
    })
}

fn decode(text: &str) -> String {
    let digit = |b: Option<&u8>| b.and_then(|b| char::from(*b).to_digit(16));
    let (bytes, mut out, mut at) = (text.as_bytes(), Vec::new(), 0);
    while let Some(byte) = bytes.get(at) {
        at += 1;
        out.push(match (byte, digit(bytes.get(at)), digit(bytes.get(at + 1))) {
            (b'%', Some(high), Some(low)) => {
                at += 2;
                (high * 16 + low) as u8
            }
            (b'+', ..) => b' ',
            (byte, ..) => *byte,
        });
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// A plain text response.
pub fn text(status: StatusCode, body: impl Into<Bytes>) -> Response {
    respond(status, "text/plain; charset=utf-8", body)
}

/// A JSON response.
pub fn json(status: StatusCode, body: &serde_json::Value) -> Response {
    json_text(status, format!("{body:#}\n"))
}

/// A JSON response that is written already.
pub fn json_text(status: StatusCode, body: impl Into<Bytes>) -> Response {
    respond(status, "application/json", body)
}

fn respond(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}

/// Serves until the drain is [over](Signal::over), so that health and metrics answer to the end.
pub async fn serve(listener: TcpListener, routes: Arc<Routes>, drain: Signal) {
    serve_by_caller(listener, move |_| routes.clone(), drain).await;
}

/// The same, where who calls decides what there is: pages that tell much are for this machine.
pub async fn serve_by_caller(listener: TcpListener, routes: impl Fn(IpAddr) -> Arc<Routes> + Send, mut drain: Signal) {
    let places = Arc::new(Semaphore::new(limits::ADMIN_CONNECTIONS_MAX));
    loop {
        // Cancelling either arm loses nothing: accept leaves the connection in the queue.
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = drain.over() => return,
        };
        match accepted {
            Ok((stream, caller)) => {
                // With all places taken a stranger is turned away at once, not queued.
                let Ok(place) = places.clone().try_acquire_owned() else { continue };
                // An IPv4 caller of an IPv6 socket is an IPv4 caller.
                let (routes, mut drain) = (routes(caller.ip().to_canonical()), drain.clone());
                task::spawn("admin connection", async move {
                    tokio::select! {
                        _ = timeout(limits::ADMIN_CONNECTION_LIFETIME, converse(stream, routes)) => {}
                        () = drain.over() => {}
                    }
                    drop(place);
                })
                .detach();
            }
            // Out of descriptors, mostly: somebody else will end something soon.
            Err(error) => {
                tracing::warn!(%error, "cannot accept an admin connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn converse(stream: TcpStream, routes: Arc<Routes>) {
    let service = service_fn(move |request: http::Request<Incoming>| {
        let routes = routes.clone();
        async move {
            let (head, body) = request.into_parts();
            let body = Limited::new(body, limits::ADMIN_BODY_BYTES_MAX).collect();
            let response = match timeout(limits::ADMIN_REQUEST_TIMEOUT, body).await {
                Ok(Ok(body)) => routes.answer(Request::from_parts(head, body.to_bytes())).await,
                Ok(Err(_)) => text(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large, or broke off\n"),
                Err(_) => text(StatusCode::REQUEST_TIMEOUT, "the body took too long\n"),
            };
            Ok::<_, Infallible>(response.map(Full::new))
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits::ADMIN_REQUEST_TIMEOUT)
        .max_buf_size(limits::ADMIN_HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        tracing::debug!(%error, "admin connection");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drain;
    use prometheus_client::registry::Registry;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn routes() -> Routes {
        let ready = Ready::new();
        std::mem::forget(ready.register("state manager"));
        Routes::new()
            .get("/echo", "what was asked", |request| async move {
                text(StatusCode::OK, query(&request, "x").unwrap_or_default())
            })
            .post("/echo", "what was sent", |request| async move { text(StatusCode::OK, request.into_body()) })
            .metrics(Arc::new(Exposition::new(Registry::default())))
            .ready("/healthz/ready", ready)
            .logging(Level::fixed())
            .index("test")
    }

    /// Sends bytes, and returns all that comes back.
    async fn exchange(sent: &[u8]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (_drain, signal) = drain::channel();
        let _server = task::spawn("server", serve(listener, Arc::new(routes()), signal));
        let mut stream = TcpStream::connect(address).await.unwrap();
        let _refused_early = stream.write_all(sent).await;
        let mut answer = Vec::new();
        let _reset = timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await.unwrap();
        String::from_utf8(answer).unwrap()
    }

    /// The status and the body of one request.
    async fn check(request: &str, status: u16, body: &str) {
        let answer = exchange(format!("{request} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{request}: {answer}");
        assert!(answer.contains(body), "{request}: {answer}");
    }

    #[tokio::test]
    async fn paths_and_methods_that_are_there_are_answered_and_others_refused() {
        check("GET /echo?y=1&x=a%20b%2Fc+d", 200, "\r\n\r\na b/c d").await;
        check("GET /echo?x=%zz%4", 200, "%zz%4").await;
        check("POST /healthz/ready", 405, "allow: GET").await;
        check("DELETE /echo", 405, "allow: GET, POST").await;
        check("GET /nothing", 404, "not found").await;
        check("GET /healthz/ready", 500, "pending: state manager").await;
        check("HEAD /metrics", 200, "version=0.0.4").await;
        check("GET /stats/prometheus", 200, "version=0.0.4").await;
        check("GET /", 200, "<a href=\"/metrics\">").await;
        check("POST /logging?level=debug,access=off", 200, "current log level is debug,access=off").await;
        check("POST /logging?level=loud", 400, "no level").await;
        check("GET /logging", 405, "").await;
    }

    #[test]
    fn open_metrics_is_for_those_who_ask() {
        for (accept, expected) in [
            ("application/openmetrics-text; version=1.0.0,text/plain;q=0.5", true),
            ("text/plain, Application/OpenMetrics-Text", true),
            ("text/plain;version=0.0.4", false),
            ("application/openmetrics-text;q=0, */*", false),
            ("*/*", false),
            ("", false),
        ] {
            assert_eq!(wants_open_metrics(accept), expected, "{accept}");
        }
    }

    #[tokio::test]
    async fn what_is_too_large_is_refused() {
        let head = format!("GET /echo HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "y".repeat(100_000));
        assert!(exchange(head.as_bytes()).await.starts_with("HTTP/1.1 431"));
        let body = format!(
            "POST /echo HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 100000\r\n\r\n{}",
            "y".repeat(100_000)
        );
        let answer = exchange(body.as_bytes()).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 413"), "{answer}");
        assert!(exchange(b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n").await.starts_with("HTTP/1.1 400"));
    }

    #[tokio::test]
    async fn a_client_that_says_nothing_is_let_go() {
        let began = std::time::Instant::now();
        exchange(b"GET /echo HTTP/1.1\r\n").await;
        assert!(began.elapsed() < limits::ADMIN_REQUEST_TIMEOUT * 2);
    }

    #[tokio::test]
    async fn strangers_beyond_the_places_are_turned_away() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (drain, signal) = drain::channel();
        let server = task::spawn("server", serve(listener, Arc::new(routes()), signal));
        let mut idle = Vec::new();
        for _ in 0..limits::ADMIN_CONNECTIONS_MAX {
            let mut stream = TcpStream::connect(address).await.unwrap();
            // An answer says that the place is taken.
            stream.write_all(b"GET /echo HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
            stream.read_exact(&mut [0; 12]).await.unwrap();
            idle.push(stream);
        }
        let mut late = TcpStream::connect(address).await.unwrap();
        assert!(matches!(late.read(&mut [0; 1]).await, Ok(0) | Err(_)));
        drain.start(Duration::ZERO);
        drain.finish().await;
        assert_eq!(server.await, Ok(()));
    }
}
