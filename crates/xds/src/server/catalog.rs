//! Every resource, encoded once, and one log of what changed when.
//!
//! The log holds each name once, at the place of its latest change: a session that is behind
//! reads from its own place on and finds the latest version of whatever it has not had, however
//! often it changed meanwhile. So a change costs one encoding and one log entry whatever the
//! number of sessions, a session costs one number, and a slow one costs nothing more. Who may see
//! a resource is part of what the log tells of it ([`super::audience`]).

use super::{
    audience::{Publication, Scope},
    shelf::{Put, Shelf},
};
use crate::{Kind, codec, digests::Digest, limits, resource};
use mesh::{Change, policy::Action};
use std::{
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard},
    time::Instant,
};
use tokio::sync::watch;

pub use super::shelf::Item;

/// What sessions read. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Catalog {
    contents: Arc<RwLock<Contents>>,
    head: watch::Receiver<Head>,
}

/// The one who writes. When it is dropped every session ends.
#[derive(Debug)]
pub struct Publisher {
    contents: Arc<RwLock<Contents>>,
    head: watch::Sender<Head>,
}

/// Where the log ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    ends: [End; Kind::ALL.len()],
    /// The sources have been read once; before that nobody is told anything.
    pub synced: bool,
}

/// Where the log of one kind ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct End {
    /// Place of the latest change.
    pub place: u64,
    /// Place of the latest change that must not wait to be merged with others: a policy that denies, rules that guard,
    /// and the removal of either kind. Workloads go as often as they come, and are merged as those are: where each that
    /// goes is a round to every proxy, a rollout keeps all of them waiting.
    pub urgent: u64,
}

impl Head {
    /// Where the log of a kind ends.
    pub fn of(&self, kind: Kind) -> End {
        self.ends[kind.index()]
    }
}

/// A catalog with nothing in it, and its writer.
pub fn catalog() -> (Publisher, Catalog) {
    let contents = Arc::new(RwLock::new(Contents::default()));
    let (send, receive) = watch::channel(Head::default());
    (Publisher { contents: contents.clone(), head: send }, Catalog { contents, head: receive })
}

impl Publisher {
    /// Takes changes in: encodes each, once, and logs those whose content is new. Returns how
    /// many were logged.
    pub fn apply(&mut self, changes: impl IntoIterator<Item = impl Into<Publication>>, now: Instant) -> usize {
        let prepared: Vec<Prepared> = changes.into_iter().map(|change| prepare(change.into())).collect();
        let mut contents = self.contents.write().unwrap_or_else(PoisonError::into_inner);
        let before = contents.place;
        for prepared in prepared {
            contents.put(prepared, now);
        }
        contents.forget_old_tombstones();
        let (place, ends) = (contents.place, contents.ends);
        drop(contents);
        if place != before {
            self.head.send_modify(|head| head.ends = ends);
        }
        usize::try_from(place - before).unwrap_or(usize::MAX)
    }

    /// Keeps at most this many removed names; [`limits::TOMBSTONES_MAX`] unless there is a reason.
    pub fn set_tombstones_max(&mut self, max: usize) {
        self.contents.write().unwrap_or_else(PoisonError::into_inner).tombstones_max = max;
    }

    /// How many encodings were made, ever.
    pub fn encodes(&self) -> u64 {
        self.contents.read().unwrap_or_else(PoisonError::into_inner).encodes
    }

    /// From now on sessions are told what is there.
    pub fn set_synced(&mut self) {
        self.head.send_if_modified(|head| !std::mem::replace(&mut head.synced, true));
    }
}

impl Catalog {
    /// Where the log ends, and a way to wait until it ends elsewhere.
    pub fn head(&self) -> watch::Receiver<Head> {
        self.head.clone()
    }

    /// The sources have been read once.
    pub fn synced(&self) -> bool {
        self.head.borrow().synced
    }

    /// What is there now. The writer waits for as long as this is held.
    pub fn contents(&self) -> RwLockReadGuard<'_, Contents> {
        self.contents.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The resources and the log.
#[derive(Debug)]
pub struct Contents {
    shelves: [Shelf; Kind::ALL.len()],
    place: u64,
    ends: [End; Kind::ALL.len()],
    /// Places up to here may lack removals: a session that is further behind must ask anew.
    horizon: u64,
    tombstones_max: usize,
    encodes: u64,
}

impl Default for Contents {
    fn default() -> Self {
        Self {
            shelves: Default::default(),
            place: 0,
            ends: Default::default(),
            horizon: 0,
            tombstones_max: limits::TOMBSTONES_MAX,
            encodes: 0,
        }
    }
}

impl Contents {
    /// Place of the latest change.
    pub fn place(&self) -> u64 {
        self.place
    }

    /// A session that stands at `place` can still be brought up to date by [`Self::since`].
    pub fn reaches(&self, place: u64) -> bool {
        place >= self.horizon
    }

    /// How many resources of a kind there are, whoever sees them.
    pub fn count(&self, kind: Kind) -> usize {
        self.shelves[kind.index()].live()
    }

    /// How many encodings were made, ever.
    pub fn encodes(&self) -> u64 {
        self.encodes
    }

    /// A resource by name, as a session sees it.
    pub fn find(&self, kind: Kind, name: &str, scope: &Scope) -> Option<Item<'_>> {
        self.shelves[kind.index()].find(name, scope)
    }

    /// Every resource of a kind that a session sees, in the order of their latest changes.
    pub fn all<'a>(&'a self, kind: Kind, scope: &'a Scope) -> impl Iterator<Item = Item<'a>> {
        self.since(kind, 0, scope)
    }

    /// What a session that stands at `place` has not had: costs what changed since, not what is there.
    pub fn since<'a>(&'a self, kind: Kind, place: u64, scope: &'a Scope) -> impl Iterator<Item = Item<'a>> {
        self.shelves[kind.index()].since(place, scope)
    }

    /// The buckets in which somebody has something else, who has what this says ([`crate::digests`]).
    pub fn differing(&self, kind: Kind, claimed: &[Digest]) -> Vec<usize> {
        self.shelves[kind.index()].differing(claimed)
    }

    /// What is in a bucket, as a session sees it.
    pub fn bucket<'a>(&'a self, kind: Kind, number: usize, scope: &'a Scope) -> impl Iterator<Item = Item<'a>> {
        self.shelves[kind.index()].bucket(number, scope)
    }

    fn put(&mut self, prepared: Prepared, now: Instant) {
        let Prepared { kind, put, urgent } = prepared;
        self.encodes += u64::from(put.encoded.is_some());
        let before = self.place;
        let removes = self.shelves[kind.index()].put(put, &mut self.place, now);
        if self.place != before {
            let end = &mut self.ends[kind.index()];
            end.place = self.place;
            if urgent || (removes && kind != Kind::Address) {
                end.urgent = self.place;
            }
        }
    }

    /// Half of the removals go at once, so that the search for the oldest is rare.
    fn forget_old_tombstones(&mut self) {
        if self.shelves.iter().map(Shelf::tombstones).sum::<usize>() <= self.tombstones_max {
            return;
        }
        let mut places: Vec<u64> = self.shelves.iter().flat_map(Shelf::tombstone_places).collect();
        places.sort_unstable();
        let horizon = places[places.len() / 2];
        for shelf in &mut self.shelves {
            shelf.forget_tombstones(horizon);
        }
        self.horizon = horizon;
    }
}

/// A change with the work done that needs no lock.
struct Prepared {
    kind: Kind,
    put: Put,
    urgent: bool,
}

fn prepare(publication: Publication) -> Prepared {
    let Publication { change, audience } = publication;
    let (kind, name) = resource::of_change(&change);
    let is_service = matches!(change, Change::Service(_));
    Prepared {
        kind,
        put: Put { name, encoded: codec::encode(&change), is_service, audience },
        urgent: restricts(&change),
    }
}

/// Whether a change may forbid something: nobody should go on for want of a few milliseconds.
fn restricts(change: &Change) -> bool {
    let guards = match change {
        Change::Policy(policy) => return policy.action == Action::Deny,
        Change::ServiceRules(rules) => &rules.rules().guards,
        Change::GatewayRules(rules) => &rules.rules().guards,
        _ => return false,
    };
    !guards.authentications.is_empty() || !guards.policies.is_empty()
}

#[cfg(test)]
mod tests;
