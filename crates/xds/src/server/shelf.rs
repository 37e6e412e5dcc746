//! The resources of one kind and the log of what changed when. Plain data under the catalog's lock.
//!
//! The log holds each resource once, at the place of its latest change, and once each who lost
//! sight of one while it lives. Places are given by the catalog, one for all kinds.

use super::{
    audience::{Audience, Scope, Viewer, Viewers},
    buckets::Buckets,
};
use crate::{codec, digests::Digest};
use bytes::Bytes;
use mesh::Str;
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Instant,
};

/// The resources of one kind.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    pub(super) entries: HashMap<Str, Arc<Entry>>,
    /// Who lost sight of what, and the place at which that stands in the log.
    losses: HashMap<(Str, Viewer), u64>,
    /// Place → what changed there. It holds the entries themselves, so that telling a session
    /// everything is one walk and not a search per name.
    pub(super) log: BTreeMap<u64, Logged>,
    buckets: Buckets,
    live: usize,
    /// Entries that were removed.
    dead: usize,
}

/// What stands at a place of the log.
#[derive(Debug)]
pub(super) enum Logged {
    Entry(Arc<Entry>),
    Loss(Loss),
}

/// A resource, or the memory that there was one.
#[derive(Debug)]
pub(super) struct Entry {
    name: Str,
    /// `None`: it was removed.
    encoded: Option<codec::Encoded>,
    is_service: bool,
    /// Place of its latest change, of content or audience.
    place: u64,
    /// Place of the latest change of its content.
    changed: u64,
    /// A session that stands before the place since when it sees it has never heard of it.
    viewers: Viewers,
    /// When its latest change came in.
    at: Instant,
}

/// The memory that somebody saw a resource, and sees it no more although it lives.
#[derive(Debug)]
pub(super) struct Loss {
    name: Str,
    viewer: Viewer,
    since: u64,
    at: Instant,
}

/// What a session gets to see of a change.
#[derive(Clone, Copy, Debug)]
pub struct Item<'a> {
    /// Name of the resource.
    pub name: &'a Str,
    /// Its encoding; `None`: it was removed, or is not for this session any more.
    pub bytes: Option<&'a Bytes>,
    /// Hash of its content; 0 when it was removed.
    pub hash: u64,
    /// It is a service (and not a workload).
    pub is_service: bool,
    /// When the change came in.
    pub at: Instant,
}

/// What is to be put on a shelf.
#[derive(Debug)]
pub(super) struct Put {
    pub(super) name: Str,
    /// `None`: it is removed.
    pub(super) encoded: Option<codec::Encoded>,
    pub(super) is_service: bool,
    pub(super) audience: Audience,
}

impl Shelf {
    /// How many resources there are.
    pub(super) fn live(&self) -> usize {
        self.live
    }

    /// How many removals it remembers.
    pub(super) fn tombstones(&self) -> usize {
        self.dead + self.losses.len()
    }

    /// Takes a resource in. `places` is moved on by each place that is used; whether anybody is
    /// told of a removal by it comes back.
    pub(super) fn put(&mut self, put: Put, places: &mut u64, now: Instant) -> bool {
        let Put { name, encoded, is_service, audience } = put;
        let earlier = self.entries.get(&name).cloned();
        let place = *places + 1;
        let viewers = match (&earlier, &encoded) {
            (None, None) => return false,
            (Some(earlier), None) => earlier.viewers.clone(),
            (earlier, Some(_)) => Viewers::of(&audience, earlier.as_ref().map(|earlier| &earlier.viewers), place),
        };
        let mut changed = place;
        let mut lost = Vec::new();
        if let Some(earlier) = &earlier {
            let same = earlier.encoded == encoded;
            if same && earlier.viewers == viewers {
                return false;
            }
            changed = if same && !earlier.viewers.opens(&viewers) { earlier.changed } else { place };
            lost = earlier.viewers.without(&viewers);
            self.log.remove(&earlier.place);
            *self.counter(earlier) -= 1;
        }
        *places = place;
        let removes = encoded.is_none() || !lost.is_empty();
        let entry = Arc::new(Entry { name: name.clone(), encoded, is_service, place, changed, viewers, at: now });
        *self.counter(&entry) += 1;
        self.log.insert(place, Logged::Entry(entry.clone()));
        self.buckets.put(&entry);
        self.entries.insert(name.clone(), entry);
        for (viewer, since) in lost {
            *places += 1;
            self.lose(name.clone(), viewer, since, *places, now);
        }
        removes
    }

    fn counter(&mut self, entry: &Entry) -> &mut usize {
        if entry.encoded.is_some() { &mut self.live } else { &mut self.dead }
    }

    fn lose(&mut self, name: Str, viewer: Viewer, mut since: u64, place: u64, at: Instant) {
        if let Some(earlier) = self.losses.insert((name.clone(), viewer.clone()), place)
            && let Some(Logged::Loss(earlier)) = self.log.remove(&earlier)
        {
            // A session that has not heard of the earlier loss must hear of this one.
            since = since.min(earlier.since);
        }
        self.log.insert(place, Logged::Loss(Loss { name, viewer, since, at }));
    }

    /// A resource by name, as a session sees it.
    pub(super) fn find(&self, name: &str, scope: &Scope) -> Option<Item<'_>> {
        let entry = self.entries.get(name)?;
        entry.is_seen(scope).then(|| entry.item())
    }

    /// The buckets in which somebody has something else, who has what this says.
    pub(super) fn differing(&self, claimed: &[Digest]) -> Vec<usize> {
        self.buckets.differing(claimed)
    }

    /// What is in a bucket, as a session sees it.
    pub(super) fn bucket<'a>(&'a self, number: usize, scope: &'a Scope) -> impl Iterator<Item = Item<'a>> {
        self.buckets.entries(number).iter().filter(|entry| entry.is_seen(scope)).map(|entry| entry.item())
    }

    /// What a session that stands at `place` has not had: costs what changed since, not what is there.
    pub(super) fn since<'a>(&'a self, place: u64, scope: &'a Scope) -> impl Iterator<Item = Item<'a>> {
        let news = self.log.range(place.saturating_add(1)..);
        news.filter_map(move |(_, logged)| match logged {
            Logged::Entry(entry) => entry.is_news(place, scope).then(|| entry.item()),
            Logged::Loss(loss) => {
                let knew = loss.viewer.is(scope) && loss.since <= place;
                // Who has it again, or hears of its end, is told by the entry.
                let entry = self.entries.get(&loss.name);
                let told = entry.is_some_and(|entry| entry.is_seen(scope) || entry.is_news(place, scope));
                (knew && !told).then(|| loss.item())
            }
        })
    }

    /// The places of the removals that it remembers.
    pub(super) fn tombstone_places(&self) -> impl Iterator<Item = u64> {
        let dead = self.entries.values().filter(|entry| entry.encoded.is_none()).map(|entry| entry.place);
        dead.chain(self.losses.values().copied())
    }

    /// Forgets the removals up to a place.
    pub(super) fn forget_tombstones(&mut self, horizon: u64) {
        let log = &mut self.log;
        self.entries.retain(|_, entry| {
            let keep = entry.encoded.is_some() || entry.place > horizon;
            if !keep {
                self.dead -= 1;
                log.remove(&entry.place);
            }
            keep
        });
        self.losses.retain(|_, place| {
            let keep = *place > horizon;
            if !keep {
                log.remove(place);
            }
            keep
        });
    }
}

impl Entry {
    pub(super) fn name(&self) -> &Str {
        &self.name
    }

    /// Hash of its content; 0 when it was removed.
    pub(super) fn hash(&self) -> u64 {
        self.encoded.as_ref().map_or(0, |encoded| encoded.hash)
    }

    /// It was not removed.
    pub(super) fn is_there(&self) -> bool {
        self.encoded.is_some()
    }

    pub(super) fn is_for_everyone(&self) -> bool {
        matches!(self.viewers, Viewers::Everyone(_))
    }

    fn is_seen(&self, scope: &Scope) -> bool {
        self.encoded.is_some() && self.viewers.since(scope).is_some()
    }

    fn is_news(&self, place: u64, scope: &Scope) -> bool {
        let Some(since) = self.viewers.since(scope) else { return false };
        match self.encoded {
            // A change of the audience is no news for who has it already.
            Some(_) => self.changed > place || since > place,
            // What came and went since, this session never heard of.
            None => since <= place,
        }
    }

    fn item(&self) -> Item<'_> {
        Item {
            name: &self.name,
            bytes: self.encoded.as_ref().map(|encoded| &encoded.bytes),
            hash: self.hash(),
            is_service: self.is_service,
            at: self.at,
        }
    }
}

impl Loss {
    fn item(&self) -> Item<'_> {
        Item { name: &self.name, bytes: None, hash: 0, is_service: false, at: self.at }
    }
}
