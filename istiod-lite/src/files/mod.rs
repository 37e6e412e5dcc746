//! Kubernetes objects as files describe them, turned into [`Fact`]s.
//!
//! Reading is pure and lenient: a field that we do not understand is reported and left out, and the
//! rest of the object counts. Where leaving something out could let more pass (policies), the
//! object counts as not understood: the last good version stays, and if there is none the closed
//! reading holds ([`Fact::Otherwise`]). Nothing is dropped without a [`Problem`] that names file,
//! line, resource, field and reason.

mod field;
mod gateways;
mod istio;
mod limits;
mod policies;
mod routes;
mod services;
mod value;
mod workloads;

use crate::facts::{
    AuthorizationPolicy, BackendTrafficPolicy, Fact, FactKey, Kind, Labels, Meta, PolicyCondition, Remark, RouteKind,
};
use chassis::objects::{Object, ObjectKey, Origin};
use field::{Field, Notes};
use mesh::Str;

/// What reading one object gave.
#[derive(Clone, Debug)]
pub struct Reading {
    /// What to tell the index; `None`: nothing, what it knew of the object stays.
    pub fact: Option<Fact>,
    /// What could not be understood.
    pub problems: Vec<Problem>,
}

/// Something in an object that could not be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{origin}: {object}: {field}: {reason}")]
pub struct Problem {
    /// Where the object stands.
    pub origin: Origin,
    /// Which object.
    pub object: ObjectKey,
    /// Path of the field: `spec.rules[0].from[1].source.ipBlocks[0]`.
    pub field: String,
    /// What is wrong with it, and what was done instead.
    pub reason: String,
    /// It was understood and is not honoured; the object counts all the same.
    pub unheeded: bool,
}

/// Reads one object. Kinds that mean nothing to the mesh give no fact and no problem.
pub fn read(object: &Object) -> Reading {
    let key = object.key();
    let whole = kind(&key.group, &key.kind).is_some_and(counts_whole);
    let notes = Notes::new(whole);
    let fact = fact(object, &Field::root(&object.value, &notes), &notes);
    let remarks: Vec<_> = notes.remarks().into_iter().map(|remark| (remark, true)).collect();
    let problem = |((field, reason), unheeded)| {
        let (origin, object) = (object.origin.clone(), key.clone());
        Problem { origin, object, field, reason, unheeded }
    };
    let all = notes.take().into_iter().map(|note| (note, false)).chain(remarks);
    Reading { fact, problems: all.take(limits::PROBLEMS_PER_OBJECT).map(problem).collect() }
}

/// The fact that an object is gone; `None` for kinds that mean nothing to the mesh.
pub fn removed(key: &ObjectKey) -> Option<Fact> {
    let kind = kind(&key.group, &key.kind)?;
    Some(Fact::Removed(FactKey { kind, namespace: key.namespace.as_str().into(), name: key.name.as_str().into() }))
}

pub(crate) fn kind(group: &str, kind: &str) -> Option<Kind> {
    Some(match (group, kind) {
        ("", "Namespace") => Kind::Namespace,
        ("", "ServiceAccount") => Kind::ServiceAccount,
        ("", "Node") => Kind::Node,
        ("", "Pod") => Kind::Pod,
        ("", "Service") => Kind::Service,
        ("discovery.k8s.io", "EndpointSlice") => Kind::EndpointSlice,
        ("networking.istio.io", "ServiceEntry") => Kind::ServiceEntry,
        ("networking.istio.io", "WorkloadEntry") => Kind::WorkloadEntry,
        ("security.istio.io", "AuthorizationPolicy") => Kind::AuthorizationPolicy,
        ("security.istio.io", "PeerAuthentication") => Kind::PeerAuthentication,
        ("gateway.networking.k8s.io", "HTTPRoute") => Kind::HTTPRoute,
        ("gateway.networking.k8s.io", "GRPCRoute") => Kind::GRPCRoute,
        ("gateway.networking.k8s.io", "TCPRoute") => Kind::TCPRoute,
        ("gateway.networking.k8s.io", "TLSRoute") => Kind::TLSRoute,
        ("gateway.networking.k8s.io", "ReferenceGrant") => Kind::ReferenceGrant,
        ("gateway.networking.k8s.io", "BackendTLSPolicy") => Kind::BackendTLSPolicy,
        ("gateway.networking.x-k8s.io", "XBackendTrafficPolicy") => Kind::XBackendTrafficPolicy,
        ("", "ConfigMap") => Kind::ConfigMap,
        ("gateway.networking.k8s.io", "Gateway") => Kind::Gateway,
        ("gateway.networking.k8s.io", "GatewayClass") => Kind::GatewayClass,
        ("networking.istio.io", "VirtualService") => Kind::VirtualService,
        ("networking.istio.io", "DestinationRule") => Kind::DestinationRule,
        ("security.istio.io", "RequestAuthentication") => Kind::RequestAuthentication,
        ("telemetry.istio.io", "Telemetry") => Kind::Telemetry,
        ("istiod-lite.io", "TrafficPolicy") => Kind::TrafficPolicy,
        _ => return None,
    })
}

/// Kinds of which parts must not be left out, because the rest would mean something else.
fn counts_whole(kind: Kind) -> bool {
    use Kind::*;
    istio::reads(kind)
        || matches!(
            kind,
            AuthorizationPolicy
                | PeerAuthentication
                | HTTPRoute
                | GRPCRoute
                | TCPRoute
                | TLSRoute
                | BackendTLSPolicy
                | XBackendTrafficPolicy
        )
}

fn fact(object: &Object, field: &Field<'_>, notes: &Notes) -> Option<Fact> {
    let key = object.key();
    let Some(kind) = kind(&key.group, &key.kind) else {
        if is_ours(&key.group) {
            field.at("kind").note(format!("{} is not a kind of {} that is served here", key.kind, key.group));
        }
        return None;
    };
    let namespaced = !key.namespace.is_empty();
    for (part, text) in
        [Some(("name", &key.name)), namespaced.then_some(("namespace", &key.namespace))].into_iter().flatten()
    {
        if !is_name(text) {
            field.at("metadata").at(part).note(
                "is not a Kubernetes name (lower-case letters, digits, '-', '.'; at most 253); the object is left out",
            );
            return None;
        }
    }
    let meta = Meta {
        namespace: key.namespace.as_str().into(),
        name: key.name.as_str().into(),
        labels: field.at("metadata").at("labels").labels(),
        annotations: annotations(&field.at("metadata").at("annotations")),
        created: field.at("metadata").at("creationTimestamp").text(),
    };
    Some(match kind {
        Kind::Namespace => Fact::Namespace(workloads::namespace(field, meta)),
        Kind::ServiceAccount => Fact::ServiceAccount(meta),
        Kind::Node => Fact::Node(workloads::node(meta)),
        Kind::Pod => Fact::Pod(Box::new(workloads::pod(field, meta))),
        Kind::Service => Fact::Service(Box::new(services::service(field, meta))),
        Kind::EndpointSlice => Fact::EndpointSlice(Box::new(services::endpoint_slice(field, meta))),
        Kind::ServiceEntry => Fact::ServiceEntry(Box::new(services::service_entry(field, meta))),
        Kind::WorkloadEntry => Fact::WorkloadEntry(Box::new(workloads::workload_entry(field, meta)?)),
        Kind::Gateway => {
            let gateway = gateways::gateway(field, meta, notes);
            if gateway.refused.is_empty() {
                return Some(Fact::Gateway(Box::new(gateway)));
            }
            field.at("spec").note("the last good version of this Gateway stays; without one no listener serves by it");
            Fact::Otherwise(Box::new(Fact::Gateway(Box::new(gateway))))
        }
        Kind::GatewayClass => Fact::GatewayClass(gateways::gateway_class(field, meta)),
        Kind::VirtualService
        | Kind::DestinationRule
        | Kind::RequestAuthentication
        | Kind::Telemetry
        | Kind::TrafficPolicy => return istio::fact(kind, field, meta, notes),
        Kind::AuthorizationPolicy => {
            let policy = policies::authorization(field, meta);
            if notes.is_empty() {
                istio::authorization(field, &policy);
            }
            if notes.is_empty() {
                let condition = policy.condition();
                if !matches!(condition, PolicyCondition::Accepted | PolicyCondition::ForWaypoint) {
                    field.at("spec").note(condition.to_string());
                }
                return Some(Fact::AuthorizationPolicy(Box::new(policy)));
            }
            let policy = AuthorizationPolicy { refused: notes.listed(), ..policies::closed_authorization(policy) };
            field
                .at("spec")
                .note("the last good version of this policy stays; without one it refuses, or allows nothing");
            Fact::Otherwise(Box::new(Fact::AuthorizationPolicy(Box::new(policy))))
        }
        Kind::PeerAuthentication => {
            let policy = policies::peer_authentication(field, meta);
            if notes.is_empty() {
                return Some(Fact::PeerAuthentication(Box::new(policy)));
            }
            field.at("spec").note("the last good version of this policy stays; without one it is STRICT");
            let closed = policies::closed_peer_authentication(policy);
            Fact::Otherwise(Box::new(Fact::PeerAuthentication(Box::new(closed))))
        }
        Kind::HTTPRoute => route(field, RouteKind::Http, meta, notes),
        Kind::GRPCRoute => route(field, RouteKind::Grpc, meta, notes),
        Kind::TCPRoute => route(field, RouteKind::Tcp, meta, notes),
        Kind::TLSRoute => route(field, RouteKind::Tls, meta, notes),
        Kind::ReferenceGrant => Fact::ReferenceGrant(Box::new(routes::reference_grant(field, meta))),
        Kind::BackendTLSPolicy => {
            let policy = routes::tls_policy(field, meta, notes);
            remark(field, &policy.remarks);
            if policy.refused.is_empty() {
                return Some(Fact::BackendTlsPolicy(Box::new(policy)));
            }
            field.at("spec").note("the last good version of this policy stays; without one no connection comes about");
            let closed = routes::closed_tls_policy(policy);
            Fact::Otherwise(Box::new(Fact::BackendTlsPolicy(Box::new(closed))))
        }
        Kind::ConfigMap if istio::is_mesh_config(field, &meta) => return Some(istio::mesh_config(field, meta, notes)),
        Kind::XBackendTrafficPolicy => {
            let policy = routes::traffic_policy(field, meta, notes);
            remark(field, &policy.remarks);
            if policy.refused.is_empty() {
                return Some(Fact::BackendTrafficPolicy(Box::new(policy)));
            }
            field.at("spec").note("the last good version of this policy stays; without one it says nothing");
            let closed = BackendTrafficPolicy { retry_budget: None, ..policy };
            Fact::Otherwise(Box::new(Fact::BackendTrafficPolicy(Box::new(closed))))
        }
        Kind::ConfigMap => Fact::ConfigMap(Box::new(routes::config_map(field, meta)?)),
    })
}

fn route(field: &Field<'_>, kind: RouteKind, meta: Meta, notes: &Notes) -> Fact {
    let route = routes::route(field, kind, meta, notes);
    remark(field, &route.remarks);
    let refused = route.rules.is_none();
    let fact = Fact::Route(Box::new(route));
    if !refused {
        return fact;
    }
    field.at("spec").note("the last good version of this route stays; without one it is attached to nothing");
    Fact::Otherwise(Box::new(fact))
}

/// What was understood and does not work is told beside what was not.
fn remark(field: &Field<'_>, remarks: &[Remark]) {
    for remark in remarks {
        field.at("spec").note(&*remark.message);
    }
}

/// Annotations whose text is kept; of the others only what a reader asks for.
const ANNOTATIONS: [&str; 4] = [
    "gateway.istio.io/name-override",
    "gateway.istio.io/service-account",
    "istio.io/use-waypoint-canary-weight",
    "istiod-lite.io/allow-around-waypoint",
];

fn annotations(field: &Field<'_>) -> Labels {
    let said = |name: &&str| Some((Str::from(*name), field.key(name).loose_text()?));
    ANNOTATIONS.iter().filter_map(said).collect()
}

/// API groups in which a kind that we do not serve is worth a word.
fn is_ours(group: &str) -> bool {
    matches!(
        group,
        "security.istio.io"
            | "networking.istio.io"
            | "telemetry.istio.io"
            | "gateway.networking.k8s.io"
            | "istiod-lite.io"
    )
}

/// Names that Kubernetes itself would take. Others could collide with names that we generate.
fn is_name(text: &str) -> bool {
    let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.');
    !text.is_empty() && text.len() <= mesh::limits::NAME_BYTES_MAX && text.bytes().all(legal)
}

#[cfg(test)]
mod tests;
