//! Numbers that bound what this crate holds or reads, each with its reason.

/// Longest name, namespace, hostname or trust domain: what DNS allows for a whole name.
pub const NAME_BYTES_MAX: usize = 253;

/// Longest regular expression: what Gateway API allows for a match (1024), four times over.
pub const PATTERN_BYTES_MAX: usize = 4096;

/// Most memory of one compiled regular expression, and of its cache in each thread. `/v[0-9]+/.*`
/// takes 3 KB, `[a-z]{1,253}` 28 KB; a counted class of Unicode (`\pL{100}`) 5 MB, and is refused:
/// with one in each of 5,000 routes a waypoint would not fit its memory.
pub const REGEX_BYTES_MAX: usize = 1 << 20;

/// Longest expression of an access log filter: a screenful, ten times over.
pub const EXPRESSION_BYTES_MAX: usize = 4096;

/// Deepest nesting in an expression. Each level costs a few hundred bytes of stack.
pub const EXPRESSION_DEPTH_MAX: usize = 32;

/// Longest session value that is decoded: a uid has four names and a kind (contract of the
/// workload API), each of at most 253 bytes, a third longer as base64.
pub const SESSION_BYTES_MAX: usize = 2048;

/// Most points on a ring, and entries of a Maglev table: Envoy's own limits are 8M and 5,000,011.
/// Ours is one million: at most 32 MB for a ring (a power of two of points for each weight may
/// double them, 16 bytes each) and 4 MB for a table, rebuilt whenever endpoints change.
pub const HASH_POINTS_MAX: u32 = 1 << 20;
