//! Numbers that bound the DNS proxy, each with its reason.

use std::time::Duration;

/// How long a question may take altogether: as long as resolvers wait before they ask again.
pub const DEADLINE: Duration = Duration::from_secs(5);

/// How long a question waits until the mesh knows the pod that asks. A new pod is known about a second
/// after its first process; whoever still waits is told no before its resolver gives up.
pub const CLIENT_DEADLINE: Duration = Duration::from_secs(4);

/// How long one server is waited for before the next is asked.
pub const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(2);

/// How often the whole list of servers is asked: a lost datagram is made good once or twice.
pub const ROUNDS: usize = 3;

/// Name servers that are used, the MAXNS of every resolver.
pub const SERVERS_MAX: usize = 3;

/// The largest datagram either way. What does not fit goes over TCP.
pub const DATAGRAM_BYTES_MAX: usize = 4096;

/// Answers to other questions that are looked at before the server is given up.
pub const WRONG_ANSWERS_MAX: usize = 16;

/// Questions of one pod that wait at once, for other servers or until the mesh knows the pod. At 5 s each that is 50 a second
/// against servers that are all dead, and thousands a second against living ones. A task and a socket each.
pub const WAITING_MAX: usize = 256;

/// TCP connections of one pod at once.
pub const CONNECTIONS_MAX: usize = 32;

/// How long a TCP connection may say nothing.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long answers of the mesh may be remembered: as long as it may take until a pod learns of a change.
pub const TTL_SECONDS: u32 = 30;

/// Names of endpoints that are asked for at once, on the whole node: two sockets each.
pub const RESOLVING_MAX: usize = 64;

/// Names of endpoints that are remembered. About 300 bytes each.
pub const RESOLVED_MAX: usize = 4096;

/// The longest time for which a resolved name is remembered, whatever its servers say.
pub const RESOLVED_TTL_MAX: Duration = Duration::from_secs(300);

/// The shortest: a TTL of 0 must not make a question of each connection.
pub const RESOLVED_TTL_MIN: Duration = Duration::from_secs(1);

/// How long a name without an address is remembered.
pub const UNRESOLVED_TTL: Duration = Duration::from_secs(5);

/// Addresses of one name that are remembered.
pub const RESOLVED_ADDRESSES_MAX: usize = 64;
