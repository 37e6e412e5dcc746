//! Connections that are open, and the end of those that policy came to forbid.
