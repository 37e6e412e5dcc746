//! The wiring: sources → index → catalog → sessions, and the CA beside them.

#[cfg(feature = "kubernetes")]
mod kubernetes;

use crate::{
    authn::{
        Authenticator,
        local::{LocalAuthenticator, TokenIssuer},
    },
    ca::{
        root::Root,
        service::{CertificateAuthority, Metrics},
        serving,
    },
    config::{Addresses, Config, Place},
    ledger::Ledger,
    limits,
    problems::Problems,
    publish::{SharedIndex, Writer},
    report::Report,
    serve::{admission::Door, grpc, pages},
    source::{self, Told},
};
use anyhow::Context;
use chassis::{
    admin,
    metrics::{self, Exposition, Registry},
    run::{Pool, Process},
    task,
};
use pki::{Clock, SystemClock};
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    sync::Arc,
};
use tokio::{net::TcpListener, runtime::Handle, sync::mpsc};
use xds::server::{Catalog, Discovery};

/// Starts everything and returns where it listens. What is served comes from files, or from a cluster.
pub async fn start(config: Config, process: &Process) -> anyhow::Result<Addresses> {
    match config.place.clone() {
        Place::Directories { config: described, state } => start_from_files(config, &described, &state, process).await,
        #[cfg(feature = "kubernetes")]
        Place::Cluster(cluster) => kubernetes::start(config, *cluster, process).await,
        #[cfg(not(feature = "kubernetes"))]
        Place::Cluster(_) => {
            anyhow::bail!("this program was built without Kubernetes: name --config-dir and --state-dir")
        }
    }
}

async fn start_from_files(
    config: Config,
    described: &Path,
    state: &Path,
    process: &Process,
) -> anyhow::Result<Addresses> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let now = clock.now().wall;
    let root = match &config.cacerts {
        Some(dir) => Root::plugged(dir, Some(state), now),
        None => Root::open(state, &config.mesh.trust_domain, config.lifetimes.default, now),
    };
    let root = Arc::new(root.context("the certificate authority cannot start")?);
    let tokens = TokenIssuer::open(state)?;
    let index = SharedIndex::new(config.mesh.clone());
    let (trust_domain, cluster_id) = (&config.mesh.trust_domain, &config.mesh.cluster_id);
    let pods = Arc::new(index.clone());
    let authenticator = LocalAuthenticator::new(&tokens, trust_domain, cluster_id, pods, clock.clone());
    let mut names = serving::hostnames("istio-system", "default", "cluster.local");
    names.extend(["127.0.0.1", "::1"].map(str::to_owned));
    let ground = Ground {
        index,
        root: root.clone(),
        authenticator: Arc::new(authenticator),
        clock: clock.clone(),
        names,
        ledger: None,
    };
    let (line, told) = source::line();
    let bound = serve(&config, process, ground, told).await?;
    spawn_root_watch(process, root, clock);
    let described = described.to_owned();
    process.vital("source", async move { Ok(source::read_directory(&described, line).await?) });
    Ok(bound)
}

/// What the control plane stands on, which is one thing among files and another in a cluster.
struct Ground {
    index: SharedIndex,
    root: Arc<Root>,
    authenticator: Arc<dyn Authenticator>,
    clock: Arc<dyn Clock>,
    /// Under which we are called.
    names: Vec<String>,
    /// What those must know who write to a cluster.
    ledger: Option<Arc<Ledger>>,
}

/// Serves what is `told`.
async fn serve(
    config: &Config,
    process: &Process,
    ground: Ground,
    told: mpsc::Receiver<Told>,
) -> anyhow::Result<Addresses> {
    let Ground { index, root, authenticator, clock, mut names, ledger } = ground;
    let listeners = Listeners::bind(config.addresses).await?;
    let bound = listeners.addresses()?;

    let mut registry = Registry::default();
    let report = Arc::new(Report::register(&mut registry));
    let ca_metrics = Metrics::register(&mut registry);
    metrics::register_process(&mut registry, vec![Handle::current()]);
    metrics::register_build(&mut registry, "pilot", env!("CARGO_PKG_VERSION"));

    let problems = Arc::new(Problems::new());
    let (publisher, catalog) = xds::server::catalog();
    let mut writer = Writer::new(index.clone(), publisher, problems.clone(), report.clone());
    if let Some(ledger) = ledger {
        writer = writer.keeping(ledger);
    }

    let authority = CertificateAuthority::new(
        root.clone(),
        authenticator.clone(),
        config.policy.clone(),
        Arc::new(index.clone()),
        config.lifetimes,
        clock.clone(),
        ca_metrics,
    );
    let door = Door::new(authenticator, config.policy.clone(), index.clone());
    let services = grpc::Services {
        discovery: Discovery::new(catalog.clone(), door, report.clone()),
        routes: tonic::service::Routes::new(pki::ca_server::service(Arc::new(authority))),
    };
    names.extend(config.serving_names.clone());
    let tls = serving::tls_config(root.clone(), names, clock);

    let exposition = exposition(registry, &report, &index, &problems, &root);
    let everybody = Arc::new(pages::readiness(process));
    let this_machine = Arc::new(pages::debug(process, index, problems, report));
    let by_caller = move |caller: IpAddr| if caller.is_loopback() { this_machine.clone() } else { everybody.clone() };
    spawn_pages(process, listeners.ready, by_caller);
    let metrics = Arc::new(pages::metrics(exposition));
    spawn_pages(process, listeners.metrics, move |_| metrics.clone());
    spawn_writer(process, writer, told);
    spawn_readiness(process, catalog);
    let (xds, mut drain) = (listeners.xds, process.signal.clone());
    let pool = Pool::start("xds").context("the threads of the xDS server cannot start")?;
    process.vital("xds server", async move {
        task::spawn_on(pool.handle(), "xds server", grpc::serve(xds, tls, services, drain.clone())).await?;
        // The connections go on for a while.
        drain.over().await;
        Ok(())
    });
    tracing::info!(xds = %bound.xds, metrics = %bound.metrics, ready = %bound.ready, "listening");
    Ok(bound)
}

fn exposition(
    registry: Registry,
    report: &Arc<Report>,
    index: &SharedIndex,
    problems: &Arc<Problems>,
    root: &Arc<Root>,
) -> Arc<Exposition> {
    let (report, index, problems, root) = (report.clone(), index.clone(), problems.clone(), root.clone());
    Arc::new(Exposition::new(registry).before_scrape(move || {
        problems.look_again();
        report.before_scrape(&index, problems.count(), root.issuer().not_after());
    }))
}

fn spawn_pages(
    process: &Process,
    listener: TcpListener,
    routes: impl Fn(IpAddr) -> Arc<admin::Routes> + Send + 'static,
) {
    let drain = process.signal.clone();
    process.vital("pages", async move {
        admin::serve_by_caller(listener, routes, drain).await;
        Ok(())
    });
}

/// Takes in what is told until the drain; then the publisher goes, and every session is told to
/// connect elsewhere.
fn spawn_writer(process: &Process, writer: Writer, told: mpsc::Receiver<Told>) {
    let mut drain = process.signal.clone();
    process.vital("index", async move {
        tokio::select! {
            () = writer.run(told) => {}
            _deadline = drain.draining() => {}
        }
        Ok(())
    });
}

fn spawn_readiness(process: &Process, catalog: Catalog) {
    let sources = process.ready.register("sources");
    task::spawn("readiness", async move {
        // An error means that the process ends, and that is not ready either.
        if catalog.head().wait_for(|head| head.synced).await.is_ok() {
            drop(sources);
        } else {
            std::mem::forget(sources);
        }
    })
    .detach();
}

fn spawn_root_watch(process: &Process, root: Arc<Root>, clock: Arc<dyn Clock>) {
    let mut drain = process.signal.clone();
    process.vital("root", async move {
        loop {
            tokio::select! {
                () = tokio::time::sleep(limits::ROOT_TICK) => {}
                _deadline = drain.draining() => return Ok(()),
            }
            if let Err(error) = root.tick(clock.now().wall) {
                tracing::error!(%error, "the root stays as it is");
            }
        }
    });
}

struct Listeners {
    xds: TcpListener,
    metrics: TcpListener,
    ready: TcpListener,
}

impl Listeners {
    async fn bind(addresses: Addresses) -> anyhow::Result<Self> {
        Ok(Self {
            xds: bind(addresses.xds).await?,
            metrics: bind(addresses.metrics).await?,
            ready: bind(addresses.ready).await?,
        })
    }

    fn addresses(&self) -> std::io::Result<Addresses> {
        Ok(Addresses {
            xds: self.xds.local_addr()?,
            metrics: self.metrics.local_addr()?,
            ready: self.ready.local_addr()?,
        })
    }
}

/// Listens; where the kernel has no IPv6, any IPv6 address means any IPv4 address.
async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let any_v6 = address.is_ipv6() && address.ip().is_unspecified();
    let bound = match TcpListener::bind(address).await {
        Err(_) if any_v6 => TcpListener::bind((IpAddr::V4(Ipv4Addr::UNSPECIFIED), address.port())).await,
        bound => bound,
    };
    bound.with_context(|| format!("cannot listen on {address}"))
}
