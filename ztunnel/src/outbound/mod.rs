//! What a pod sends: decide, connect, relay.

pub mod connect;
pub mod plan;

pub use connect::Failure;
pub use plan::Reject;
