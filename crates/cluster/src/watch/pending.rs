//! What waits to be asked for: the last thing that happened to each object. It holds at most one entry
//! for each object of the cluster, however long nobody asks.

use chassis::objects::{ObjectEvent, ObjectKey};
use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};
use tokio::sync::{Notify, futures::Notified};

#[derive(Debug)]
pub(super) struct Pending {
    waiting: Mutex<Waiting>,
    changed: Notify,
}

#[derive(Debug)]
struct Waiting {
    /// With the order in which they came.
    events: HashMap<ObjectKey, (u64, ObjectEvent)>,
    next: u64,
    unlisted: usize,
}

impl Pending {
    /// For so many kinds, none of which was listed yet.
    pub(super) fn new(kinds: usize) -> Self {
        let waiting = Waiting { events: HashMap::new(), next: 0, unlisted: kinds };
        Self { waiting: Mutex::new(waiting), changed: Notify::new() }
    }

    /// These happened, in this order.
    pub(super) fn add(&self, events: impl IntoIterator<Item = ObjectEvent>) {
        let mut waiting = self.lock();
        let before = waiting.next;
        for event in events {
            let key = match &event {
                ObjectEvent::Applied(object) => object.key(),
                ObjectEvent::Removed(key) => key.clone(),
                ObjectEvent::Problem(_) => continue,
            };
            let order = waiting.next;
            waiting.next += 1;
            waiting.events.insert(key, (order, event));
        }
        if waiting.next != before {
            self.changed.notify_one();
        }
    }

    /// One more kind was listed, for the first time.
    pub(super) fn listed(&self) {
        let mut waiting = self.lock();
        waiting.unlisted = waiting.unlisted.saturating_sub(1);
        if waiting.unlisted == 0 {
            self.changed.notify_one();
        }
    }

    /// What happened, in order, if every kind was listed; nothing only if `first`.
    pub(super) fn take(&self, first: bool) -> Option<Vec<ObjectEvent>> {
        let mut waiting = self.lock();
        if waiting.unlisted > 0 || (waiting.events.is_empty() && !first) {
            return None;
        }
        let mut events: Vec<_> = std::mem::take(&mut waiting.events).into_values().collect();
        drop(waiting);
        events.sort_unstable_by_key(|(order, _)| *order);
        Some(events.into_iter().map(|(_, event)| event).collect())
    }

    /// Waits for something to happen, from now on or since the last wait.
    pub(super) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn removed(name: &str) -> ObjectEvent {
        let text = str::to_owned;
        ObjectEvent::Removed(ObjectKey {
            group: text(""),
            kind: text("Pod"),
            namespace: text("shop"),
            name: text(name),
        })
    }

    #[test]
    fn the_last_event_of_each_object_is_told_in_order_when_all_are_listed() {
        let pending = Pending::new(2);
        assert_eq!(pending.take(true), None);
        pending.listed();
        pending.add([removed("a"), removed("b"), removed("a")]);
        assert_eq!(pending.take(true), None);
        pending.listed();
        assert_eq!(pending.take(true), Some(vec![removed("b"), removed("a")]));
        assert_eq!(pending.take(false), None);
        pending.add([]);
        assert_eq!(pending.take(false), None);
        assert_eq!(pending.take(true), Some(vec![]));
    }
}
