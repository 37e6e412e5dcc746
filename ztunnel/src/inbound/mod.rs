//! What is sent to a pod: admit, connect, relay.

pub mod connect;
pub mod plan;

pub use connect::Failure;
pub use plan::Reject;
