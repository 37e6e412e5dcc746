//! Every number that bounds something in this crate, with its reason.

use std::time::Duration;

/// How long connecting to the API server may take; TLS after it is within the time of the call.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long one call may take, from asking to the end of the answer. An API server ends a call
/// itself after 60 s; whoever waits that long here has better things to do.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// A silent connection is asked whether it lives after this long, and then three times in as long
/// again: an API server that vanished without a word is noticed in 30 s, though a watch may be silent.
pub const KEEPALIVE: Duration = Duration::from_secs(15);

/// How long an API server may hold a watch open. Ours differ by chance up to a quarter, so that they do not
/// all end at once.
pub const WATCH_TIMEOUT: Duration = Duration::from_secs(300);

/// How long beyond that a watch is believed to be open. A server that keeps its word never needs it.
pub const WATCH_OVERTIME: Duration = Duration::from_secs(15);

/// A watch that was open for so long works, though nothing may have happened.
pub const WATCH_SETTLES: Duration = Duration::from_secs(2);

/// The largest answer that is read. A page of 500 pods is 5 MB; 32 of the largest objects that
/// etcd holds (1.5 MiB) are 48 MiB.
pub const ANSWER_BYTES_MAX: usize = 64 << 20;

/// The largest refusal that is read: a message and its details.
pub const REFUSAL_BYTES_MAX: usize = 64 << 10;

/// The longest line of a watch, which is one object: etcd takes 1.5 MiB, and JSON may triple it.
pub const WATCH_LINE_BYTES_MAX: usize = 8 << 20;

/// Objects of one page of a list, as client-go asks for them.
pub const PAGE_OBJECTS: u32 = 500;

/// Objects of one page when they may be large each, as ConfigMaps and Secrets may.
pub const PAGE_OBJECTS_LARGE: u32 = 32;

/// The first wait after something went wrong, and the longest. A server that restarts takes some 5 s.
pub const RETRY_MIN: Duration = Duration::from_millis(200);
/// See [`RETRY_MIN`]. 30 kinds that ask every 10 s are 3 requests a second, which no server minds.
pub const RETRY_MAX: Duration = Duration::from_secs(10);

/// How long a server may make us wait by `Retry-After`.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

/// A watch that cannot be resumed so often in a row begins anew with a list.
pub const RESUMES_MAX: u32 = 3;

/// How often a kind that was not there is looked for, should nobody tell of its definition.
pub const ABSENT_RETRY: Duration = Duration::from_secs(30);

/// How long a lease holds without being renewed, as Istio has it.
pub const LEASE_DURATION: Duration = Duration::from_secs(30);
/// A leader that could not renew for so long leads no more: half of the lease, so that no two lead.
pub const LEASE_RENEW_DEADLINE: Duration = Duration::from_secs(15);
/// How often a lease is renewed, or asked for.
pub const LEASE_RETRY: Duration = Duration::from_millis(7500);

/// Events that wait to be written. More are left out, which is counted; they are for people to read.
pub const EVENTS_QUEUED_MAX: usize = 256;
/// Events that are remembered so that none is told twice: some for each object that somebody works on.
pub const EVENTS_REMEMBERED_MAX: usize = 1024;
/// How often the same event is told again, with a higher count.
pub const EVENT_REPEAT: Duration = Duration::from_secs(600);
/// The longest text of an event that Kubernetes takes.
pub const EVENT_NOTE_BYTES_MAX: usize = 1024;
