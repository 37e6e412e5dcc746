//! The other replicas of this waypoint, which share its rate limits: asked, and answered.
//!
//! They are reached as everybody is, through a tunnel to their own port, and must prove our identity.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use hbone::accept::Request;
use hbone::head::Authority;
use http::{Method, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use mesh::route::traffic::HttpVersion;
use mesh::workload::Health;
use mesh::{Identity, ServiceKey, Str, View, Workload};

use crate::body::Outgoing;
use crate::context::{Core, Waypoint, dice};
use crate::external::CallFailed;
use crate::limit::limits::MESSAGE_BYTES_MAX;
use crate::limit::{AUTHORITY, LEASE_PATH, Members, Replicas};
use crate::limits::HTTP2_PING;
use crate::phase::head::Sent;
use crate::upstream::asking::Asker;
use crate::upstream::cluster::ClusterKey;
use crate::upstream::connect::Told;
use crate::upstream::hosts::{HBONE_PORT, Place};
use crate::upstream::http::Way;

/// Whether a tunnel is meant for the waypoint itself.
pub fn is_for_us(authority: &Authority) -> bool {
    matches!(authority, Authority::Host { host, port } if AUTHORITY.split_once(':').is_some_and(
        |(own, own_port)| **host == *own && port.to_string() == own_port,
    ))
}

/// Answers the questions that come through a tunnel of another replica.
pub async fn serve(request: Request, peer: Identity, core: Arc<Core>) {
    if peer != core.waypoint.settings.own.identity {
        tracing::warn!(%peer, "somebody who is no replica of ours asks for shared limits");
        return request.refuse(StatusCode::UNAUTHORIZED);
    }
    let Ok(tunnel) = request.accept(None) else { return };
    let draining = core.waypoint.draining.clone();
    let service = service_fn(move |request| {
        let (core, peer) = (core.clone(), peer.clone());
        async move { Ok::<_, std::convert::Infallible>(answer(request, &peer, &core).await) }
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(HTTP2_PING.0)
        .keep_alive_timeout(HTTP2_PING.1)
        .serve_connection(TokioIo::new(tunnel), service);
    let mut connection = std::pin::pin!(connection);
    // The drain loses nothing: the connection ends in order below.
    let end = tokio::select! {
        end = connection.as_mut() => end,
        () = draining.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = end {
        tracing::debug!(%error, "a replica's connection broke");
    }
}

async fn answer(request: http::Request<Incoming>, peer: &Identity, core: &Core) -> Response<Full<Bytes>> {
    let with = |status: StatusCode, body: Vec<u8>| {
        let mut response = Response::new(Full::from(body));
        *response.status_mut() = status;
        response
    };
    if request.method() != Method::POST || request.uri().path() != LEASE_PATH {
        return with(StatusCode::NOT_FOUND, Vec::new());
    }
    let Ok(question) = Limited::new(request.into_body(), MESSAGE_BYTES_MAX).collect().await else {
        return with(StatusCode::PAYLOAD_TOO_LARGE, Vec::new());
    };
    match core.waypoint.limiter.answer(peer, &question.to_bytes()) {
        Ok(grant) => with(StatusCode::OK, grant),
        Err(error) => with(StatusCode::BAD_REQUEST, error.to_string().into_bytes()),
    }
}

/// The other replicas, by what the view says of our own service.
#[derive(Clone)]
pub struct Siblings {
    asker: Asker,
}

impl Siblings {
    /// Reached by this asker's core.
    pub fn by(asker: Asker) -> Self {
        Self { asker }
    }
}

impl Replicas for Siblings {
    fn members(&self) -> Arc<Members> {
        let Ok(core) = self.asker.core() else { return Arc::default() };
        let view = core.waypoint.view.now();
        Arc::new(members(&view, &core.waypoint))
    }

    fn ask(&self, replica: &Str, question: Bytes) -> BoxFuture<'static, Result<Bytes, CallFailed>> {
        let (core, replica) = (self.asker.core(), replica.clone());
        Box::pin(async move { ask(&core?, &replica, question).await })
    }
}

fn members(view: &View, waypoint: &Waypoint) -> Members {
    let Some(own) = waypoint.own_workload(view) else { return Members::default() };
    let healthy = |workload: &Workload| workload.health == Health::Healthy || workload.uid == own.uid;
    let same = |workload: &Workload| workload.identity().is_ok_and(|found| found == waypoint.settings.own.identity);
    let all = own.services.keys().flat_map(|service| view.endpoints(service));
    let mut all: Vec<Str> = all
        .filter(|endpoint| healthy(endpoint.workload) && same(endpoint.workload))
        .map(|endpoint| endpoint.workload.uid.clone())
        .collect();
    all.push(own.uid.clone());
    all.sort();
    all.dedup();
    Members { own: own.uid.clone(), all }
}

async fn ask(core: &Arc<Core>, replica: &Str, question: Bytes) -> Result<Bytes, CallFailed> {
    let nobody = || CallFailed::Nobody(format!("replica {replica} is gone"));
    let unreachable = |error: &dyn std::fmt::Display| CallFailed::Unreachable(error.to_string());
    let view = core.waypoint.view.now();
    let workload = view.workload(replica).ok_or_else(nobody)?;
    let ip = workload.addresses.first().ok_or_else(nobody)?;
    let authority = Authority::parse(AUTHORITY).map_err(|error| unreachable(&error))?;
    let place = Place::Tunnel {
        to: (*ip, HBONE_PORT).into(),
        authority,
        expected: [core.waypoint.settings.own.identity.clone()].into(),
    };
    let service = ServiceKey { namespace: workload.namespace.clone(), hostname: AUTHORITY.into() };
    let key = ClusterKey { service, port: HBONE_PORT, subset: Some(replica.clone()) };
    let (cluster, hosts) = core.waypoint.clusters.of_place(&key, workload, place).ok_or_else(nobody)?;
    let host = hosts.all.first().ok_or_else(nobody)?;
    let sent = Sent {
        method: Method::POST,
        authority: AUTHORITY.into(),
        path: LEASE_PATH.into(),
        query: None,
        headers: http::HeaderMap::new(),
        upgrade: None,
        tls: false,
    };
    let request = sent.request(HttpVersion::Http2, Outgoing::Whole(Some(question)));
    let request = request.map_err(|error| unreachable(&error))?;
    let may_have_left = AtomicBool::new(false);
    let way = Way {
        cluster: &cluster,
        hosts: &hosts,
        host,
        version: HttpVersion::Http2,
        server_name: "",
        ends: None,
        told: &Told::default,
        throw: dice(),
        sent: &may_have_left,
    };
    let response = core.upstream.send(&way, request).await.map_err(|error| unreachable(&error))?;
    if response.status() != StatusCode::OK {
        return Err(CallFailed::Unreadable(format!("replica {replica} answers {}", response.status())));
    }
    let body = Limited::new(response.into_body(), MESSAGE_BYTES_MAX).collect().await;
    Ok(body.map_err(|error| CallFailed::Unreadable(error.to_string()))?.to_bytes())
}
