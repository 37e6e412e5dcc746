//! What is published against what should be: only the difference comes out.

use mesh::Change;
use std::{collections::BTreeMap, sync::Arc};

/// `Some` when what should be published is different from what is.
pub(super) fn difference<V: PartialEq>(published: Option<&Arc<V>>, new: Option<V>) -> Option<Option<Arc<V>>> {
    match (published, new) {
        (Some(old), Some(new)) if **old == new => None,
        (None, None) => None,
        (_, new) => Some(new.map(Arc::new)),
    }
}

/// Puts what should be published in its place; `Some` when it is different from what was.
pub(super) fn differs<K: Ord, V: PartialEq>(
    published: &mut BTreeMap<K, Arc<V>>,
    key: K,
    new: Option<V>,
) -> Option<Option<Arc<V>>> {
    let difference = difference(published.get(&key), new)?;
    match &difference {
        Some(new) => drop(published.insert(key, new.clone())),
        None => drop(published.remove(&key)),
    }
    Some(difference)
}

/// Puts a difference where it belongs: what is new, or what is gone.
pub(super) fn sort<V>(
    differs: Option<Option<Arc<V>>>,
    add: impl FnOnce(Arc<V>) -> Change,
    remove: impl FnOnce() -> Change,
    added: &mut Vec<Change>,
    removed: &mut Vec<Change>,
) {
    match differs {
        Some(Some(new)) => added.push(add(new)),
        Some(None) => removed.push(remove()),
        None => {}
    }
}
