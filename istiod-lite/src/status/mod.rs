//! What became of objects, written to the cluster: what `/debug/status` shows, in `status` of the objects
//! themselves. Only the leader writes, only what differs, and never faster than a pace.
//!
//! Rooms, in reading order: [`condition`] (one condition, and since when it is so) · [`flat`] (objects with a
//! list of conditions) · [`attached`] (routes and policies: conditions by parent) · [`gateway`] (gateways and
//! their classes) · [`wanted`] (which of them; what differs) · `write` (the only one that waits).

pub mod attached;
pub mod condition;
pub mod flat;
pub mod gateway;
pub mod wanted;
#[cfg(feature = "kubernetes")]
mod write;

#[cfg(feature = "kubernetes")]
pub use write::StatusWriter;
