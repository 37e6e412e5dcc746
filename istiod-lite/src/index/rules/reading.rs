//! What is to be said of an object because of how it is written.

use super::Conditions;
use crate::{
    facts::{Condition, FactKey},
    index::Index,
};
use mesh::Str;

/// The condition that is false when fields are understood and not honoured.
const HONOURED: &str = "istiod-lite.io/FieldsHonoured";

/// That fields are not honoured.
pub(super) fn say_of_fields(object: &FactKey, unheeded: &[Str], conditions: &mut Conditions) {
    if !unheeded.is_empty() {
        conditions.say(object, Condition::unmet(HONOURED, "UnsupportedField", unheeded.join("; ")));
    }
}

/// That fields are not honoured, or that the object as it is now cannot be understood.
pub(super) fn say_of_reading(index: &Index, object: &FactKey, unheeded: &[Str], conditions: &mut Conditions) {
    say_of_fields(object, unheeded, conditions);
    let refused = index.refused(object);
    if !refused.is_empty() {
        let message = format!("{}; the last good version stays, if there is one", refused.join("; "));
        conditions.say(object, Condition::unmet("Accepted", "Invalid", message));
    }
}
