//! The TLS port: accepts, shakes hands within a deadline, and hands each connection to the gRPC
//! services. Each connection is a task of its own; none can hold up another.

use crate::limits;
use chassis::{drain::Signal, task};
use hyper::{body::Incoming, rt::Executor, server::conn::http2};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use std::{future::Future, io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tonic::service::Routes;

/// Serves `routes` until the drain begins; then connections may finish what they are at until it
/// is over.
pub async fn serve(listener: TcpListener, tls: Arc<rustls::ServerConfig>, routes: Routes, mut drain: Signal) {
    let acceptor = TlsAcceptor::from(tls);
    let routes = routes.prepare();
    let places = Arc::new(Semaphore::new(limits::CONNECTIONS_MAX));
    let handshakes = Arc::new(Semaphore::new(limits::HANDSHAKES_MAX));
    loop {
        // Cancelling either arm loses nothing: accept leaves the connection in the queue.
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _deadline = drain.draining() => return,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, mostly: somebody else will end something soon.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            tracing::warn!(%peer, max = limits::CONNECTIONS_MAX, "too many connections, one is turned away");
            continue;
        };
        let connection = Connection {
            acceptor: acceptor.clone(),
            routes: routes.clone(),
            handshakes: handshakes.clone(),
            drain: drain.clone(),
        };
        task::spawn("control plane connection", async move {
            let _guard = connection.drain.guard();
            if let Err(error) = connection.run(stream, peer).await {
                tracing::debug!(%peer, error = %error, "connection ended");
            }
            drop(place);
        })
        .detach();
    }
}

/// After an accept that failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

struct Connection {
    acceptor: TlsAcceptor,
    routes: Routes,
    handshakes: Arc<Semaphore>,
    drain: Signal,
}

#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("the TLS handshake took longer than {:?}", limits::HANDSHAKE_TIMEOUT)]
    HandshakeTimeout,
    #[error("the TLS handshake failed: {0}")]
    Handshake(io::Error),
    #[error(transparent)]
    Http(#[from] hyper::Error),
}

impl Connection {
    async fn run(mut self, stream: TcpStream, peer: SocketAddr) -> Result<(), Ended> {
        // Acknowledgements and single changes are small, and must not wait for more to send.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%peer, %error, "cannot set TCP_NODELAY");
        }
        let handshake = async {
            let _turn = self.handshakes.acquire().await;
            self.acceptor.accept(stream).await
        };
        let stream = timeout(limits::HANDSHAKE_TIMEOUT, handshake).await.map_err(|_| Ended::HandshakeTimeout)?;
        let io = TokioIo::new(stream.map_err(Ended::Handshake)?);
        let routes = self.routes;
        let service = TowerToHyperService::new(tower::service_fn(move |request: http::Request<Incoming>| {
            let mut routes = routes.clone();
            tower::Service::call(&mut routes, request.map(tonic::body::Body::new))
        }));
        let serving = http2::Builder::new(Spawner)
            .timer(TokioTimer::new())
            .keep_alive_interval(limits::KEEPALIVE_INTERVAL)
            .keep_alive_timeout(limits::KEEPALIVE_TIMEOUT)
            .max_concurrent_streams(limits::STREAMS_PER_CONNECTION_MAX)
            .max_send_buf_size(limits::SEND_BUFFER_BYTES)
            .initial_stream_window_size(limits::STREAM_WINDOW_BYTES)
            .initial_connection_window_size(limits::STREAM_WINDOW_BYTES)
            .serve_connection(io, service);
        let mut serving = std::pin::pin!(serving);
        tokio::select! {
            ended = serving.as_mut() => return Ok(ended?),
            _deadline = self.drain.draining() => serving.as_mut().graceful_shutdown(),
        }
        tokio::select! {
            ended = serving => Ok(ended?),
            () = self.drain.over() => Ok(()),
        }
    }
}

/// Runs what hyper spawns, with a name.
#[derive(Clone, Copy, Debug)]
struct Spawner;

impl<F> Executor<F> for Spawner
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        task::spawn("control plane stream", future).detach();
    }
}
