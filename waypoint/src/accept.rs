//! Tunnels of callers, to 15008: who is there, and what is asked for.
//!
//! The TLS handshake proves who is at the other end of the connection; each CONNECT on it is a call.
//! What a header says is for the report, and for nothing else.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use chassis::task;
use hbone::accept::{self, Drain, Request};
use hbone::head::{Authority, ConnectHead};
use http::StatusCode;
use mesh::Identity;
use pki::cache::CertificateError;
use pki::tls::{HandshakeError, ServerStream};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::context::{Call, Core};
use crate::limits::{ACCEPT_BACKLOG, ACCEPT_PAUSE, FIRST_TUNNEL, LISTEN_ON, TLS_ACCEPT_DEADLINE};
use crate::report::{Asked, Party, Shared};
use crate::serve;
use crate::siblings;
use crate::target;

/// A listener of one core; the kernel spreads connections over those of all cores.
pub fn listener(port: u16) -> io::Result<TcpListener> {
    open((Ipv6Addr::UNSPECIFIED, port).into()).or_else(|_no_ipv6| open((Ipv4Addr::UNSPECIFIED, port).into()))
}

fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    socket.listen(ACCEPT_BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Takes connections until the drain, and for a moment longer: whoever has not heard of it yet is
/// served, and told.
pub async fn listen(listener: TcpListener, core: Arc<Core>) {
    let waypoint = &core.waypoint;
    let mut lingering = Some(waypoint.signal.guard());
    let linger = async {
        waypoint.draining.cancelled().await;
        sleep(LISTEN_ON.min(waypoint.settings.grace / 2)).await;
    };
    let mut linger = std::pin::pin!(linger);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut linger, if lingering.is_some() => {
                lingering = None;
                continue;
            }
        };
        match accepted {
            Ok((stream, from)) => {
                let guard = waypoint.signal.guard();
                let core = core.clone();
                task::spawn("caller", async move {
                    Box::pin(connection(stream, from, core)).await;
                    drop(guard);
                })
                .detach();
            }
            // One that was reset while it waited is nobody's fault; without descriptors a pause helps.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Where a connection that carries tunnels comes from, and who holds it.
#[derive(Debug)]
struct Carrier {
    peer: Identity,
    from: SocketAddr,
}

/// Why a connection never carried a tunnel.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("we have no certificate: {0}")]
    Certificate(#[from] CertificateError),
    #[error("TLS failed: {0}")]
    Tls(#[from] HandshakeError),
    #[error("no TLS within {} s", TLS_ACCEPT_DEADLINE.as_secs())]
    Deadline,
    #[error(transparent)]
    Http2(#[from] accept::HandshakeError),
}

/// One connection of a peer, with all its tunnels.
async fn connection(stream: TcpStream, from: SocketAddr, core: Arc<Core>) {
    let from = SocketAddr::new(IpAddr::to_canonical(&from.ip()), from.port());
    if let Err(failure) = tunnels(stream, from, core).await {
        tracing::warn!(%from, error = %failure, "a caller's connection carries no tunnels");
    }
}

async fn tunnels(stream: TcpStream, from: SocketAddr, core: Arc<Core>) -> Result<(), Failure> {
    let (tls, peer) = handshake(stream, &core).await?;
    let start = CancellationToken::new();
    let drain = Drain { start: start.clone(), deadline: core.waypoint.settings.grace };
    let mut connection = accept::serve(tls, &core.waypoint.settings.tunnels, drain).await?;
    let carrier = Arc::new(Carrier { peer, from });
    // Somebody who came in the last moment is there for a tunnel: a goodbye before it was even asked
    // for would look like a failure.
    let goodbye = async {
        tokio::join!(core.waypoint.draining.cancelled(), sleep(FIRST_TUNNEL));
    };
    let mut goodbye = std::pin::pin!(goodbye);
    loop {
        let request = tokio::select! {
            request = connection.next() => request,
            () = &mut goodbye, if !start.is_cancelled() => {
                start.cancel();
                continue;
            }
        };
        let Some(request) = request else { break };
        let guard = core.waypoint.signal.guard();
        let one = tunnel(request, carrier.clone(), core.clone());
        task::spawn("tunnel", async move {
            Box::pin(one).await;
            drop(guard);
        })
        .detach();
    }
    tracing::debug!(%from, peer = %carrier.peer, end = ?connection.end(), "a peer's connection ended");
    Ok(())
}

async fn handshake(stream: TcpStream, core: &Core) -> Result<(ServerStream<TcpStream>, Identity), Failure> {
    // Fails only for a socket that is gone, which the handshake will show.
    let _gone = stream.set_nodelay(true);
    let certificate = core.waypoint.certificate().await?;
    let handshake = pki::tls::accept(stream, pki::tls::server_config(&certificate));
    let (tls, peer) = timeout(TLS_ACCEPT_DEADLINE, handshake).await.map_err(|_| Failure::Deadline)??;
    Ok((tls, peer.identity().clone()))
}

/// One tunnel, from CONNECT to its end.
async fn tunnel(request: Request, carrier: Arc<Carrier>, core: Arc<Core>) {
    let (from, peer) = (carrier.from, &carrier.peer);
    let head = match request.head() {
        Ok(head) => head.clone(),
        Err(error) => {
            tracing::warn!(%from, %peer, %error, "a tunnel was refused");
            return request.refuse(StatusCode::BAD_REQUEST);
        }
    };
    if siblings::is_for_us(&head.authority) {
        return siblings::serve(request, peer.clone(), core).await;
    }
    match call(head, &carrier, &core) {
        Ok(call) => serve::tunnel(request, Arc::new(call), core).await,
        Err((authority, error)) => {
            tracing::warn!(%from, %peer, asked = %authority, %error, "a tunnel was refused");
            request.refuse(error.status());
        }
    }
}

fn call(head: ConnectHead, carrier: &Carrier, core: &Core) -> Result<Call, (Authority, target::Reject)> {
    let waypoint = &core.waypoint;
    let view = waypoint.view.now();
    let network = &waypoint.settings.network;
    let target = target::of(&view, network, &waypoint.settings.own, &head.authority)
        .map_err(|reject| (head.authority.clone(), reject))?;
    // Behind a gateway of another network an address is not the caller's own.
    let elsewhere = head.forwarded_network.as_ref().is_some_and(|named| **named != **network);
    let workload = match elsewhere {
        true => None,
        false => view.workload_by_address(network, carrier.from.ip()),
    };
    let asked = target.service().map_or_else(Shared::<Asked>::none, |service| Shared::service(service));
    Ok(Call {
        source: Party::of(workload.map(|workload| &**workload), Some(&carrier.peer)),
        caller: carrier.peer.clone(),
        from: carrier.from,
        target,
        asked,
        trace: head.traceparent,
    })
}
