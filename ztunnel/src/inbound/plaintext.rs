//! Calls that come without a tunnel, redirected to 15006. Nobody proved who they are.

use std::net::SocketAddr;
use std::sync::Arc;

use hbone::head::Authority;
use hbone::relay::Tcp;
use tokio::net::TcpStream;

use super::{Call, enter};
use crate::live::Breaker;
use crate::net::sockets;
use crate::node::Node;
use crate::pods::seats::Seat;

/// One redirected connection, from accept to log line.
pub async fn serve(stream: TcpStream, from: SocketAddr, seat: Arc<Seat>, node: Arc<Node>) {
    let Ok(target) = sockets::original_destination(&stream) else { return };
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
    // In a box, which goes when it is connected.
    let carrying = match Box::pin(enter(call, &seat.pod, &node, sockets::hung_up(&stream))).await {
        Ok(entered) => {
            let (upstream, inside) = entered.open(&node, &Breaker::default(), Arc::default());
            inside.carry(Tcp::from(stream), upstream)
        }
        Err(away) => {
            node.reporter.failed(&away.connection, &away.why.told());
            return sockets::reset(stream);
        }
    };
    carrying.await;
}
