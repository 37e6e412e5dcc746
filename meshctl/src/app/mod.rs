//! Workload programs of the lab: what its pods run where a real program is
//! not needed.

mod cluster_dns;
mod http;
mod pause;

use std::process::ExitCode;

use clap::Subcommand;

/// Small programs to run in pods.
#[derive(Debug, Subcommand)]
pub(crate) enum App {
    /// Do nothing until told to end.
    Pause,
    /// The cluster's name server.
    ClusterDns(cluster_dns::ClusterDns),
    /// An HTTP server that says who called it and calls others.
    Http(http::Serve),
    /// One HTTP request; prints what comes back.
    Get(http::Get),
}

/// Runs one of them.
pub(crate) fn run(app: App) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        match app {
            App::Pause => pause::run().await,
            App::ClusterDns(options) => cluster_dns::run(options).await,
            App::Http(serve) => http::serve(serve).await,
            App::Get(get) => http::get(get).await,
        }
    })
}
