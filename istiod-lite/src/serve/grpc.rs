//! The TLS port: accepts, shakes hands within a deadline, and hands each connection to the gRPC
//! services. Each connection is a task of its own; none can hold up another.

use super::http2::{self, Call, Received};
use crate::limits;
use bytes::Bytes;
use chassis::{drain::Signal, task};
use futures_util::FutureExt;
use h2::server::SendResponse;
use std::{future::poll_fn, io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tonic::service::Routes;
use xds::server::{Admission, Discovery};

/// What is served.
#[derive(Debug)]
pub struct Services<A> {
    /// Delta ADS.
    pub discovery: Discovery<A>,
    /// Everything else.
    pub routes: Routes,
}

impl<A> Clone for Services<A> {
    fn clone(&self) -> Self {
        Self { discovery: self.discovery.clone(), routes: self.routes.clone() }
    }
}

impl<A: Admission> Services<A> {
    /// A call that has come.
    fn begin(&self, request: http::Request<Received>, respond: SendResponse<Bytes>) -> Call {
        if request.uri().path() == xds::wire::METHOD {
            let discovery = self.discovery.clone();
            return Box::pin(async move { http2::answer(discovery.call(request), respond).await });
        }
        let called = tower::Service::call(&mut self.routes.clone(), request.map(tonic::body::Body::new));
        Box::pin(http2::answer(called.map(|Ok(response)| response), respond))
    }
}

/// Serves until the drain begins; then connections may finish what they are at until it is over.
pub async fn serve<A: Admission>(
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    services: Services<A>,
    mut drain: Signal,
) {
    let acceptor = TlsAcceptor::from(tls);
    let services = Services { routes: services.routes.prepare(), ..services };
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
            services: services.clone(),
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

struct Connection<A> {
    acceptor: TlsAcceptor,
    services: Services<A>,
    handshakes: Arc<Semaphore>,
    drain: Signal,
}

#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("the handshake took longer than {:?}", limits::HANDSHAKE_TIMEOUT)]
    HandshakeTimeout,
    #[error("the TLS handshake failed: {0}")]
    Handshake(io::Error),
    #[error(transparent)]
    Http(#[from] h2::Error),
}

impl<A: Admission> Connection<A> {
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
        let begun = http2::Connection::begin(stream.map_err(Ended::Handshake)?);
        let mut http = timeout(limits::HANDSHAKE_TIMEOUT, begun).await.map_err(|_| Ended::HandshakeTimeout)??;
        let begin = |request, respond| self.services.begin(request, respond);
        tokio::select! {
            ended = poll_fn(|cx| http.poll(cx, begin)) => return Ok(ended?),
            _deadline = self.drain.draining() => {}
        }
        http.shut_down();
        tokio::select! {
            ended = poll_fn(|cx| http.poll(cx, begin)) => Ok(ended?),
            () = self.drain.over() => Ok(()),
        }
    }
}
