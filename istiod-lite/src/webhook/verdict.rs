//! Whether an object can work. Pure.

use crate::{
    facts::{Fact, Kind, PolicyAction, PolicyCondition},
    files::{self, Problem},
};
use chassis::objects::Object;
use serde_json::Value;

/// What becomes of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Why it is refused; none: it is not.
    pub refused: Vec<String>,
    /// What works otherwise than its author may think.
    pub warnings: Vec<String>,
}

/// Judges an object. `before` is what it takes the place of.
pub fn judge(object: &Object, before: Option<&Value>) -> Verdict {
    if !is_judged(object) {
        return Verdict::default();
    }
    let reading = files::read(object);
    let (said, unheeded): (Vec<_>, Vec<_>) =
        reading.problems.iter().filter(|problem| !is_consequence(problem)).partition(|problem| !problem.unheeded);
    let said: Vec<String> = said.into_iter().map(told).chain(unknown_fields(object)).collect();
    let mut warnings: Vec<String> = unheeded.into_iter().map(told).collect();
    let open = opens(reading.fact.as_ref());
    let refuses = match &reading.fact {
        // Nothing of it would count, or less than was said.
        None | Some(Fact::Otherwise(_)) => true,
        Some(fact) => counts_by_parts(fact.key().kind) && !said.is_empty(),
    };
    let mut refused: Vec<String> = open.into_iter().chain(two_targets(object)).collect();
    match refuses || !unknown_fields(object).is_empty() {
        true => refused.extend(said),
        false => warnings.splice(0..0, said).for_each(drop),
    }
    // A finalizer must be removable from an object that was stored before we were asked.
    if before.is_some_and(|before| before.get("spec") == object.value.get("spec")) || is_going(object) {
        refused.append(&mut warnings);
        warnings = std::mem::take(&mut refused);
    }
    Verdict { refused, warnings }
}

/// Whether an object is for us to judge: routes and policies that are attached to others' gateways are not.
fn is_judged(object: &Object) -> bool {
    let key = object.key();
    match &*key.group {
        "gateway.networking.k8s.io" => {
            let list = |field: &str| object.value.pointer(&format!("/spec/{field}")).and_then(Value::as_array);
            let ours = |reference: &Value| {
                let text = |key: &str| reference[key].as_str().unwrap_or_default();
                matches!(
                    (text("group"), text("kind")),
                    ("" | "core", "Service") | ("networking.istio.io", "ServiceEntry")
                )
            };
            let references = list("parentRefs").into_iter().chain(list("targetRefs")).flatten();
            references.into_iter().any(ours)
        }
        group => files::kind(group, &key.kind).is_some() && group.ends_with(".istio.io") || group == "istiod-lite.io",
    }
}

/// Kinds of which parts count without the others; a part that is left out does not work.
fn counts_by_parts(kind: Kind) -> bool {
    matches!(kind, Kind::ServiceEntry | Kind::WorkloadEntry)
}

/// A policy that would let pass what its author wants to have asked about.
fn opens(fact: Option<&Fact>) -> Option<String> {
    let Some(Fact::AuthorizationPolicy(policy)) = fact else { return None };
    matches!(policy.condition(), PolicyCondition::ActionNotServed(PolicyAction::Custom)).then(|| {
        "spec.action: CUSTOM is done by waypoints only, and without targetRefs nobody would be asked; \
         name a waypoint's Gateway or a Service behind one in targetRefs"
            .to_owned()
    })
}

/// A policy that says in two ways what it is for: one of them would be passed over.
fn two_targets(object: &Object) -> Option<String> {
    let is_there = |field: &str| object.value.pointer(&format!("/spec/{field}")).is_some_and(|value| !value.is_null());
    let both = is_there("selector") && (is_there("targetRefs") || is_there("targetRef"));
    both.then(|| "spec.selector: is there beside targetRefs, and would be passed over; keep one of them".to_owned())
}

/// What the reader says of the consequences is not so before an object is stored.
fn is_consequence(problem: &Problem) -> bool {
    problem.field == "spec" && problem.reason.starts_with("the last good version of this")
}

fn is_going(object: &Object) -> bool {
    object.value.pointer("/metadata/deletionTimestamp").is_some()
}

const TOP: [&str; 5] = ["apiVersion", "kind", "metadata", "spec", "status"];

fn unknown_fields(object: &Object) -> Vec<String> {
    let fields = object.value.as_object().into_iter().flatten().map(|(field, _)| field);
    let unknown = fields.filter(|field| !TOP.contains(&field.as_str()));
    unknown.map(|field| format!("{field}: is not a field of {}; did it lose its indentation?", object.kind)).collect()
}

fn told(problem: &Problem) -> String {
    match &*problem.field {
        "" => problem.reason.clone(),
        field => format!("{field}: {}", problem.reason),
    }
}

#[cfg(test)]
mod tests;
