//! Connections that are open, and the end of those that policy came to forbid.
//!
//! An admission holds for one view. When policy changes, every open connection is judged again
//! from what it was judged by at first, and those that would not come in any more are broken off.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};

use foldhash::fast::RandomState;
use futures_util::task::AtomicWaker;
use mesh::authz::{self, Attributes};
use mesh::{Identity, Str, View};

use crate::limits::MAP_KEPT;

/// Why we broke off a connection that was open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// Policy forbids it now.
    #[error("connection closed due to policy change")]
    PolicyChanged,
    /// The pod left, or the process ends, and the time to finish in is over.
    #[error("connection closed because the time to drain is over")]
    DrainDeadline,
    /// The agent does not know the pod any more.
    #[error("connection closed because the pod is gone")]
    PodGone,
}

/// Breaks off one connection. Clones break off the same.
#[derive(Clone, Debug, Default)]
pub struct Breaker(Arc<Break>);

#[derive(Debug, Default)]
struct Break {
    cause: OnceLock<Cause>,
    /// Whose task moves the bytes. It is one: an idle connection holds no list.
    relaying: AtomicWaker,
}

impl Breaker {
    /// Breaks the connection off. Only the first cause counts.
    pub fn break_off(&self, cause: Cause) {
        if self.0.cause.set(cause).is_ok() {
            self.0.relaying.wake();
        }
    }

    /// Whether it is the same one.
    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Ready when the connection is broken off. Of several tasks that wait for it the last one hears of it.
    pub fn broken(&self) -> Broken {
        Broken(self.clone())
    }

    /// Why it was, if it was.
    pub fn cause(&self) -> Option<Cause> {
        self.0.cause.get().copied()
    }
}

/// See [`Breaker::broken`].
#[derive(Debug)]
pub struct Broken(Breaker);

impl Future for Broken {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let broken = &self.0.0;
        if broken.cause.get().is_none() {
            broken.relaying.register(cx.waker());
        }
        // It may have been broken off before it was known whom to wake.
        if broken.cause.get().is_some() { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// What an admission was decided by, to decide it again.
#[derive(Clone, Debug)]
pub struct Judged {
    /// Uid of the workload that is called.
    pub workload: Str,
    /// Who calls.
    pub source: Option<Identity>,
    /// From which address.
    pub source_ip: IpAddr,
    /// Which address and port of the pod.
    pub destination: SocketAddr,
    /// [`View::policy_version`] of the view that admitted it.
    pub policy_version: u64,
}

impl Judged {
    /// Whether the connection would come in now. A workload that the view does not have is not
    /// judged: its pod is on its way out, and that ends the connection in its own time.
    fn holds(&self, view: &View) -> bool {
        let Some(workload) = view.workload(&self.workload) else { return true };
        let attributes = Attributes {
            source: self.source.as_ref(),
            source_ip: self.source_ip,
            destination_ip: self.destination.ip(),
            destination_port: self.destination.port(),
            server_name: None,
            request: None,
        };
        authz::decide(view, workload, &attributes).allowed
    }
}

/// The open connections. Cloning it is cheap.
#[derive(Clone, Debug, Default)]
pub struct Live {
    connections: Arc<Mutex<Connections>>,
}

#[derive(Debug, Default)]
struct Connections {
    last: u64,
    open: HashMap<u64, Arc<Entry>, RandomState>,
    peak: usize,
}

#[derive(Debug)]
struct Entry {
    /// That of all that it ends with.
    whole: Breaker,
    /// In a box: an outbound connection is not judged.
    judged: Option<Box<Judged>>,
    breaker: Breaker,
}

/// A connection is open as long as this is held.
#[derive(Debug)]
pub struct Tracked {
    id: u64,
    live: Live,
}

impl Live {
    /// Notes a connection of the pod with the breaker `whole`; `judged` where the pod is called.
    #[must_use]
    pub fn track(&self, whole: &Breaker, judged: Option<Judged>, breaker: &Breaker) -> Tracked {
        let entry = Arc::new(Entry { whole: whole.clone(), judged: judged.map(Box::new), breaker: breaker.clone() });
        let mut connections = self.lock();
        connections.last += 1;
        let id = connections.last;
        connections.open.insert(id, entry);
        connections.peak = connections.peak.max(connections.open.len());
        Tracked { id, live: self.clone() }
    }

    /// Breaks off what `view` does not admit. Returns how many.
    pub fn judge(&self, view: &View) -> usize {
        let refused = |entry: &Arc<Entry>| entry.judged.as_ref().is_some_and(|judged| !judged.holds(view));
        self.break_off(refused, Cause::PolicyChanged)
    }

    /// Breaks off every connection of the pod with this breaker. One that left and came back has another by then.
    pub fn break_off_pod(&self, whole: &Breaker, cause: Cause) -> usize {
        whole.break_off(cause);
        self.break_off(|entry| entry.whole.is(whole), cause)
    }

    /// How many are open.
    pub fn len(&self) -> usize {
        self.lock().open.len()
    }

    /// The most that were open at the same time since this was last asked.
    pub fn peak(&self) -> usize {
        let mut connections = self.lock();
        let now = connections.open.len();
        std::mem::replace(&mut connections.peak, now)
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn break_off(&self, which: impl Fn(&Arc<Entry>) -> bool, cause: Cause) -> usize {
        // Judging is done on a copy: connections must not wait for it to open and close.
        let open: Vec<Arc<Entry>> = self.lock().open.values().cloned().collect();
        let mut broken = 0;
        for entry in open.iter().filter(|entry| which(entry)) {
            entry.breaker.break_off(cause);
            broken += 1;
        }
        broken
    }

    fn lock(&self) -> MutexGuard<'_, Connections> {
        // Insertion and removal cannot be left half done.
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tracked {
    /// Judges the connection if `view` has other policies than the one that admitted it: policy may
    /// have changed between the decision and [`Live::track`].
    pub fn judge_again(&self, view: &View) {
        let entry = self.live.lock().open.get(&self.id).cloned();
        let Some((entry, judged)) = entry.as_ref().and_then(|entry| Some((entry, entry.judged.as_ref()?))) else {
            return;
        };
        if judged.policy_version != view.policy_version() && !judged.holds(view) {
            entry.breaker.break_off(Cause::PolicyChanged);
        }
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        let mut connections = self.live.lock();
        connections.open.remove(&self.id);
        let_go(&mut connections.open);
    }
}

/// Has a map that a crowd has left keep no room for another.
pub(crate) fn let_go<V>(map: &mut HashMap<u64, V, RandomState>) {
    if map.capacity() > MAP_KEPT.max(4 * map.len()) {
        map.shrink_to(2 * map.len());
    }
}

/// Judges all connections again whenever policy changed, as long as the future lives.
pub async fn watch(live: Live, view: impl Fn() -> Arc<View>, mut changes: tokio::sync::watch::Receiver<u64>) {
    let mut policy_version = view().policy_version();
    while changes.changed().await.is_ok() {
        let now = view();
        if now.policy_version() == policy_version {
            continue;
        }
        policy_version = now.policy_version();
        let broken = live.judge(&now);
        if broken > 0 {
            tracing::info!("{broken} open connections are forbidden by changed policies and were closed");
        }
    }
}

#[cfg(test)]
mod tests;
