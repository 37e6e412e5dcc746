//! The keys of all issuers: those that are written down, and those that are fetched and kept fresh.
//!
//! Each remote set has one task, on the runtime for control work, as long as a rule names it. It is
//! shared by all rules that name its URI.

use super::{
    fetch::{Fetch, FetchFailed, KEYS_BYTES_MAX},
    keys::KeySet,
    schedule::Schedule,
};
use arc_swap::ArcSwapOption;
use chassis::task::{Task, spawn_on};
use mesh::{Str, route::guard::Keys};
use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};
use tokio::{
    runtime::Handle,
    sync::{Notify, watch},
    time::{Instant, timeout},
};

/// How long a fetch may take where the rule says nothing (0).
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// Where keys come from. Cloning shares it.
#[derive(Clone)]
pub struct KeyStore {
    fetch: Arc<dyn Fetch>,
    runtime: Handle,
    remotes: Arc<Mutex<HashMap<Str, Weak<Remote>>>>,
}

impl fmt::Debug for KeyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyStore").finish_non_exhaustive()
    }
}

/// The keys of one issuer.
#[derive(Clone, Debug)]
pub(super) enum Source {
    Inline(Arc<KeySet>),
    Remote(Arc<Remote>),
}

impl Source {
    /// The keys as they are; none: they never came.
    pub(super) fn now(&self) -> Option<Arc<KeySet>> {
        match self {
            Self::Inline(keys) => Some(keys.clone()),
            Self::Remote(remote) => remote.now(),
        }
    }
}

impl KeyStore {
    /// A store that fetches with `fetch`, on `runtime`.
    pub fn new(fetch: Arc<dyn Fetch>, runtime: Handle) -> Self {
        Self { fetch, runtime, remotes: Arc::default() }
    }

    /// The keys that a rule names. A set that is written down and cannot be used has no keys, so
    /// that its issuer's tokens are refused.
    pub(super) fn source(&self, keys: &Keys) -> Source {
        match keys {
            Keys::Inline(text) => Source::Inline(Arc::new(KeySet::parse(text.as_bytes()).unwrap_or_else(|error| {
                tracing::warn!("a key set that is written down cannot be used, its tokens are refused: {error}");
                KeySet::default()
            }))),
            Keys::Remote { uri, timeout } => Source::Remote(self.remote(uri, *timeout)),
        }
    }

    fn remote(&self, uri: &Str, timeout: Duration) -> Arc<Remote> {
        let mut remotes = self.remotes.lock().unwrap_or_else(PoisonError::into_inner);
        remotes.retain(|_, remote| remote.strong_count() > 0);
        if let Some(remote) = remotes.get(uri).and_then(Weak::upgrade) {
            return remote;
        }
        let timeout = if timeout.is_zero() { FETCH_TIMEOUT } else { timeout };
        let shared = Arc::new(Shared {
            uri: uri.clone(),
            timeout,
            keys: ArcSwapOption::empty(),
            started: Instant::now(),
            schedule: Mutex::new(Schedule::new(Duration::ZERO)),
            wake: Notify::new(),
            tries: watch::Sender::new(0),
        });
        let task = spawn_on(&self.runtime, "keys", keep_fresh(shared.clone(), self.fetch.clone()));
        let remote = Arc::new(Remote { shared, _task: task });
        remotes.insert(uri.clone(), Arc::downgrade(&remote));
        remote
    }
}

/// A remote set. Dropping it ends its task.
#[derive(Debug)]
pub(super) struct Remote {
    shared: Arc<Shared>,
    _task: Task<()>,
}

#[derive(Debug)]
struct Shared {
    uri: Str,
    timeout: Duration,
    keys: ArcSwapOption<KeySet>,
    started: Instant,
    schedule: Mutex<Schedule>,
    wake: Notify,
    /// How many fetches ended.
    tries: watch::Sender<u64>,
}

impl Remote {
    pub(super) fn now(&self) -> Option<Arc<KeySet>> {
        self.shared.keys.load_full()
    }

    /// Has the set fetched again because a key is missing, and waits for the end of that, but no
    /// longer than a fetch may take. Returns at once if that happened just now.
    pub(super) async fn renewed(&self) {
        // Subscribed before the wish, so that no end is missed.
        let mut tries = self.shared.tries.subscribe();
        let now = self.shared.now();
        if !self.shared.schedule(|schedule| schedule.wanted(now)) {
            return;
        }
        self.shared.wake.notify_one();
        let _ended_or_late = timeout(self.shared.timeout, tries.changed()).await;
    }
}

impl Shared {
    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn schedule<T>(&self, act: impl FnOnce(&mut Schedule) -> T) -> T {
        act(&mut self.schedule.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Fetches whenever it is due, for ever.
async fn keep_fresh(shared: Arc<Shared>, fetch: Arc<dyn Fetch>) {
    loop {
        let due = shared.schedule(|schedule| schedule.due());
        tokio::select! {
            // Cancelling either loses nothing: the schedule is asked again.
            () = tokio::time::sleep_until(shared.started + due) => {}
            () = shared.wake.notified() => {}
        }
        let now = shared.now();
        if now < shared.schedule(|schedule| schedule.due()) {
            continue;
        }
        shared.schedule(|schedule| schedule.begins(now));
        match once(&shared, &*fetch).await {
            Ok(keys) => {
                shared.keys.store(Some(Arc::new(keys)));
                shared.schedule(|schedule| schedule.fetched(shared.now()));
            }
            Err(reason) => {
                let kept = if shared.keys.load().is_some() { "the last ones stay" } else { "its tokens are refused" };
                tracing::warn!(uri = &*shared.uri, "keys could not be fetched, {kept}: {reason}");
                shared.schedule(|schedule| schedule.failed(shared.now(), rand::random()));
            }
        }
        shared.tries.send_modify(|tries| *tries += 1);
    }
}

async fn once(shared: &Shared, fetch: &dyn Fetch) -> Result<KeySet, String> {
    let uri = shared.uri.parse().map_err(|_| FetchFailed::Uri(shared.uri.to_string()).to_string())?;
    let late = Err(FetchFailed::TooLate(shared.timeout));
    let body = timeout(shared.timeout, fetch.fetch(uri)).await.unwrap_or(late).map_err(|error| error.to_string())?;
    if body.len() > KEYS_BYTES_MAX {
        return Err(format!("it is over {KEYS_BYTES_MAX} bytes"));
    }
    KeySet::parse(&body).map_err(|error| error.to_string())
}
