//! The L4 node proxy and the node agent.

pub mod net;
