//! May this connection pass? One engine, asked by the node proxy (and, with more attributes, by the waypoint).

use crate::{Identity, Policy, Str, View, Workload};
use std::{net::IpAddr, sync::Arc};

/// What is known of a connection when it is judged.
#[derive(Clone, Debug)]
pub struct Attributes<'a> {
    /// The caller, as its certificate proved it; `None` for plaintext.
    pub source: Option<&'a Identity>,
    /// The caller's address.
    pub source_ip: IpAddr,
    /// Address of the pod that is called.
    pub destination_ip: IpAddr,
    /// Port of the pod that is called, after any mapping.
    pub destination_port: u16,
}

/// The answer.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// Whether it may pass.
    pub allowed: bool,
    /// Why.
    pub reason: Reason,
    /// Dry-run policies that would have hit, for the log.
    pub dry_run: Vec<Arc<Policy>>,
    /// Policies the workload names and the view does not have. They are skipped, as Istio does; the caller warns.
    pub missing: Vec<Str>,
}

/// Why a connection may or may not pass.
#[derive(Clone, Debug)]
pub enum Reason {
    /// No ALLOW policy is for this workload, and no DENY policy hit.
    NoPolicy,
    /// This ALLOW policy hit.
    AllowedBy(Arc<Policy>),
    /// This DENY policy hit.
    DeniedBy(Arc<Policy>),
    /// There are ALLOW policies, and none hit.
    NothingAllows,
}

/// Judges one connection to `destination` by the policies of `view`.
pub fn decide(view: &View, destination: &Workload, attributes: &Attributes<'_>) -> Verdict {
    let _ = (view, destination, attributes);
    todo!("mesh room")
}
