//! The whole mesh on one machine, without root, without a cluster.
//!
//! A lab takes Kubernetes manifests and runs them: every node and pod is a
//! network namespace, every container a process tree with its own view of the
//! file system, every Service address is translated as kube-proxy would.
//! [`plan`] decides what there should be, purely; [`supervisor`] does what the
//! difference to what there is asks for.
//!
//! | room | what it is for |
//! |---|---|
//! | [`enter`] | the way into the lab's own namespaces; nothing survives its end |
//! | [`rundir`] | where a lab keeps its files |
//! | [`manifest`], [`load`] | YAML → objects |
//! | [`plan`] | objects → nodes, pods, services with addresses |
//! | [`world`] | network namespaces, links and routes |
//! | [`container`], [`pod`] | running what a pod says |
//! | [`gateways`] | what a Gateway has deployed for it |
//! | [`kubelet`], [`kubeproxy`] | what the mesh and the nodes are told |
//! | [`control`], [`client`], [`command`] | orders from other terminals |
//! | [`system`], [`shop`] | the manifests that are built in |
//! | [`tour`] | shows what the mesh does, with evidence |

pub mod client;
pub mod control;

pub(crate) mod command;
mod container;
pub(crate) mod enter;
mod gateways;
mod kubelet;
mod kubeproxy;
mod load;
mod manifest;
mod options;
mod plan;
mod pod;
mod report;
pub(crate) mod rundir;
mod shop;
pub(crate) mod show;
mod site;
mod start;
mod supervisor;
mod system;
mod terminal;
mod tour;
mod world;

pub(crate) use container::first as container_first;
pub(crate) use start::{outside, supervise};
