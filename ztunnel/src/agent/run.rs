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
use tokio::sync::{mpsc, oneshot, watch};

use super::book::Book;
use super::cni::{self, Desk};
use super::config::{Config, Facts};
use super::install::Installer;
use super::limits::CNI_QUEUED_MAX;
use super::pod::Node;
use super::reader::Agent;
use super::removal::{self, Owner, Traces};
use super::report::Report;
use super::search::Search;
use super::source::{Source, Witness};
use super::status::Status;
use super::zds::Proxies;
use crate::net::nat;
use crate::net::netns::Netns;

/// Where the agent reads and what it writes there.
#[derive(Debug)]
pub struct World {
    /// Pods and Namespaces.
    pub source: Source,
    /// Where it is said that a pod is in.
    pub status: Status,
    /// Who is asked again before a pod starts outside of the mesh.
    pub witness: Witness,
    /// Who knows whether the mesh is being removed.
    pub owner: Owner,
    /// Whose node's taint is taken off.
    #[cfg(feature = "kubernetes")]
    pub untaint: Option<super::kubernetes::Kubernetes>,
}

impl World {
    /// That of the configuration.
    pub async fn open(config: &Config) -> anyhow::Result<Self> {
        match &config.facts {
            Facts::Directory(dir) => Ok(Self {
                source: Source::Files(Directory::open(dir)?),
                status: Status::of(dir, &config.node),
                witness: Witness::Nobody,
                owner: Owner::Nobody,
                #[cfg(feature = "kubernetes")]
                untaint: None,
            }),
            #[cfg(feature = "kubernetes")]
            Facts::Cluster => Ok(Self::of_cluster(config, cluster::Client::open().await?)),
            #[cfg(not(feature = "kubernetes"))]
            Facts::Cluster => anyhow::bail!("this was built without Kubernetes: give it a --config-dir"),
        }
    }

    /// That of a cluster.
    #[cfg(feature = "kubernetes")]
    pub fn of_cluster(config: &Config, client: cluster::Client) -> Self {
        let cluster = super::kubernetes::Kubernetes::new(client);
        let owner = config.own.clone().map_or(Owner::Nobody, |own| Owner::DaemonSet {
            cluster: cluster.clone(),
            namespace: own.namespace,
            name: own.daemon_set,
        });
        Self {
            source: Source::Cluster(Box::new(cluster.watch(&config.node))),
            status: Status::Cluster(cluster.clone()),
            witness: Witness::Cluster(cluster.clone()),
            owner,
            untaint: config.untaint.then_some(cluster),
        }
    }
}

/// Sets everything up and returns; what it starts ends with the process.
pub async fn start(config: Config, process: Process) -> anyhow::Result<()> {
    let world = World::open(&config).await?;
    start_in(world, config, process).await
}

/// The same in this world.
pub async fn start_in(world: World, config: Config, process: Process) -> anyhow::Result<()> {
    let mut registry = Registry::default();
    let report = Report::new(&mut registry);
    register_process(&mut registry, vec![tokio::runtime::Handle::current()]);
    register_build(&mut registry, "agent", env!("CARGO_PKG_VERSION"));
    let recovering = process.ready.register("pods of this node");
    serve_admin(&config, &process, Arc::new(Exposition::new(registry))).await?;

    let (home, search) = places(&config)?;
    nat::ensure_probe_rules(&home).context("cannot make the rules for the node's probes")?;
    let proxies = Proxies::default();
    let (announcements, announced) = mpsc::channel(CNI_QUEUED_MAX);
    let node = Arc::new(Node::new(home, proxies.clone(), world.status, report.clone()));

    task::spawn("ztunnel connections gauge", count_connections(proxies.connected(), report.clone())).detach();
    let (cni_socket, zds_socket) = (config.cni_socket.clone(), config.zds_socket.clone());
    let mounts = config.host.as_ref().map(|host| host.mounts.clone());
    let desk = Desk { announcements, witness: world.witness, mounts, report: report.clone() };
    process.vital("cni", async move {
        let served = cni::serve(&cni_socket, desk).await;
        served.with_context(|| format!("cannot listen for new pods at {}", cni_socket.display()))
    });

    let (removal, removed) = oneshot::channel();
    let traces = Traces {
        installer: config.install.clone().map(|settings| Installer::new(settings, process.ready.clone(), report)),
        pods: removal,
        home: node.home.clone(),
        sockets: vec![config.cni_socket.clone(), config.zds_socket.clone()],
    };
    process.vital("cni plugin", removal::attend(traces, world.owner, process.signal.clone()));
    #[cfg(feature = "kubernetes")]
    if let Some(cluster) = world.untaint {
        let untaint = super::untaint::when_ready(cluster, config.node.clone(), process.ready.clone());
        task::spawn("taint", untaint).detach();
    }

    let book = Book { selection: config.selection, dns: config.dns, ..Book::default() };
    let agent = Agent::new(config.node, node, world.source, search, book);
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
        agent.read(announced, removed).await;
        Ok(())
    });
    Ok(())
}

/// The host's network namespace, and the search for those of its pods.
fn places(config: &Config) -> anyhow::Result<(Netns, Search)> {
    let own = Netns::current().context("cannot open the agent's network namespace")?;
    let Some(host) = &config.host else {
        return Ok((own, Search::new(None, Vec::new())));
    };
    let proc = host.mounts.join("proc");
    let first = proc.join("1/ns/net");
    let foreign = Netns::from_path(&first);
    let known: Vec<_> = foreign.iter().chain([&own]).map(Netns::id).collect();
    let home = if host.switch {
        foreign.with_context(|| {
            format!("cannot open the host's network namespace {}: mount the host's /proc, give CAP_SYS_PTRACE and an AppArmor profile that allows it, or use the host's network", first.display())
        })?
    } else {
        own
    };
    Ok((home, Search::new(Some(proc), known)))
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
