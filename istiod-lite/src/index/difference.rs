//! What is published against what should be: only the difference comes out.

use mesh::Change;
use std::{collections::BTreeMap, sync::Arc};

/// Puts what should be published in its place; `Some` when it is different from what was.
pub(super) fn differs<K: Ord, V: PartialEq>(
    published: &mut BTreeMap<K, Arc<V>>,
    key: K,
    new: Option<V>,
) -> Option<Option<Arc<V>>> {
    match new {
        Some(new) if published.get(&key).is_some_and(|old| **old == new) => None,
        Some(new) => {
            let new = Arc::new(new);
            published.insert(key, new.clone());
            Some(Some(new))
        }
        None => published.remove(&key).map(|_| None),
    }
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
