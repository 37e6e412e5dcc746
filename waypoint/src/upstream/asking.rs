//! Requests of our own: to authorizers, rate limit services, collectors and issuers of keys, as the
//! rules of their destinations want it.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock, Weak};

use futures_util::future::BoxFuture;
use http::Response;
use mesh::route::Destination;
use tonic::body::Body;

use super::choose::{Wish, choose};
use super::connect::Told;
use super::http::Way;
use crate::body::Outgoing;
use crate::context::{Core, dice};
use crate::external::call::Asking;
use crate::external::{Call, CallFailed};
use crate::phase::head::Sent;
use crate::phase::route::cluster_key;

/// Sends requests of our own by the connections of a core.
#[derive(Clone, Default)]
pub struct Asker {
    /// Given later where the core needs the asker to be made.
    core: Arc<OnceLock<Weak<Core>>>,
}

impl Asker {
    /// By the connections of this core.
    pub fn of(core: &Arc<Core>) -> Self {
        let asker = Self::default();
        asker.bind(core);
        asker
    }

    /// From now on by the connections of this core. Only the first one counts.
    pub fn bind(&self, core: &Arc<Core>) {
        let _bound_before = self.core.set(Arc::downgrade(core));
    }

    /// The core, while there is one.
    pub(crate) fn core(&self) -> Result<Arc<Core>, CallFailed> {
        let core = self.core.get().and_then(Weak::upgrade);
        core.ok_or_else(|| CallFailed::Unreachable("the process begins or ends".into()))
    }
}

impl Call for Asker {
    fn call(&self, asking: Asking) -> BoxFuture<'static, Result<Response<Body>, CallFailed>> {
        let core = self.core();
        Box::pin(async move { send(core?, asking).await })
    }
}

async fn send(core: Arc<Core>, asking: Asking) -> Result<Response<Body>, CallFailed> {
    let nobody = |why: &str| CallFailed::Nobody(why.to_owned());
    let Asking { destination, version, request } = asking;
    let key = cluster_key(&destination).ok_or_else(|| nobody("the destination may not be used"))?;
    let view = core.waypoint.view.now();
    let found = core.waypoint.clusters.of(&key, &core.waypoint.place(&view));
    let (cluster, hosts) = found.ok_or_else(|| nobody("there is no such destination"))?;
    let wish = Wish {
        turn: cluster.turn.fetch_add(1, Relaxed),
        ejected: cluster.ejected(),
        now: core.waypoint.clusters.now(),
        ..Wish::default()
    };
    let host = choose(&hosts, &wish, &mut dice).ok_or_else(|| nobody("it has no healthy endpoint"))?.clone();
    let full = || CallFailed::Unreachable("its limit of requests is reached".into());
    let _place = cluster.breakers.request(&hosts.most).ok_or_else(full)?;
    let (parts, body) = request.into_parts();
    let authority = parts.uri.authority().map(|authority| authority.to_string()).unwrap_or_default();
    let sent = Sent {
        method: parts.method,
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().map(str::to_owned),
        headers: parts.headers,
        upgrade: None,
        tls: hosts.origination.is_some(),
        authority,
    };
    let unreadable = |error: crate::phase::head::NoTarget| CallFailed::Unreadable(error.to_string());
    let request = sent.request(version, Outgoing::Own(body)).map_err(unreadable)?;
    let server_name = mesh::route::head::split_port(&sent.authority).0;
    let may_have_left = AtomicBool::new(false);
    let way = Way {
        cluster: &cluster,
        hosts: &hosts,
        host: &host,
        version,
        server_name,
        ends: None,
        told: &Told::default,
        throw: dice(),
        sent: &may_have_left,
    };
    let response = core.upstream.send(&way, request).await;
    response.map(|response| response.map(Body::new)).map_err(|failure| CallFailed::Unreachable(failure.to_string()))
}

/// Finds the service of the mesh that a host and port are, seen from a core.
pub fn service_of(asker: &Asker, host: &str, port: u16) -> Option<Destination> {
    let core = asker.core().ok()?;
    let view = core.waypoint.view.now();
    let service = view.service_by_hostname(host, core.waypoint.settings.own.namespace())?;
    let there = service.ports.contains_key(&port);
    there.then(|| Destination::Service { service: service.key(), port, subset: None })
}
