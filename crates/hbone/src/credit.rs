//! What a connection grants while it holds bytes for readers that stall.
//!
//! HTTP/2 counts every undelivered byte against one window of the whole connection, so a few
//! stalled tunnels would stop all others. Here a held byte widens that window by one, and the more
//! is held, the less each stream may add: that bounds the memory.

/// The connection's window follows in steps of this, to spare WINDOW_UPDATEs.
const STEP_BYTES: usize = 1 << 20;
/// A window that HTTP/2 can express.
const WINDOW_MAX: usize = (1 << 31) - 1;

/// What a peer may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    pub(crate) connection: u32,
    pub(crate) stream: u32,
}

/// Whether the windows may have to follow when what is held changes so.
pub(crate) fn is_step(before: usize, after: usize) -> bool {
    before / STEP_BYTES != after / STEP_BYTES
}

/// What to grant when this much is held.
///
/// When as much is held as the connection grants at first, each stream is granted a quarter; when half as much again, a
/// sixteenth. With Istio's 16 and 4 MiB that bounds 64 stalled tunnels at 4 × 4 + 8 × 1 + 52 × ¼ = 37 MiB, and 200 at 71,
/// plus what was on its way: 16 MiB at most. A stream's share grows back only when half of what made it shrink is gone, so
/// that it does not swing.
pub(crate) fn grant(full: Grant, now: Grant, held: usize) -> Grant {
    let scarce = full.connection as usize;
    let dear = scarce + scarce / 2;
    let share = |scarce: usize, dear: usize| match held {
        _ if held >= dear => (full.stream / 16).max(1),
        _ if held >= scarce => (full.stream / 4).max(1),
        _ => full.stream,
    };
    let (least, most) = (share(scarce / 2, dear / 2), share(scarce, dear));
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
            (23, 39, 1024),
            (24, 40, 256),
            (40, 56, 256),
            (13, 29, 256),
            (11, 27, 1024),
            (7, 23, 4096),
            (0, 16, 4096),
        ] {
            now = grant(full, now, held_mib << 20);
            let expected = Grant { connection: connection_mib << 20, stream: stream_kib << 10 };
            assert_eq!(now, expected, "{held_mib} MiB held");
        }
    }

    #[test]
    fn a_connection_that_grants_half_narrows_its_streams_at_half() {
        let full = Grant { connection: 8 << 20, stream: 4 << 20 };
        for (held_mib, stream_kib) in [(7, 4096), (8, 1024), (11, 1024), (12, 256)] {
            assert_eq!(grant(full, full, held_mib << 20).stream, stream_kib << 10, "{held_mib} MiB held");
        }
    }
}
