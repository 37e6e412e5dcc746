//! Keeps the windows of h2 as wide as [`crate::credit`] says.

use crate::{
    credit::{Grant, grant, is_step},
    limits::Limits,
};
use ::h2::{FlowControl, RecvStream};
use futures_util::task::AtomicWaker;
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::Context,
};

/// Bytes taken from the streams of one connection and not delivered yet.
#[derive(Debug, Default)]
pub(crate) struct Credit {
    held: AtomicUsize,
    driver: AtomicWaker,
    /// The streams that tunnels read, by their number. See [`Credit::remind`].
    streams: Mutex<HashMap<u32, FlowControl>>,
}

impl Credit {
    pub(crate) fn enter(&self, stream: &mut RecvStream) {
        let number = stream.stream_id().as_u32();
        self.streams().insert(number, stream.flow_control().clone());
    }

    pub(crate) fn leave(&self, stream: &RecvStream) {
        let left = self.streams().remove(&stream.stream_id().as_u32());
        drop(left);
    }

    pub(crate) fn held(&self, bytes: usize) {
        let before = self.held.fetch_add(bytes, Ordering::Relaxed);
        self.stepped(before, before + bytes);
    }

    pub(crate) fn released(&self, bytes: usize) {
        let before = self.held.fetch_sub(bytes, Ordering::Relaxed);
        self.stepped(before, before - bytes);
    }

    /// Has h2 look at each stream's window again. It does so when credit is released, but not when
    /// a smaller window has made a stream's negative: one whose credit was all released before
    /// would wait for ever (h2 0.4.20, `Recv::apply_local_settings`).
    fn remind(&self) {
        for stream in self.streams().values_mut() {
            // Fails only for a stream that is gone.
            let _ = stream.release_capacity(0);
        }
    }

    fn stepped(&self, before: usize, after: usize) {
        if is_step(before, after) {
            self.driver.wake();
        }
    }

    fn streams(&self) -> MutexGuard<'_, HashMap<u32, FlowControl>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Both ends' connections, as far as windows go.
pub(crate) trait Windows {
    fn set_connection_window(&mut self, bytes: u32);
    /// Err while the peer has not acknowledged the last change.
    fn set_stream_window(&mut self, bytes: u32) -> Result<(), ::h2::Error>;
}

/// Keeps one connection's windows in step with what it holds.
pub(crate) struct Granter {
    credit: Arc<Credit>,
    full: Grant,
    now: Grant,
    /// Each stream's window was made smaller, and the peer has not said yet that it knows.
    narrowing: bool,
}

impl Granter {
    pub(crate) fn new(limits: &Limits) -> Self {
        let full = Grant { connection: limits.connection_window_bytes, stream: limits.stream_window_bytes };
        Self { credit: Arc::default(), full, now: full, narrowing: false }
    }

    pub(crate) fn credit(&self) -> &Arc<Credit> {
        &self.credit
    }

    /// Brings the windows up to date; true if the connection must be polled again to say so.
    pub(crate) fn adapt(&mut self, cx: &mut Context<'_>, windows: &mut impl Windows) -> bool {
        self.credit.driver.register(cx.waker());
        let wanted = grant(self.full, self.now, self.credit.held.load(Ordering::Relaxed));
        let mut changed = false;
        if wanted.connection != self.now.connection {
            windows.set_connection_window(wanted.connection);
            self.now.connection = wanted.connection;
            changed = true;
        }
        // To say it again is the only way to learn that the peer has acknowledged it.
        let say = wanted.stream != self.now.stream || self.narrowing;
        if say && windows.set_stream_window(wanted.stream).is_ok() {
            if std::mem::take(&mut self.narrowing) {
                self.credit.remind();
            }
            self.narrowing = wanted.stream < self.now.stream;
            self.now.stream = wanted.stream;
            changed = true;
        }
        changed
    }
}
