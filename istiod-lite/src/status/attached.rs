//! Routes, whose status has conditions by parent, and policies, whose status has them by target
//! ("ancestor"). What other controllers wrote stays. Pure.

use super::condition::{Stamp, spell_all};
use crate::facts::{Condition, Kind};
use serde_json::{Value, json};

/// Who says what we say of routes and policies.
pub const CONTROLLER: &str = "istio.io/gateway-controller";

/// Most ancestors of a policy, and parents of a route, that the definitions of these kinds take.
const ANCESTORS_MAX: usize = 16;
const PARENTS_MAX: usize = 32;

const GATEWAY_API: &str = "gateway.networking.k8s.io";

/// Where a kind has what it is attached to, and where its status says what became of that.
struct Shape {
    references: &'static str,
    list: &'static str,
    reference: &'static str,
    max: usize,
}

fn shape(kind: Kind) -> Option<Shape> {
    use Kind::*;
    match kind {
        HTTPRoute | GRPCRoute | TCPRoute | TLSRoute => {
            Some(Shape { references: "parentRefs", list: "parents", reference: "parentRef", max: PARENTS_MAX })
        }
        BackendTLSPolicy | XBackendTrafficPolicy | TrafficPolicy => {
            Some(Shape { references: "targetRefs", list: "ancestors", reference: "ancestorRef", max: ANCESTORS_MAX })
        }
        _ => None,
    }
}

/// Whether the conditions of a kind's objects are told by what they are attached to.
pub fn is_attached(kind: Kind) -> bool {
    shape(kind).is_some()
}

/// The status that the object should have, if it has another. `is_waypoint` says of a Gateway, by namespace and
/// name, whether we answer for it.
pub fn wanted(
    kind: Kind,
    conditions: &[Condition],
    object: &Value,
    is_waypoint: impl Fn(&str, &str) -> bool,
    stamp: &Stamp<'_>,
) -> Option<Value> {
    let shape = shape(kind)?;
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
    let none = Vec::new();
    let before = object["status"][shape.list].as_array().unwrap_or(&none);
    let (own_before, others): (Vec<_>, Vec<_>) = before.iter().partition(|entry| entry["controllerName"] == CONTROLLER);
    let mut own = Vec::new();
    for reference in object["spec"][shape.references].as_array().unwrap_or(&none) {
        let named = Named::of(reference, kind, namespace);
        if !named.is_ours(&is_waypoint) {
            continue;
        }
        let text = named.text(kind);
        // What is said of the whole object holds at each of its parents.
        let about: Vec<&Condition> =
            conditions.iter().filter(|it| it.parent.as_deref().is_none_or(|parent| parent == text)).collect();
        if about.is_empty() {
            continue;
        }
        let known = own_before.iter().find(|entry| entry[shape.reference] == *reference);
        let known = known.and_then(|entry| entry["conditions"].as_array()).unwrap_or(&none);
        let conditions = spell_all(about, known, stamp);
        own.push(json!({ shape.reference: reference, "controllerName": CONTROLLER, "conditions": conditions }));
    }
    // Others have a right to what is there; of ours the first are told.
    own.truncate(shape.max.saturating_sub(others.len()));
    if own.len() == own_before.len() && own.iter().zip(&own_before).all(|(new, old)| new == *old) {
        return None;
    }
    let all: Vec<Value> = others.into_iter().cloned().chain(own).collect();
    Some(json!({ shape.list: all }))
}

/// What a reference names.
struct Named<'a> {
    group: &'a str,
    kind: &'a str,
    namespace: &'a str,
    name: &'a str,
    section: Option<&'a str>,
    port: Option<u64>,
}

impl<'a> Named<'a> {
    fn of(reference: &'a Value, of: Kind, own_namespace: &'a str) -> Self {
        let text = |key: &str| reference[key].as_str();
        // Only routes leave out what they are usually attached to.
        let is_policy = matches!(of, Kind::BackendTLSPolicy | Kind::XBackendTrafficPolicy | Kind::TrafficPolicy);
        Self {
            group: text("group").unwrap_or(if is_policy { "" } else { GATEWAY_API }),
            kind: text("kind").unwrap_or("Gateway"),
            namespace: text("namespace").unwrap_or(own_namespace),
            name: text("name").unwrap_or_default(),
            section: text("sectionName"),
            port: reference["port"].as_u64(),
        }
    }

    /// Whether it is for us to say what became of it there.
    fn is_ours(&self, is_waypoint: impl Fn(&str, &str) -> bool) -> bool {
        match (self.group, self.kind) {
            ("" | "core", "Service") | ("networking.istio.io", "ServiceEntry") => true,
            (GATEWAY_API, "Gateway") => is_waypoint(self.namespace, self.name),
            (GATEWAY_API, "HTTPRoute" | "GRPCRoute") => true,
            _ => false,
        }
    }

    /// As conditions name it.
    fn text(&self, of: Kind) -> String {
        if of == Kind::TrafficPolicy {
            // Its targets are in its own namespace, and need not say so.
            let section = self.section.map(|section| format!("#{section}")).unwrap_or_default();
            return format!("{}/{}{section}", self.kind, self.name);
        }
        let part = match (self.section, self.port) {
            (Some(section), Some(port)) => format!(":{section}:{port}"),
            (Some(section), None) => format!(":{section}"),
            (None, Some(port)) => format!(":{port}"),
            (None, None) => String::new(),
        };
        format!("{}/{}/{}{part}", self.kind, self.namespace, self.name)
    }
}

#[cfg(test)]
mod tests;
