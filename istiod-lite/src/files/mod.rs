//! Kubernetes objects as files describe them, turned into [`Fact`]s.
//!
//! Reading is pure and lenient: a field that we do not understand is reported and left out, and the
//! rest of the object counts. Where leaving something out could let more pass (policies), the
//! object counts as not understood: the last good version stays, and if there is none the closed
//! reading holds ([`Fact::Otherwise`]). Nothing is dropped without a [`Problem`] that names file,
//! line, resource, field and reason.

use crate::facts::Fact;
use chassis::objects::{Object, ObjectKey, Origin};

/// What reading one object gave.
#[derive(Clone, Debug)]
pub struct Reading {
    /// What to tell the index; `None`: nothing, what it knew of the object stays.
    pub fact: Option<Fact>,
    /// What could not be understood.
    pub problems: Vec<Problem>,
}

/// Something in an object that could not be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{origin}: {object}: {field}: {reason}")]
pub struct Problem {
    /// Where the object stands.
    pub origin: Origin,
    /// Which object.
    pub object: ObjectKey,
    /// Path of the field: `spec.rules[0].from[1].source.ipBlocks[0]`.
    pub field: String,
    /// What is wrong with it, and what was done instead.
    pub reason: String,
}

/// Reads one object. Kinds that mean nothing to the mesh give no fact and no problem.
pub fn read(object: &Object) -> Reading {
    let _ = object;
    todo!("files")
}

/// The fact that an object is gone; `None` for kinds that mean nothing to the mesh.
pub fn removed(key: &ObjectKey) -> Option<Fact> {
    let _ = key;
    todo!("files")
}
