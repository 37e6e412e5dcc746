//! What is published against what should be: only the difference comes out.

use litemap::LiteMap;
use mesh::Change;
use std::{collections::BTreeMap, sync::Arc};

/// What is published, by name: many, or a few.
pub(super) trait Published<K, V> {
    fn get(&self, key: &K) -> Option<&Arc<V>>;
    fn insert(&mut self, key: K, value: Arc<V>);
    fn remove(&mut self, key: &K) -> Option<Arc<V>>;
}

impl<K: Ord, V> Published<K, V> for BTreeMap<K, Arc<V>> {
    fn get(&self, key: &K) -> Option<&Arc<V>> {
        self.get(key)
    }

    fn insert(&mut self, key: K, value: Arc<V>) {
        self.insert(key, value);
    }

    fn remove(&mut self, key: &K) -> Option<Arc<V>> {
        self.remove(key)
    }
}

impl<K: Ord, V> Published<K, V> for LiteMap<K, Arc<V>> {
    fn get(&self, key: &K) -> Option<&Arc<V>> {
        self.get(key)
    }

    fn insert(&mut self, key: K, value: Arc<V>) {
        self.insert(key, value);
    }

    fn remove(&mut self, key: &K) -> Option<Arc<V>> {
        self.remove(key)
    }
}

/// Puts what should be published in its place; `Some` when it is different from what was.
pub(super) fn differs<K: Ord, V: PartialEq>(
    published: &mut impl Published<K, V>,
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
