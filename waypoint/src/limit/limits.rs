//! Every number of the rate limits, with its reason.

use std::time::Duration;

/// Buckets at a time. One takes about 200 bytes with its key: 20 MB.
pub(super) const KEYS_MAX: usize = 100_000;

/// Locks over them: several times the cores.
pub(super) const SHARDS: usize = 64;

/// The longest key. What is longer is counted with all that begins alike, so that memory is bounded
/// and nobody gets a new bucket by a longer header.
pub(super) const KEY_BYTES_MAX: usize = 512;

/// How often full buckets are looked for where there is no room: 1,600 of a shard take some 20 µs.
pub(super) const SWEEP_EVERY: Duration = Duration::from_millis(100);

/// How long tokens that were lent may lie about. Longer means fewer questions and more tokens that
/// are lent and not used.
pub(super) const LEASE: Duration = Duration::from_millis(500);

/// A lot that is used up faster than this is too small: ten questions a second and key are enough.
pub(super) const LOT_TIME: Duration = Duration::from_millis(100);

/// The largest lot, whatever the burst.
pub(super) const LOT_MAX: u32 = 1_000;

/// How long a request waits for tokens of another replica: two round trips inside a zone take 2 ms.
pub(super) const WAIT_MAX: Duration = Duration::from_millis(100);

/// How long a replica that did not answer is not asked again; its keys are limited by shares then.
pub(super) const ALONE: Duration = Duration::from_secs(1);

/// Questions under way at a time, over all keys. Each takes a task and a stream.
pub(super) const ASKS_MAX: u32 = 1_024;

/// The largest question or answer between replicas: a key, a name, some numbers.
pub const MESSAGE_BYTES_MAX: usize = 8 * 1024;
