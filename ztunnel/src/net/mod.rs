//! The only place that talks to the kernel directly: namespaces, links,
//! firewall rules, special sockets and memory that is given back.

pub mod changes;
pub mod conntrack;
pub mod heap;
pub mod links;
pub mod nat;
mod netlink;
pub mod netns;
mod nft;
mod policy_route;
pub mod redirect;
pub mod seqpacket;
pub mod sockets;
