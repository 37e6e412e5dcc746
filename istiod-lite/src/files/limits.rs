//! Numbers that bound what is read from one object, each with its reason.

/// Longest text of a field. Nothing the mesh reads is longer than a hostname or SPIFFE URI; the
/// rest of an object (a container's script, say) is not read.
pub(super) const TEXT_BYTES: usize = 4096;

/// Longest text that is read whole, from a ConfigMap: Kubernetes' own limit for one.
pub(super) const LONG_TEXT_BYTES: usize = 1 << 20;

/// Most items of a list or map. Kubernetes allows 1000 endpoints to a slice; a policy with more
/// values than this is a mistake, and each of them is compared at each connection.
pub(super) const LIST_ITEMS: usize = 10_000;

/// Most problems that are told of one object: the first ones say what is wrong.
pub(super) const PROBLEMS_PER_OBJECT: usize = 20;
