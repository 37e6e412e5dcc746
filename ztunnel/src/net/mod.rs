//! The only place that talks to the kernel directly: namespaces, links,
//! firewall rules and special sockets.

pub mod links;
pub mod nat;
pub mod netns;
pub mod redirect;
pub mod seqpacket;
pub mod sockets;
