//! Numbers that bound what this crate holds or reads, each with its reason.

/// Longest name, namespace, hostname or trust domain: what DNS allows for a whole name.
pub const NAME_BYTES_MAX: usize = 253;
