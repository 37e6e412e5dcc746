//! What an operator may ask of a running proxy: the config dump on 15000 in the shape that
//! `istioctl ztunnel-config` reads, log levels, the end; metrics on 15020 and readiness on 15021.
//!
//! The dump has types of its own in [`dump`], so that the mesh's words can change without it.

pub mod dump;

use crate::report::Reporter;
use chassis::{
    admin::{Routes, json_text, text},
    metrics::Exposition,
    ready::Ready,
    run::Process,
};
use http::StatusCode;
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
    /// What the local state told at the start.
    pub local: Arc<View>,
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
    let ending = process.clone();
    Routes::new()
        .get("/config_dump", "everything this proxy knows, as istioctl reads it", move |_| dumped(sources.clone()))
        .logging(process.level.clone())
        .post("/quitquitquit", "ends the process, after draining it", move |_| {
            tracing::info!("asked to end by the admin interface");
            ending.drain.start(ending.grace);
            std::future::ready(text(StatusCode::OK, "shutting down now\n"))
        })
        .index("ztunnel")
}

/// A large mesh takes a moment to write down, and health must be answered meanwhile.
async fn dumped(sources: Sources) -> chassis::admin::Response {
    let written = tokio::task::spawn_blocking(move || serde_json::to_vec_pretty(&dump::Dump::of(&sources))).await;
    match written {
        Ok(Ok(bytes)) => json_text(StatusCode::OK, bytes),
        Ok(Err(error)) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("cannot be written: {error}\n")),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("cannot be made: {error}\n")),
    }
}

/// What 15020 answers.
pub fn metrics_routes(exposition: Arc<Exposition>) -> Routes {
    Routes::new().metrics(exposition).index("ztunnel metrics")
}

/// What 15021 answers.
pub fn ready_routes(ready: Ready) -> Routes {
    Routes::new().ready("/healthz/ready", ready)
}
