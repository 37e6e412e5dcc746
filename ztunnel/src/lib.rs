//! The L4 node proxy and the node agent.
//!
//! One process a node proxies for every pod of it that is in the mesh: it takes what a pod sends
//! and what is sent to it inside the pod's own network namespace, decides with the [`mesh::View`],
//! and moves the bytes through mutually authenticated tunnels.
//!
//! Reading order:
//!
//! | room | what it is for |
//! |---|---|
//! | [`app`] | wiring: the whole process on one screen |
//! | [`config`] | what the environment says, parsed once |
//! | [`node`] | what every connection may use: view, certificates, pools, report |
//! | [`local`] | a mesh that a file tells of |
//! | [`outbound`] | what a pod sends: decide, connect, relay |
//! | [`inbound`] | what is sent to a pod: admit, connect, relay |
//! | [`connection`] | the words in which a connection is described and its end is told |
//! | [`live`] | open connections; closes those that policy came to forbid |
//! | [`ebb`] | memory goes back to the node after a crowd of connections |
//! | [`pods`] | which pods are ours, and the listeners of each |
//! | [`net`] | the only place that talks to the kernel directly |
//! | [`dns`] | the DNS proxy of each pod |
//! | [`report`] | the access log and the metrics |
//! | [`admin`] | the config dump and what else an operator may ask |
//! | [`limits`] | every number, with its reason |
//! | [`agent`] | the node agent: redirection, and which pods are in |
//! | [`cni_plugin`] | what a container runtime runs for each new pod |
//!
//! No request path here calls the control plane. Nothing but [`net`] is unsafe.

pub mod admin;
pub mod agent;
pub mod app;
pub mod cni_plugin;
pub mod config;
pub mod connection;
pub mod dns;
pub mod ebb;
pub mod inbound;
pub mod limits;
pub mod live;
pub mod local;
pub mod net;
pub mod node;
pub mod outbound;
pub mod pods;
pub mod report;

pub use app::main;

/// The ports of the proxy itself in each pod. A connection to one of them through the proxy would
/// come back to it.
pub const PROXY_PORTS: [u16; 4] = [15001, 15006, 15008, 15080];
