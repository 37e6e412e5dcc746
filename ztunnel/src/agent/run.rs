//! The agent, running: one reader of facts that says of each pod what should be, and one task a
//! pod that sees to it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use anyhow::Context;
use chassis::admin::{self, Routes, text};
use chassis::metrics::{Exposition, register_build, register_process};
use chassis::objects::{Directory, ObjectEvent, ObjectKey};
use chassis::run::Process;
use chassis::task::{self, Task};
use http::StatusCode;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout_at};

use super::cni::{self, Announced, Announcement, Known};
use super::config::Config;
use super::enrol;
use super::facts::{Labels, PodFacts, PodName, namespace_labels};
use super::limits::{CNI_QUEUED_MAX, RECOVERY_DEADLINE};
use super::pod::{self, Node, Standing};
use super::report::Report;
use super::status::{self, Status};
use super::steps::{Member, Told, Want};
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
        tracing::info!(pods = agent.keepers.len(), "ready for ztunnel and new pods");
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

/// One pod's task.
struct Keeper {
    want: watch::Sender<Want>,
    standing: watch::Receiver<Standing>,
    task: Task<()>,
}

/// The reader of facts.
struct Agent {
    config: Config,
    node: Arc<Node>,
    directory: Directory,
    namespaces: BTreeMap<String, Labels>,
    /// The pods of this node.
    pods: BTreeMap<PodName, PodFacts>,
    /// What was announced of them before they started.
    announced: BTreeMap<PodName, Announced>,
    /// Announcements of pods that are not known yet.
    waiting: Vec<Announcement>,
    keepers: BTreeMap<PodName, Keeper>,
}

impl Agent {
    fn new(config: Config, node: Arc<Node>, directory: Directory) -> Self {
        Self {
            config,
            node,
            directory,
            namespaces: BTreeMap::new(),
            pods: BTreeMap::new(),
            announced: BTreeMap::new(),
            waiting: Vec::new(),
            keepers: BTreeMap::new(),
        }
    }

    /// Finds the pods again that an earlier agent took in: when this returns each was tried once.
    async fn recover(mut self) -> Self {
        let deadline = Instant::now() + RECOVERY_DEADLINE;
        let events = self.directory.next().await;
        let touched = self.take(events);
        for pod in self.pods.values().filter(|pod| status::told(pod) == Told::Enabled) {
            self.node.proxies.keep(&pod.uid);
        }
        self.follow(touched);
        for (name, keeper) in &mut self.keepers {
            let tried = keeper.standing.wait_for(|standing| *standing != Standing::Working);
            if timeout_at(deadline, tried).await.is_err() {
                tracing::warn!(pod = %name, "a pod was not found again in time, ztunnel is told to keep it");
            }
        }
        if let Err(error) = self.prune() {
            tracing::warn!(%error, "cannot clean up after pods that are no more");
        }
        self
    }

    /// Takes back what an earlier agent left of pods that are no more.
    fn prune(&self) -> std::io::Result<()> {
        self.node.status.forget_all_but(self.pods.keys())?;
        let mut stale = nat::probed(&self.node.home)?;
        let wanted: BTreeSet<IpAddr> = self
            .keepers
            .values()
            .flat_map(|keeper| match &*keeper.want.borrow() {
                Want::In(member) => member.addresses.clone(),
                Want::Out { .. } | Want::Gone => Vec::new(),
            })
            .collect();
        stale.retain(|address| !wanted.contains(address));
        nat::remove_probed(&self.node.home, &stale)
    }

    /// Follows facts and announcements for ever.
    async fn read(mut self, mut announcements: mpsc::Receiver<Announcement>) {
        loop {
            // Cancelled, neither arm loses anything.
            tokio::select! {
                events = self.directory.next() => {
                    let touched = self.take(events);
                    self.follow(touched);
                }
                announcement = announcements.recv() => match announcement {
                    Some(announcement) => self.announce(announcement),
                    None => return,
                },
            }
        }
    }

    /// Takes what changed, and returns the pods that it may concern.
    fn take(&mut self, events: Vec<ObjectEvent>) -> BTreeSet<PodName> {
        let mut touched = BTreeSet::new();
        for event in events {
            match event {
                ObjectEvent::Applied(object) if is(&object.key(), "Namespace") => {
                    self.namespaces.insert(object.name.clone(), namespace_labels(&object));
                    touched.extend(self.of_namespace(&object.name));
                }
                ObjectEvent::Removed(key) if is(&key, "Namespace") => {
                    self.namespaces.remove(&key.name);
                    touched.extend(self.of_namespace(&key.name));
                }
                ObjectEvent::Applied(object) if is(&object.key(), "Pod") => {
                    let name = PodName { namespace: object.namespace.clone(), name: object.name.clone() };
                    let pod = PodFacts::of(&object);
                    let known = if pod.node == self.config.node {
                        self.pods.insert(name.clone(), pod)
                    } else {
                        self.pods.remove(&name)
                    };
                    if known.is_some() || self.pods.contains_key(&name) {
                        self.node.report.event(if known.is_some() { "update" } else { "add" });
                        touched.insert(name);
                    }
                }
                ObjectEvent::Removed(key) if is(&key, "Pod") => {
                    let name = PodName { namespace: key.namespace, name: key.name };
                    if self.pods.remove(&name).is_some() {
                        self.node.report.event("delete");
                        touched.insert(name);
                    }
                }
                ObjectEvent::Applied(_) | ObjectEvent::Removed(_) => {}
                ObjectEvent::Problem(problem) => tracing::warn!(%problem, "a file cannot be read"),
            }
        }
        touched
    }

    fn of_namespace(&self, namespace: &str) -> Vec<PodName> {
        self.pods.keys().filter(|name| name.namespace == namespace).cloned().collect()
    }

    fn follow(&mut self, touched: BTreeSet<PodName>) {
        for name in touched {
            if !self.pods.contains_key(&name) {
                self.announced.remove(&name);
            }
            self.reconcile(&name);
        }
        let waiting = std::mem::take(&mut self.waiting);
        waiting.into_iter().filter(|announcement| !announcement.answer.is_closed()).for_each(|one| self.announce(one));
    }

    /// Has what should be of one pod be seen to.
    fn reconcile(&mut self, name: &PodName) {
        let Some(want) = self.want(name) else { return };
        if let Some(keeper) = self.keepers.get(name).filter(|keeper| !keeper.task.is_finished()) {
            keeper.want.send_if_modified(|before| {
                let differs = *before != want;
                *before = want;
                differs
            });
            return;
        }
        self.keepers.remove(name);
        let told = self.pods.get(name).map_or(Told::Nothing, status::told);
        let needed = match want {
            Want::In(_) => true,
            Want::Out { .. } => told != Told::Nothing,
            Want::Gone => false,
        };
        if needed {
            let (want, wanted) = watch::channel(want);
            let (stands, standing) = watch::channel(Standing::Working);
            let task = task::spawn("pod", pod::keep(name.clone(), told, self.node.clone(), wanted, stands));
            self.keepers.insert(name.clone(), Keeper { want, standing, task });
        }
    }

    /// What should be of one pod; `None` while too little is known to do anything.
    fn want(&self, name: &PodName) -> Option<Want> {
        let Some(pod) = self.pods.get(name) else { return Some(Want::Gone) };
        match self.belongs(name, pod) {
            Err(enrol::Outside::Ended) => return Some(Want::Gone),
            Err(_) => return Some(Want::Out { netns: pod.netns() }),
            Ok(()) => {}
        }
        let announced = self.announced.get(name);
        let netns = pod.netns().or_else(|| announced.map(|announced| announced.netns.clone()))?;
        let addresses = match (pod.addresses.as_slice(), announced) {
            ([], Some(announced)) => announced.addresses.clone(),
            (addresses, _) => addresses.to_vec(),
        };
        if addresses.is_empty() || pod.uid.is_empty() {
            return None;
        }
        Some(Want::In(Member {
            uid: pod.uid.clone(),
            service_account: pod.service_account.clone(),
            netns,
            addresses,
            redirect: enrol::redirect(pod, self.config.dns),
        }))
    }

    fn belongs(&self, name: &PodName, pod: &PodFacts) -> Result<(), enrol::Outside> {
        let labels = self.namespaces.get(&name.namespace).cloned().unwrap_or_default();
        enrol::belongs(pod, &name.namespace, &labels, &self.config.selection)
    }

    /// A pod is about to start.
    fn announce(&mut self, announcement: Announcement) {
        let Announcement { announced, answer } = announcement;
        let name = announced.pod.clone();
        let Some(pod) = self.pods.get(&name).filter(|pod| !pod.uid.is_empty()) else {
            return self.waiting.push(Announcement { announced, answer });
        };
        let uid = pod.uid.clone();
        if self.belongs(&name, pod).is_err() {
            // Whoever asked may have given up.
            let _ = answer.send(Known::Outside);
            return;
        }
        self.announced.insert(name.clone(), announced.clone());
        self.reconcile(&name);
        let (Some(Want::In(member)), Some(keeper)) = (self.want(&name), self.keepers.get(&name)) else {
            return self.waiting.push(Announcement { announced, answer });
        };
        let known = Known::Taken { uid, netns: member.netns, standing: keeper.standing.clone() };
        let _ = answer.send(known);
    }
}

fn is(key: &ObjectKey, kind: &str) -> bool {
    key.group.is_empty() && key.kind == kind
}
