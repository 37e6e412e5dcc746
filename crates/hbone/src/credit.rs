//! What a connection holds for readers that stall, so that they do not use up the others' credit.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes taken from the streams of one connection and not delivered yet.
#[derive(Debug, Default)]
pub(crate) struct Credit {
    held: AtomicUsize,
}

impl Credit {
    pub(crate) fn held(&self, bytes: usize) {
        self.held.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn released(&self, bytes: usize) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
    }
}
