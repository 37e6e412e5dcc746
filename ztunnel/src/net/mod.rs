//! The only place that talks to the kernel directly: namespaces, links,
//! firewall rules and special sockets.

pub mod changes;
pub mod conntrack;
pub mod links;
pub mod nat;
mod netlink;
pub mod netns;
mod nft;
mod policy_route;
pub mod redirect;
pub mod seqpacket;
pub mod sockets;
