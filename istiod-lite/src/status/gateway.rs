//! The status of gateways that are waypoints, and of their class. Pure.
//!
//! The addresses are those of the Service that was made for the gateway, once one of its pods was ready.
//! Every replica reads them back from here, so all of them bind to a waypoint by the same word.

use super::condition::{Stamp, spell_all};
use crate::{
    facts::Condition,
    index::{DeployedService, Served},
};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What is known of a gateway beside its own conditions.
#[derive(Clone, Debug, Default)]
pub struct Around {
    /// The Service that was made for it.
    pub service: DeployedService,
    /// Listener → how many routes are attached.
    pub attached: BTreeMap<String, u32>,
    /// Why it could not be deployed.
    pub failure: Option<Condition>,
}

/// The status that a gateway should have, if it has another.
pub fn wanted(conditions: &[Condition], around: &Around, gateway: &Value, stamp: &Stamp<'_>) -> Option<Value> {
    let before = &gateway["status"];
    let addresses = addresses(&around.service, &before["addresses"]);
    let mut own: Vec<Condition> = conditions.iter().filter(|it| it.parent.is_none()).cloned().collect();
    programme(&mut own, around, !addresses.is_empty(), gateway);
    if let Some(failure) = &around.failure {
        own.retain(|condition| condition.kind != failure.kind);
        own.push(failure.clone());
    }
    if !own.iter().any(|condition| &*condition.kind == "ResolvedRefs") {
        own.push(Condition::met("ResolvedRefs", "ResolvedRefs", "All references resolved"));
    }
    own.sort();
    let mut wanted = json!({ "conditions": spell_all(&own, list(&before["conditions"]), stamp) });
    let listeners = list(&gateway["spec"]["listeners"]);
    wanted["listeners"] =
        listeners.iter().filter_map(|listener| of_listener(listener, conditions, around, before, stamp)).collect();
    wanted["addresses"] = Value::Array(addresses);
    (!holds(before, &wanted)).then_some(wanted)
}

/// Where the gateway can be reached: addresses first, then the name, as Istio has it. What was once said
/// stays while the Service is there, or bound services would be refused with each restart of a pod.
fn addresses(service: &DeployedService, before: &Value) -> Vec<Value> {
    let said = !list(before).is_empty();
    let (ips, hostname) = match &service.served {
        Served::Ready => (&service.addresses, &service.hostname),
        Served::NotReady if said => (&service.addresses, &service.hostname),
        Served::NotReady | Served::Missing => return Vec::new(),
    };
    let ips = ips.iter().map(|ip| json!({ "type": "IPAddress", "value": ip.to_string() }));
    ips.chain([json!({ "type": "Hostname", "value": &**hostname })]).collect()
}

fn programme(own: &mut Vec<Condition>, around: &Around, has_address: bool, gateway: &Value) {
    let accepted = own.iter().all(|condition| &*condition.kind != "Accepted" || condition.status);
    if !accepted {
        return;
    }
    let hostname = &around.service.hostname;
    let programmed = match (&around.service.served, has_address) {
        (_, true) => {
            let port = |listener: &Value| Some(format!("{hostname}:{}", listener["port"].as_u64()?));
            let all: Vec<String> = list(&gateway["spec"]["listeners"]).iter().filter_map(port).collect();
            Condition::met(
                "Programmed",
                "Programmed",
                format!("Resource programmed, assigned to service(s) {}", all.join(", ")),
            )
        }
        (Served::Missing, false) => {
            Condition::unmet("Programmed", "UnsupportedAddress", format!("there is no Service {hostname} yet"))
        }
        (_, false) => {
            let message = format!("Service {hostname} is there, and none of its pods is ready");
            Condition::unmet("Programmed", "AddressNotAssigned", message)
        }
    };
    own.retain(|condition| &*condition.kind != "Programmed");
    own.push(programmed);
}

fn of_listener(
    listener: &Value,
    conditions: &[Condition],
    around: &Around,
    before: &Value,
    stamp: &Stamp<'_>,
) -> Option<Value> {
    let name = listener["name"].as_str()?;
    let about = format!("listener {name}");
    let mut own: Vec<Condition> =
        conditions.iter().filter(|it| it.parent.as_deref() == Some(&about)).cloned().collect();
    own.push(Condition::unmet("Conflicted", "NoConflicts", "No errors found"));
    own.sort_by(|a, b| a.kind.cmp(&b.kind));
    let known = list(&before["listeners"]).iter().find(|known| known["name"] == name);
    let known = known.map_or(&[][..], |known| list(&known["conditions"]));
    let kind = |kind: &str| json!({ "group": "gateway.networking.k8s.io", "kind": kind });
    Some(json!({
        "name": name,
        "attachedRoutes": around.attached.get(name).copied().unwrap_or_default(),
        "supportedKinds": ROUTES.map(kind),
        "conditions": spell_all(&own, known, stamp),
    }))
}

/// Routes that a waypoint carries out.
const ROUTES: [&str; 4] = ["GRPCRoute", "HTTPRoute", "TCPRoute", "TLSRoute"];

/// What of Gateway API's features a waypoint has, sorted as the definition wants it.
const FEATURES: [&str; 25] = [
    "BackendTLSPolicy",
    "BackendTLSPolicySANValidation",
    "GRPCRoute",
    "HTTPRoute",
    "HTTPRouteBackendProtocolH2C",
    "HTTPRouteBackendRequestHeaderModification",
    "HTTPRouteBackendTimeout",
    "HTTPRouteCORS",
    "HTTPRouteDestinationPortMatching",
    "HTTPRouteHostRewrite",
    "HTTPRouteMethodMatching",
    "HTTPRouteNamedRouteRule",
    "HTTPRouteParentRefPort",
    "HTTPRoutePathRedirect",
    "HTTPRoutePathRewrite",
    "HTTPRoutePortRedirect",
    "HTTPRouteQueryParamMatching",
    "HTTPRouteRequestMirror",
    "HTTPRouteRequestMultipleMirrors",
    "HTTPRouteRequestPercentageMirror",
    "HTTPRouteRequestTimeout",
    "HTTPRouteResponseHeaderModification",
    "HTTPRouteSchemeRedirect",
    "Mesh",
    "ReferenceGrant",
];

/// The status that the class of waypoints should have, if it has another.
pub fn wanted_of_class(conditions: &[Condition], class: &Value, stamp: &Stamp<'_>) -> Option<Value> {
    let before = &class["status"];
    let features = FEATURES.map(|name| json!({ "name": name }));
    let wanted = json!({
        "conditions": spell_all(conditions, list(&before["conditions"]), stamp),
        "supportedFeatures": features,
    });
    (!conditions.is_empty() && !holds(before, &wanted)).then_some(wanted)
}

/// Whether a status has everything that is wanted; conditions of others beside ours are no difference.
fn holds(before: &Value, wanted: &Value) -> bool {
    let Value::Object(wanted) = wanted else { return false };
    wanted.iter().all(|(field, wanted)| match &**field {
        "conditions" => list(wanted).iter().all(|condition| list(&before[field]).contains(condition)),
        _ => before[field] == *wanted || (before[field].is_null() && list(wanted).is_empty()),
    })
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests;
