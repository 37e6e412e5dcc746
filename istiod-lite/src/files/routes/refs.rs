//! What routes and policies point to: parents, targets, backends.

use super::{
    Reader,
    values::{bounded, only, required},
};
use crate::{
    facts::{Parent, ParentTarget, Remark, by_host, by_name},
    files::field::Field,
};
use mesh::{Str, route::Destination};

const GATEWAY_API: &str = "gateway.networking.k8s.io";
const ISTIO: &str = "networking.istio.io";

/// The parents of a route.
pub(super) fn parents(spec: &Field<'_>, reader: &Reader<'_>) -> Vec<Parent> {
    let fields = super::values::up_to(&spec.at("parentRefs"), 32);
    let parents: Vec<Parent> = fields.iter().filter_map(|field| parent(field, reader)).collect();
    distinct(&spec.at("parentRefs"), &parents);
    parents
}

fn parent(field: &Field<'_>, reader: &Reader<'_>) -> Option<Parent> {
    only(field, &["group", "kind", "name", "namespace", "port", "sectionName"]);
    let (group, kind) = (field.at("group"), field.at("kind"));
    let group = if group.is_there() { group.text()? } else { GATEWAY_API.into() };
    let kind = if kind.is_there() { kind.text()? } else { "Gateway".into() };
    let namespace = field.at("namespace");
    let namespace = if namespace.is_there() { bounded(&namespace, 63)? } else { reader.namespace.clone() };
    Some(Parent {
        target: target(&group, &kind, namespace, bounded(&field.at("name"), 253)?),
        port: field.at("port").port(),
        section: section(&field.at("sectionName")),
    })
}

/// The targets of a policy, which are in its own namespace.
pub(super) fn targets(spec: &Field<'_>, reader: &Reader<'_>) -> Vec<Parent> {
    let fields = super::values::up_to(&spec.at("targetRefs"), 16);
    if fields.is_empty() {
        spec.at("targetRefs").note("names no target");
    }
    let target = |field: &Field<'_>| {
        only(field, &["group", "kind", "name", "sectionName"]);
        let (group, kind) = (field.at("group").text().unwrap_or_default(), required(&field.at("kind"))?);
        let target = target(&group, &kind, reader.namespace.clone(), bounded(&field.at("name"), 253)?);
        Some(Parent { target, port: None, section: section(&field.at("sectionName")) })
    };
    let targets: Vec<Parent> = fields.iter().filter_map(target).collect();
    distinct(&spec.at("targetRefs"), &targets);
    targets
}

fn target(group: &str, kind: &str, namespace: Str, name: Str) -> ParentTarget {
    match (group, kind) {
        ("" | "core", "Service") => ParentTarget::Service { namespace, name },
        (ISTIO, "ServiceEntry") => ParentTarget::ServiceEntry { namespace, name },
        (GATEWAY_API, "Gateway") => ParentTarget::Gateway { namespace, name },
        (group, kind) => ParentTarget::Other(format!("{kind}.{group}/{namespace}/{name}").into()),
    }
}

fn section(field: &Field<'_>) -> Option<Str> {
    if field.is_there() { bounded(field, 253) } else { None }
}

/// One thing may be named several times only for different parts of it.
fn distinct(field: &Field<'_>, all: &[Parent]) {
    for (n, one) in all.iter().enumerate() {
        let clash = |other: &&Parent| {
            let whole = |parent: &Parent| parent.port.is_none() && parent.section.is_none();
            other.target == one.target
                && (whole(other) || whole(one) || (&other.port, &other.section) == (&one.port, &one.section))
        };
        if let Some(other) = all[..n].iter().find(clash) {
            field.note(format!("names {} twice: {} and {}", one.target, other.text(), one.text()));
        }
    }
}

/// The fields of a reference to a backend.
pub(super) const BACKEND: [&str; 5] = ["group", "kind", "name", "namespace", "port"];

/// Where a reference to a backend points. What it may not or cannot point to is a destination that
/// answers nothing, and a remark.
pub(super) fn backend(field: &Field<'_>, reader: &Reader<'_>) -> Destination {
    let group = field.at("group").text().unwrap_or_default();
    let kind = field.at("kind").text().unwrap_or_else(|| "Service".into());
    let Some(name) = bounded(&field.at("name"), 253) else { return Destination::Invalid { reason: "no name".into() } };
    let namespace = field.at("namespace");
    let namespace = if namespace.is_there() { bounded(&namespace, 63) } else { Some(reader.namespace.clone()) };
    let Some(namespace) = namespace else { return Destination::Invalid { reason: "no namespace".into() } };
    let port = field.at("port");
    let port_number = port.port();
    match (&*group, &*kind) {
        ("" | "core", "Service") => {
            if !port.is_there() {
                port.note("is missing, and a Service must be named with its port");
            }
            let service = by_name(&namespace, &name);
            Destination::Service { service, port: port_number.unwrap_or_default(), subset: None }
        }
        (ISTIO, "Hostname") => {
            let service = by_host(&name.to_ascii_lowercase());
            Destination::Service { service, port: port_number.unwrap_or_default(), subset: None }
        }
        (group, kind) => {
            let kind = if group.is_empty() { kind.to_owned() } else { format!("{kind}.{group}") };
            let message = format!("{}: {kind} is not a kind of backend here", field.path());
            reader.remark(field, "ResolvedRefs", "InvalidKind", format!("{kind} is not a kind of backend here"));
            Destination::Invalid { reason: message.into() }
        }
    }
}

impl Reader<'_> {
    /// Remarks that something was understood and does not work.
    pub(super) fn remark(
        &self,
        field: &Field<'_>,
        condition: &'static str,
        reason: &'static str,
        message: impl AsRef<str>,
    ) {
        let message = format!("{}: {}", field.path(), message.as_ref()).into();
        let remark = Remark { condition, reason, message };
        let mut remarks = self.remarks.borrow_mut();
        if !remarks.contains(&remark) {
            remarks.push(remark);
        }
    }
}
