//! A map that is replaced, not changed, and shares what did not change with the one before.
