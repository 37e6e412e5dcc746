//! The search for namespaces of pods that nobody announced: those that ran before the agent did.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::limits::SEARCH_INTERVAL;
use super::processes;
use crate::net::netns::{Netns, NetnsId};

/// What one look gave.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Uid → namespace.
    pub(super) places: BTreeMap<String, Arc<Netns>>,
    /// Uids that no process belongs to.
    pub(super) missing: BTreeSet<String>,
}

/// The search. It looks only while somebody is missed.
#[derive(Debug)]
pub(super) struct Search {
    proc: Option<PathBuf>,
    foreign: Vec<NetnsId>,
    missed: BTreeSet<String>,
    due: Instant,
    running: Option<JoinHandle<Found>>,
}

impl Search {
    /// In the host's `/proc`, if there is one to look in; namespaces in `foreign` are no pod's.
    pub(super) fn new(proc: Option<PathBuf>, foreign: Vec<NetnsId>) -> Self {
        Self { proc, foreign, missed: BTreeSet::new(), due: Instant::now(), running: None }
    }

    /// Whether namespaces can be found here at all.
    pub(super) fn is_possible(&self) -> bool {
        self.proc.is_some()
    }

    /// Whether nobody is missed.
    pub(super) fn is_idle(&self) -> bool {
        self.proc.is_none() || (self.missed.is_empty() && self.running.is_none())
    }

    /// Misses a pod, until it is found or no longer missed.
    pub(super) fn miss(&mut self, uid: &str) {
        if self.proc.is_some() && self.missed.insert(uid.to_owned()) {
            self.due = Instant::now();
        }
    }

    /// No longer misses a pod.
    pub(super) fn forget(&mut self, uid: &str) {
        self.missed.remove(uid);
    }

    /// The next look's result; waits for ever while nobody is missed. Cancel safe.
    pub(super) async fn next(&mut self) -> Found {
        if self.running.is_none() {
            let (Some(proc), false) = (self.proc.clone(), self.missed.is_empty()) else {
                return std::future::pending().await;
            };
            sleep_until(self.due).await;
            let (missed, foreign) = (self.missed.clone(), self.foreign.clone());
            self.running = Some(tokio::task::spawn_blocking(move || {
                let places = processes::find(&proc, &missed, &foreign).unwrap_or_else(|error| {
                    tracing::warn!(%error, proc = %proc.display(), "cannot look through the processes of this node");
                    BTreeMap::new()
                });
                let missing = missed.into_iter().filter(|uid| !places.contains_key(uid)).collect();
                Found { places, missing }
            }));
        }
        let Some(running) = &mut self.running else { return Found::default() };
        let found = running.await.unwrap_or_default();
        self.running = None;
        self.due = Instant::now() + SEARCH_INTERVAL;
        found.places.keys().for_each(|uid| self.forget(uid));
        found
    }
}
