//! Which pods the agent named, and what each of its messages means. Pure.
//!
//! Between a connection to the agent and its end of snapshot, pods are only named and added; the
//! end of the snapshot takes away those that were not named. After it every add and delete counts
//! by itself.

use std::collections::{BTreeMap, BTreeSet};

use mesh::Str;

/// What is known of the agent's pods. `Place` tells namespaces apart.
#[derive(Debug)]
pub struct State<Place> {
    pods: BTreeMap<Str, Place>,
    /// What this connection's snapshot named so far; none once it is complete.
    named: Option<BTreeSet<Str>>,
}

/// What an add means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// A pod we did not have.
    New,
    /// A pod we have, in the namespace we know: nothing is to be done.
    Known,
    /// A pod we have, in another namespace: what runs for it is of no use any more.
    Moved,
}

/// What a delete means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deleted {
    /// It goes now.
    Now,
    /// It goes at the end of the snapshot, if it is not named again.
    AtTheEnd,
    /// We do not have it.
    Unknown,
}

/// The agent does not keep to the protocol. The process ends, because nothing it believes of its
/// pods can be trusted any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// A keep has its place in the snapshot only.
    #[error("the node agent asked to keep pod {0} after its snapshot")]
    KeepAfterSnapshot(Str),
    /// There is one snapshot a connection.
    #[error("the node agent sent a second end of snapshot")]
    SecondSnapshot,
}

impl<Place> Default for State<Place> {
    fn default() -> Self {
        Self { pods: BTreeMap::new(), named: Some(BTreeSet::new()) }
    }
}

impl<Place: PartialEq> State<Place> {
    /// A new connection to the agent: what runs goes on, and a new snapshot will tell.
    pub fn connected(&mut self) {
        self.named = Some(BTreeSet::new());
    }

    /// Whether the snapshot of this connection is complete.
    pub fn is_complete(&self) -> bool {
        self.named.is_none()
    }

    /// The agent adds a pod.
    pub fn add(&mut self, uid: &Str, place: Place) -> Added {
        if let Some(named) = &mut self.named {
            named.insert(uid.clone());
        }
        match self.pods.get(uid) {
            Some(known) if *known == place => return Added::Known,
            Some(_) => {}
            None => {
                self.pods.insert(uid.clone(), place);
                return Added::New;
            }
        }
        self.pods.insert(uid.clone(), place);
        Added::Moved
    }

    /// The agent says that a pod goes on.
    pub fn keep(&mut self, uid: &Str) -> Result<(), Broken> {
        let named = self.named.as_mut().ok_or_else(|| Broken::KeepAfterSnapshot(uid.clone()))?;
        named.insert(uid.clone());
        Ok(())
    }

    /// The agent takes a pod away.
    pub fn delete(&mut self, uid: &str) -> Deleted {
        let Some(named) = &mut self.named else {
            return if self.pods.remove(uid).is_some() { Deleted::Now } else { Deleted::Unknown };
        };
        named.remove(uid);
        if self.pods.contains_key(uid) { Deleted::AtTheEnd } else { Deleted::Unknown }
    }

    /// The snapshot is complete: the pods that it did not name, which are gone from here.
    pub fn snapshot_ends(&mut self) -> Result<Vec<Str>, Broken> {
        let named = self.named.take().ok_or(Broken::SecondSnapshot)?;
        let gone: Vec<Str> = self.pods.keys().filter(|uid| !named.contains(*uid)).cloned().collect();
        self.pods.retain(|uid, _| named.contains(uid));
        Ok(gone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uid(text: &str) -> Str {
        text.into()
    }

    fn after_snapshot(pods: &[(&str, u32)]) -> State<u32> {
        let mut state = State::default();
        for (name, place) in pods {
            assert_eq!(state.add(&uid(name), *place), Added::New);
        }
        assert_eq!(state.snapshot_ends(), Ok(vec![]));
        state
    }

    #[test]
    fn an_add_is_idempotent_in_uid_and_namespace() {
        let mut state = after_snapshot(&[("a", 1)]);
        assert_eq!(state.add(&uid("a"), 1), Added::Known);
        assert_eq!(state.add(&uid("a"), 2), Added::Moved);
        assert_eq!(state.add(&uid("a"), 2), Added::Known);
        assert_eq!(state.add(&uid("b"), 2), Added::New);
    }

    #[test]
    fn the_end_of_a_snapshot_takes_away_what_was_not_named() {
        let mut state = after_snapshot(&[("added", 1), ("kept", 2), ("gone", 3)]);
        state.connected();
        assert!(!state.is_complete());
        assert_eq!(state.add(&uid("added"), 1), Added::Known);
        assert_eq!(state.keep(&uid("kept")), Ok(()));
        assert_eq!(state.snapshot_ends(), Ok(vec![uid("gone")]));
        assert!(state.is_complete());
        assert_eq!(state.delete("gone"), Deleted::Unknown);
        assert_eq!(state.delete("kept"), Deleted::Now);
    }

    #[test]
    fn a_delete_within_the_snapshot_takes_back_the_naming() {
        let mut state = after_snapshot(&[("a", 1), ("b", 2)]);
        state.connected();
        assert_eq!(state.keep(&uid("a")), Ok(()));
        assert_eq!(state.keep(&uid("b")), Ok(()));
        assert_eq!(state.delete("a"), Deleted::AtTheEnd);
        assert_eq!(state.delete("never"), Deleted::Unknown);
        assert_eq!(state.snapshot_ends(), Ok(vec![uid("a")]));
    }

    #[test]
    fn what_has_its_place_in_a_snapshot_is_wrong_after_it() {
        let mut state = after_snapshot(&[("a", 1)]);
        assert_eq!(state.keep(&uid("a")), Err(Broken::KeepAfterSnapshot(uid("a"))));
        assert_eq!(state.snapshot_ends(), Err(Broken::SecondSnapshot));
        state.connected();
        assert_eq!(state.snapshot_ends(), Ok(vec![uid("a")]));
    }
}
