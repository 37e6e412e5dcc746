//! Files → objects, and what changed.
