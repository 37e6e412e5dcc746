//! Connections that are open, and the end of those that policy came to forbid.

/// Why we broke off a connection that was open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// Policy forbids it now.
    #[error("connection closed due to policy change")]
    PolicyChanged,
    /// The pod left, or the process ends, and the time to finish in is over.
    #[error("connection closed because the time to drain is over")]
    DrainDeadline,
    /// The agent does not know the pod any more.
    #[error("connection closed because the pod is gone")]
    PodGone,
}
