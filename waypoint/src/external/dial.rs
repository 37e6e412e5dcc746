//! A way to services for tests: it dials an address on loopback.

use super::call::{Asking, Call, CallFailed};
use futures_util::future::BoxFuture;
use http::Response;
use hyper_util::rt::{TokioExecutor, TokioIo};
use mesh::route::traffic::HttpVersion;
use std::net::SocketAddr;
use tokio::net::TcpStream;
use tonic::body::Body;

/// Dials one address, whatever the destination.
pub(crate) struct Dial(pub(crate) SocketAddr);

impl Call for Dial {
    fn call(&self, asking: Asking) -> BoxFuture<'static, Result<Response<Body>, CallFailed>> {
        let address = self.0;
        Box::pin(async move {
            let failed = |error: &dyn std::error::Error| CallFailed::Unreachable(error.to_string());
            let stream = TokioIo::new(TcpStream::connect(address).await.map_err(|e| failed(&e))?);
            let response = match asking.version {
                HttpVersion::Http2 => {
                    let made = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await;
                    let (mut sender, connection) = made.map_err(|e| failed(&e))?;
                    chassis::task::spawn("test-connection", connection).detach();
                    sender.send_request(asking.request).await
                }
                HttpVersion::Http1 => {
                    let (mut sender, connection) =
                        hyper::client::conn::http1::handshake(stream).await.map_err(|e| failed(&e))?;
                    chassis::task::spawn("test-connection", connection).detach();
                    let mut request = asking.request;
                    *request.uri_mut() = request.uri().path_and_query().unwrap().as_str().parse().unwrap();
                    sender.send_request(request).await
                }
            };
            Ok(response.map_err(|e| failed(&e))?.map(Body::new))
        })
    }
}
