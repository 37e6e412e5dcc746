//! What became of an object, as Kubernetes tells it: a condition of its status.
//!
//! Plain data. Who understands an object sets its conditions in the index; whoever shows or writes
//! status reads them there.

use mesh::Str;

/// One condition of an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Condition {
    /// The part of the object, or the parent or target, that it is about; `None`: the object.
    pub parent: Option<Str>,
    /// Its type: `Accepted`, `istio.io/WaypointBound`.
    pub kind: Str,
    /// Whether it is so.
    pub status: bool,
    /// Why, in one word in CamelCase.
    pub reason: Str,
    /// Why, for a person, and what to do.
    pub message: String,
}

impl Condition {
    /// That something is so.
    pub fn met(kind: &str, reason: &str, message: impl Into<String>) -> Self {
        Self { parent: None, kind: kind.into(), status: true, reason: reason.into(), message: message.into() }
    }

    /// That something is not so.
    pub fn unmet(kind: &str, reason: &str, message: impl Into<String>) -> Self {
        Self { status: false, ..Self::met(kind, reason, message) }
    }

    /// The same about a part, parent or target.
    pub fn about(self, parent: impl Into<Str>) -> Self {
        Self { parent: Some(parent.into()), ..self }
    }
}
