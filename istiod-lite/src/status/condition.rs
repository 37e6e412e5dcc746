//! One condition in the spelling of Kubernetes, and since when it is so. Pure.

use crate::facts::Condition;
use serde_json::{Value, json};
use std::time::SystemTime;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Longest text of a condition. Kubernetes takes 32 KiB; a person reads this much, and a policy with a
/// thousand targets must not make an object that no server takes.
pub const MESSAGE_BYTES_MAX: usize = 1024;

/// When and of which generation something is said.
#[derive(Clone, Debug)]
pub struct Stamp<'a> {
    /// Now, as Kubernetes writes it.
    pub now: &'a str,
    /// `metadata.generation`; kinds without have none.
    pub generation: Option<i64>,
}

/// A condition as it is written. What was there before says since when it is so.
pub fn spell(condition: &Condition, before: Option<&Value>, stamp: &Stamp<'_>) -> Value {
    let status = if condition.status { "True" } else { "False" };
    let since =
        before.filter(|before| before["status"] == status).and_then(|before| before["lastTransitionTime"].as_str());
    let mut value = json!({
        "type": &*condition.kind,
        "status": status,
        "reason": &*condition.reason,
        "message": shorten(&condition.message),
        "lastTransitionTime": since.unwrap_or(stamp.now),
    });
    if let Some(generation) = stamp.generation {
        value["observedGeneration"] = generation.into();
    }
    value
}

/// Conditions as they are written, by type. `before` are those that are there.
pub fn spell_all<'a>(
    conditions: impl IntoIterator<Item = &'a Condition>,
    before: &[Value],
    stamp: &Stamp<'_>,
) -> Vec<Value> {
    let of = |kind: &str| before.iter().find(|before| before["type"] == kind);
    conditions.into_iter().map(|condition| spell(condition, of(&condition.kind), stamp)).collect()
}

/// One condition of each type out of those about several parents: what is not so counts.
pub fn flatten(conditions: &[Condition]) -> Vec<Condition> {
    let mut flat: Vec<(Condition, Vec<String>)> = Vec::new();
    for one in conditions {
        let told = match &one.parent {
            Some(parent) => format!("{parent}: {}", one.message),
            None => one.message.clone(),
        };
        match flat.iter_mut().find(|(other, _)| other.kind == one.kind) {
            None => flat.push((Condition { parent: None, ..one.clone() }, vec![told])),
            Some((earlier, messages)) if earlier.status && !one.status => {
                (*earlier, *messages) = (Condition { parent: None, ..one.clone() }, vec![told]);
            }
            Some((earlier, messages)) if earlier.status == one.status && !messages.contains(&told) => {
                messages.push(told)
            }
            Some(_) => {}
        }
    }
    let join =
        |(condition, messages): (Condition, Vec<String>)| Condition { message: messages.join("; "), ..condition };
    let mut flat: Vec<_> = flat.into_iter().map(join).collect();
    flat.sort_by(|a, b| a.kind.cmp(&b.kind));
    flat
}

/// Now, as Kubernetes writes it.
pub fn timestamp(now: SystemTime) -> String {
    let now = OffsetDateTime::from(now);
    let whole = now.replace_nanosecond(0).unwrap_or(now);
    whole.format(&Rfc3339).unwrap_or_else(|_| "1970-01-01T00:00:00Z".to_owned())
}

fn shorten(text: &str) -> &str {
    match text.len() > MESSAGE_BYTES_MAX {
        true => &text[..text.floor_char_boundary(MESSAGE_BYTES_MAX)],
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_condition_changes_its_time_only_with_its_status() {
        let stamp = Stamp { now: "2026-02-02T00:00:00Z", generation: Some(3) };
        let before =
            json!({"type": "A", "status": "True", "reason": "Old", "lastTransitionTime": "2026-01-01T00:00:00Z"});
        let met = Condition::met("A", "New", "m");
        let spelled = spell(&met, Some(&before), &stamp);
        assert_eq!(spelled["lastTransitionTime"], "2026-01-01T00:00:00Z");
        assert_eq!((&spelled["reason"], &spelled["observedGeneration"]), (&json!("New"), &json!(3)));
        let unmet = Condition::unmet("A", "No", "m");
        assert_eq!(spell(&unmet, Some(&before), &stamp)["lastTransitionTime"], stamp.now);
        assert_eq!(spell(&met, None, &stamp)["lastTransitionTime"], stamp.now);
    }

    #[test]
    fn of_several_parents_what_is_not_so_counts() {
        let told = [
            Condition::met("A", "Good", "fine").about("Service/a"),
            Condition::unmet("A", "Bad", "broken").about("Service/b"),
            Condition::unmet("A", "Worse", "gone").about("Service/c"),
            Condition::met("B", "Good", "fine").about("Service/a"),
            Condition::met("B", "Good", "fine").about("Service/b"),
        ];
        assert_eq!(
            flatten(&told),
            [
                Condition::unmet("A", "Bad", "Service/b: broken; Service/c: gone"),
                Condition::met("B", "Good", "Service/a: fine; Service/b: fine"),
            ]
        );
    }

    #[test]
    fn a_message_without_end_is_cut_at_a_character() {
        let message = "é".repeat(MESSAGE_BYTES_MAX);
        let spelled = spell(&Condition::met("A", "R", message), None, &Stamp { now: "", generation: None });
        assert_eq!(spelled["message"].as_str().map(str::len), Some(MESSAGE_BYTES_MAX));
    }

    #[test]
    fn times_are_whole_seconds_of_utc() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_999);
        assert_eq!(timestamp(now), "2023-11-14T22:13:20Z");
    }
}
