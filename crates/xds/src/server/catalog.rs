//! Every resource, encoded once, and one log of what changed when.
//!
//! The log holds each name once, at the place of its latest change: a session that is behind
//! reads from its own place on and finds the latest version of whatever it has not had, however
//! often it changed meanwhile. So a change costs one encoding and one log entry whatever the
//! number of sessions, a session costs one number, and a slow one costs nothing more.

use crate::{Kind, codec, limits, resource};
use bytes::Bytes;
use mesh::{Change, Str, policy::Action};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard},
    time::Instant,
};
use tokio::sync::watch;

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
    /// Place of the latest change.
    pub place: u64,
    /// Place of the latest change that must not wait to be merged with others: a removal, or a
    /// policy that denies.
    pub urgent: u64,
    /// The sources have been read once; before that nobody is told anything.
    pub synced: bool,
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
    pub fn apply(&mut self, changes: impl IntoIterator<Item = Change>, now: Instant) -> usize {
        let prepared: Vec<Prepared> = changes.into_iter().map(prepare).collect();
        let mut contents = self.contents.write().unwrap_or_else(PoisonError::into_inner);
        let before = contents.place;
        for prepared in prepared {
            contents.put(prepared, now);
        }
        contents.forget_old_tombstones();
        let (place, urgent) = (contents.place, contents.urgent);
        drop(contents);
        if place != before {
            self.head.send_modify(|head| (head.place, head.urgent) = (place, urgent));
        }
        usize::try_from(place - before).unwrap_or(usize::MAX)
    }

    /// Keeps at most this many removed names; [`limits::TOMBSTONES_MAX`] unless there is a reason.
    pub fn set_tombstones_max(&mut self, max: usize) {
        self.contents.write().unwrap_or_else(PoisonError::into_inner).tombstones_max = max;
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
    kinds: [Shelf; 2],
    place: u64,
    urgent: u64,
    /// Places up to here may lack removals: a session that is further behind must ask anew.
    horizon: u64,
    tombstones: usize,
    tombstones_max: usize,
    encodes: u64,
}

impl Default for Contents {
    fn default() -> Self {
        Self {
            kinds: Default::default(),
            place: 0,
            urgent: 0,
            horizon: 0,
            tombstones: 0,
            tombstones_max: limits::TOMBSTONES_MAX,
            encodes: 0,
        }
    }
}

/// The resources of one kind.
#[derive(Debug, Default)]
struct Shelf {
    entries: HashMap<Str, Arc<Entry>>,
    /// Place → what changed there. It holds the entries themselves, so that telling a session
    /// everything is one walk and not a search per name.
    log: BTreeMap<u64, Arc<Entry>>,
    live: usize,
}

/// A resource, or the memory that there was one.
#[derive(Debug)]
struct Entry {
    name: Str,
    /// `None`: it was removed.
    encoded: Option<codec::Encoded>,
    is_service: bool,
    /// Place of its latest change.
    place: u64,
    /// Place at which it first appeared; a session that stands before has never heard of it.
    born: u64,
    /// When its latest change came in.
    at: Instant,
}

/// What a session gets to see of a change.
#[derive(Clone, Copy, Debug)]
pub struct Item<'a> {
    /// Name of the resource.
    pub name: &'a Str,
    /// Its encoding; `None`: it was removed.
    pub bytes: Option<&'a Bytes>,
    /// Hash of its content; 0 when it was removed.
    pub hash: u64,
    /// It is a service (and not a workload).
    pub is_service: bool,
    /// When the change came in.
    pub at: Instant,
}

impl Contents {
    /// Place of the latest change.
    pub fn place(&self) -> u64 {
        self.place
    }

    /// Place of the latest change that must not wait.
    pub fn urgent(&self) -> u64 {
        self.urgent
    }

    /// A session that stands at `place` can still be brought up to date by [`Self::since`].
    pub fn reaches(&self, place: u64) -> bool {
        place >= self.horizon
    }

    /// How many resources of a kind there are.
    pub fn count(&self, kind: Kind) -> usize {
        self.kinds[kind.index()].live
    }

    /// How many encodings were made, ever.
    pub fn encodes(&self) -> u64 {
        self.encodes
    }

    /// A resource by name.
    pub fn find(&self, kind: Kind, name: &str) -> Option<Item<'_>> {
        let entry = self.kinds[kind.index()].entries.get(name)?;
        entry.encoded.is_some().then(|| entry.item())
    }

    /// Every resource of a kind, in the order of their latest changes.
    pub fn all(&self, kind: Kind) -> impl Iterator<Item = Item<'_>> {
        self.since(kind, 0)
    }

    /// What a session that stands at `place` has not had: costs what changed since, not what is there.
    pub fn since(&self, kind: Kind, place: u64) -> impl Iterator<Item = Item<'_>> {
        // What came and went since, this session never heard of.
        let heard_of = move |entry: &&Arc<Entry>| entry.encoded.is_some() || entry.born <= place;
        self.kinds[kind.index()]
            .log
            .range(place + 1..)
            .map(|(_, entry)| entry)
            .filter(heard_of)
            .map(|entry| entry.item())
    }

    fn put(&mut self, prepared: Prepared, now: Instant) {
        let Prepared { kind, name, encoded, is_service, denies } = prepared;
        self.encodes += u64::from(encoded.is_some());
        let shelf = &mut self.kinds[kind.index()];
        let (mut born, mut was_live) = (self.place + 1, false);
        if let Some(earlier) = shelf.entries.get(&name) {
            if earlier.encoded == encoded {
                return;
            }
            (born, was_live) = (earlier.born, earlier.encoded.is_some());
            shelf.log.remove(&earlier.place);
            self.tombstones -= usize::from(!was_live);
        } else if encoded.is_none() {
            return;
        }
        self.place += 1;
        if encoded.is_none() || denies {
            self.urgent = self.place;
        }
        self.tombstones += usize::from(encoded.is_none());
        shelf.live = shelf.live + usize::from(encoded.is_some()) - usize::from(was_live);
        let entry = Arc::new(Entry { name: name.clone(), encoded, is_service, place: self.place, born, at: now });
        shelf.log.insert(self.place, entry.clone());
        shelf.entries.insert(name, entry);
    }

    /// Half of the removals go at once, so that the search for the oldest is rare.
    fn forget_old_tombstones(&mut self) {
        if self.tombstones <= self.tombstones_max {
            return;
        }
        let mut places: Vec<u64> = Vec::with_capacity(self.tombstones);
        for shelf in &self.kinds {
            places.extend(shelf.entries.values().filter(|entry| entry.encoded.is_none()).map(|entry| entry.place));
        }
        places.sort_unstable();
        let horizon = places[places.len() / 2];
        for shelf in &mut self.kinds {
            let log = &mut shelf.log;
            shelf.entries.retain(|_, entry| {
                let keep = entry.encoded.is_some() || entry.place > horizon;
                if !keep {
                    log.remove(&entry.place);
                }
                keep
            });
        }
        self.tombstones = places.iter().filter(|place| **place > horizon).count();
        self.horizon = horizon;
    }
}

impl Entry {
    fn item(&self) -> Item<'_> {
        Item {
            name: &self.name,
            bytes: self.encoded.as_ref().map(|encoded| &encoded.bytes),
            hash: self.encoded.as_ref().map_or(0, |encoded| encoded.hash),
            is_service: self.is_service,
            at: self.at,
        }
    }
}

/// A change with the work done that needs no lock.
struct Prepared {
    kind: Kind,
    name: Str,
    encoded: Option<codec::Encoded>,
    is_service: bool,
    denies: bool,
}

fn prepare(change: Change) -> Prepared {
    let (kind, name) = resource::of_change(&change);
    Prepared {
        kind,
        name,
        encoded: codec::encode(&change),
        is_service: matches!(change, Change::Service(_)),
        denies: matches!(&change, Change::Policy(policy) if policy.action == Action::Deny),
    }
}

#[cfg(test)]
mod tests;
