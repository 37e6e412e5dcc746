//! Whether the peer is still there.
