//! The connections of one key, and who waits for them: decided here, under the pool's lock,
//! without waiting for anything.

use super::{Dial, DialFailure, Lease, Place, PoolKey, Shared, Turn};
use crate::{limits, open::Link};
use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{sync::oneshot, time::Instant};

/// Connections of one pool in the order they were made. Never used twice: a tunnel may outlive its
/// connection's stay in the pool, and even its key's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LinkId(u64);

/// Gives the next one.
#[derive(Default)]
pub(super) struct LinkIds(AtomicU64);

impl LinkIds {
    fn next(&self) -> LinkId {
        LinkId(self.0.fetch_add(1, Ordering::Relaxed))
    }
}

pub(super) struct Entry<D: Dial> {
    slots: Vec<Slot<D>>,
    /// Turns that are out.
    dials: usize,
    waiters: VecDeque<oneshot::Sender<Grant<D>>>,
}

/// One connection.
struct Slot<D: Dial> {
    id: LinkId,
    link: Link,
    peer: D::Peer,
    active: usize,
    idle_since: Instant,
}

/// What the caller of a change brings along.
pub(super) struct Context<'a, D: Dial> {
    pub(super) shared: &'a Arc<Shared<D>>,
    pub(super) key: &'a Arc<PoolKey>,
    pub(super) now: Instant,
}

/// What somebody gets who asks for a place.
pub(super) enum Ask<D: Dial> {
    Use(Place<D>),
    Dial(Turn<D>),
    Wait(oneshot::Receiver<Grant<D>>),
    Full,
}

/// What somebody gets who waited for one.
pub(super) enum Grant<D: Dial> {
    Place(Place<D>),
    Dial(Turn<D>),
    Failed(DialFailure<D::Error>),
}

/// Grants on their way. To be sent without the lock.
#[must_use = "somebody waits for these"]
pub(super) struct Deliveries<D: Dial>(Vec<(oneshot::Sender<Grant<D>>, Grant<D>)>);

impl<D: Dial> Deliveries<D> {
    pub(super) fn send(self) {
        for (waiter, grant) in self.0 {
            // One who is gone drops what it was given, which gives it to the next.
            let _ = waiter.send(grant);
        }
    }
}

impl<D: Dial> Default for Entry<D> {
    fn default() -> Self {
        Self { slots: Vec::new(), dials: 0, waiters: VecDeque::new() }
    }
}

impl<D: Dial> Entry<D> {
    /// A place for one more tunnel, in a connection made after `newer_than`.
    pub(super) fn ask(&mut self, newer_than: Option<LinkId>, context: &Context<'_, D>) -> Ask<D> {
        self.slots.retain(|slot| slot.link.usable());
        if let Some(place) = self.free_place(newer_than, context) {
            return Ask::Use(place);
        }
        if self.waiters.len() >= limits::POOL_WAITERS_PER_KEY {
            self.waiters.retain(|waiter| !waiter.is_closed());
        }
        if self.wants_dial(1, context) {
            self.dials += 1;
            return Ask::Dial(context.turn());
        }
        if self.waiters.len() >= limits::POOL_WAITERS_PER_KEY {
            return Ask::Full;
        }
        let (waiter, granted) = oneshot::channel();
        self.waiters.push_back(waiter);
        Ask::Wait(granted)
    }

    /// Takes a new connection in, and its first place.
    pub(super) fn add(&mut self, link: Link, peer: D::Peer, context: &Context<'_, D>) -> Place<D> {
        let id = context.shared.ids.next();
        let place = Place { link: link.clone(), peer: peer.clone(), lease: context.lease(id) };
        self.slots.push(Slot { id, link, peer, active: 1, idle_since: context.now });
        place
    }

    /// A dial failed: so have all whom its connection would have carried.
    pub(super) fn fail(&mut self, share: usize, failure: &DialFailure<D::Error>) {
        let share = share.min(self.waiters.len());
        for waiter in self.waiters.drain(..share) {
            let _ = waiter.send(Grant::Failed(failure.clone()));
        }
    }

    /// A turn is over, whatever came of it.
    pub(super) fn turn_ended(&mut self) {
        self.dials -= 1;
    }

    /// A tunnel ended.
    pub(super) fn give_back(&mut self, id: LinkId, now: Instant) {
        if let Some(slot) = self.slots.iter_mut().find(|slot| slot.id == id) {
            slot.active -= 1;
            slot.idle_since = now;
        }
    }

    /// Takes a connection out; its open tunnels go on.
    pub(super) fn remove(&mut self, id: LinkId) {
        self.slots.retain(|slot| slot.id != id);
    }

    /// Takes a connection out if nobody used it for `idle`, or for less where others of this key have
    /// room enough; else says how long to wait before looking again.
    pub(super) fn expire(&mut self, id: LinkId, now: Instant, idle: Duration) -> Option<Duration> {
        let slot = self.slots.iter().find(|slot| slot.id == id)?;
        let unused = if slot.active > 0 { Duration::ZERO } else { now.saturating_duration_since(slot.idle_since) };
        let half_empty = |slot: &Slot<D>| slot.active * 2 <= slot.link.streams();
        let spare = self.slots.iter().any(|other| other.id != id && half_empty(other));
        let spare_idle = idle.min(limits::POOL_SPARE_IDLE);
        if unused >= if spare { spare_idle } else { idle } {
            self.remove(id);
            return None;
        }
        // It becomes spare when another one runs empty, of which it is not told.
        Some(match unused < spare_idle {
            true => spare_idle - unused,
            false => spare_idle.min(idle - unused),
        })
    }

    pub(super) fn links(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty() && self.dials == 0 && self.waiters.is_empty()
    }

    /// Gives what there is to those who wait longest.
    pub(super) fn settle(&mut self, context: &Context<'_, D>) -> Deliveries<D> {
        let mut deliveries = Vec::new();
        while let Some(waiter) = self.waiters.pop_front() {
            if waiter.is_closed() {
                continue;
            }
            if let Some(place) = self.free_place(None, context) {
                deliveries.push((waiter, Grant::Place(place)));
            } else if self.wants_dial(1, context) {
                self.dials += 1;
                deliveries.push((waiter, Grant::Dial(context.turn())));
            } else {
                self.waiters.push_front(waiter);
                break;
            }
        }
        Deliveries(deliveries)
    }

    /// A place in the newest connection that has one: the older ones run dry and close.
    fn free_place(&mut self, newer_than: Option<LinkId>, context: &Context<'_, D>) -> Option<Place<D>> {
        let fits = |slot: &&mut Slot<D>| newer_than.is_none_or(|id| slot.id > id) && slot.active < slot.link.streams();
        let slot = self.slots.iter_mut().rev().find(fits)?;
        slot.active += 1;
        Some(Place { link: slot.link.clone(), peer: slot.peer.clone(), lease: context.lease(slot.id) })
    }

    /// Whether the dials that are out would not carry all who wait, and `more`.
    fn wants_dial(&self, more: usize, context: &Context<'_, D>) -> bool {
        let limits = &context.shared.limits;
        let carried = self.dials * limits.pool_streams;
        self.slots.len() + self.dials < limits.pool_connections_per_key
            && self.waiters.len() + self.dials + more > carried
    }
}

impl<D: Dial> Context<'_, D> {
    fn lease(&self, id: LinkId) -> Lease<D> {
        Lease { shared: Arc::downgrade(self.shared), key: self.key.clone(), id }
    }

    fn turn(&self) -> Turn<D> {
        Turn { shared: Arc::downgrade(self.shared), key: self.key.clone() }
    }
}
