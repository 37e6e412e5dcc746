//! Calls that come through tunnels, to 15008.
//!
//! The TLS handshake proves who is at the other end of the connection; each CONNECT on it is a call.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::OptionFuture;
use hbone::accept::{self, Drain, Request};
use hbone::stream::Tunnel;
use mesh::Identity;
use pki::tls::ServerStream;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::plan::Reject;
use super::{Call, Failure, Inside, Why, enter};
use crate::connection::{Connection, Direction, End, Party};
use crate::limits::{FIRST_TUNNEL, TLS_ACCEPT_DEADLINE};
use crate::live::Breaker;
use crate::node::{LocalPod, Node};
use crate::pods::seats::Seat;

/// Where a connection that carries tunnels comes from and goes to, and who holds it.
#[derive(Debug)]
struct Carrier {
    peer: Identity,
    from: SocketAddr,
    reached: SocketAddr,
}

/// One connection of a peer, with all its tunnels.
///
/// `grace` is how long its tunnels may go on in a drain.
pub async fn serve(stream: TcpStream, from: SocketAddr, seat: Arc<Seat>, node: Arc<Node>, grace: Duration) {
    let pod = &seat.pod;
    let Ok(reached) = stream.local_addr() else { return };
    let (tls, peer) = match handshake(stream, pod, &node).await {
        Ok(proved) => proved,
        Err(failure) => return failed(from, reached, None, failure, &node).await,
    };
    let start = CancellationToken::new();
    let drain = Drain { start: start.clone(), deadline: grace };
    let mut connection = match accept::serve(tls, &node.settings.tunnels, drain).await {
        Ok(connection) => connection,
        Err(error) => return failed(from, reached, Some(peer), error.into(), &node).await,
    };
    let carrier = Arc::new(Carrier { peer, from, reached });
    // Somebody who came in the last moment is there for a tunnel: a goodbye before it was even asked
    // for would look like a failure.
    let goodbye = async {
        tokio::join!(pod.draining.cancelled(), tokio::time::sleep(FIRST_TUNNEL));
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
        let one = tunnel(request, carrier.clone(), pod.clone(), node.clone());
        // It reports its own end, and a drain waits for it.
        chassis::task::spawn("tunnel", pod.work.track_future(one)).detach();
    }
    tracing::debug!(%from, peer = %carrier.peer, end = ?connection.end(), "a peer's connection ended");
}

async fn handshake(
    stream: TcpStream,
    pod: &LocalPod,
    node: &Node,
) -> Result<(ServerStream<TcpStream>, Identity), Failure> {
    let certificate = node.certificate(&pod.identity).await?;
    let handshake = pki::tls::accept(stream, pki::tls::server_config(&certificate));
    let (tls, peer) =
        timeout(TLS_ACCEPT_DEADLINE, handshake).await.map_err(|_| Failure::TlsDeadline(TLS_ACCEPT_DEADLINE))??;
    Ok((tls, peer.identity().clone()))
}

/// One tunnel, from CONNECT to log line. No `async fn`, for the reason of the caller's end: see `outbound::serve`.
fn tunnel(
    request: Request,
    carrier: Arc<Carrier>,
    pod: Arc<LocalPod>,
    node: Arc<Node>,
) -> impl Future<Output = ()> + Send + 'static {
    // Three kilobytes, which are gone when it is answered.
    let answering = Box::pin(answer(request, carrier, pod, node));
    let answered = |entered: Option<(Tunnel, TcpStream, Inside)>| {
        OptionFuture::from(entered.map(|(tunnel, upstream, inside)| inside.carry(tunnel, upstream)))
    };
    answering.then(answered).map(drop)
}

/// Decides about a tunnel, connects it and answers. None where nothing came of it, of which all is
/// told then.
async fn answer(
    mut request: Request,
    carrier: Arc<Carrier>,
    pod: Arc<LocalPod>,
    node: Arc<Node>,
) -> Option<(Tunnel, TcpStream, Inside)> {
    let head = match request.head() {
        Ok(head) => head.clone(),
        Err(bad) => {
            let reject = Reject::BadConnect(bad.clone());
            let status = reject.status();
            let connection = unasked(carrier.from, carrier.reached, Some(carrier.peer.clone()));
            node.reporter.failed(&connection, &End::Refused(Arc::new(reject)));
            request.refuse(status);
            return None;
        }
    };
    let other_network = head.forwarded_network.as_ref().is_some_and(|network| **network != *node.settings.network);
    let call = Call {
        authority: head.authority,
        through_tunnel: true,
        hint: head.forwarded.and_then(|forwarded| forwarded.host),
        source: Some(carrier.peer.clone()),
        from: carrier.from,
        reached: carrier.reached,
        said: Some(head.baggage),
        from_other_network: other_network,
        trace: head.traceparent,
    };
    let gone = async {
        let _reason = request.cancelled().await;
    };
    let entered = match enter(call, &pod, &node, gone).await {
        Ok(entered) => entered,
        Err(away) => {
            node.reporter.failed(&away.connection, &away.why.told());
            match &away.why {
                Why::NotServed(failure) if matches!(**failure, Failure::Gone) => {}
                Why::Refused(reject) => request.refuse(reject.status()),
                Why::NotServed(_) => request.refuse(http::StatusCode::SERVICE_UNAVAILABLE),
            }
            return None;
        }
    };
    let baggage = node.settings.response_baggage.then(|| pod.baggage(&entered.workload));
    let Ok(tunnel) = request.accept(baggage.as_ref()) else {
        entered.abandoned(&node);
        return None;
    };
    let (upstream, inside) = entered.open(&node, &Breaker::default(), Arc::default());
    Some((tunnel, upstream, inside))
}

async fn failed(from: SocketAddr, reached: SocketAddr, peer: Option<Identity>, failure: Failure, node: &Node) {
    node.reporter.failed(&unasked(from, reached, peer), &End::NotServed(Arc::new(failure)));
}

/// A connection that never said what it wants.
fn unasked(from: SocketAddr, reached: SocketAddr, peer: Option<Identity>) -> Connection {
    Connection {
        direction: Direction::Inbound,
        source: Party { identity: peer, ..Party::unknown(from) },
        destination: Party::unknown(reached),
        authority: None,
        service: None,
        trace: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size<A, B, C, D, F: Future>(_: impl Fn(A, B, C, D) -> F) -> usize {
        size_of::<F>()
    }

    /// The same as of the caller's end, see `outbound::tests`. It was 3,450 bytes when deciding was a part of it.
    #[test]
    fn a_tunnel_that_only_relays_is_small() {
        assert!(size(tunnel) <= 256, "{}", size(tunnel));
    }
}
