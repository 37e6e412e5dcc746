//! Who has which labels, and who asks for them: both directions of a selector in time of the answer.

use crate::facts::Labels;
use mesh::Str;
use std::collections::{BTreeMap, BTreeSet};

/// A label of something in a namespace.
type Place = (Str, Str, Str);

fn place(namespace: &Str, (key, value): (&Str, &Str)) -> Place {
    (namespace.clone(), key.clone(), value.clone())
}

/// Everything that has labels.
#[derive(Debug)]
pub(super) struct Labelled<T> {
    by_label: BTreeMap<Place, BTreeSet<T>>,
    by_namespace: BTreeMap<Str, BTreeMap<T, Labels>>,
}

impl<T> Default for Labelled<T> {
    fn default() -> Self {
        Self { by_label: BTreeMap::new(), by_namespace: BTreeMap::new() }
    }
}

impl<T: Ord + Clone> Labelled<T> {
    pub(super) fn put(&mut self, namespace: &Str, who: T, labels: Labels) {
        self.remove(namespace, &who);
        for label in &labels {
            self.by_label.entry(place(namespace, label)).or_default().insert(who.clone());
        }
        self.by_namespace.entry(namespace.clone()).or_default().insert(who, labels);
    }

    pub(super) fn remove(&mut self, namespace: &Str, who: &T) {
        let Some(own) = self.by_namespace.get_mut(namespace) else { return };
        for label in own.remove(who).iter().flatten() {
            let place = place(namespace, label);
            if let Some(all) = self.by_label.get_mut(&place) {
                all.remove(who);
                if all.is_empty() {
                    self.by_label.remove(&place);
                }
            }
        }
        if own.is_empty() {
            self.by_namespace.remove(namespace);
        }
    }

    /// Those of a namespace that a selector selects. An empty one selects nobody here.
    pub(super) fn selected(&self, namespace: &Str, selector: &Labels) -> Vec<T> {
        // The rarest label has the fewest candidates.
        let candidates = selector.iter().map(|label| self.by_label.get(&place(namespace, label)));
        let rarest = candidates.min_by_key(|found| found.map_or(0, BTreeSet::len)).flatten();
        let Some(own) = self.by_namespace.get(namespace) else { return Vec::new() };
        let selected = |who: &&T| own.get(*who).is_some_and(|labels| selects(selector, labels));
        rarest.into_iter().flatten().filter(selected).cloned().collect()
    }

    pub(super) fn all(&self, namespace: &Str) -> impl Iterator<Item = &T> {
        self.by_namespace.get(namespace).into_iter().flat_map(BTreeMap::keys)
    }

    pub(super) fn namespaces(&self) -> impl Iterator<Item = &Str> {
        self.by_namespace.keys()
    }
}

/// Everything that has a selector. Empty selectors are not kept: they select nobody.
#[derive(Debug)]
pub(super) struct Selectors<T> {
    /// By the selector's first label, which what it selects must have too.
    by_label: BTreeMap<Place, BTreeMap<T, Labels>>,
}

impl<T> Default for Selectors<T> {
    fn default() -> Self {
        Self { by_label: BTreeMap::new() }
    }
}

impl<T: Ord + Clone> Selectors<T> {
    pub(super) fn put(&mut self, namespace: &Str, who: T, selector: Labels) {
        if let Some(first) = selector.iter().next() {
            self.by_label.entry(place(namespace, first)).or_default().insert(who, selector);
        }
    }

    pub(super) fn remove(&mut self, namespace: &Str, who: &T, selector: &Labels) {
        let Some(first) = selector.iter().next() else { return };
        let place = place(namespace, first);
        if let Some(all) = self.by_label.get_mut(&place) {
            all.remove(who);
            if all.is_empty() {
                self.by_label.remove(&place);
            }
        }
    }

    /// Those of a namespace that select something with these labels.
    pub(super) fn selecting(&self, namespace: &Str, labels: &Labels) -> BTreeSet<T> {
        let candidates = labels.iter().filter_map(|label| self.by_label.get(&place(namespace, label)));
        let found = candidates.flatten().filter(|(_, selector)| selects(selector, labels));
        found.map(|(who, _)| who.clone()).collect()
    }
}

fn selects(selector: &Labels, labels: &Labels) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}
