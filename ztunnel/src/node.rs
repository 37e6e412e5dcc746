//! What every connection of this node may use: the view, certificates, the report, the other pods.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::{fmt, io};

use arc_swap::{ArcSwap, ArcSwapOption};
use hbone::head::BaggageText;
use hbone::limits::Limits;
use mesh::{Change, Identity, Str, View, Workload};
use pki::WorkloadCertificate;
use pki::cache::{CertificateCache, CertificateError};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::dns::Resolver;
use crate::limits::{CERTIFICATE_DEADLINE, CONNECT_DEADLINE, WORKLOAD_DEADLINE};
use crate::live::{Breaker, Judged, Live, Tracked};
use crate::net::sockets::Sockets;
use crate::pods::protocol::Pod;
use crate::report::Reporter;

/// What every connection may use.
pub struct Node {
    /// What the operator set.
    pub settings: Settings,
    /// What is known of the mesh.
    pub view: CurrentView,
    /// Our certificates.
    pub certificates: CertificateCache,
    /// Where connections are told of.
    pub reporter: Reporter,
    /// The open ones.
    pub live: Live,
    /// The pods we proxy for.
    pub pods: LocalPods,
    /// Finds addresses of endpoints that have only a name.
    pub resolver: Resolver,
}

/// What the operator set, as far as connections care.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Our own network.
    pub network: Str,
    /// Our own node.
    pub node: Str,
    /// Trust domain of the mesh.
    pub trust_domain: Str,
    /// Pods of this node are connected through tunnels, too.
    pub force_tunnel: bool,
    /// Proxies behind this one are reached on the loopback.
    pub tunnel_to_localhost: bool,
    /// Callers are told by which workload they were answered.
    pub response_baggage: bool,
    /// What policy decided is logged at info and not at debug.
    pub log_policy: bool,
    /// Numbers of tunnels.
    pub tunnels: Limits,
}

/// The view of now. One writer replaces it, everybody reads it without a lock.
#[derive(Debug)]
pub struct CurrentView {
    view: ArcSwap<View>,
    changed: watch::Sender<u64>,
}

impl Default for CurrentView {
    fn default() -> Self {
        Self { view: ArcSwap::default(), changed: watch::Sender::new(0) }
    }
}

impl CurrentView {
    /// The view of now.
    pub fn now(&self) -> Arc<View> {
        self.view.load_full()
    }

    /// Replaces it by the one after `changes`. Only one task may do this.
    pub fn apply(&self, changes: Vec<Change>) {
        let next = Arc::new(self.view.load().apply(changes));
        let version = next.version();
        self.view.store(next);
        self.changed.send_replace(version);
    }

    /// Learns of each replacement.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

/// A pod of this node that we proxy for.
pub struct LocalPod {
    /// What the agent told of it.
    pub pod: Pod,
    /// Who it is. The agent told so, and each of its connections comes out of its own namespace.
    pub identity: Identity,
    /// Makes sockets inside it.
    pub sockets: Sockets,
    /// Connections to it can be made in the name of the caller.
    pub transparent: bool,
    /// Cancelled when it takes no more connections.
    pub draining: CancellationToken,
    /// Tracks its connections and listeners.
    pub work: TaskTracker,
    /// Broken off when nothing of the pod may go on.
    pub breaker: Breaker,
    /// What is said of it to others, as it was printed last.
    pub printed: ArcSwapOption<(Arc<Workload>, BaggageText)>,
}

impl LocalPod {
    /// What is said of this pod to others, who know it as this workload. Connections come more often than
    /// what there is to say changes.
    pub fn baggage(&self, workload: &Arc<Workload>) -> BaggageText {
        if let Some(printed) = &*self.printed.load()
            && Arc::ptr_eq(&printed.0, workload)
        {
            return printed.1.clone();
        }
        let text = BaggageText::from(&**workload);
        self.printed.store(Some(Arc::new((workload.clone(), text.clone()))));
        text
    }

    /// Notes an open connection of this pod; `judged` where the pod is called.
    pub fn track(&self, live: &Live, judged: Option<Judged>, breaker: &Breaker) -> Tracked {
        let tracked = live.track(&self.breaker, judged, breaker);
        // The pod may have been given up between the decision and this.
        if let Some(cause) = self.breaker.cause() {
            breaker.break_off(cause);
        }
        tracked
    }

    /// Connects to the pod's application, in the name of the caller where that is possible.
    pub async fn connect_as(&self, caller: IpAddr, target: SocketAddr) -> Result<TcpStream, ConnectError> {
        let alike = caller.is_ipv4() == target.is_ipv4();
        // A connection whose two ends are the same address needs no name but its own.
        let needed = caller != target.ip() && !target.ip().is_loopback() && !caller.is_loopback();
        if self.transparent && alike && needed {
            in_time(self.sockets.connect_as(caller, target)).await
        } else {
            in_time(self.sockets.connect(target)).await
        }
    }

    /// Connects from the pod to the outside, from the address that its application used.
    pub async fn connect_from(&self, client: IpAddr, target: SocketAddr) -> Result<TcpStream, ConnectError> {
        connect_from(&self.sockets, client, target).await
    }
}

impl fmt::Debug for LocalPod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalPod").field("pod", &self.pod).finish_non_exhaustive()
    }
}

/// Why a TCP connect did not succeed.
#[derive(Debug)]
pub enum ConnectError {
    /// The kernel says so.
    Failed(io::Error),
    /// Nobody said anything in time.
    Deadline,
}

/// Connects from the address that an application used, where that is one to connect from.
pub(crate) async fn connect_from(
    sockets: &Sockets,
    client: IpAddr,
    target: SocketAddr,
) -> Result<TcpStream, ConnectError> {
    if client.is_ipv4() == target.is_ipv4() && client.is_loopback() == target.ip().is_loopback() {
        in_time(sockets.connect_from(client, target)).await
    } else {
        in_time(sockets.connect(target)).await
    }
}

async fn in_time(connect: impl Future<Output = io::Result<TcpStream>>) -> Result<TcpStream, ConnectError> {
    match timeout(CONNECT_DEADLINE, connect).await {
        Ok(result) => result.map_err(ConnectError::Failed),
        Err(_) => Err(ConnectError::Deadline),
    }
}

/// The pods we proxy for. Replaced whole, read without a lock.
#[derive(Debug, Default)]
pub struct LocalPods {
    pods: ArcSwap<Vec<Arc<LocalPod>>>,
}

impl LocalPods {
    /// The pod that a workload is, if it is one of ours.
    pub fn of(&self, workload: &Workload) -> Option<Arc<LocalPod>> {
        // A node has a few hundred pods at most; of two with a name the newer one counts.
        let is = |local: &&Arc<LocalPod>| {
            *local.pod.name == *workload.name
                && *local.pod.namespace == *workload.namespace
                && *local.pod.service_account == *workload.service_account
        };
        self.pods.load().iter().rev().find(is).cloned()
    }

    /// All of them.
    pub fn all(&self) -> Arc<Vec<Arc<LocalPod>>> {
        self.pods.load_full()
    }

    /// Adds one.
    pub fn add(&self, pod: &Arc<LocalPod>) {
        self.pods.rcu(|pods| pods.iter().chain([pod]).cloned().collect::<Vec<_>>());
    }

    /// Removes exactly this one.
    pub fn remove(&self, pod: &Arc<LocalPod>) {
        self.pods.rcu(|pods| pods.iter().filter(|other| !Arc::ptr_eq(other, pod)).cloned().collect::<Vec<_>>());
    }
}

impl Node {
    /// The workload of a pod. Waits a little for the control plane to tell of it.
    pub async fn workload_of(&self, pod: &Pod) -> Option<Arc<Workload>> {
        let mut changes = self.view.changes();
        let known = || {
            let view = self.view.now();
            view.workload_of_pod(&pod.namespace, &pod.name, &pod.service_account).cloned()
        };
        let found = async {
            loop {
                changes.mark_unchanged();
                if let Some(workload) = known() {
                    return Some(workload);
                }
                changes.changed().await.ok()?;
            }
        };
        timeout(WORKLOAD_DEADLINE, found).await.ok().flatten()
    }

    /// A certificate of ours. Waits for the authority if it has to.
    pub async fn certificate(&self, identity: &Identity) -> Result<Arc<WorkloadCertificate>, CertificateError> {
        let fetched = timeout(CERTIFICATE_DEADLINE, self.certificates.fetch(identity)).await;
        fetched.unwrap_or(Err(CertificateError::TimedOut))
    }

    /// The pod that a workload is, where connections to it need no tunnel.
    pub fn without_tunnel(&self, workload: &Workload) -> Option<Arc<LocalPod>> {
        let here = !self.settings.force_tunnel && *workload.node == *self.settings.node;
        self.pods.of(workload).filter(|pod| here && !pod.draining.is_cancelled())
    }
}
