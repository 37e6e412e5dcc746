//! The whole mesh on one machine, without root, without a cluster.

pub mod client;
pub mod control;
