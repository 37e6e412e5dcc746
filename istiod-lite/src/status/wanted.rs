//! Which objects should have another status than they have, and which. Pure: the index and the
//! ledger at one moment in, writes out.

use super::{
    attached,
    condition::Stamp,
    flat,
    gateway::{self, Around},
};
use crate::{
    deploy::outcome::Outcomes,
    facts::{Condition, FactKey, Kind},
    index::Index,
    ledger::{self, Entries},
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash, Hasher},
};

/// One status to write, by server-side apply.
#[derive(Clone, Debug, PartialEq)]
pub struct Write {
    /// Of which object.
    pub key: FactKey,
    /// In whose name.
    pub manager: &'static str,
    /// The object with its status, as it is applied.
    pub body: Value,
    /// Equal for writes that say the same, whenever they say it.
    pub print: u64,
    /// What is refused of the object, and was not before: (reason, message).
    pub refused: Vec<(String, String)>,
}

/// Everything that is to be written now; what people wait for comes first.
pub fn writes(index: &Index, entries: &Entries, outcomes: &Outcomes, now: &str) -> Vec<Write> {
    let told: BTreeMap<&FactKey, &[Condition]> = index.conditions().collect();
    let attached = attached_routes(&told);
    let mut writes = Vec::new();
    for (key, object) in entries.iter().filter(|(key, _)| ledger::has_status(key.kind)) {
        let conditions = told.get(key).copied().unwrap_or_default();
        let stamp = Stamp { now, generation: object["metadata"]["generation"].as_i64() };
        let status = match key.kind {
            Kind::Gateway if conditions.is_empty() => None,
            Kind::Gateway => {
                let around = Around {
                    service: index.deployed_service(key),
                    attached: attached.get(key).cloned().unwrap_or_default(),
                    failure: outcomes.of(key),
                };
                gateway::wanted(conditions, &around, object, &stamp)
            }
            Kind::GatewayClass => gateway::wanted_of_class(conditions, object, &stamp),
            kind if attached::is_attached(kind) => {
                let is_waypoint = |namespace: &str, name: &str| index.is_waypoint_named(namespace, name);
                attached::wanted(kind, conditions, object, is_waypoint, &stamp)
            }
            kind if flat::is_flat(kind) => flat::wanted(kind, conditions, &object["status"], &stamp),
            _ => None,
        };
        writes.extend(status.map(|status| write(key, object, status)));
    }
    writes.sort_by_key(|write| !matches!(write.key.kind, Kind::Gateway | Kind::GatewayClass));
    writes
}

fn write(key: &FactKey, object: &Value, status: Value) -> Write {
    let metadata = &object["metadata"];
    let mut place = json!({ "name": metadata["name"] });
    if !key.namespace.is_empty() {
        place["namespace"] = json!(&*key.namespace);
    }
    // An object of the same name that came after this one is another.
    place["uid"] = metadata["uid"].clone();
    if holds_others(key.kind) {
        place["resourceVersion"] = metadata["resourceVersion"].clone();
    }
    let refused = refused(&object["status"], &status);
    let body = json!({
        "apiVersion": object["apiVersion"], "kind": object["kind"], "metadata": place, "status": status,
    });
    let mut hasher = DefaultHasher::new();
    without_times(&body["status"]).to_string().hash(&mut hasher);
    Write { key: key.clone(), manager: manager(key.kind, &status_kinds(&body)), print: hasher.finish(), body, refused }
}

/// Whether the status that we write holds what others wrote, so that it must not have changed meanwhile.
fn holds_others(kind: Kind) -> bool {
    !matches!(kind, Kind::Service | Kind::Gateway | Kind::GatewayClass)
}

/// In whose name the status of a kind is written, as Istio does.
fn manager(kind: Kind, said: &BTreeSet<&str>) -> &'static str {
    match kind {
        Kind::Service | Kind::ServiceEntry => "istio-ambient-service",
        Kind::WorkloadEntry => "istio-ambient-workloadentry",
        Kind::AuthorizationPolicy if said.contains("ZtunnelAccepted") => "istio-ambient-ztunnel-policy",
        Kind::AuthorizationPolicy | Kind::RequestAuthentication | Kind::Telemetry => "istio-ambient-waypoint-policy",
        Kind::PeerAuthentication => "istio-ambient-ztunnel-policy",
        _ => "istio.io/gateway-controller",
    }
}

fn status_kinds(body: &Value) -> BTreeSet<&str> {
    let all = body["status"]["conditions"].as_array().into_iter().flatten();
    all.filter_map(|condition| condition["type"].as_str()).collect()
}

/// Gateway → listener → routes that are attached to it.
fn attached_routes(told: &BTreeMap<&FactKey, &[Condition]>) -> BTreeMap<FactKey, BTreeMap<String, u32>> {
    let mut found: BTreeMap<FactKey, BTreeMap<String, u32>> = BTreeMap::new();
    let route = |kind: Kind| matches!(kind, Kind::HTTPRoute | Kind::GRPCRoute | Kind::TCPRoute | Kind::TLSRoute);
    let accepted = told.iter().filter(|(key, _)| route(key.kind)).flat_map(|(_, conditions)| conditions.iter());
    for condition in accepted.filter(|it| it.status && &*it.kind == "Accepted") {
        let Some(rest) = condition.parent.as_deref().and_then(|parent| parent.strip_prefix("Gateway/")) else {
            continue;
        };
        let Some((namespace, rest)) = rest.split_once('/') else { continue };
        let mut parts = rest.split(':');
        let (name, section) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let key = FactKey { kind: Kind::Gateway, namespace: namespace.into(), name: name.into() };
        *found.entry(key).or_default().entry(section.to_owned()).or_default() += 1;
    }
    found
}

/// Reasons that pass by themselves: nobody has to do anything about them.
const PASSING: [&str; 4] = ["AddressNotAssigned", "UnsupportedAddress", "WaypointIsNotReady", "NoConflicts"];

/// Conditions that are not met by the new status and were not said so by the old.
fn refused(before: &Value, status: &Value) -> Vec<(String, String)> {
    let unmet = |condition: &&Value| {
        condition["status"] == "False" && condition["reason"].as_str().is_some_and(|it| !PASSING.contains(&it))
    };
    let said = |condition: &Value| {
        let text = |field: &str| condition[field].as_str().unwrap_or_default().to_owned();
        (text("reason"), text("message"))
    };
    let known: BTreeSet<_> = conditions(before).into_iter().filter(unmet).map(said).collect();
    let found: BTreeSet<_> = conditions(status).into_iter().filter(unmet).map(said).collect();
    found.difference(&known).cloned().collect()
}

/// Every condition anywhere in a status.
fn conditions(status: &Value) -> Vec<&Value> {
    let lists = ["listeners", "parents", "ancestors"];
    let own = status["conditions"].as_array().into_iter().flatten();
    let parts = lists.iter().flat_map(|list| status[*list].as_array().into_iter().flatten());
    own.chain(parts.flat_map(|part| part["conditions"].as_array().into_iter().flatten())).collect()
}

fn without_times(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.iter().filter(|(field, _)| *field != "lastTransitionTime");
            Value::Object(kept.map(|(field, value)| (field.clone(), without_times(value))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(without_times).collect()),
        plain => plain.clone(),
    }
}

#[cfg(test)]
mod tests;
