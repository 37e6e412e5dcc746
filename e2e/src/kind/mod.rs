//! The scenarios' other stage: a cluster of Kubernetes that kind makes on this machine.
//!
//! Kubernetes is driven by the programs that its users type (kind, kubectl, helm, docker), and by no library: what
//! works here works for them. e2e/kind/README.md says where these programs and the images come from.

pub mod cluster;
mod forward;
mod hands;
pub mod install;
mod keep;
mod manifest;
mod observed;
mod play;
mod process;

pub use cluster::Cluster;
#[cfg(test)]
pub(crate) use cluster::repository;
pub(crate) use keep::save;
pub(crate) use manifest::{E2E, list};
pub(crate) use play::Remote;
