//! Numbers that bound what the control plane accepts and waits for, each with its reason.

use std::time::Duration;

/// Connections to port 15012 at once: two a node (xDS and CA) for 5 000 nodes, and some to spare.
pub const CONNECTIONS_MAX: usize = 12_000;

/// Handshakes at once. Each costs a core half a millisecond; more would only make all of them late.
pub const HANDSHAKES_MAX: usize = 128;

/// How long a TLS handshake may take.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long finding out who a token belongs to may take.
pub const AUTHENTICATION_TIMEOUT: Duration = Duration::from_secs(10);

/// Streams on one connection at once: a proxy needs one for xDS and eight for certificates.
pub const STREAMS_PER_CONNECTION_MAX: u32 = 128;

/// How often a silent connection is asked whether it lives, as Istio does.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);

/// How long it may take to answer.
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes that may be under way on one stream before the proxy has read them: at 1 ms of round trip
/// this is 4 GiB/s, so a first answer of 100 MB is bound by the network and not by the window.
pub const STREAM_WINDOW_BYTES: u32 = 4 << 20;

/// How often the root is looked at: a plugged-in CA that was replaced counts after this long.
pub const ROOT_TICK: Duration = Duration::from_secs(5);
