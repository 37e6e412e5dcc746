//! Calls that come without a tunnel, redirected to 15006. Nobody proved who they are.

use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::OptionFuture;
use hbone::head::Authority;
use hbone::relay::Tcp;
use tokio::net::TcpStream;

use super::{Call, Inside, enter};
use crate::live::Breaker;
use crate::net::sockets;
use crate::node::Node;
use crate::pods::seats::Seat;

/// One redirected connection, from accept to log line. No `async fn`, for the reason of `outbound::serve`.
pub fn serve(stream: TcpStream, from: SocketAddr, seat: Arc<Seat>, node: Arc<Node>) -> impl Future<Output = ()> + Send {
    let entering = Box::pin(entered(stream, from, seat.clone(), node));
    let entered = |entered: Option<(TcpStream, TcpStream, Inside)>| {
        OptionFuture::from(entered.map(|(stream, upstream, inside)| inside.carry(Tcp::from(stream), upstream)))
    };
    // The seat is taken as long as the bytes move.
    entering.then(entered).map(|_| drop(seat))
}

/// Decides and connects. None where nothing came of it, of which all is told then.
async fn entered(
    stream: TcpStream,
    from: SocketAddr,
    seat: Arc<Seat>,
    node: Arc<Node>,
) -> Option<(TcpStream, TcpStream, Inside)> {
    let target = sockets::original_destination(&stream).ok()?;
    let call = Call {
        authority: Authority::Address(target),
        through_tunnel: false,
        hint: None,
        source: None,
        from,
        reached: target,
        said: None,
        from_other_network: false,
        trace: None,
    };
    match enter(call, &seat.pod, &node, sockets::hung_up(&stream)).await {
        Ok(entered) => {
            let (upstream, inside) = entered.open(&node, &Breaker::default(), Arc::default());
            Some((stream, upstream, inside))
        }
        Err(away) => {
            node.reporter.failed(&away.connection, &away.why.told());
            sockets::reset(stream);
            None
        }
    }
}
