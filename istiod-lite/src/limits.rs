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

/// The head of a request, with its token: what most servers take.
pub const HEAD_BYTES_MAX: u32 = 16 << 10;

/// How often a connection is asked whether it lives, as Istio does.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);

/// How long it may take to answer.
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes that may be under way on one stream before the proxy has read them: at 1 ms of round trip
/// this is 4 GiB/s, so a first answer of 100 MB is bound by the network and not by the window.
pub const STREAM_WINDOW_BYTES: u32 = 4 << 20;

/// Bytes of one stream that wait to be written: a part of a response on its way, and the next. What a
/// proxy has not been sent is shared by all; what waits here is its own.
pub const SEND_BUFFER_BYTES: usize = 2 * xds::limits::PART_BYTES;

/// How often the root is looked at: a plugged-in CA that was replaced counts after this long.
pub const ROOT_TICK: Duration = Duration::from_secs(5);

/// How often the objects of gateways are looked at though nothing was said: what could not be seen for
/// a broken watch is mended then.
pub const DEPLOY_REVIEW: Duration = Duration::from_secs(300);

/// The longest wait before a gateway that could not be deployed is tried again: a role or a quota that
/// somebody mends counts after this long.
pub const DEPLOY_RETRY_MAX: Duration = Duration::from_secs(60);

/// How long what became of objects is gathered before it is written: a rollout is many changes.
pub const STATUS_SETTLE: Duration = Duration::from_millis(250);

/// How often statuses are compared though nothing was said.
pub const STATUS_REVIEW: Duration = Duration::from_secs(300);

/// Between two writes of status: at most 100 a second, which is less than what an API server gives one
/// client by default.
pub const STATUS_PACE: Duration = Duration::from_millis(10);

/// Writes before what is wanted is looked at anew: two thirds of a second's worth, so that a waypoint
/// that becomes ready does not wait for ten thousand services.
pub const STATUS_WRITES_PER_PASS: usize = 64;

/// The shortest time between two writes to one object, so that two writers who disagree cost little.
pub const STATUS_WRITE_AGAIN: Duration = Duration::from_millis(500);

/// How often that time doubles while writes fail: to 64 s.
pub const STATUS_DOUBLINGS: u32 = 7;

/// How long one write of status may take before the others go on.
pub const STATUS_WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest message of an event that Kubernetes takes is 1024 bytes.
pub const EVENT_MESSAGE_CHARS: usize = 250;

/// Connections of the API server to the webhook at once: each of its replicas keeps a few.
pub const WEBHOOK_CONNECTIONS_MAX: usize = 256;

/// How long a connection of the webhook may be silent.
pub const WEBHOOK_IDLE: Duration = Duration::from_secs(120);

/// The largest review: an object and what it takes the place of, of 1.5 MiB each, and what they are
/// wrapped in.
pub const WEBHOOK_BODY_BYTES_MAX: usize = 4 << 20;

/// How long a review may take to arrive; the API server gives up after ten seconds.
pub const WEBHOOK_BODY_TIMEOUT: Duration = Duration::from_secs(8);

/// How often the webhook's configuration is looked at: a new root, or one that somebody reset,
/// counts after this long.
pub const WEBHOOK_REVIEW: Duration = Duration::from_secs(5);
