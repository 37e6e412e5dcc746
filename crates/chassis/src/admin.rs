//! A small HTTP/1 server for health, metrics and the like. It serves few and trusted clients; what
//! it bounds, it bounds against mistakes and against strangers on a port that is open to the node.
//!
//! The listener is given, so it may have been made in another network namespace.

use crate::{drain::Signal, metrics::Exposition, ready::Ready, telemetry::Level};
use bytes::Bytes;
use std::{future::Future, pin::Pin, sync::Arc};
use tokio::net::TcpListener;

/// A request with its whole body.
pub type Request = http::Request<Bytes>;
/// A response with its whole body.
pub type Response = http::Response<Bytes>;

type Handler = Arc<dyn Fn(Request) -> Pin<Box<dyn Future<Output = Response> + Send>> + Send + Sync>;

/// What a server answers to. A path that is not here is 404, a method that is not here 405.
#[derive(Clone, Default)]
pub struct Routes {
    routes: Vec<(http::Method, &'static str, &'static str, Handler)>,
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
        self.route(http::Method::GET, path, doc, handler)
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
        self.route(http::Method::POST, path, doc, handler)
    }

    /// Any method.
    #[must_use]
    pub fn route<F>(
        mut self,
        method: http::Method,
        path: &'static str,
        doc: &'static str,
        handler: impl Fn(Request) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Response> + Send + 'static,
    {
        self.routes.push((method, path, doc, Arc::new(move |request| Box::pin(handler(request)))));
        self
    }

    /// `GET /metrics` and `GET /stats/prometheus`.
    #[must_use]
    pub fn metrics(self, exposition: Arc<Exposition>) -> Self {
        let _ = exposition;
        self
    }

    /// `GET path`: 200 `ready`, or 500 with what is pending.
    #[must_use]
    pub fn ready(self, path: &'static str, ready: Ready) -> Self {
        let _ = (path, ready);
        self
    }

    /// `POST /logging[?level=<filter>|reset]`.
    #[must_use]
    pub fn logging(self, level: Level) -> Self {
        let _ = level;
        self
    }

    /// `GET /`: a page that lists the others.
    #[must_use]
    pub fn index(self, title: &str) -> Self {
        let _ = title;
        self
    }
}

/// The value of a query parameter, percent-decoded. `?reset` has the value "".
pub fn query(request: &Request, name: &str) -> Option<String> {
    let _ = (request, name);
    todo!("lands next")
}

/// A plain text response.
pub fn text(status: http::StatusCode, body: impl Into<Bytes>) -> Response {
    let _ = (status, body.into());
    todo!("lands next")
}

/// A JSON response.
pub fn json(status: http::StatusCode, body: &serde_json::Value) -> Response {
    let _ = (status, body);
    todo!("lands next")
}

/// Serves until the drain is [over](Signal::over), so that health and metrics answer to the end.
pub async fn serve(listener: TcpListener, routes: Arc<Routes>, drain: Signal) {
    let _ = (listener, routes, drain);
    todo!("lands next")
}
