//! Copies of requests for somebody else, who is not waited for and whose answer is thrown away.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use bytes::Bytes;
use chassis::task;
use http_body::Frame;
use http_body_util::BodyExt;
use mesh::route::compile::Hit;
use mesh::route::http::Mirror;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::Exchange;
use super::head::{Sent, version};
use super::route::cluster_key;
use crate::body::{Copy, Outgoing};
use crate::context::{dice, throw};
use crate::limits::MIRROR_DEADLINE;
use crate::serve::switch::Switch;
use crate::upstream::choose::{Wish, choose};
use crate::upstream::connect::Told;
use crate::upstream::failure::TryFailure;
use crate::upstream::hosts::{Host, Place};
use crate::upstream::http::Way;
use crate::upstream::proxy_protocol::Ends;

/// Sends the copies that a rule wants; what comes back takes the frames of the body.
pub fn send(exchange: &Exchange, hit: &Hit<'_>, sent: &Sent, empty: bool) -> Vec<mpsc::Sender<Frame<Bytes>>> {
    let mut copies = Vec::new();
    if sent.upgrade == Some(Switch::Tunnel) {
        // There is nothing in it that could be copied.
        return copies;
    }
    for mirror in hit.mirrors(throw) {
        let Ok(place) = exchange.core.mirrors.clone().try_acquire_owned() else {
            tracing::debug!("a copy is not made: too many are under way");
            continue;
        };
        let body = match empty {
            true => Outgoing::Empty,
            false => {
                let (sender, copy) = Copy::new(exchange.passage.clone());
                copies.push(sender);
                Outgoing::Copy(copy)
            }
        };
        let Some(copying) = copying(exchange, mirror, sent, body) else { continue };
        task::spawn("mirror", async move {
            match timeout(MIRROR_DEADLINE, copying).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "a copy of a request failed"),
                Err(_) => tracing::debug!("a copy of a request took too long"),
            }
            drop(place);
        })
        .detach();
    }
    copies
}

/// One copy; none: nobody is there.
fn copying(
    exchange: &Exchange,
    mirror: &Mirror,
    sent: &Sent,
    body: Outgoing,
) -> Option<impl Future<Output = Result<(), TryFailure>> + Send + use<>> {
    let core = exchange.core.clone();
    let key = cluster_key(&mirror.destination)?;
    let (cluster, hosts) = core.waypoint.clusters.of(&key, &core.waypoint.place(&exchange.view))?;
    let wish = Wish {
        turn: cluster.turn.fetch_add(1, Relaxed),
        ejected: cluster.ejected(),
        now: core.waypoint.clusters.now(),
        ..Wish::default()
    };
    let host = choose(&hosts, &wish, &mut dice)?.clone();
    let version = version(&hosts.traffic.pool, hosts.protocol, exchange.version, exchange.grpc, None);
    let ends = Some(Ends::of(&exchange.call));
    let sent =
        Sent { authority: shadow(&sent.authority), upgrade: None, tls: hosts.origination.is_some(), ..sent.clone() };
    Some(async move {
        let malformed = |error: super::head::NoTarget| TryFailure::Malformed(error.to_string().into());
        let request = sent.request(version, body).map_err(malformed)?;
        let _place = cluster.breakers.request(&hosts.most).ok_or(TryFailure::Overflow("requests"))?;
        let server_name = mesh::route::head::split_port(&sent.authority).0;
        let may_have_left = AtomicBool::new(false);
        let way = Way {
            cluster: &cluster,
            hosts: &hosts,
            host: &host,
            version,
            server_name,
            ends,
            told: &Told::default,
            throw: dice(),
            sent: &may_have_left,
        };
        let mut body = core.upstream.send(&way, request).await?.into_body();
        // Read to its end, so that the connection can be used again.
        while let Some(Ok(_)) = body.frame().await {}
        Ok(())
    })
}

/// The host of a copy, as Envoy marks it.
fn shadow(authority: &str) -> String {
    match mesh::route::head::split_port(authority) {
        (host, Some(port)) => format!("{host}-shadow:{port}"),
        (host, None) => format!("{host}-shadow"),
    }
}

/// The address of an endpoint, as far as it has one.
pub fn address(host: &Host) -> Option<SocketAddr> {
    match &host.place {
        Place::Plain(address) => Some(*address),
        Place::Tunnel { authority: hbone::head::Authority::Address(address), .. } => Some(*address),
        Place::Tunnel { .. } | Place::Name(..) => None,
    }
}
