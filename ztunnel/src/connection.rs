//! The words in which a connection is described and its end is told.
