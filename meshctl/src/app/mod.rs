//! Workload programs of the lab: what its pods run where a real program is
//! not needed.

pub(crate) mod capture;
mod cluster_dns;
mod hold;
pub(crate) mod http;
mod load;
mod pause;
mod tcp;

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
    /// Call a URL again and again and say how it went.
    Load(load::Load),
    /// A TCP server: echo, server-first or sink.
    Tcp(tcp::Tcp),
    /// Say something over TCP and print what comes back.
    Talk(tcp::Talk),
    /// Hold a connection open and say when it is closed.
    Hold(hold::Hold),
    /// What passes an interface, as a pcap file on standard output.
    Capture(capture::Capture),
    /// One HTTP request; prints what comes back.
    Get(http::Get),
}

/// Runs one of them.
pub(crate) fn run(app: App) -> anyhow::Result<ExitCode> {
    if let App::Capture(capture) = &app {
        return capture::run(capture);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        match app {
            App::Pause => pause::run().await,
            App::ClusterDns(options) => cluster_dns::run(options).await,
            App::Load(load) => load::run(load).await,
            App::Tcp(tcp) => tcp::run(tcp).await,
            App::Talk(talk) => tcp::talk(talk).await,
            App::Hold(hold) => hold::run(hold).await,
            // Blocks, and is done above.
            App::Capture(capture) => capture::run(&capture),
            App::Http(serve) => http::serve(serve).await,
            App::Get(get) => http::get(get).await,
        }
    })
}
