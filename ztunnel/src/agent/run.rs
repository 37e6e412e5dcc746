//! The agent, wired.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use anyhow::Context;
use chassis::admin::{self, Routes, text};
use chassis::metrics::{Exposition, register_build, register_process};
use chassis::objects::Directory;
use chassis::run::Process;
use chassis::task;
use http::StatusCode;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

use super::cni;
use super::config::Config;
use super::limits::CNI_QUEUED_MAX;
use super::pod::Node;
use super::reader::Agent;
use super::report::Report;
use super::status::Status;
use super::zds::Proxies;
use crate::net::nat;
use crate::net::netns::Netns;

/// Sets everything up and returns; what it starts ends with the process.
pub async fn start(config: Config, process: Process) -> anyhow::Result<()> {
    let mut registry = Registry::default();
    let report = Report::new(&mut registry);
    register_process(&mut registry, vec![tokio::runtime::Handle::current()]);
    register_build(&mut registry, "agent", env!("CARGO_PKG_VERSION"));
    let recovering = process.ready.register("pods of this node");
    serve_admin(&config, &process, Arc::new(Exposition::new(registry))).await?;

    let home = Netns::current().context("cannot open the node's network namespace")?;
    nat::ensure_probe_rules(&home).context("cannot make the rules for the node's probes")?;
    let proxies = Proxies::default();
    let status = Status::of(&config.config_dir, &config.node);
    let directory = Directory::open(&config.config_dir)?;
    let (announcements, announced) = mpsc::channel(CNI_QUEUED_MAX);
    let node = Arc::new(Node::new(home, proxies.clone(), status, report.clone()));

    task::spawn("ztunnel connections gauge", count_connections(proxies.connected(), report.clone())).detach();
    let (cni_socket, zds_socket) = (config.cni_socket.clone(), config.zds_socket.clone());
    process.vital("cni", async move {
        let served = cni::serve(&cni_socket, announcements, report).await;
        served.with_context(|| format!("cannot listen for new pods at {}", cni_socket.display()))
    });
    let agent = Agent::new(config, node, directory);
    let serve_proxies = move || async move {
        let served = proxies.serve(&zds_socket).await;
        served.with_context(|| format!("cannot listen for ztunnel at {}", zds_socket.display()))
    };
    let inner = process.clone();
    process.vital("pods", async move {
        let agent = agent.recover().await;
        // Only now: a proxy that connects is told of every pod there is, and stops the others.
        inner.vital("zds", serve_proxies());
        drop(recovering);
        tracing::info!(pods = agent.pods(), "ready for ztunnel and new pods");
        agent.read(announced).await;
        Ok(())
    });
    Ok(())
}

async fn count_connections(mut connected: watch::Receiver<(u64, usize)>, report: Report) {
    loop {
        let (_, now) = *connected.borrow_and_update();
        report.connected(now);
        if connected.changed().await.is_err() {
            return;
        }
    }
}

async fn serve_admin(config: &Config, process: &Process, exposition: Arc<Exposition>) -> anyhow::Result<()> {
    let metrics = Routes::new().metrics(exposition).logging(process.level.clone()).index("node agent");
    let health = Routes::new().ready("/readyz", process.ready.clone()).get(
        "/healthz",
        "whether this process lives",
        |_| async { text(StatusCode::OK, "ok\n") },
    );
    for (port, routes) in [(config.metrics_port, metrics), (config.readiness_port, health)] {
        let listener = listen(port).await.with_context(|| format!("cannot listen on port {port}"))?;
        task::spawn("admin", admin::serve(listener, Arc::new(routes), process.signal.clone())).detach();
    }
    Ok(())
}

/// On all addresses of both families, or of IPv4 where there is nothing else.
async fn listen(port: u16) -> std::io::Result<TcpListener> {
    match TcpListener::bind((IpAddr::from(Ipv6Addr::UNSPECIFIED), port)).await {
        Err(error) if error.kind() != std::io::ErrorKind::AddrInUse => TcpListener::bind(("0.0.0.0", port)).await,
        other => other,
    }
}
