//! Limits that all replicas count together: [`lease`](super::lease) with tasks and time-outs around it.

use super::{
    bucket::Rate,
    lease::{Borrower, Step, lent, owner},
    limits::{ASKS_MAX, KEYS_MAX, LOT_TIME, MESSAGE_BYTES_MAX, SHARDS, SWEEP_EVERY, WAIT_MAX},
    replicas::{Ask, BadAsk, Grant, Members, Replicas},
    table::{Left, Table, cut},
};
use crate::{budget::Gate, external::call::within};
use chassis::task::spawn;
use mesh::{Identity, Str};
use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

/// All shared limits of this replica.
pub(super) struct SharedLimits {
    replicas: Arc<dyn Replicas>,
    own: Identity,
    started: Instant,
    /// The buckets of keys that are ours.
    owned: Table,
    /// What others lent us.
    borrowed: [Mutex<Borrowed>; SHARDS],
    hasher: RandomState,
    asks: Gate,
}

#[derive(Default)]
struct Borrowed {
    entries: HashMap<(Str, Box<str>), Arc<Entry>>,
    swept: Duration,
}

struct Entry {
    state: Mutex<Borrower>,
    answered: Notify,
}

impl Entry {
    fn state(&self) -> MutexGuard<'_, Borrower> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One limit and key of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counted<'a> {
    pub(super) limit: &'a Str,
    pub(super) rate: Rate,
    pub(super) key: &'a str,
}

impl SharedLimits {
    pub(super) fn new(replicas: Arc<dyn Replicas>, own: Identity) -> Self {
        Self {
            replicas,
            own,
            started: Instant::now(),
            owned: Table::default(),
            borrowed: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::new(),
            asks: Gate::default(),
        }
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Takes a token for one request.
    pub(super) async fn take(self: &Arc<Self>, counted: Counted<'_>) -> Left {
        let members = self.replicas.members();
        let key = cut(counted.key);
        match owner(&members.all, counted.limit, key) {
            Some(owner) if *owner != members.own => self.borrow(counted, key, owner, &members).await,
            // Without any member known we are alone.
            _ => self.owned.take(counted.limit, counted.rate, key, self.now(), |_| 1),
        }
    }

    /// Gives back a token of a request that was refused for another reason.
    pub(super) fn put_back(&self, counted: Counted<'_>) {
        let members = self.replicas.members();
        let key = cut(counted.key);
        match owner(&members.all, counted.limit, key) {
            Some(owner) if *owner != members.own => {
                if let Some(entry) = self.shard(key).entries.get(&(counted.limit.clone(), key.into())) {
                    entry.state().put_back();
                }
            }
            _ => self.owned.put_back(counted.limit, counted.rate, key, self.now()),
        }
    }

    async fn borrow(self: &Arc<Self>, counted: Counted<'_>, key: &str, owner: &Str, members: &Members) -> Left {
        let replicas = u32::try_from(members.all.len()).unwrap_or(u32::MAX);
        let entry = self.entry(counted, key, replicas);
        let deadline = Instant::now() + WAIT_MAX;
        let mut heard = false;
        loop {
            // Enabled before the state is looked at, so that no answer is missed.
            let mut answered = std::pin::pin!(entry.answered.notified());
            answered.as_mut().enable();
            let step = entry.state().take(self.now());
            let (passes, ask) = match step {
                Step::Pass(ask) => (true, ask),
                Step::Wait(ask) => (false, ask),
                Step::Refuse(next) => return Left { taken: 0, tokens: 0, next, full: None },
            };
            if let Some(wanted) = ask {
                self.ask(entry.clone(), counted, key, owner, wanted);
            }
            if passes {
                return Left { taken: 1, tokens: entry.state().tokens(), next: None, full: None };
            }
            match timeout_at(deadline, answered).await {
                Ok(()) => heard = true,
                // The owner answers, but others who wait here took all that it lends.
                Err(_) if heard => return Left { taken: 0, tokens: 0, next: Some(LOT_TIME), full: None },
                // It does not answer; until it does each replica limits by its own share.
                Err(_) => entry.state().failed(self.now()),
            }
        }
    }

    /// Asks the owner, in a task of its own: who waits for it may leave.
    fn ask(self: &Arc<Self>, entry: Arc<Entry>, counted: Counted<'_>, key: &str, owner: &Str, wanted: u32) {
        let ask = Ask {
            limit: counted.limit.to_string(),
            key: key.to_owned(),
            requests: counted.rate.requests,
            per_nanos: u64::try_from(counted.rate.per.as_nanos()).unwrap_or(u64::MAX),
            burst: counted.rate.burst,
            wanted,
        };
        let Some(permit) = self.asks.enter(ASKS_MAX) else {
            entry.state().failed(self.now());
            entry.answered.notify_waiters();
            return;
        };
        let question = serde_json::to_vec(&ask).unwrap_or_default().into();
        let answer = self.replicas.ask(owner, question);
        let (limits, owner) = (self.clone(), owner.clone());
        let asking = async move {
            let answer = within(WAIT_MAX, answer).await.map_err(|error| error.to_string());
            let grant = answer.and_then(|body| serde_json::from_slice::<Grant>(&body).map_err(|e| e.to_string()));
            match grant {
                // Never more than was asked for, whatever it says.
                Ok(Grant { tokens, next_nanos }) => {
                    let next = next_nanos.map(Duration::from_nanos);
                    entry.state().granted(tokens.min(ask.wanted), next, limits.now());
                }
                Err(reason) => {
                    tracing::debug!(replica = &*owner, limit = ask.limit, "tokens could not be asked for: {reason}");
                    entry.state().failed(limits.now());
                }
            }
            entry.answered.notify_waiters();
            drop(permit);
        };
        spawn("rate-limit-lease", asking).detach();
    }

    /// Answers a question of another replica.
    pub(super) fn answer(&self, peer: &Identity, question: &[u8]) -> Result<Vec<u8>, BadAsk> {
        if *peer != self.own {
            return Err(BadAsk::Stranger(peer.to_string()));
        }
        if question.len() > MESSAGE_BYTES_MAX {
            return Err(BadAsk::Unreadable(format!("it is over {MESSAGE_BYTES_MAX} bytes")));
        }
        let unreadable = |error: serde_json::Error| BadAsk::Unreadable(error.to_string());
        let ask: Ask = serde_json::from_slice(question).map_err(unreadable)?;
        let left = self
            .owned
            .take(&ask.limit.as_str().into(), ask.rate(), &ask.key, self.now(), |tokens| lent(tokens, ask.wanted));
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let grant = Grant { tokens: left.taken, next_nanos: left.next.map(nanos) };
        serde_json::to_vec(&grant).map_err(unreadable)
    }

    fn entry(&self, counted: Counted<'_>, key: &str, replicas: u32) -> Arc<Entry> {
        let now = self.now();
        let mut shard = self.shard(key);
        if shard.entries.len() >= KEYS_MAX / SHARDS && now >= shard.swept + SWEEP_EVERY {
            shard.swept = now;
            shard.entries.retain(|_, entry| !entry.state().is_idle(now));
        }
        // Without room all further keys of a limit are one.
        let key = if shard.entries.len() < KEYS_MAX / SHARDS { key } else { "\0overflow" };
        let new = || {
            let state = Mutex::new(Borrower::new(counted.rate, replicas, now));
            Arc::new(Entry { state, answered: Notify::new() })
        };
        let entry = shard.entries.entry((counted.limit.clone(), key.into())).or_insert_with(new).clone();
        entry.state().change(counted.rate, replicas);
        entry
    }

    fn shard(&self, key: &str) -> MutexGuard<'_, Borrowed> {
        let at = self.hasher.hash_one(key) as usize % SHARDS;
        self.borrowed[at].lock().unwrap_or_else(PoisonError::into_inner)
    }
}
