//! Numbers of the node proxy, each with its reason. What an operator may change is in
//! [`crate::config`].

use std::time::Duration;

/// How long a connection waits for the control plane to tell of its pod: Istio's number. A pod
/// that just started is known within the time of one push.
pub const WORKLOAD_DEADLINE: Duration = Duration::from_secs(5);

/// How long what is open in a pod may go on when the pod leaves the mesh, if the node agent does not say. It is no setting,
/// for the agent counts on it: a second later it takes the rules away, without which such a connection hangs.
pub const POD_LEAVES: Duration = Duration::from_secs(5);

/// The same for a pod that lives on, and what the agent says of one: a kept connection that is broken off may have a
/// request on its way that fails. Whoever keeps one for longer has it ended.
pub const POD_LEAVES_ALIVE: Duration = Duration::from_secs(600);

/// How long a TCP connect may take: Istio's number.
pub const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// How many replicas of a waypoint one connection tries. The first may just have gone, and the second,
/// in a rolling update; with three, a caller waits for at most three connects of 10 s.
pub const WAYPOINT_REPLICAS_TRIED_MAX: usize = 3;

/// How long an application on the loopback may take to say what it wants by SOCKS5, and to take an
/// answer of ten bytes. It is in the same pod; more than a busy machine needs holds memory for nobody.
pub const SOCKS5_DEADLINE: Duration = Duration::from_secs(10);

/// How long the TLS handshake of a tunnel that we open may take. Two round trips; a peer that
/// accepts and then says nothing is to be noticed within 5 s of the first connection.
pub const TLS_CONNECT_DEADLINE: Duration = Duration::from_millis(4500);

/// How long a caller may take for its TLS handshake: a slow link and a busy client, and no more,
/// because nobody knows yet who it is.
pub const TLS_ACCEPT_DEADLINE: Duration = Duration::from_secs(10);

/// How long a new connection has for its first tunnel before it is told of a drain. The request is
/// on its way when the connection is up, a round trip behind it at most.
pub const FIRST_TUNNEL: Duration = Duration::from_millis(500);

/// How long a connection waits for a certificate that is not there: the authority answers within
/// this or not at all.
pub const CERTIFICATE_DEADLINE: Duration = Duration::from_secs(10);

/// How long the listeners of a new pod hold connections back until its certificate is there.
/// After that they are served, and those that need the certificate fail by themselves.
pub const FIRST_CERTIFICATE_DEADLINE: Duration = Duration::from_secs(5);

/// Workers that the connections of one pod are spread over: each has tunnels of its own to where they go, and four carry
/// more than the pod's device does.
pub const WORKERS_PER_POD: usize = 4;

/// Connections of a pod that its first worker takes before others are asked: so many hardly fill it, and with one worker
/// there is one tunnel to each destination.
pub const FIRST_WORKER_TAKES: usize = 4;

/// Pause after an accept that failed for want of descriptors or memory. Long enough for some to
/// be given back, short enough not to be noticed.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long before the end of a drain what is still open is broken off, so that the resets and
/// the last log lines still get out.
pub const LAST_WORDS: Duration = Duration::from_millis(250);

/// Pause before the listeners of a pod that could not be started are tried again: Istio's number.
pub const START_AGAIN: Duration = Duration::from_secs(5);

/// First and longest pause before the agent is dialled again: Istio's numbers.
pub const AGENT_BACKOFF: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(15));

/// How often it is looked whether a crowd of connections has gone. Nobody waits for that memory; it is
/// back well within the half minute after which a node's owner looks again.
pub const EBB_LOOK: Duration = Duration::from_secs(5);

/// How many connections are a crowd: with about 2 kB each, half a megabyte.
pub const CROWD_MIN: usize = 256;

/// Entries for which a map of open connections has room also when there are none: a few kilobytes.
pub const MAP_KEPT: usize = 64;

/// For how many looks after a crowd memory is given back. Its tunnels stay for ten seconds without a
/// stream, and then close.
pub const EBB_TIMES: u32 = 4;
