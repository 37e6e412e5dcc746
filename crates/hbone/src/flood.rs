//! Guards against peers that open streams only to reset them.
