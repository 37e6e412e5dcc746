//! Which certificate to ask for next, and when. Pure: time and dice come in as arguments.
//!
//! A certificate is renewed at half of its life. Half is measured twice, by the date and by the
//! monotonic clock, and whichever comes first counts: the date alone would sleep through a
//! clock that was set back, the monotonic clock alone through a suspend. In the same way a
//! certificate is over as soon as either clock says so.
//!
//! A failure keeps what still holds and waits 1 s, then twice as long each time, up to 150 s; while
//! connections wait for an identity that has nothing usable, the wait is short.

use crate::{
    clock::Now,
    limits::{BACKOFF_JITTER, BACKOFF_MAX, BACKOFF_MIN, DEMANDED_RETRY, FETCHES_MAX, IDENTITIES_MAX, TICK},
};
use foldhash::fast::RandomState;
use mesh::Identity;
use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};
use tokio::time::Instant;

/// How urgent a request is; a later variant goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// A renewal: what we have still holds.
    Background,
    /// A pod came; nobody waits yet.
    Warmup,
    /// A connection waits.
    RealTime,
}

/// One request to the authority, from `next` until `issued` or `failed`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// For whom.
    pub identity: Identity,
    /// Tells this request from an earlier one for an identity that was forgotten meanwhile.
    pub number: u64,
}

/// What to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Ask the authority.
    Ask(Ticket),
    /// Nothing is due before this has passed; then look again.
    Wait(Duration),
    /// Nothing will be due until something else happens.
    Idle,
}

/// There are too many identities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// Dates of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// Valid from here.
    pub not_before: SystemTime,
    /// Valid until here.
    pub not_after: SystemTime,
}

/// Every identity that is served, and what is to be done for it.
#[derive(Debug, Default)]
pub struct Schedule {
    entries: HashMap<Identity, Entry, RandomState>,
    /// Requests under way, also those for identities that were forgotten meanwhile.
    in_flight: usize,
    tickets: u64,
}

#[derive(Debug)]
struct Entry {
    priority: Priority,
    asked: Option<u64>,
    held: Option<Held>,
    failures: u32,
    /// When the last request ended, and how long to wait after it.
    ended: Instant,
    pause: Duration,
}

/// A certificate in use: when to renew it and when it is over, by both clocks.
#[derive(Clone, Copy, Debug)]
struct Held {
    renew: Now,
    over: Now,
}

impl Schedule {
    /// Somebody needs a certificate of `identity`.
    pub fn want(&mut self, identity: &Identity, priority: Priority, now: Now) -> Result<(), Full> {
        if let Some(entry) = self.entries.get_mut(identity) {
            entry.priority = entry.priority.max(priority);
            return Ok(());
        }
        if self.entries.len() >= IDENTITIES_MAX {
            return Err(Full);
        }
        let fresh =
            Entry { priority, asked: None, held: None, failures: 0, ended: now.monotonic, pause: Duration::ZERO };
        self.entries.insert(identity.clone(), fresh);
        Ok(())
    }

    /// Nobody needs it any more.
    pub fn forget(&mut self, identity: &Identity) {
        self.entries.remove(identity);
    }

    /// Whether a certificate is held that is not over.
    pub fn usable(&self, identity: &Identity, now: Now) -> bool {
        self.entries.get(identity).is_some_and(|entry| entry.usable(now))
    }

    /// What to do now. Whoever gets a ticket must give it back.
    pub fn next(&mut self, now: Now) -> Next {
        if self.in_flight >= FETCHES_MAX {
            return Next::Idle;
        }
        let waiting = self.entries.iter().filter(|(_, entry)| entry.asked.is_none());
        let due = waiting.map(|(identity, entry)| (entry.wait(now), entry.urgency(now), identity));
        let first = due.min_by(|a, b| {
            // Among those that are due, the most urgent; else the one that is due first.
            let (a_due, b_due) = (a.0.is_zero(), b.0.is_zero());
            b_due.cmp(&a_due).then(if a_due && b_due { b.1.cmp(&a.1) } else { a.0.cmp(&b.0) }).then(a.2.cmp(b.2))
        });
        let Some((wait, _, identity)) = first else { return Next::Idle };
        if !wait.is_zero() {
            return Next::Wait(wait.min(TICK));
        }
        let identity = identity.clone();
        self.tickets += 1;
        self.in_flight += 1;
        if let Some(entry) = self.entries.get_mut(&identity) {
            entry.asked = Some(self.tickets);
        }
        Next::Ask(Ticket { identity, number: self.tickets })
    }

    /// The authority gave a certificate. Whether it is to be used: not if it is over already, nor if
    /// nobody needs it any more. `dice` is from 0 up to 1.
    pub fn issued(&mut self, ticket: &Ticket, validity: Validity, dice: f64, now: Now) -> bool {
        let Some(held) = Held::new(validity, now) else {
            self.failed(ticket, dice, now);
            return false;
        };
        let Some(entry) = self.give_back(ticket) else { return false };
        let progress = entry.held.is_none_or(|old| held.over.wall > old.over.wall);
        entry.held = Some(held);
        entry.ended = now.monotonic;
        entry.priority = Priority::Background;
        if progress {
            entry.failures = 0;
            entry.pause = Duration::ZERO;
        } else {
            // An authority near its own end gives no more life than we had. Half of what is left
            // would be asked for again and again, ever faster: treat it as a failure.
            entry.fall_back(dice);
        }
        true
    }

    /// The authority gave none. What is held stays.
    pub fn failed(&mut self, ticket: &Ticket, dice: f64, now: Now) {
        let Some(entry) = self.give_back(ticket) else { return };
        entry.ended = now.monotonic;
        // Who still waits has to ask again: the next tries are as urgent as those who still want it.
        entry.priority = if entry.held.is_some() { Priority::Background } else { Priority::Warmup };
        entry.fall_back(dice);
    }

    fn give_back(&mut self, ticket: &Ticket) -> Option<&mut Entry> {
        self.in_flight = self.in_flight.saturating_sub(1);
        let entry = self.entries.get_mut(&ticket.identity).filter(|entry| entry.asked == Some(ticket.number))?;
        entry.asked = None;
        Some(entry)
    }
}

impl Entry {
    fn usable(&self, now: Now) -> bool {
        self.held.is_some_and(|held| !passed(held.over, now))
    }

    /// An identity whose certificate is over is as urgent as one that never had any.
    fn urgency(&self, now: Now) -> Priority {
        if self.held.is_some() && !self.usable(now) { self.priority.max(Priority::Warmup) } else { self.priority }
    }

    /// How long until this entry is due; zero if it is.
    fn wait(&self, now: Now) -> Duration {
        let usable = self.usable(now);
        let pause =
            if self.priority == Priority::RealTime && !usable { self.pause.min(DEMANDED_RETRY) } else { self.pause };
        let paused = (self.ended + pause).saturating_duration_since(now.monotonic);
        match self.held {
            Some(held) if usable => paused.max(until(held.renew, now)),
            _ => paused,
        }
    }

    fn fall_back(&mut self, dice: f64) {
        let doubled = BACKOFF_MIN.saturating_mul(1 << self.failures.min(16)).min(BACKOFF_MAX);
        let spread = 1.0 - BACKOFF_JITTER + 2.0 * BACKOFF_JITTER * dice.clamp(0.0, 1.0);
        self.failures = self.failures.saturating_add(1);
        self.pause = doubled.mul_f64(spread);
    }
}

impl Held {
    /// None if nothing of its life is left.
    fn new(validity: Validity, now: Now) -> Option<Self> {
        let left = validity.not_after.duration_since(now.wall).ok().filter(|left| !left.is_zero())?;
        // With our clock behind, more seems to be left than there ever was.
        let life = validity.not_after.duration_since(validity.not_before).unwrap_or_default();
        let left = left.min(life);
        let half = left / 2;
        Some(Self {
            renew: Now { wall: now.wall + half, monotonic: now.monotonic + half },
            over: Now { wall: validity.not_after, monotonic: now.monotonic + left },
        })
    }
}

fn passed(when: Now, now: Now) -> bool {
    now.wall >= when.wall || now.monotonic >= when.monotonic
}

/// Until the first of both clocks gets there.
fn until(when: Now, now: Now) -> Duration {
    let wall = when.wall.duration_since(now.wall).unwrap_or_default();
    wall.min(when.monotonic.saturating_duration_since(now.monotonic))
}

#[cfg(test)]
mod tests;
