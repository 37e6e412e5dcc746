//! Istio's traffic, authentication and telemetry kinds, and our own `TrafficPolicy`.
//!
//! Each object counts whole or not at all: with a field that is not understood, the last good
//! version of it stays. What is understood and not honoured by waypoints is left out and remarked,
//! and becomes a condition of the object. A match that cannot be honoured never hits.

mod balancing;
mod destination_rule;
mod http_action;
mod http_match;
mod mesh_config;
mod request_authentication;
mod stream;
mod telemetry;
mod traffic_policy;
mod trial;
mod virtual_service;

pub(super) use trial::authorization;

use super::field::{Field, Notes};
use crate::facts::{
    DestinationRule, Exports, Fact, Kind, MeshConfig, Meta, RequestAuthentication, Telemetry, TrafficPolicy,
    VirtualService,
};
use mesh::Str;
use std::collections::BTreeSet;

/// Whether objects of a kind are read here.
pub(super) fn reads(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::VirtualService
            | Kind::DestinationRule
            | Kind::RequestAuthentication
            | Kind::Telemetry
            | Kind::TrafficPolicy
    )
}

/// Reads an object of one of these kinds.
pub(super) fn fact(kind: Kind, object: &Field<'_>, meta: Meta, notes: &Notes) -> Option<Fact> {
    let fact = match kind {
        Kind::VirtualService => {
            let read = virtual_service::virtual_service(object, meta);
            if notes.is_empty() {
                trial::virtual_service(object, &read);
            }
            let (refused, unheeded) = said(notes);
            let read = if refused.is_empty() { read } else { VirtualService { meta: read.meta, ..Default::default() } };
            Fact::VirtualService(Box::new(VirtualService { refused, unheeded, ..read }))
        }
        Kind::DestinationRule => {
            let read = destination_rule::destination_rule(object, meta);
            if notes.is_empty() {
                trial::destination_rule(object, &read);
            }
            let (refused, unheeded) = said(notes);
            let read =
                if refused.is_empty() { read } else { DestinationRule { meta: read.meta, ..Default::default() } };
            Fact::DestinationRule(Box::new(DestinationRule { refused, unheeded, ..read }))
        }
        Kind::RequestAuthentication => {
            let read = request_authentication::request_authentication(object, meta);
            let (refused, unheeded) = said(notes);
            let read = if refused.is_empty() { read } else { request_authentication::closed(read) };
            Fact::RequestAuthentication(Box::new(RequestAuthentication { refused, unheeded, ..read }))
        }
        Kind::Telemetry => {
            let read = telemetry::telemetry(object, meta);
            if notes.is_empty() {
                trial::telemetry(object, &read);
            }
            let (refused, unheeded) = said(notes);
            let read = if refused.is_empty() { read } else { Telemetry { meta: read.meta, ..Default::default() } };
            Fact::Telemetry(Box::new(Telemetry { refused, unheeded, ..read }))
        }
        Kind::TrafficPolicy => {
            let read = traffic_policy::traffic_policy(object, meta);
            if notes.is_empty() {
                trial::traffic_policy(object, &read);
            }
            let (refused, unheeded) = said(notes);
            let read = if refused.is_empty() { read } else { TrafficPolicy { meta: read.meta, ..Default::default() } };
            Fact::TrafficPolicy(Box::new(TrafficPolicy { refused, unheeded, ..read }))
        }
        _ => return None,
    };
    Some(kept(object, notes, fact))
}

/// Whether a ConfigMap is the configuration of a mesh, by name. One that holds certificates is not.
pub(super) fn is_mesh_config(object: &Field<'_>, meta: &Meta) -> bool {
    &*meta.name == "istio" && !object.at("data").key("ca.crt").is_there()
}

/// Reads the configuration of the mesh.
pub(super) fn mesh_config(object: &Field<'_>, meta: Meta, notes: &Notes) -> Fact {
    let read = mesh_config::mesh_config(object, meta);
    let (refused, unheeded) = said(notes);
    let read = if refused.is_empty() { read } else { MeshConfig { meta: read.meta, ..Default::default() } };
    kept(object, notes, Fact::MeshConfig(Box::new(MeshConfig { refused, unheeded, ..read })))
}

/// What could not be understood, and what is not honoured.
fn said(notes: &Notes) -> (Vec<Str>, Vec<Str>) {
    (notes.listed(), notes.unheeded())
}

/// The fact, or what holds in its place when the object was not understood.
fn kept(object: &Field<'_>, notes: &Notes, fact: Fact) -> Fact {
    if notes.is_empty() {
        return fact;
    }
    object.at("spec").note("the last good version of this object stays, if there is one");
    Fact::Otherwise(Box::new(fact))
}

/// `exportTo`: `*`, `.` (the own namespace), `~` (nobody) or names of namespaces.
fn exports(field: &Field<'_>, own: &Str) -> Exports {
    let said: Vec<Str> = field.list().iter().filter_map(Field::text).collect();
    if said.is_empty() || said.iter().any(|name| &**name == "*") {
        return Exports::Everybody;
    }
    let names = said.into_iter().filter(|name| &**name != "~");
    Exports::Only(names.map(|name| if &*name == "." { own.clone() } else { name }).collect::<BTreeSet<_>>())
}

#[cfg(test)]
mod tests;
