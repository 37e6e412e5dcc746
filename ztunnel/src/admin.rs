//! What an operator may ask of a running proxy: the config dump on 15000 in the shape that
//! `istioctl ztunnel-config` reads, log levels, the end; metrics on 15020 and readiness on 15021.

use crate::report::Reporter;
use chassis::{admin::Routes, metrics::Exposition, ready::Ready, run::Process};
use mesh::{Str, View};
use pki::cache::CertificateCache;
use std::{fmt, sync::Arc};

/// What the dump is made from.
#[derive(Clone)]
pub struct Sources {
    /// The mesh now.
    pub view: Arc<dyn Fn() -> Arc<View> + Send + Sync>,
    /// The certificates.
    pub certificates: CertificateCache,
    /// The pods that the agent told of.
    pub pods: Arc<dyn Fn() -> Vec<PodState> + Send + Sync>,
    /// The open connections.
    pub reporter: Reporter,
    /// The configuration as it was read: name and value.
    pub config: serde_json::Value,
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").field("config", &self.config).finish_non_exhaustive()
    }
}

/// A pod that the agent told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodState {
    /// Kubernetes uid.
    pub uid: Str,
    /// Its listeners are open; otherwise it is pending.
    pub up: bool,
    /// Name.
    pub name: Str,
    /// Namespace.
    pub namespace: Str,
    /// Service account.
    pub service_account: Str,
}

/// What 15000 answers, on localhost only.
pub fn routes(sources: Sources, process: &Process) -> Routes {
    let _ = (sources, process);
    todo!()
}

/// What 15020 answers.
pub fn metrics_routes(exposition: Arc<Exposition>) -> Routes {
    Routes::new().metrics(exposition).index("ztunnel metrics")
}

/// What 15021 answers.
pub fn ready_routes(ready: Ready) -> Routes {
    Routes::new().ready("/healthz/ready", ready)
}
