//! Open TCP connections, and the end of those that policy came to forbid.
//!
//! A connection that is not read as HTTP is judged once, when it begins. When policy changes, each is
//! judged again by the same question, and those that would not come in any more are broken off.
//! Requests are not here: each is judged for itself.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mesh::View;
use tokio_util::sync::CancellationToken;

use crate::limits::LIVE_MAX;

type Question = Arc<dyn Fn(&View) -> bool + Send + Sync>;

/// The open connections. Cloning it is cheap.
#[derive(Clone, Default)]
pub struct Live {
    open: Arc<Mutex<Open>>,
}

#[derive(Default)]
struct Open {
    last: u64,
    connections: HashMap<u64, (Question, CancellationToken)>,
}

/// A connection is open as long as this is held.
pub struct Tracked {
    id: u64,
    live: Live,
    broken: CancellationToken,
}

/// So many connections are open that one more could not be judged again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("over {LIVE_MAX} connections are open")]
pub struct TooMany;

impl Live {
    /// Notes a connection; `holds` says whether it would come in by a view.
    pub fn track(&self, holds: impl Fn(&View) -> bool + Send + Sync + 'static) -> Result<Tracked, TooMany> {
        let broken = CancellationToken::new();
        let mut open = self.lock();
        if open.connections.len() >= LIVE_MAX {
            return Err(TooMany);
        }
        open.last += 1;
        let id = open.last;
        open.connections.insert(id, (Arc::new(holds), broken.clone()));
        Ok(Tracked { id, live: self.clone(), broken })
    }

    /// Breaks off what `view` does not admit. Returns how many.
    pub fn judge(&self, view: &View) -> usize {
        // Judged on a copy: connections must not wait for it to open and close.
        let open: Vec<_> = self.lock().connections.values().cloned().collect();
        let losers = open.iter().filter(|(holds, _)| !holds(view));
        losers.map(|(_, broken)| broken.cancel()).count()
    }

    /// How many are open.
    pub fn len(&self) -> usize {
        self.lock().connections.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        // Insertion and removal cannot be left half done.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tracked {
    /// Judges it by the view of now: policy may have changed between the decision and [`Live::track`].
    pub fn judge_again(&self, view: &View) {
        let question = self.live.lock().connections.get(&self.id).map(|(holds, _)| holds.clone());
        if question.is_some_and(|holds| !holds(view)) {
            self.broken.cancel();
        }
    }

    /// Cancelled when policy came to forbid it.
    pub fn broken(&self) -> &CancellationToken {
        &self.broken
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        self.live.lock().connections.remove(&self.id);
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
mod tests {
    use super::*;

    #[test]
    fn only_those_that_policy_forbids_are_broken_off() {
        let live = Live::default();
        let stays = live.track(|_| true).expect("room");
        let goes = live.track(|view| view.policies().count() > 0).expect("room");
        assert_eq!(live.judge(&View::default()), 1);
        assert!(goes.broken().is_cancelled() && !stays.broken().is_cancelled());
        drop((stays, goes));
        assert!(live.is_empty());
    }

    #[test]
    fn a_change_between_decision_and_tracking_is_noticed() {
        let tracked = Live::default().track(|view| view.policies().count() > 0).expect("room");
        tracked.judge_again(&View::default());
        assert!(tracked.broken().is_cancelled());
    }
}
