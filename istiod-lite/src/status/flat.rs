//! Objects whose status is a list of conditions: Service, and Istio's kinds. Pure.

use super::condition::{Stamp, flatten, spell_all};
use crate::facts::{Condition, Kind};
use serde_json::{Value, json};

/// Types of conditions that we write to such objects, and so remove when there is nothing to say.
const OURS: [&str; 8] = [
    "Accepted",
    "Programmed",
    "ResolvedRefs",
    "WaypointAccepted",
    "ZtunnelAccepted",
    "istio.io/WaypointBound",
    "istio.io/WaypointMissing",
    "istiod-lite.io/FieldsHonoured",
];

/// Whether the conditions of a kind's objects are one list.
pub fn is_flat(kind: Kind) -> bool {
    use Kind::*;
    matches!(
        kind,
        Service
            | ServiceEntry
            | WorkloadEntry
            | AuthorizationPolicy
            | PeerAuthentication
            | RequestAuthentication
            | VirtualService
            | DestinationRule
            | Telemetry
    )
}

/// The list of conditions that the status should have, if it has another. `whole`: the server does not
/// merge the list, so that it holds what others wrote too.
pub fn wanted(kind: Kind, conditions: &[Condition], status: &Value, stamp: &Stamp<'_>) -> Option<Value> {
    let none = Vec::new();
    let before = status["conditions"].as_array().unwrap_or(&none);
    let is_ours = |condition: &&Value| condition["type"].as_str().is_some_and(|kind| OURS.contains(&kind));
    let own = spell_all(&flatten(conditions), before, stamp);
    let own_before: Vec<&Value> = before.iter().filter(is_ours).collect();
    let same = own.len() == own_before.len() && own.iter().all(|condition| own_before.contains(&condition));
    if same {
        return None;
    }
    let mut all = own;
    if kind != Kind::Service {
        let others = before.iter().filter(|condition| !is_ours(condition)).cloned().collect::<Vec<_>>();
        all = others.into_iter().chain(all).collect();
    }
    Some(json!({ "conditions": all }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp<'_> = Stamp { now: "now", generation: Some(2) };

    fn condition(kind: &str, since: &str) -> Value {
        json!({"type": kind, "status": "True", "reason": "R", "message": "m", "lastTransitionTime": since, "observedGeneration": 2})
    }

    #[test]
    fn only_a_difference_is_written() {
        let bound = [Condition::met("istio.io/WaypointBound", "R", "m")];
        let there = condition("istio.io/WaypointBound", "then");
        let foreign = condition("Foreign", "then");
        for (what, told, before, expected) in [
            ("nothing to say", &[][..], json!({}), None),
            ("nothing to say to what others wrote", &[], json!({"conditions": [foreign]}), None),
            ("new", &bound, json!({}), Some(json!([condition("istio.io/WaypointBound", "now")]))),
            ("as it is", &bound, json!({"conditions": [foreign, there]}), None),
            ("no more", &[], json!({"conditions": [foreign, there]}), Some(json!([foreign]))),
        ] {
            let found = wanted(Kind::ServiceEntry, told, &before, &STAMP).map(|status| status["conditions"].clone());
            assert_eq!(found, expected, "{what}");
        }
    }

    #[test]
    fn what_the_server_merges_holds_only_our_own() {
        let bound = [Condition::met("istio.io/WaypointBound", "R", "m")];
        let before = json!({"conditions": [condition("Foreign", "then")]});
        let found = wanted(Kind::Service, &bound, &before, &STAMP).expect("new");
        assert_eq!(found["conditions"], json!([condition("istio.io/WaypointBound", "now")]));
        let before = json!({"conditions": [condition("istio.io/WaypointBound", "then")]});
        assert_eq!(wanted(Kind::Service, &[], &before, &STAMP), Some(json!({"conditions": []})));
    }

    #[test]
    fn a_newer_generation_is_said_though_nothing_else_changed() {
        let bound = [Condition::met("istio.io/WaypointBound", "R", "m")];
        let before = json!({"conditions": [condition("istio.io/WaypointBound", "then")]});
        let newer = Stamp { now: "now", generation: Some(3) };
        let found = wanted(Kind::ServiceEntry, &bound, &before, &newer).expect("of another generation");
        assert_eq!(found["conditions"][0]["observedGeneration"], 3);
        assert_eq!(found["conditions"][0]["lastTransitionTime"], "then");
    }
}
