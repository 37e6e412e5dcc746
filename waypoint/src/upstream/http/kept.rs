//! The connections to endpoints that one core keeps: idle ones of HTTP/1, shared ones of HTTP/2.
//!
//! A core uses its own ones only, but where a destination may have no more of them: limits count those of
//! all cores, so that all of them are looked through then.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use foldhash::fast::RandomState;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use mesh::Str;
use mesh::route::traffic::{HttpVersion, Pool as Settings, ProxyProtocol};
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, sleep};

use super::Way;
use crate::body::Outgoing;
use crate::limits::{IDLE_PER_HOST_MAX, SETTINGS_LOOK, UPSTREAM_IDLE, UPSTREAM_STREAMS_MAX};
use crate::upstream::cluster::ClusterKey;
use crate::upstream::failure::TryFailure;
use crate::upstream::hosts::Place;
use crate::upstream::origination::Io;
use crate::upstream::proxy_protocol::Ends;

/// What two requests must have in common to share a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    cluster: ClusterKey,
    uid: Str,
    place: Place,
    version: HttpVersionKey,
    /// Which TLS of our own, by its number and name.
    origination: Option<(u64, Str)>,
    /// Who calls, where connections say so: they are not for others.
    ends: Option<(ProxyProtocol, Ends)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum HttpVersionKey {
    One,
    Two,
}

impl Key {
    pub(super) fn of(way: &Way<'_>) -> Self {
        let origination = way.hosts.origination.as_ref();
        Self {
            cluster: way.cluster.key.clone(),
            uid: way.host.uid.clone(),
            place: way.host.place.clone(),
            version: match way.version {
                HttpVersion::Http1 => HttpVersionKey::One,
                HttpVersion::Http2 => HttpVersionKey::Two,
            },
            origination: origination.map(|own| (own.number(), own.name(way.server_name).into())),
            ends: way.hosts.traffic.proxy_protocol.zip(way.ends),
        }
    }
}

/// The connections of every core.
#[derive(Default)]
pub struct AllClients {
    cores: Mutex<Vec<Arc<Clients>>>,
}

impl AllClients {
    /// Those of one core more.
    pub fn add(&self) -> Arc<Clients> {
        let clients = Arc::<Clients>::default();
        lock(&self.cores).push(clients.clone());
        clients
    }

    /// What is found first among the connections of this kind.
    pub(super) fn find<T>(&self, key: &Key, wanted: impl Fn(&Entry) -> Option<T>) -> Option<T> {
        self.cores().iter().filter_map(|clients| clients.get(key)).find_map(|entry| wanted(&entry))
    }

    /// Closes a connection of a destination that is without requests, so that another one may be made.
    pub(super) fn evict_idle(&self, cluster: &ClusterKey) {
        let _evicted = self.cores().iter().any(|clients| clients.evict_idle(cluster));
    }

    fn cores(&self) -> Vec<Arc<Clients>> {
        lock(&self.cores).clone()
    }
}

/// The connections of one core.
#[derive(Default)]
pub struct Clients {
    entries: Mutex<HashMap<Key, Arc<Entry>, RandomState>>,
}

pub(super) struct Entry {
    pub(super) idle: Mutex<Vec<Idle>>,
    pub(super) shared: Mutex<Vec<Arc<Shared>>>,
    /// Whoever holds it makes an HTTP/2 connection.
    pub(super) dialling: Semaphore,
    /// How many dials failed, and how the last one did.
    pub(super) failed: AtomicU64,
    pub(super) failure: Mutex<Option<TryFailure>>,
}

pub(super) struct Idle {
    pub(super) sender: http1::SendRequest<Outgoing>,
    pub(super) life: Life,
    pub(super) since: Instant,
}

pub(super) struct Shared {
    pub(super) sender: http2::SendRequest<Outgoing>,
    pub(super) streams: AtomicU32,
    pub(super) served: AtomicU32,
    pub(super) born: Instant,
    pub(super) used: Mutex<Instant>,
    /// Asks whoever drives the connection whether the peer takes an extended CONNECT.
    pub(super) ask: mpsc::Sender<oneshot::Sender<bool>>,
    /// Told of each stream that ended.
    pub(super) freed: Arc<Notify>,
}

impl Shared {
    /// Whether the peer takes an extended CONNECT. Its settings may still be on their way.
    pub(super) async fn takes_extended_connect(&self) -> bool {
        let (answer, answered) = oneshot::channel();
        self.ask.send(answer).await.is_ok() && answered.await == Ok(true)
    }
}

/// A connection that is being driven.
type Driven = http2::Connection<TokioIo<Io>, Outgoing, TokioExecutor>;

/// Drives a connection to its end, and says whether its peer takes an extended CONNECT: at once if it does, and until
/// this time its settings may still be on their way.
pub(super) async fn driven(
    mut connection: Pin<Box<Driven>>,
    mut asked: mpsc::Receiver<oneshot::Sender<bool>>,
    settled: Instant,
) -> hyper::Result<()> {
    loop {
        let answer = tokio::select! {
            end = connection.as_mut() => return end,
            Some(answer) = asked.recv() => answer,
        };
        // Nobody wakes us when the settings come.
        while !connection.is_extended_connect_protocol_enabled() && Instant::now() < settled {
            tokio::select! {
                end = connection.as_mut() => return end,
                () = sleep(SETTINGS_LOOK) => {}
            }
        }
        // Who asked may have given up.
        let _gone = answer.send(connection.is_extended_connect_protocol_enabled());
    }
}

/// What a connection has behind it.
#[derive(Clone, Copy)]
pub(super) struct Life {
    pub(super) born: Instant,
    pub(super) served: u32,
}

impl Life {
    pub(super) fn over(&self, settings: &Settings) -> bool {
        settings.requests_per_connection.is_some_and(|most| most > 0 && self.served >= most)
            || settings.age_max.is_some_and(|most| self.born.elapsed() >= most)
    }
}

impl Clients {
    pub(super) fn entry(&self, way: &Way<'_>) -> Arc<Entry> {
        lock(&self.entries).entry(Key::of(way)).or_default().clone()
    }

    fn get(&self, key: &Key) -> Option<Arc<Entry>> {
        lock(&self.entries).get(key).cloned()
    }

    /// Whether there was one to close.
    fn evict_idle(&self, cluster: &ClusterKey) -> bool {
        let entries: Vec<_> = {
            let entries = lock(&self.entries);
            entries.iter().filter(|(key, _)| key.cluster == *cluster).map(|(_, entry)| entry.clone()).collect()
        };
        entries.iter().any(|entry| entry.evict_idle())
    }

    /// Closes what was idle for long, and forgets endpoints without connections.
    pub fn sweep(&self, idle: impl Fn(&ClusterKey) -> Option<Duration>) {
        lock(&self.entries).retain(|key, entry| {
            let most = idle_most(idle(&key.cluster));
            lock(&entry.idle).retain(|idle| !idle.sender.is_closed() && idle.since.elapsed() < most);
            lock(&entry.shared).retain(|shared| {
                let unused = shared.streams.load(Relaxed) == 0 && lock(&shared.used).elapsed() >= most;
                !shared.sender.is_closed() && !unused
            });
            let empty = lock(&entry.idle).is_empty() && lock(&entry.shared).is_empty();
            // Somebody who is about to dial holds it too.
            !(empty && Arc::strong_count(entry) == 1)
        });
    }

    /// Connections that are kept, idle or shared.
    pub fn kept(&self) -> usize {
        lock(&self.entries).values().map(|entry| lock(&entry.idle).len() + lock(&entry.shared).len()).sum()
    }
}

impl Default for Entry {
    fn default() -> Self {
        Self {
            idle: Mutex::default(),
            shared: Mutex::default(),
            dialling: Semaphore::new(1),
            failed: AtomicU64::new(0),
            failure: Mutex::default(),
        }
    }
}

impl Entry {
    /// The connection that was used last, if one is idle and good.
    pub(super) fn take(&self, settings: &Settings) -> Option<Idle> {
        let most = idle_most(settings.idle_timeout);
        let mut idle = lock(&self.idle);
        while let Some(last) = idle.pop() {
            if last.sender.is_ready() && last.since.elapsed() < most && !last.life.over(settings) {
                return Some(last);
            }
        }
        None
    }

    pub(super) fn put(&self, idle: Idle) {
        let mut all = lock(&self.idle);
        if all.len() < IDLE_PER_HOST_MAX {
            all.push(idle);
        }
    }

    fn evict_idle(&self) -> bool {
        if lock(&self.idle).pop().is_some() {
            return true;
        }
        let mut shared = lock(&self.shared);
        let unused = shared.iter().position(|shared| shared.streams.load(Relaxed) == 0);
        unused.map(|unused| shared.swap_remove(unused)).is_some()
    }

    /// A place in a connection that has one.
    pub(super) fn stream(&self, settings: &Settings) -> Option<Stream> {
        let most = settings.streams_max.filter(|most| *most > 0).unwrap_or(UPSTREAM_STREAMS_MAX);
        let mut all = lock(&self.shared);
        all.retain(|shared| {
            let life = Life { born: shared.born, served: shared.served.load(Relaxed) };
            !shared.sender.is_closed() && !life.over(settings)
        });
        // A peer that takes fewer at a time lets the others wait in the connection.
        let free = all.iter().find(|shared| shared.streams.load(Relaxed) < most);
        free.cloned().map(Stream::enter)
    }
}

/// A request on an HTTP/2 connection.
pub(super) struct Stream {
    pub(super) connection: Arc<Shared>,
}

impl Stream {
    pub(super) fn enter(connection: Arc<Shared>) -> Self {
        connection.streams.fetch_add(1, Relaxed);
        connection.served.fetch_add(1, Relaxed);
        Self { connection }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        *lock(&self.connection.used) = Instant::now();
        self.connection.streams.fetch_sub(1, Relaxed);
        self.connection.freed.notify_one();
    }
}

/// How long a connection without requests is kept; a policy's 0 s is for ever.
fn idle_most(said: Option<Duration>) -> Duration {
    match said {
        None => UPSTREAM_IDLE,
        Some(Duration::ZERO) => Duration::MAX,
        Some(time) => time,
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is behind these locks is whole after each change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
