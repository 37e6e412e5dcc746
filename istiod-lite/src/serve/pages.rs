//! The HTTP pages: `/ready` for Kubernetes, `/metrics` for Prometheus, `/debug/…` for people.
//!
//! The debug pages show the whole mesh, so they are only for callers from loopback.

use crate::{
    facts::{Condition, FactKey},
    index::Index,
    problems::Problems,
    publish::SharedIndex,
    report::Report,
};
use chassis::{
    admin::{self, Response, Routes},
    metrics::Exposition,
    ready::Ready,
    run::Process,
};
use http::StatusCode;
use mesh::{Service, Workload};
use serde_json::{Value, json};
use std::{future::ready, sync::Arc};

/// `GET /ready`: 200 once everything is served, 503 before that and when the process ends.
pub fn readiness(process: &Process) -> Routes {
    let (reasons, drain) = (process.ready.clone(), process.signal.clone());
    Routes::new().get("/ready", "200 when the control plane serves", move |_| {
        ready(if drain.is_draining() { unready("it is ending") } else { readiness_of(&reasons) })
    })
}

fn readiness_of(reasons: &Ready) -> Response {
    match &*reasons.pending() {
        [] => admin::text(StatusCode::OK, "ready\n"),
        pending => unready(&pending.join(", ")),
    }
}

fn unready(reason: &str) -> Response {
    admin::text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n"))
}

/// `GET /metrics`, and what there is to know of the process.
pub fn metrics(exposition: Arc<Exposition>) -> Routes {
    Routes::new().metrics(exposition).index("istiod-lite")
}

/// `GET /ready`, `GET /debug/…` and `POST /logging`: what callers from loopback get.
pub fn debug(process: &Process, index: SharedIndex, problems: Arc<Problems>, report: Arc<Report>) -> Routes {
    let status = index.clone();
    let page = |act: Box<dyn Fn() -> Value + Send + Sync>| move |_| ready(admin::json(StatusCode::OK, &act()));
    let (connections, syncz) = (report.clone(), report);
    readiness(process)
        .get("/debug/ambientz", "what proxies are told", page(Box::new(move || told(&index))))
        .get("/debug/status", "what became of objects", page(Box::new(move || statuses(&status.read()))))
        .get("/debug/connections", "which proxies are connected", page(Box::new(move || connections.connections())))
        .get("/debug/syncz", "which proxies have what", page(Box::new(move || syncz.sync_status())))
        .get(
            "/debug/problems",
            "what in the configuration cannot be used",
            page(Box::new(move || {
                problems.look_again();
                problems.show()
            })),
        )
        .logging(process.level.clone())
        .index("istiod-lite")
}

/// Conditions by object, spelled as in the status of a Kubernetes object.
fn statuses(index: &Index) -> Value {
    let condition = |condition: &Condition| {
        json!({
            "parent": condition.parent.as_deref(),
            "type": &*condition.kind,
            "status": if condition.status { "True" } else { "False" },
            "reason": &*condition.reason,
            "message": &*condition.message,
        })
    };
    let object = |(key, conditions): (&FactKey, &[Condition])| {
        json!({
            "kind": format!("{:?}", key.kind),
            "namespace": &*key.namespace,
            "name": &*key.name,
            "conditions": conditions.iter().map(condition).collect::<Vec<_>>(),
        })
    };
    index.conditions().map(object).collect()
}

fn told(index: &SharedIndex) -> Value {
    let index = index.read();
    json!({
        "workloads": index.workloads().map(|workload| show_workload(workload)).collect::<Vec<_>>(),
        "services": index.services().map(|service| show_service(service)).collect::<Vec<_>>(),
        "policies": index.policies().map(|policy| json!({
            "namespace": &*policy.namespace,
            "name": &*policy.name,
            "scope": format!("{:?}", policy.scope),
            "action": format!("{:?}", policy.action),
            "dryRun": policy.dry_run,
            "rules": policy.rules.iter().map(|rule| format!("{rule:?}")).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
    })
}

fn show_workload(workload: &Workload) -> Value {
    let services = workload.services.iter().map(|(key, ports)| {
        let ports = ports.iter().map(|(service, target)| json!({ "servicePort": service, "targetPort": target }));
        (key.to_string(), json!({ "ports": ports.collect::<Vec<_>>() }))
    });
    json!({
        "uid": &*workload.uid,
        "name": &*workload.name,
        "namespace": &*workload.namespace,
        "addresses": workload.addresses.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "network": &*workload.network,
        "tunnelProtocol": format!("{:?}", workload.protocol),
        "serviceAccount": &*workload.service_account,
        "node": &*workload.node,
        "status": format!("{:?}", workload.health),
        "authorizationPolicies": workload.authorization_policies.iter().map(|name| &**name).collect::<Vec<_>>(),
        "services": services.collect::<serde_json::Map<_, _>>(),
    })
}

fn show_service(service: &Service) -> Value {
    let ports = service.ports.iter().map(|(port, served)| {
        json!({
            "servicePort": port,
            "targetPort": served.target_port,
            "appProtocol": format!("{:?}", served.app_protocol),
        })
    });
    json!({
        "name": &*service.name,
        "namespace": &*service.namespace,
        "hostname": &*service.hostname,
        "addresses": service.vips.iter().map(|vip| format!("{}/{}", vip.network, vip.address)).collect::<Vec<_>>(),
        "ports": ports.collect::<Vec<_>>(),
        "canonical": service.canonical,
    })
}
