//! A small HTTP/1 server for health, metrics and the like. It serves few and trusted clients;
//! what it bounds, it bounds against mistakes and against strangers on a port that is open to the node.
//!
//! The listener is given, so it may have been made in another network namespace.

mod scrape;

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
        self.get("/metrics", "what Prometheus reads", move |request| {
            std::future::ready(scrape::answer(&exposition, &request))
        })
        .get("/stats/prometheus", "the same", move |request| std::future::ready(scrape::answer(&again, &request)))
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
mod tests;
