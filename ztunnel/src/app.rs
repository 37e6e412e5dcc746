//! The node proxy, wired.

use std::ffi::OsString;
use std::future::Future;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use chassis::admin::{self as http, Routes};
use chassis::metrics::{Exposition, Registry, register_build, register_process};
use chassis::ready::{Ready, Token};
use chassis::run::{self, Options, Process, Workers};
use chassis::{env, task};
use mesh::{Change, View};
use pki::SystemClock;
use pki::ca_client::{Ask, CaClient};
use pki::cache::{Authority, CertificateCache};
use pki::control_plane::ControlPlane;
use pki::own_authority::OwnAuthority;
use pki::revocation::Revocations;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;

use crate::admin::{self, PodState, Sources};
use crate::config::proxy_config::{Layered, MESH_FILE};
use crate::config::{self, CertificateSource, Config, Mode, Ports, Session};
use crate::dns::{self, Resolver, Zone};
use crate::ebb;
use crate::live::{self, Live};
use crate::net::heap;
use crate::node::{CurrentView, LocalPods, Node};
use crate::pods::client::{Client, Pending};
use crate::pods::listeners::Opener;
use crate::pods::seats::workers_of;
use crate::report::{DnsMetrics, NodeMetrics, Reporter};
use crate::{local, pods};

/// Where the name servers of this node are written.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Runs the node proxy to its end. The arguments are those of the process, program name first;
/// all but `version` are ignored, because Istio's charts give `proxy ztunnel`.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    if args.into_iter().skip(1).any(|arg| arg == "version") {
        println!("{}", env!("CARGO_PKG_VERSION"));
        return ExitCode::SUCCESS;
    }
    run::run(&Options::from_environment("ztunnel"), start)
}

/// Sets everything up. What is returned lives until the drain is over.
async fn start(process: Process) -> anyhow::Result<Workers> {
    heap::keep_a_little();
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let mesh_file = mesh_file()?;
    let strings = Layered::new(&env::ProcessEnvironment, mesh_file.as_deref())?;
    let config = Config::read(&strings, processors)?;
    match config.session {
        Session::Usual => {}
        Session::OnlyPostQuantum => pki::tls::agree_on_keys_by_post_quantum_means_only(),
        Session::Tls12Too => pki::tls::also_speak_tls12(),
    }
    let proxy = process.ready.register("proxy");
    let workers = Workers::start("ztunnel-worker", config.workers).context("cannot start the worker threads")?;

    let mut registry = Registry::default();
    let counted = Counted::register(&mut registry, &workers);
    let certificates = certificates(&config, &process)?;
    let servers = dns::forward::name_servers(&std::fs::read_to_string(RESOLV_CONF).unwrap_or_default());
    let node = Arc::new(Node {
        settings: config.settings.clone(),
        view: CurrentView::default(),
        certificates: certificates.clone(),
        reporter: counted.reporter.clone(),
        live: Live::default(),
        pods: LocalPods::default(),
        resolver: Resolver::new(&servers, config.sockets.ipv6),
    });

    let told = config.local.as_ref().map(local::read).transpose()?.unwrap_or_default();
    let local = Arc::new(View::default().apply(told.clone()));
    node.view.apply(told);
    let synced = follow_control_plane(&config, &node, &counted.node, &process);
    judge_open_connections(&node, &process);
    give_memory_back(&node, &process);
    let opener = opener(&config, &node, &servers, counted.dns);
    let (serving, pending) = serving(&config, opener, &workers, &process, counted.node);
    let shown = Shown { local, config: config::shown(&strings) };
    serve_operators(&config, &node, pending, shown, Exposition::new(registry), &process).await?;

    // No pod is served before the first view: everything would look like a stranger.
    let pods = process.clone();
    process.vital("pods", async move {
        let mut signal = pods.signal.clone();
        tokio::select! {
            synced = synced => synced.context("the configuration client ended")?,
            _deadline = signal.draining() => return Ok(()),
        }
        drop(proxy);
        serving.await
    });
    Ok(workers)
}

/// What the mesh says to all proxies, where that is mounted.
fn mesh_file() -> anyhow::Result<Option<String>> {
    match std::fs::read_to_string(MESH_FILE) {
        Ok(text) => Ok(Some(text)),
        Err(missing) if missing.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {MESH_FILE}")),
    }
}

type Serving = Pin<Box<dyn Future<Output = anyhow::Result<()>> + Send>>;

/// Serves whom the proxy is for, to the end of the drain, once it is polled; and the pods that wait.
fn serving(
    config: &Config,
    opener: Opener,
    workers: &Workers,
    process: &Process,
    metrics: NodeMetrics,
) -> (Serving, Pending) {
    let (handles, process) = (workers.handles().to_vec(), process.clone());
    let first = handles[0].clone();
    match config.mode.clone() {
        Mode::Dedicated(pod) => {
            (Box::pin(pods::own::serve_one(opener, pod, workers_of(0, &handles), process)), Pending::default())
        }
        Mode::Shared(agent) => {
            let own = config.own_pod().map(|pod| pods::own::serve_metrics(opener.clone(), pod, first, process.clone()));
            let client = Client::new(opener, handles, agent, process.ready.clone(), metrics);
            let pending = client.pending();
            let both = async move {
                if let Some(own) = own {
                    task::spawn("own metrics", own).detach();
                }
                client.run(process).await
            };
            (Box::pin(both), pending)
        }
    }
}

/// What counts.
struct Counted {
    reporter: Reporter,
    dns: DnsMetrics,
    node: NodeMetrics,
}

impl Counted {
    fn register(registry: &mut Registry, workers: &Workers) -> Self {
        register_process(registry, workers.handles().to_vec());
        register_build(registry, "ztunnel", env!("CARGO_PKG_VERSION"));
        Self { reporter: Reporter::new(registry), dns: DnsMetrics::new(registry), node: NodeMetrics::new(registry) }
    }
}

fn certificates(config: &Config, process: &Process) -> anyhow::Result<CertificateCache> {
    let authority: Arc<dyn Authority> = match &config.ca {
        CertificateSource::Authority(ca) => {
            let ask = match config.mode {
                Mode::Shared(_) => Ask::ForOthers,
                Mode::Dedicated(_) => Ask::ForItself,
            };
            Arc::new(CaClient::new((**ca).clone(), ask, config.certificate_ttl)?)
        }
        CertificateSource::Fake => {
            tracing::warn!("FAKE_CA: pods are certified by this process itself, and no other believes that");
            let clock = Arc::new(SystemClock);
            Arc::new(OwnAuthority::new(&config.settings.trust_domain, config.certificate_ttl, clock)?)
        }
    };
    let (certificates, mut driver) = CertificateCache::new(authority, Arc::new(SystemClock));
    if let Some(path) = config.revocations.clone() {
        let revocations = Revocations::of_file(&path);
        driver = driver.heeding(revocations.clone());
        process.vital("revocations", async move {
            revocations.follow(&path).await;
            Ok(())
        });
    }
    process.vital("certificates", async move {
        driver.run().await;
        Ok(())
    });
    Ok(certificates)
}

/// Keeps the view up to date. What is returned resolves at the first complete view.
fn follow_control_plane(
    config: &Config,
    node: &Arc<Node>,
    metrics: &NodeMetrics,
    process: &Process,
) -> oneshot::Receiver<()> {
    let (first, synced) = oneshot::channel();
    let Some(control_plane) = config.xds.clone() else {
        tracing::info!("no control plane is asked: what is there is what the local state says");
        // It is waited for at once.
        let _kept = first.send(());
        return synced;
    };
    let sink = Sink { node: node.clone(), waiting: Some((process.ready.register("state manager"), first)) };
    let own = &config.own;
    let known = xds::Node::ztunnel(own.ip, &own.pod, &own.namespace, &config.settings.node)
        .with("CLUSTER_ID", &control_plane.cluster_id)
        .with("NETWORK", &config.settings.network);
    // What we know of ourselves is not to be talked over.
    let besides = own.metadata.iter().filter(|(name, _)| !known.metadata.contains_key(name));
    let named = besides.fold(known.clone(), |node, (name, text)| node.with(name, text));
    let named = own.structured.iter().fold(named, |node, (name, value)| node.with_json(name, value.clone()));
    let metrics = Arc::new(metrics.clone());
    process.vital("configuration", async move {
        xds::client::run(xds::client::Config::new(named), Dialled(control_plane), sink, metrics).await;
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
    node: Arc<Node>,
    waiting: Option<(Token, oneshot::Sender<()>)>,
}

impl xds::client::Sink for Sink {
    fn apply(&mut self, changes: Vec<Change>) {
        self.node.view.apply(changes);
    }

    fn synced(&mut self) {
        if let Some((token, first)) = self.waiting.take() {
            drop(token);
            // Nobody waits any more where the process is about to end.
            let _gone = first.send(());
        }
    }
}

fn judge_open_connections(node: &Arc<Node>, process: &Process) {
    let (node, changes) = (node.clone(), node.view.changes());
    process.vital("open connections", async move {
        live::watch(node.live.clone(), || node.view.now(), changes).await;
        Ok(())
    });
}

fn give_memory_back(node: &Arc<Node>, process: &Process) {
    let live = node.live.clone();
    process.vital("memory", async move {
        ebb::watch(live).await;
        Ok(())
    });
}

fn opener(config: &Config, node: &Arc<Node>, servers: &[SocketAddr], metrics: DnsMetrics) -> Opener {
    let dns = config.dns.as_ref().map(|dns| {
        let zone = Zone {
            domain: dns.domain.as_str().into(),
            ipv6: config.sockets.ipv6,
            preferred_namespace: dns.preferred_namespace.as_deref().map(Into::into),
        };
        (dns::Proxy::new(zone, servers, metrics), dns.addresses.clone())
    });
    Opener {
        node: node.clone(),
        sockets: config.sockets.clone(),
        keep_source: config.keep_source,
        dns,
        served: config.served,
        grace: config.grace,
    }
}

/// What the dump shows besides what changes.
struct Shown {
    local: Arc<View>,
    config: serde_json::Value,
}

/// Health, metrics, and what an operator may ask.
async fn serve_operators(
    config: &Config,
    node: &Arc<Node>,
    pending: Pending,
    shown: Shown,
    exposition: Exposition,
    process: &Process,
) -> anyhow::Result<()> {
    let (view, pods) = (node.clone(), node.clone());
    let sources = Sources {
        view: Arc::new(move || view.view.now()),
        certificates: node.certificates.clone(),
        pods: Arc::new(move || pod_states(&pods, &pending)),
        reporter: node.reporter.clone(),
        local: shown.local,
        config: shown.config,
    };
    let everywhere = |port: u16| async move {
        match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
            Ok(listener) => Ok(listener),
            Err(_no_ipv6) => TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await,
        }
    };
    let Ports { admin: admin_port, metrics, ready } = config.ports;
    let admin = TcpListener::bind((Ipv4Addr::LOCALHOST, admin_port)).await;
    serve(admin, admin_port, admin::routes(sources, process), process)?;
    serve(everywhere(metrics).await, metrics, admin::metrics_routes(Arc::new(exposition)), process)?;
    serve(everywhere(ready).await, ready, admin::ready_routes(Ready::clone(&process.ready)), process)?;
    Ok(())
}

fn serve(listener: std::io::Result<TcpListener>, port: u16, routes: Routes, process: &Process) -> anyhow::Result<()> {
    let listener = listener.with_context(|| format!("cannot listen on port {port}"))?;
    task::spawn("operators", http::serve(listener, Arc::new(routes), process.signal.clone())).detach();
    Ok(())
}

fn pod_states(node: &Node, pending: &Pending) -> Vec<PodState> {
    let state = |pod: &crate::pods::protocol::Pod, up| PodState {
        uid: pod.uid.clone(),
        up,
        name: pod.name.clone(),
        namespace: pod.namespace.clone(),
        service_account: pod.service_account.clone(),
    };
    let up = node.pods.all();
    let waiting = pending.all();
    up.iter().map(|local| state(&local.pod, true)).chain(waiting.iter().map(|pod| state(pod, false))).collect()
}
