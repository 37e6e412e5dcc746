//! Every number that bounds something in this room, with its reason.

use std::time::Duration;

use crate::limits::{POD_LEAVES, POD_LEAVES_ALIVE};

/// How long the proxy may take to read a message, and again to answer it: the number of the
/// protocol. Making a pod's sockets takes it milliseconds.
pub const ZDS_DEADLINE: Duration = Duration::from_secs(5);

/// Between two connections that are accepted: a proxy that dies at once on what it is told must
/// not keep the agent busy (5 a second).
pub const ZDS_ACCEPT_INTERVAL: Duration = Duration::from_millis(200);

/// Proxies connected at once: one, its successor during an upgrade, and a few that are ending.
pub const ZDS_CONNECTIONS_MAX: usize = 8;

/// Messages that wait for one proxy. Each pod's task waits for its answer, so this many pods
/// (what a large node holds) can be on their way at once; more wait for room.
pub const ZDS_QUEUED_MAX: usize = 256;

/// First and longest wait before a pod that could not be taken in is tried again.
pub const RETRY_MIN: Duration = Duration::from_millis(5);
/// See [`RETRY_MIN`]. The proxy's return ends the wait early.
pub const RETRY_MAX: Duration = Duration::from_secs(5);

/// How long what was open in a pod has to end when the mesh is being removed, before the rules go: the proxy breaks it off
/// after [`POD_LEAVES`], and has one second more to say so. What is longer hangs from then on, so the bound is one of
/// patience, not of safety.
pub const LET_GO: Duration = POD_LEAVES.saturating_add(Duration::from_secs(1));

/// The same for a pod that leaves and lives on.
pub const LET_GO_ALIVE: Duration = POD_LEAVES_ALIVE.saturating_add(Duration::from_secs(1));

/// How often it is looked whether all of that has ended already.
pub const LET_GO_LOOK: Duration = Duration::from_secs(1);

/// How often a pod's rules are looked at although nobody said that they changed.
pub const HEAL_INTERVAL: Duration = Duration::from_secs(30);

/// How long changes in a pod's namespace are gathered before its rules are looked at: one act of
/// somebody else is several messages. It also bounds the work somebody who flaps rules can cause
/// to 50 looks of a millisecond a second and pod.
pub const HEAL_SETTLE: Duration = Duration::from_millis(20);

/// How long the runtime that makes a pod waits for us is 5 s; the answer has to be there before.
pub const CNI_ANSWER_DEADLINE: Duration = Duration::from_millis(4500);

/// Runtimes asking at once. A node starts a few pods a second; at C-4 (250 pods at once) all of
/// them wait here.
pub const CNI_CONNECTIONS_MAX: usize = 512;

/// Longest CNI request. One with two addresses has 400 bytes.
pub const CNI_BODY_BYTES_MAX: usize = 64 * 1024;

/// How long a connection may take to send its request.
pub const CNI_REQUEST_DEADLINE: Duration = Duration::from_secs(5);

/// CNI requests that wait to be looked at.
pub const CNI_QUEUED_MAX: usize = CNI_CONNECTIONS_MAX;

/// How long proxies are kept waiting after a start of the agent until the pods that were in are
/// found again. Those that are not are told of by name only.
pub const RECOVERY_DEADLINE: Duration = Duration::from_secs(5);

/// Pods whose namespaces are worked on at once. The work is the kernel's, and it does it one by
/// one for most of the way.
pub const KERNEL_WORK_MAX: usize = 4;

/// Between two looks through the processes of the node for pods whose namespace was not found. A
/// look reads two small files of each process: 20 ms for a thousand.
pub const SEARCH_INTERVAL: Duration = Duration::from_secs(2);

/// Between two questions about a pod that the cluster says is in and we do not know of yet: the
/// watch brings the news within milliseconds.
pub const CNI_DOUBT_INTERVAL: Duration = Duration::from_millis(100);

/// Longest CNI configuration. Usual ones have a few thousand bytes.
pub const CNI_CONF_BYTES_MAX: u64 = 1 << 20;

/// Files in the directory of CNI configurations. Usual are one to three.
pub const CNI_CONFS_MAX: usize = 256;

/// Between two looks at the CNI configuration when it changes: a write is several messages, and a
/// program that fights over it costs 50 looks a second at most.
pub const CNI_CONF_SETTLE: Duration = Duration::from_millis(20);

/// How often the CNI configuration is looked at although nobody said that it changed.
pub const CNI_CONF_INTERVAL: Duration = Duration::from_secs(10);

/// What a removal takes of the grace period: open connections have [`LET_GO`] to end, and one more
/// second for the kernel and the API server. Until then it is asked whether it is one.
pub const REMOVAL_TIME: Duration = Duration::from_secs(8);

/// Between two questions whether the mesh is being removed, when there is no answer.
pub const REMOVAL_QUESTION_INTERVAL: Duration = Duration::from_millis(500);

/// How often the cluster may refuse that an annotation is removed before that is given up: by then
/// a second has passed, and a pod must not stay cut off because of it.
pub const REFUSALS_MAX: u32 = 8;

/// First and longest wait before the node's taint is tried again.
pub const UNTAINT_MIN: Duration = Duration::from_millis(500);
/// See [`UNTAINT_MIN`].
pub const UNTAINT_MAX: Duration = Duration::from_secs(30);
