//! Every number that bounds something in this crate, with its reason.

use std::time::Duration;

/// Connections an admin server serves at once. A scraper, a kubelet and a few people are under
/// ten; each connection costs a task and two small buffers (about 20 KiB).
pub const ADMIN_CONNECTIONS_MAX: usize = 64;

/// How long an admin client may take to send its request head, and then its body: a person with
/// `nc` gets that long, and a stuck client holds one of the 64 places no longer.
pub const ADMIN_REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a kept-alive or slow-reading admin connection may last altogether.
pub const ADMIN_CONNECTION_LIFETIME: Duration = Duration::from_secs(300);

/// Request body an admin server reads; log filters are the largest thing that is sent.
pub const ADMIN_BODY_BYTES_MAX: usize = 64 * 1024;

/// Buffer for a request head (hyper's smallest is 8 KiB).
pub const ADMIN_HEAD_BYTES_MAX: usize = 16 * 1024;

/// Log lines that wait for the writer. At 300 bytes a line this is under 5 MiB; a disk that
/// stalls for longer costs lines, which are counted, and never stalls a connection.
pub const LOG_LINES_QUEUED_MAX: usize = 16 * 1024;

/// Bytes the log writer gathers before it calls the kernel: one write for some 200 lines.
pub const LOG_BATCH_BYTES: usize = 64 * 1024;

/// How long lines gather after some were written: at 20,000 a second some 200, a hundredth of what may
/// be queued. The first line after a quiet moment is written at once.
pub const LOG_GATHERED: Duration = Duration::from_millis(10);

/// The longest value in a log line; the rest is cut off and the cut is shown. A peer's text must not fill a disk.
pub const LOG_VALUE_BYTES_MAX: usize = 4 * 1024;

/// The largest file of objects that is read: 10,000 documents of 1.5 KiB.
pub const OBJECT_FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// The most documents in one file.
pub const OBJECT_DOCUMENTS_MAX: usize = 10_000;

/// The deepest nesting of a document. CRD schemas, the deepest YAML users write, stay under 30.
pub const OBJECT_DEPTH_MAX: usize = 64;

/// The most YAML nodes in one document. The largest object that Kubernetes itself takes (1.5 MiB) has some 100,000.
pub const OBJECT_NODES_MAX: usize = 200_000;

/// The most nodes that aliases may add to one document, so that a small file cannot make a large value.
pub const OBJECT_ALIASED_NODES_MAX: usize = 20_000;

/// The most files and directories looked at in one directory tree.
pub const OBJECT_FILES_MAX: usize = 100_000;

/// How deep directories may be nested.
pub const OBJECT_DIRECTORY_DEPTH_MAX: usize = 16;

/// How long file events are gathered before files are read: a rename is two events, a copy is a few writes.
pub const OBJECT_SETTLE: Duration = Duration::from_millis(5);

/// How often everything is looked at again even if nothing was said, in case events were lost.
pub const OBJECT_RESCAN: Duration = Duration::from_secs(30);
