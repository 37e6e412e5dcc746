//! What an operator may ask of a running waypoint on 15000: the config dump, log levels, the end.
//!
//! The dump is written by hand from what is there now, so that the mesh's words can change without it.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use chassis::admin::{Response, Routes, json, text};
use chassis::run::Process;
use chassis::telemetry::rfc3339;
use http::StatusCode;
use mesh::View;
use mesh::route::{Compiled, Guards};
use pki::cache::{CertificateState, CertificateStatus};
use serde_json::{Value, json as value};

use crate::context::Waypoint;
use crate::upstream::cluster::Cluster;
use crate::upstream::hosts::{Host, Place};

/// What 15000 answers, on the loopback only.
pub fn routes(waypoint: &Arc<Waypoint>, config: Value, process: &Process) -> Routes {
    let (ending, waypoint) = (process.clone(), waypoint.clone());
    Routes::new()
        .get("/config_dump", "everything this waypoint knows", move |_| dumped(waypoint.clone(), config.clone()))
        .logging(process.level.clone())
        .post("/quitquitquit", "ends the process, after draining it", move |_| {
            tracing::info!("asked to end by the admin interface");
            ending.drain.start(ending.grace);
            std::future::ready(text(StatusCode::OK, "shutting down now\n"))
        })
        .index("waypoint")
}

/// A large mesh takes a moment to write down, and health must be answered meanwhile.
async fn dumped(waypoint: Arc<Waypoint>, config: Value) -> Response {
    let written = tokio::task::spawn_blocking(move || dump(&waypoint, config)).await;
    match written {
        Ok(dump) => json(StatusCode::OK, &dump),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("cannot be made: {error}\n")),
    }
}

/// The whole of it.
fn dump(waypoint: &Waypoint, config: Value) -> Value {
    let view = waypoint.view.now();
    let own = &waypoint.settings.own;
    let certificates: Vec<Value> = waypoint.certificates.dump().iter().map(certificate).collect();
    let clusters: Vec<Value> = waypoint.clusters.all().iter().map(|known| cluster(known)).collect();
    value!({
        "gateway": own.gateway_key(),
        "identity": own.identity.to_string(),
        "config": config,
        "services": services(waypoint, &view),
        "gatewayRules": view.gateway_rules(&own.gateway_key()).map(|compiled| {
            let rules = compiled.rules();
            value!({
                "guards": guards(&rules.guards),
                "limits": rules.limits.len(),
                "faults": rules.faults.len(),
                "forwardClientIdentity": rules.forward_client_identity,
            })
        }),
        "clusters": clusters,
        "certificates": certificates,
        "openConnections": waypoint.live.len(),
    })
}

/// Every service that is bound to us, with its rules in short.
fn services(waypoint: &Waypoint, view: &View) -> Vec<Value> {
    let own = &waypoint.settings.own;
    let bound = view.services().filter(|service| crate::target::is_bound(view, own, service));
    bound
        .map(|service| {
            let ports: serde_json::Map<String, Value> = service
                .ports
                .iter()
                .map(|(port, served)| (port.to_string(), format!("{:?}", served.app_protocol).into()))
                .collect();
            value!({
                "namespace": &*service.namespace,
                "hostname": &*service.hostname,
                "vips": service.vips.iter().map(|vip| vip.address.to_string()).collect::<Vec<_>>(),
                "ports": ports,
                "rules": view.service_rules(&service.key()).map(|compiled| rules(compiled)),
            })
        })
        .collect()
}

fn rules(compiled: &Compiled) -> Value {
    let rules = compiled.rules();
    let http: Vec<Value> = rules
        .http
        .iter()
        .map(|route| {
            let names: Vec<&str> = route.rules.iter().map(|rule| &*rule.name).collect();
            value!({
                "name": &*route.name,
                "ports": route.ports,
                "callers": route.callers.as_deref(),
                "rules": names,
            })
        })
        .collect();
    let streams = |routes: &[mesh::route::StreamRoute]| routes.iter().map(|r| r.name.to_string()).collect::<Vec<_>>();
    value!({
        "http": http,
        "tls": streams(&rules.tls),
        "tcp": streams(&rules.tcp),
        "guards": guards(&rules.guards),
        "limits": rules.limits.iter().map(|limit| limit.name.to_string()).collect::<Vec<_>>(),
        "faults": rules.faults.len(),
        "traffic": rules.traffic.iter().map(|traffic| value!({"port": traffic.port, "name": &*traffic.name})).collect::<Vec<_>>(),
        "subsets": rules.subsets.iter().map(|subset| value!({"name": &*subset.name, "members": subset.members.len()})).collect::<Vec<_>>(),
    })
}

fn guards(guards: &Guards) -> Value {
    let policies: Vec<Value> = guards
        .policies
        .iter()
        .map(|policy| {
            let action = match &policy.action {
                mesh::route::guard::GuardAction::Allow => "ALLOW",
                mesh::route::guard::GuardAction::Deny => "DENY",
                mesh::route::guard::GuardAction::Audit => "AUDIT",
                mesh::route::guard::GuardAction::Custom(_) => "CUSTOM",
            };
            let name = format!("{}/{}", policy.namespace, policy.name);
            value!({"name": name, "action": action, "rules": policy.rules.len(), "dryRun": policy.dry_run})
        })
        .collect();
    let tokens: Vec<&str> = guards.authentications.iter().map(|one| &*one.name).collect();
    value!({"policies": policies, "authentications": tokens})
}

fn cluster(cluster: &Cluster) -> Value {
    let hosts = cluster.last();
    let traffic = hosts.as_ref().map(|hosts| hosts.traffic.name.to_string());
    let endpoints: Vec<Value> = hosts.iter().flat_map(|hosts| &hosts.all).map(|found| endpoint(found)).collect();
    value!({
        "name": &*cluster.name,
        "traffic": traffic,
        "endpoints": endpoints,
        "ejected": cluster.ejected(),
        "requests": cluster.breakers.requests.taken(),
        "pending": cluster.breakers.pending.taken(),
        "connections": cluster.breakers.connections.taken(),
        "retries": cluster.breakers.retries.taken(),
    })
}

fn endpoint(host: &Host) -> Value {
    let place = match &host.place {
        Place::Tunnel { authority, .. } => format!("HBONE {authority}"),
        Place::Plain(address) => format!("TCP {address}"),
        Place::Name(name, port) => format!("TCP {name}:{port}"),
    };
    value!({
        "uid": &*host.uid,
        "place": place,
        "weight": host.weight,
        "rank": host.rank,
        "ejected": host.tally.is_ejected(),
        "inFlight": host.load.in_flight.load(Relaxed),
    })
}

fn certificate(status: &CertificateStatus) -> Value {
    let state = match &status.state {
        CertificateState::Available => "Available".to_owned(),
        CertificateState::Initializing => "Initializing".to_owned(),
        CertificateState::Unavailable(error) => format!("Unavailable: {error}"),
    };
    value!({
        "identity": status.identity.to_string(),
        "state": state,
        "notAfter": status.certificate.as_ref().map(|certificate| rfc3339(certificate.not_after())),
    })
}
