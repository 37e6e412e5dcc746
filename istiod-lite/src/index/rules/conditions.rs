//! What building rules has to say of the objects they are made of.

use crate::facts::{Condition, FactKey};
use std::collections::BTreeMap;

/// Conditions by object, as they are found.
///
/// Of several that are about the same thing, one that is not met counts; of several that are not
/// met the first gives the reason, and all give their messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::index) struct Conditions {
    by_object: BTreeMap<FactKey, Vec<Condition>>,
}

impl Conditions {
    pub(in crate::index) fn say(&mut self, object: &FactKey, condition: Condition) {
        let all = self.by_object.entry(object.clone()).or_default();
        let same = |other: &&mut Condition| other.kind == condition.kind && other.parent == condition.parent;
        match all.iter_mut().find(same) {
            None => all.push(condition),
            Some(earlier) if earlier.status => *earlier = condition,
            Some(earlier) if !condition.status && !earlier.message.contains(&condition.message) => {
                earlier.message = format!("{}; {}", earlier.message, condition.message);
            }
            Some(_) => {}
        }
    }

    /// Says the same about each parent of the object of which something of this kind was said.
    pub(super) fn fail(&mut self, object: &FactKey, condition: Condition) {
        let same = |other: &&Condition| other.kind == condition.kind;
        let parents: Vec<_> = self.of(object).iter().filter(same).map(|other| other.parent.clone()).collect();
        if parents.is_empty() {
            return self.say(object, condition);
        }
        for parent in parents {
            self.say(object, Condition { parent, ..condition.clone() });
        }
    }

    pub(super) fn objects(&self) -> impl Iterator<Item = &FactKey> {
        self.by_object.keys()
    }

    pub(super) fn of(&self, object: &FactKey) -> &[Condition] {
        self.by_object.get(object).map_or(&[], Vec::as_slice)
    }

    /// Says all of `other`, too.
    pub(super) fn say_of(&mut self, object: &FactKey, other: &Self) {
        for condition in other.of(object) {
            self.say(object, condition.clone());
        }
    }

    /// What was said of an object, in an order that does not depend on that of its finding.
    pub(super) fn into_sorted(mut self, object: &FactKey) -> Vec<Condition> {
        let mut all = self.by_object.remove(object).unwrap_or_default();
        all.sort_by(|a, b| (&a.parent, &a.kind).cmp(&(&b.parent, &b.kind)));
        all
    }
}
