//! What is to be done so that the objects of a Gateway are as they should be. Pure: what should be, what
//! is, and what was applied before, in; steps out.

use super::asked::{GATEWAY_NAME, MANAGED, MANAGED_BY};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash, Hasher},
};

/// Which object: kind, namespace, name.
pub type Place = (String, String, String);

/// An object that a controller made, as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Live {
    /// Its uid.
    pub uid: String,
    /// Who owns it.
    pub owners: BTreeSet<String>,
    /// It is one of a waypoint's, and not of another controller's.
    pub ours: bool,
    /// Changes when somebody changes what we applied.
    pub print: u64,
}

/// What was applied last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Of what was sent.
    pub sent: u64,
    /// Of what the server made of it.
    pub print: u64,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Apply this.
    Apply(Value),
    /// Nobody here has seen such an object: look whether there is one of somebody else before.
    Look(Value),
    /// This one is not wanted any more.
    Delete(Place, String),
}

/// The steps for one Gateway. `uid` is its own; `live` are all objects with the label of controllers.
pub fn steps(
    uid: &str,
    wanted: &[Value],
    live: &BTreeMap<Place, Live>,
    applied: &BTreeMap<Place, Applied>,
) -> Vec<Step> {
    let mut steps = Vec::new();
    for object in wanted {
        let place = place(object);
        match (live.get(&place), applied.get(&place)) {
            (None, _) => steps.push(Step::Look(object.clone())),
            (Some(live), Some(applied)) if live.print == applied.print && applied.sent == hash(object) => {}
            (Some(_), _) => steps.push(Step::Apply(object.clone())),
        }
    }
    let kept: BTreeSet<Place> = wanted.iter().map(place).collect();
    let gone = live.iter().filter(|(place, live)| live.ours && live.owners.contains(uid) && !kept.contains(*place));
    steps.extend(gone.map(|(place, live)| Step::Delete(place.clone(), live.uid.clone())));
    steps
}

/// What is known of an object from its metadata.
pub fn live(object: &Value) -> Live {
    let metadata = &object["metadata"];
    let owners = metadata["ownerReferences"].as_array().into_iter().flatten();
    Live {
        uid: metadata["uid"].as_str().unwrap_or_default().to_owned(),
        owners: owners.filter_map(|owner| owner["uid"].as_str()).map(str::to_owned).collect(),
        ours: metadata["labels"][MANAGED] == MANAGED_BY,
        print: print(object),
    }
}

/// Changes when the specification, labels or annotations of an object do; not with its status.
pub fn print(object: &Value) -> u64 {
    let metadata = &object["metadata"];
    let version = if metadata["generation"].is_null() { &object["spec"] } else { &metadata["generation"] };
    let mut annotations = metadata["annotations"].clone();
    if let Value::Object(annotations) = &mut annotations {
        annotations.retain(|key, _| !key.starts_with("deployment.kubernetes.io/"));
    }
    hash(&json!([metadata["uid"], version, metadata["labels"], annotations, metadata["ownerReferences"]]))
}

/// Equal for equal values, within one process.
pub fn hash(value: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.to_string().hash(&mut hasher);
    hasher.finish()
}

/// Which object it is.
pub fn place(object: &Value) -> Place {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (text(&object["kind"]), text(&object["metadata"]["namespace"]), text(&object["metadata"]["name"]))
}

/// Why an object that is there may not be overwritten, if it may not.
pub fn foreign(there: &Value) -> Option<String> {
    let (kind, namespace, name) = place(there);
    let labels = &there["metadata"]["labels"];
    match labels[MANAGED].as_str() {
        Some(MANAGED_BY) => None,
        Some(other) => Some(format!("{kind} {namespace}/{name} is made by {other}; it is left as it is")),
        None => Some(format!(
            "{kind} {namespace}/{name} is there and has no label {MANAGED}, so it is somebody's own and left as it is; \
             remove or rename it, or choose another name by gateway.istio.io/name-override ({GATEWAY_NAME} finds what is ours)"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(kind: &str, name: &str) -> Value {
        json!({"kind": kind, "metadata": {"namespace": "shop", "name": name}})
    }

    fn live_of(owner: &str, ours: bool, print: u64) -> Live {
        Live { uid: "x".into(), owners: [owner.to_owned()].into(), ours, print }
    }

    #[test]
    fn only_what_differs_is_done() {
        let wanted = [object("Service", "wp")];
        let place = place(&wanted[0]);
        let sent = hash(&wanted[0]);
        for (what, live, applied, expected) in [
            ("nothing there", None, None, vec![Step::Look(wanted[0].clone())]),
            ("it vanished", None, Some(Applied { sent, print: 1 }), vec![Step::Look(wanted[0].clone())]),
            ("there, by an earlier leader", Some(live_of("u", true, 1)), None, vec![Step::Apply(wanted[0].clone())]),
            ("as it was applied", Some(live_of("u", true, 1)), Some(Applied { sent, print: 1 }), vec![]),
            (
                "somebody changed it",
                Some(live_of("u", true, 2)),
                Some(Applied { sent, print: 1 }),
                vec![Step::Apply(wanted[0].clone())],
            ),
            (
                "something else is wanted",
                Some(live_of("u", true, 1)),
                Some(Applied { sent: sent ^ 1, print: 1 }),
                vec![Step::Apply(wanted[0].clone())],
            ),
        ] {
            let live = live.map(|live| (place.clone(), live)).into_iter().collect();
            let applied = applied.map(|applied| (place.clone(), applied)).into_iter().collect();
            assert_eq!(steps("u", &wanted, &live, &applied), expected, "{what}");
        }
    }

    #[test]
    fn only_our_own_objects_of_this_gateway_are_deleted() {
        let budget = place(&object("PodDisruptionBudget", "wp"));
        for (what, live, deleted) in [
            ("ours", live_of("u", true, 1), true),
            ("another gateway's", live_of("v", true, 1), false),
            ("another controller's", live_of("u", false, 1), false),
        ] {
            let found = steps("u", &[], &[(budget.clone(), live)].into(), &BTreeMap::new());
            let expected = if deleted { vec![Step::Delete(budget.clone(), "x".into())] } else { vec![] };
            assert_eq!(found, expected, "{what}");
        }
    }

    #[test]
    fn a_print_changes_with_what_we_applied_and_not_with_status() {
        let base = json!({"metadata": {"uid": "a", "generation": 1, "resourceVersion": "5",
            "labels": {"a": "b"}, "annotations": {"deployment.kubernetes.io/revision": "1"}}});
        let with = |pointer: &str, value: Value| {
            let mut other = base.clone();
            if let Some(field) = other.pointer_mut(pointer) {
                *field = value;
            }
            other
        };
        for (pointer, value, same) in [
            ("/metadata/resourceVersion", json!("6"), true),
            ("/metadata/annotations", json!({"deployment.kubernetes.io/revision": "2"}), true),
            ("/metadata/annotations", json!({"x": "y"}), false),
            ("/metadata/generation", json!(2), false),
            ("/metadata/labels", json!({}), false),
            ("/metadata/uid", json!("b"), false),
        ] {
            assert_eq!(print(&with(pointer, value)) == print(&base), same, "{pointer}");
        }
    }

    #[test]
    fn a_kind_without_generations_goes_by_what_it_says() {
        let service = |port: u16, address: &str| {
            print(&json!({"metadata": {"uid": "a"}, "spec": {"port": port}, "status": {"loadBalancer": address}}))
        };
        assert_eq!(service(1, ""), service(1, "10.0.0.1"));
        assert_ne!(service(1, ""), service(2, ""));
    }

    #[test]
    fn what_is_somebodys_own_is_never_overwritten() {
        let labelled = |label: Option<&str>| {
            let mut object = object("Service", "wp");
            if let Some(label) = label {
                object["metadata"]["labels"] = json!({ MANAGED: label });
            }
            foreign(&object)
        };
        assert_eq!(labelled(Some(MANAGED_BY)), None);
        assert!(labelled(None).expect("refused").starts_with("Service shop/wp is there and has no label"));
        assert!(
            labelled(Some("istio.io-gateway-controller"))
                .expect("refused")
                .contains("is made by istio.io-gateway-controller")
        );
    }
}
