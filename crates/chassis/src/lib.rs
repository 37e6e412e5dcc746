//! What every process of the mesh needs before it can do anything of its own.
//!
//! Nothing here knows what a mesh is: no workload, no policy, no certificate.
//!
//! Reading order: [`env`] (where settings come from) · [`run`] (the whole of every `main`) ·
//! [`task`] (the only place that spawns) · [`drain`] (how work ends) · [`ready`] (why we do not
//! serve yet) · [`admin`] (a small HTTP server) · [`metrics`] (what Prometheus reads) ·
//! [`telemetry`] (log lines) · [`backoff`] (how long to wait before trying again) · [`objects`]
//! (a directory of Kubernetes YAML, watched) · [`limits`] (every number, with its reason).

pub mod admin;
pub mod backoff;
pub mod drain;
pub mod env;
pub mod limits;
pub mod metrics;
pub mod objects;
pub mod ready;
pub mod run;
pub mod task;
pub mod telemetry;
