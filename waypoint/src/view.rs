//! The view of now. One writer replaces it, everybody reads it without a lock.

use std::sync::Arc;

use arc_swap::ArcSwap;
use mesh::{Change, View};
use tokio::sync::watch;

/// What is known of the mesh now.
#[derive(Debug)]
pub struct CurrentView {
    view: ArcSwap<View>,
    changed: watch::Sender<u64>,
}

impl Default for CurrentView {
    fn default() -> Self {
        Self { view: ArcSwap::default(), changed: watch::Sender::new(0) }
    }
}

impl CurrentView {
    /// The view of now.
    pub fn now(&self) -> Arc<View> {
        self.view.load_full()
    }

    /// Replaces it by the one after `changes`. Only one task may do this.
    pub fn apply(&self, changes: Vec<Change>) {
        let next = Arc::new(self.view.load().apply(changes));
        let version = next.version();
        self.view.store(next);
        self.changed.send_replace(version);
    }

    /// Learns of each replacement.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}
