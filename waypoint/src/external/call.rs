//! The way to a service that is asked: one HTTP request there, one response back.
//!
//! [`Call`] is what the waypoint's upstream provides; [`Grpc`] makes of it what a generated gRPC
//! client wants. Nothing here knows addresses, connections or certificates.

use futures_util::future::BoxFuture;
use http::{Request, Response, Uri};
use mesh::route::{Destination, traffic::HttpVersion};
use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tonic::body::Body;

/// One request, as it goes to a service that is asked.
#[derive(Debug)]
pub struct Asking {
    /// Where to.
    pub destination: Destination,
    /// Which HTTP is spoken: HTTP/2 for gRPC.
    pub version: HttpVersion,
    /// The request. Its URI has a scheme, and the authority that the service sees as host.
    pub request: Request<Body>,
}

/// Sends requests to services of the mesh, and beyond it, by the rules of their destinations.
///
/// The future may be dropped at any time, which resets the request. Time-outs are the asker's.
pub trait Call: Send + Sync + 'static {
    /// Sends it; yields when the head of the response is there.
    fn call(&self, asking: Asking) -> BoxFuture<'static, Result<Response<Body>, CallFailed>>;
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallFailed {
    /// The destination does not exist, or has no endpoint.
    #[error("nobody is there: {0}")]
    Nobody(String),
    /// No connection came about, or it broke.
    #[error("it cannot be reached: {0}")]
    Unreachable(String),
    /// It took longer than it may.
    #[error("no answer within {0:?}")]
    TooLate(Duration),
    /// What came is not an answer.
    #[error("it answered what cannot be read: {0}")]
    Unreadable(String),
}

/// Waits for an answer no longer than it may take.
pub async fn within<T>(
    timeout: Duration,
    answer: impl Future<Output = Result<T, CallFailed>>,
) -> Result<T, CallFailed> {
    tokio::time::timeout(timeout, answer).await.unwrap_or(Err(CallFailed::TooLate(timeout)))
}

/// The authority of requests to a destination: what its own proxies and logs see.
pub fn authority(destination: &Destination) -> String {
    match destination {
        Destination::Service { service, port, .. } => format!("{}:{port}", service.hostname),
        Destination::Invalid { .. } => "invalid".into(),
    }
}

/// A destination as the service under a generated gRPC client.
#[derive(Clone)]
pub struct Grpc {
    call: Arc<dyn Call>,
    destination: Destination,
}

impl std::fmt::Debug for Grpc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Grpc").field("destination", &self.destination).finish_non_exhaustive()
    }
}

impl Grpc {
    /// The way to a destination.
    pub fn to(call: Arc<dyn Call>, destination: Destination) -> Self {
        Self { call, destination }
    }

    /// Scheme and authority of its requests, which a generated client wants to know.
    pub fn origin(&self) -> Uri {
        format!("http://{}", authority(&self.destination)).parse().unwrap_or_default()
    }
}

impl tower::Service<Request<Body>> for Grpc {
    type Response = Response<Body>;
    type Error = CallFailed;
    type Future = BoxFuture<'static, Result<Response<Body>, CallFailed>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), CallFailed>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        self.call.call(Asking { destination: self.destination.clone(), version: HttpVersion::Http2, request })
    }
}
