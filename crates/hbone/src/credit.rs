//! What a connection grants while it holds bytes for readers that stall.
//!
//! HTTP/2 counts every undelivered byte against one window of the whole connection, so a few
//! stalled tunnels would stop all others. Here a held byte widens that window by one, and the more
//! is held, the less each stream may add: that bounds the memory.

use crate::limits::Limits;
use futures_util::task::AtomicWaker;
use h2::{FlowControl, RecvStream};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::Context,
};

/// The connection's window follows in steps of this, to spare WINDOW_UPDATEs.
const STEP_BYTES: usize = 1 << 20;
/// When this much is held (four full streams), each stream is granted a quarter…
const SCARCE_BYTES: usize = 16 << 20;
/// …and when this much is held, a sixteenth. With Istio's 4 MiB that bounds 64 stalled tunnels at
/// 4 × 4 + 16 × 1 + 44 × ¼ = 43 MiB, and 200 at 77, plus what was on its way: 16 MiB at most.
const DEAR_BYTES: usize = 32 << 20;
/// A window that HTTP/2 can express.
const WINDOW_MAX: usize = (1 << 31) - 1;

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
        if before / STEP_BYTES != after / STEP_BYTES {
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
    fn set_stream_window(&mut self, bytes: u32) -> Result<(), h2::Error>;
}

/// Keeps one connection's windows in step with what it holds.
pub(crate) struct Granter {
    credit: Arc<Credit>,
    full: Grant,
    now: Grant,
    /// Each stream's window was made smaller, and the peer has not said yet that it knows.
    narrowing: bool,
}

/// What a peer may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Grant {
    connection: u32,
    stream: u32,
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

/// What to grant when this much is held. A stream's share grows back only when half of what made
/// it shrink is gone, so that it does not swing.
fn grant(full: Grant, now: Grant, held: usize) -> Grant {
    let share = |scarce: usize, dear: usize| match held {
        _ if held >= dear => (full.stream / 16).max(1),
        _ if held >= scarce => (full.stream / 4).max(1),
        _ => full.stream,
    };
    let (least, most) = (share(SCARCE_BYTES / 2, DEAR_BYTES / 2), share(SCARCE_BYTES, DEAR_BYTES));
    let steps = held / STEP_BYTES * STEP_BYTES;
    Grant {
        connection: (full.connection as usize).saturating_add(steps).min(WINDOW_MAX) as u32,
        stream: now.stream.clamp(least, most),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_widens_the_connection_and_narrows_each_stream() {
        let full = Grant { connection: 16 << 20, stream: 4 << 20 };
        let mut now = full;
        for (held_mib, connection_mib, stream_kib) in [
            (0, 16, 4096),
            (1, 17, 4096),
            (15, 31, 4096),
            (16, 32, 1024),
            (15, 31, 1024),
            (40, 56, 256),
            (31, 47, 256),
            (17, 33, 256),
            (15, 31, 1024),
            (7, 23, 4096),
            (0, 16, 4096),
        ] {
            now = grant(full, now, held_mib << 20);
            let expected = Grant { connection: connection_mib << 20, stream: stream_kib << 10 };
            assert_eq!(now, expected, "{held_mib} MiB held");
        }
    }
}
