//! The waypoint, wired.

use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use chassis::admin::{self as http, Routes};
use chassis::metrics::{Exposition, Registry, register_build, register_process};
use chassis::ready::{Ready, Token};
use chassis::run::{self, Options, Process, Workers};
use chassis::{env, task};
use mesh::Change;
use pki::SystemClock;
use pki::ca_client::{Ask, CaClient};
use pki::cache::CertificateCache;
use pki::control_plane::ControlPlane;
use pki::revocation::Revocations;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::time::{interval, timeout};
use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;

use crate::authn::KeyStore;
use crate::authn::fetch::{Direct, Through};
use crate::config::{self, Config};
use crate::context::{Core, Waypoint};
use crate::limit::Limiter;
use crate::limits::{FIRST_CERTIFICATE_DEADLINE, SWEEP_INTERVAL};
use crate::live::{self, Live};
use crate::report::{self, Reporter, Writer};
use crate::rules::Preparations;
use crate::siblings::Siblings;
use crate::trace::{self, Tracer};
use crate::upstream::asking::{Asker, service_of};
use crate::upstream::cluster::Clusters;
use crate::view::CurrentView;
use crate::{accept, admin};

/// Where tunnels come.
const HBONE_PORT: u16 = 15008;
/// Where an operator asks, on the loopback only.
const ADMIN_PORT: u16 = 15000;
/// Where metrics are scraped.
const METRICS_PORT: u16 = 15020;
/// Where readiness is asked for.
const READY_PORT: u16 = 15021;
/// How often endpoints that are out are looked at.
const HEALTH_INTERVAL: Duration = Duration::from_secs(1);

/// Runs the waypoint to its end. The arguments are those of the process, program name first; all but
/// `version` are ignored, because Istio's template gives `proxy waypoint` and options of Envoy.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    if args.into_iter().skip(1).any(|arg| arg == "version") {
        println!("{}", env!("CARGO_PKG_VERSION"));
        return ExitCode::SUCCESS;
    }
    run::run(&Options::from_environment("waypoint"), start)
}

/// Sets everything up. What is returned lives until the drain is over.
async fn start(process: Process) -> anyhow::Result<Workers> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let labels = |path: &std::path::Path| std::fs::read_to_string(path).ok();
    let config = Config::read(&env::ProcessEnvironment, processors, labels)?;
    let proxy = process.ready.register("proxy");
    let workers = Workers::start("waypoint-worker", config.workers).context("cannot start the worker threads")?;

    let mut registry = Registry::default();
    register_process(&mut registry, workers.handles().to_vec());
    register_build(&mut registry, "waypoint", env!("CARGO_PKG_VERSION"));
    let log = Writer::start(std::io::stdout()).context("cannot start the thread of the access log")?;
    let reporter = Reporter::new(&mut registry, Some((log, report::access::Format::default())));
    let own = &config.settings.own;
    let asker = Asker::default();
    let direct = Direct::new().context("no keys can be fetched")?;
    let finder = asker.clone();
    let find = Arc::new(move |host: &str, port| service_of(&finder, host, port));
    let fetch = Arc::new(Through::new(Arc::new(asker.clone()), find, direct));
    let control = workers.handles().first().cloned().context("there is no worker thread")?;
    let waypoint = Arc::new(Waypoint {
        view: CurrentView::default(),
        certificates: certificates(&config, &process)?,
        rules: Preparations::new(own.namespace(), &own.gateway, true, KeyStore::new(fetch, control.clone())),
        limiter: Limiter::new(Arc::new(Siblings::by(asker.clone())), own.identity.clone(), Arc::new(asker.clone())),
        tracer: Tracer::new(traced(&config), Arc::new(asker.clone()), control.clone()),
        clusters: Clusters::default(),
        clients: Arc::default(),
        live: Live::default(),
        reporter,
        draining: draining(&process),
        signal: process.signal.clone(),
        settings: config.settings.clone(),
    });

    let core = Arc::new(Core::new(waypoint.clone()));
    asker.bind(&core);
    task::spawn_on(&control, "idle connections", sweep(core)).detach();

    let synced = follow_control_plane(&config, &waypoint, &process);
    judge_open_connections(&waypoint, &process);
    look_at_endpoints(&waypoint, &process);
    serve_operators(&waypoint, Exposition::new(registry), &process).await?;

    // Nothing is served before the first view: without rules everything would be let through.
    let (handles, serving) = (workers.handles().to_vec(), process.clone());
    process.vital("tunnels", async move {
        let mut signal = serving.signal.clone();
        tokio::select! {
            synced = synced => synced.context("the configuration client ended")?,
            _deadline = signal.draining() => return Ok(()),
        }
        first_certificate(&waypoint).await;
        open(&waypoint, &handles).await?;
        drop(proxy);
        signal.draining().await;
        Ok(())
    });
    Ok(workers)
}

/// We, as spans name us.
fn traced(config: &Config) -> trace::Own {
    let own = &config.settings.own;
    trace::Own {
        name: own.gateway.clone(),
        namespace: own.namespace().clone(),
        pod: own.pod.clone(),
        address: own.ip.map(|ip| ip.to_string()).unwrap_or_default().into(),
        cluster: config.xds.cluster_id.as_str().into(),
        mesh_id: "".into(),
        version: env!("CARGO_PKG_VERSION").into(),
    }
}

/// A listener and connections of its own for each core.
async fn open(waypoint: &Arc<Waypoint>, handles: &[tokio::runtime::Handle]) -> anyhow::Result<()> {
    for handle in handles {
        let waypoint = waypoint.clone();
        let opened = task::spawn_on(handle, "open the listener", async move {
            let listener = accept::listener(HBONE_PORT)?;
            let core = Arc::new(Core::new(waypoint));
            task::spawn("idle connections", sweep(core.clone())).detach();
            task::spawn("listener", accept::listen(listener, core)).detach();
            Ok::<_, std::io::Error>(())
        });
        opened.await?.with_context(|| format!("cannot listen on port {HBONE_PORT}"))?;
    }
    Ok(())
}

/// Until it is there nobody can call us; connections wait in the handshake.
async fn first_certificate(waypoint: &Waypoint) {
    let own = &waypoint.settings.own.identity;
    match timeout(FIRST_CERTIFICATE_DEADLINE, waypoint.certificates.fetch(own)).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::warn!(identity = %own, %error, "no certificate yet"),
        Err(_) => tracing::warn!(identity = %own, "no certificate yet"),
    }
}

/// Closes connections to endpoints that are idle for long.
async fn sweep(core: Arc<Core>) {
    let mut ticks = interval(SWEEP_INTERVAL);
    loop {
        ticks.tick().await;
        let all = core.waypoint.clusters.all();
        core.upstream.clients.sweep(|key| {
            let cluster = all.binary_search_by(|cluster| cluster.key.cmp(key)).ok().map(|at| &all[at])?;
            cluster.last()?.traffic.pool.idle_timeout
        });
    }
}

fn draining(process: &Process) -> CancellationToken {
    let (token, mut signal) = (CancellationToken::new(), process.signal.clone());
    let (told, unready) = (token.clone(), process.ready.clone());
    task::spawn("drain", async move {
        signal.draining().await;
        // Never taken back: who drains is not ready any more.
        std::mem::forget(unready.register("draining"));
        told.cancel();
    })
    .detach();
    token
}

fn certificates(config: &Config, process: &Process) -> anyhow::Result<CertificateCache> {
    let authority = CaClient::new(config.ca.clone(), Ask::ForItself, config.certificate_ttl)?;
    let (certificates, mut driver) = CertificateCache::new(Arc::new(authority), Arc::new(SystemClock));
    if let Some(path) = config.revocations.clone() {
        let revocations = Revocations::of_file(&path);
        driver = driver.heeding(revocations.clone());
        process.vital("revocations", async move {
            revocations.follow(&path).await;
            Ok(())
        });
    }
    certificates.warm(&config.settings.own.identity);
    process.vital("certificates", async move {
        driver.run().await;
        Ok(())
    });
    Ok(certificates)
}

/// Keeps the view up to date. What is returned resolves at the first complete view.
fn follow_control_plane(config: &Config, waypoint: &Arc<Waypoint>, process: &Process) -> oneshot::Receiver<()> {
    let (first, synced) = oneshot::channel();
    let sink = Sink { waypoint: waypoint.clone(), waiting: Some((process.ready.register("state manager"), first)) };
    let own = &config.settings.own;
    let account = own.identity.service_account();
    let named = xds::Node::waypoint(own.ip, &own.pod, own.namespace(), account, "cluster.local")
        .with("CLUSTER_ID", &config.xds.cluster_id)
        .with("NETWORK", &config.settings.network);
    let control_plane = config.xds.clone();
    process.vital("configuration", async move {
        let report = Arc::new(());
        xds::client::run(xds::client::Config::waypoint(named), Dialled(control_plane), sink, report).await;
        Ok(())
    });
    synced
}

/// How the control plane is reached. Its roots and our token are read anew each time, for both rotate.
struct Dialled(ControlPlane);

impl xds::client::Dial for Dialled {
    async fn dial(&mut self) -> Result<(Channel, MetadataMap), xds::client::DialError> {
        Ok((self.0.channel()?, self.0.metadata()?))
    }
}

/// Takes what the control plane says.
struct Sink {
    waypoint: Arc<Waypoint>,
    waiting: Option<(Token, oneshot::Sender<()>)>,
}

impl xds::client::Sink for Sink {
    fn apply(&mut self, changes: Vec<Change>) {
        self.waypoint.view.apply(changes);
    }

    fn synced(&mut self) {
        if let Some((token, first)) = self.waiting.take() {
            drop(token);
            // Nobody waits any more where the process is about to end.
            let _gone = first.send(());
        }
    }
}

fn judge_open_connections(waypoint: &Arc<Waypoint>, process: &Process) {
    let (waypoint, changes) = (waypoint.clone(), waypoint.view.changes());
    process.vital("open connections", async move {
        live::watch(waypoint.live.clone(), || waypoint.view.now(), changes).await;
        Ok(())
    });
}

fn look_at_endpoints(waypoint: &Arc<Waypoint>, process: &Process) {
    let waypoint = waypoint.clone();
    process.vital("endpoints", async move {
        let mut ticks = interval(HEALTH_INTERVAL);
        loop {
            ticks.tick().await;
            waypoint.clusters.sweep();
        }
    });
}

/// Health, metrics, and what an operator may ask.
async fn serve_operators(waypoint: &Arc<Waypoint>, exposition: Exposition, process: &Process) -> anyhow::Result<()> {
    let everywhere = |port: u16| async move {
        match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
            Ok(listener) => Ok(listener),
            Err(_no_ipv6) => TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await,
        }
    };
    let shown = config::shown(&env::ProcessEnvironment);
    let admin = TcpListener::bind((Ipv4Addr::LOCALHOST, ADMIN_PORT)).await;
    serve(admin, ADMIN_PORT, admin::routes(waypoint, shown, process), process)?;
    let metrics = Routes::new().metrics(Arc::new(exposition)).index("waypoint metrics");
    serve(everywhere(METRICS_PORT).await, METRICS_PORT, metrics, process)?;
    let ready = Routes::new().ready("/healthz/ready", Ready::clone(&process.ready));
    serve(everywhere(READY_PORT).await, READY_PORT, ready, process)?;
    Ok(())
}

fn serve(listener: std::io::Result<TcpListener>, port: u16, routes: Routes, process: &Process) -> anyhow::Result<()> {
    let listener = listener.with_context(|| format!("cannot listen on port {port}"))?;
    task::spawn("operators", http::serve(listener, Arc::new(routes), process.signal.clone())).detach();
    Ok(())
}
