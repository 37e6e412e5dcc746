//! Numbers that bound what this crate holds, reads or waits for, each with its reason.

use std::time::Duration;

/// Largest response a client reads. A full state is one response: 300 000 workloads of about
/// 350 bytes are 105 MB; Istio's node proxy has the same limit.
pub const RESPONSE_BYTES_MAX: usize = 200 << 20;

/// What a session has of a response in memory at a time: four of the largest frames of HTTP/2 that
/// most clients take, so that a write to the socket is worth it. 1,000 proxies are 64 MB.
pub const PART_BYTES: usize = 64 << 10;

/// Largest request a server reads, from a caller that has authenticated already. A request that
/// resumes names everything its client has: 300 000 names of about 60 bytes with their versions
/// are 25 MB. With gRPC's usual 4 MiB a mesh of 40 000 workloads could never reconnect.
pub const REQUEST_BYTES_MAX: usize = 64 << 20;

/// Largest single resource. A policy with 50 000 ranges takes 1 MiB; more is a mistake or an
/// attack, and is refused alone.
pub const RESOURCE_BYTES_MAX: usize = 4 << 20;

/// Longest resource name: cluster, group, kind, namespace and name of 253 bytes each.
pub const NAME_BYTES_MAX: usize = 1280;

/// Resources of one kind that a client holds; at about 1 KiB each in memory this is 1 GiB.
pub const RESOURCES_MAX: usize = 1_000_000;

/// How much of the reasons a NACK carries: enough for a log line, not for all of 100 000 refusals.
pub const NACK_BYTES_MAX: usize = 4 << 10;

/// Nonces per kind that a session remembers as unanswered; an answer to an older one is stale.
pub const NONCES_MAX: usize = 64;

/// Names that one session may ask for one by one.
pub const ON_DEMAND_NAMES_MAX: usize = 100_000;

/// Removals that a catalog keeps, of names and of waypoints from audiences, for sessions that have not heard of them. A session that
/// is further behind is ended, and asks anew with what it has: exact, and cheaper than this memory.
pub const TOMBSTONES_MAX: usize = 100_000;

/// First pause before a client connects again.
pub const BACKOFF_MIN: Duration = Duration::from_millis(10);

/// Longest pause before a client connects again, as Istio's node proxy has it.
pub const BACKOFF_MAX: Duration = Duration::from_secs(15);

/// A stream that lasted this long was a good one: the next attempt begins at [`BACKOFF_MIN`].
pub const GOOD_STREAM: Duration = Duration::from_secs(15);

/// How long a client waits for a channel and the stream's headers.
pub const OPEN_TIMEOUT: Duration = Duration::from_secs(15);

/// How long a client waits for the first answer of each kind: 200 MiB at 50 Mbit/s take 34 s.
pub const FIRST_ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a server waits for the first request of a stream, which says who the node is.
pub const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a server waits for the rest of a client's first requests: proxies send all together.
pub const HALF_GRACE: Duration = Duration::from_millis(100);

/// The shortest time between two rounds to one session while changes keep coming.
pub const PACE_MIN: Duration = Duration::from_millis(5);

/// The longest; Istio waits this long always.
pub const PACE_MAX: Duration = Duration::from_millis(100);
