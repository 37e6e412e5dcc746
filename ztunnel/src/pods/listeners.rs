//! The listeners of one pod: opened in its namespace, served on its workers, closed without losing
//! anybody who already waits.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use chassis::task::{self, Task, TaskEnded};
use mesh::identity::IdentityError;
use mesh::{Identity, View, Workload};
use tokio::net::{TcpStream, UdpSocket};
use tokio::runtime::Handle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::protocol::Pod;
use super::seats::{Seat, Seats};
use crate::config::Served;
use crate::limits::{ACCEPT_PAUSE, FIRST_CERTIFICATE_DEADLINE, LAST_WORDS, POD_LEAVES_ALIVE};
use crate::live::{Breaker, Cause};
use crate::net::links::set_kernel_setting;
use crate::net::netns::Netns;
use crate::net::sockets::{Listener, Options, Sockets};
use crate::node::{LocalPod, Node};
use crate::outbound::connect::TunnelDial;
use crate::outbound::socks5::SOCKS5;
use crate::{dns, inbound, outbound};

/// Redirected connections out of the pod.
pub const OUTBOUND_PORT: u16 = 15001;
/// Redirected connections into the pod.
pub const PLAINTEXT_PORT: u16 = 15006;
/// Tunnels to the pod.
pub const HBONE_PORT: u16 = 15008;

/// Lets connections that wait for a listener go over to another of its port when it closes.
const MIGRATE: &str = "net/ipv4/tcp_migrate_req";

/// What all pods' listeners have in common.
#[derive(Clone)]
pub struct Opener {
    /// What their connections may use.
    pub node: Arc<Node>,
    /// What their sockets are like.
    pub sockets: Options,
    /// Applications see the address of their caller; none: where the kernel allows it.
    pub keep_source: Option<bool>,
    /// The DNS proxy and where it listens.
    pub dns: Option<(dns::Proxy, Vec<SocketAddr>)>,
    /// What is served in each pod besides DNS.
    pub served: Served,
    /// How long connections may go on in a drain.
    pub grace: Duration,
}

/// Why the listeners of a pod could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its names make no identity.
    #[error("the pod can have no identity: {0}")]
    Identity(#[from] IdentityError),
    /// A socket.
    #[error("cannot listen on port {port} in the pod: {source}")]
    Listen {
        /// Which port.
        port: u16,
        /// Why.
        source: io::Error,
    },
    /// The pod cannot be connected to in the name of others, though that was asked for.
    #[error("connections to the pod cannot keep the address of their caller, as ENABLE_ORIG_SRC wants")]
    NotTransparent,
    /// The worker is gone.
    #[error("the worker ended: {0}")]
    Worker(#[from] TaskEnded),
}

/// The open listeners of one pod.
pub struct Listening {
    /// The pod.
    pub pod: Arc<LocalPod>,
    seats: Seats,
    node: Arc<Node>,
    /// The DNS proxy, which ends last.
    _dns: Option<Task<()>>,
}

impl Opener {
    /// Opens the listeners of a pod on the first of some workers, and serves them on all of these.
    pub async fn open(
        &self,
        pod: Pod,
        netns: Option<Arc<Netns>>,
        workers: Vec<Handle>,
    ) -> Result<Listening, OpenError> {
        self.open_as(Whose::APods, pod, netns, workers).await
    }

    /// Opens the listener of the proxy's own pod: only that for tunnels, so that its metrics can be
    /// scraped as those of any other pod.
    pub async fn open_own(
        &self,
        pod: Pod,
        netns: Option<Arc<Netns>>,
        workers: Vec<Handle>,
    ) -> Result<Listening, OpenError> {
        self.open_as(Whose::OurOwn, pod, netns, workers).await
    }

    async fn open_as(
        &self,
        whose: Whose,
        pod: Pod,
        netns: Option<Arc<Netns>>,
        workers: Vec<Handle>,
    ) -> Result<Listening, OpenError> {
        let identity = Identity::new(&self.node.settings.trust_domain, &pod.namespace, &pod.service_account)?;
        if let Some(netns) = &netns
            && let Err(error) = set_kernel_setting(netns, MIGRATE, "1")
        {
            tracing::debug!(pod = &*pod.name, %error, "who waits for a listener that closes may be reset");
        }
        // The certificate is asked for while the sockets are made.
        self.node.certificates.warm(&identity);
        let (opener, first) = (self.clone(), workers[0].clone());
        // Sockets belong to the runtime that they are made on.
        let open = async move { opener.open_here(whose, pod, identity, netns, &workers) };
        task::spawn_on(&first, "open listeners", open).await?
    }

    fn open_here(
        &self,
        whose: Whose,
        pod: Pod,
        identity: Identity,
        netns: Option<Arc<Netns>>,
        workers: &[Handle],
    ) -> Result<Listening, OpenError> {
        let sockets = Sockets::new(netns, self.sockets.clone());
        let transparent = match self.keep_source {
            // Nobody has made rules there that would lead the answers back to us.
            _ if whose == Whose::OurOwn => false,
            Some(false) => false,
            Some(true) if !sockets.can_be_transparent() => return Err(OpenError::NotTransparent),
            Some(true) => true,
            None => sockets.can_be_transparent(),
        };
        let failed = |port| move |source| OpenError::Listen { port, source };
        let listen = |port| sockets.listen_everywhere(port).map_err(failed(port));
        let is_pod = whose == Whose::APods;
        let when = |wanted: bool, port| if wanted { listen(port) } else { Ok(Vec::new()) };
        let redirected = is_pod && self.served.redirected;
        let (outbound, plaintext) = (when(redirected, OUTBOUND_PORT)?, when(redirected, PLAINTEXT_PORT)?);
        let tunnels = when(!is_pod || redirected, HBONE_PORT)?;
        let socks5 = match is_pod && self.served.socks5 {
            true => vec![sockets.listen(SOCKS5).map_err(failed(SOCKS5.port()))?],
            false => Vec::new(),
        };
        let dns = if is_pod { self.dns_sockets(&sockets)? } else { None };
        let certificates = self.node.certificates.clone();
        let dial = TunnelDial { sockets: sockets.clone(), certificates };
        let pod = Arc::new(LocalPod {
            pod,
            identity,
            sockets: sockets.clone(),
            transparent,
            draining: CancellationToken::new(),
            work: TaskTracker::new(),
            breaker: Breaker::default(),
            printed: ArcSwapOption::empty(),
        });
        let seats = Seats::new(&pod, workers, &dial, &self.node.settings.tunnels);
        let dns = dns.map(|(proxy, datagrams, listeners)| {
            let client = Arc::new(DnsClient { pod: pod.clone(), node: self.node.clone() });
            let serve = async move { proxy.serve(datagrams, listeners, client, Arc::new(sockets)).await };
            task::spawn("dns proxy", serve)
        });
        self.serve(&seats, outbound, "outbound", outbound::serve);
        let names = self.dns.as_ref().map(|(proxy, _)| proxy.clone());
        self.serve(&seats, socks5, "outbound by SOCKS5", move |stream, from, seat, node| {
            outbound::socks5::serve(stream, from, seat, node, names.clone())
        });
        self.serve(&seats, plaintext, "inbound plaintext", inbound::plaintext::serve);
        // A pod that leaves and lives on has longer than the process that ends; either breaks off what is left.
        let grace = self.grace.max(POD_LEAVES_ALIVE);
        self.serve(&seats.of_tunnels(), tunnels, "inbound", move |stream, from, seat, node| {
            inbound::tunnels::serve(stream, from, seat, node, grace)
        });
        if is_pod {
            self.node.pods.add(&pod);
        }
        Ok(Listening { pod, seats, node: self.node.clone(), _dns: dns })
    }

    fn dns_sockets(&self, sockets: &Sockets) -> Result<Option<DnsSockets>, OpenError> {
        let Some((proxy, addresses)) = &self.dns else { return Ok(None) };
        let (mut datagrams, mut listeners) = (Vec::new(), Vec::new());
        for address in addresses {
            let made = sockets.datagrams(*address).and_then(|udp| Ok((udp, sockets.listen(*address)?)));
            match made {
                Ok((udp, tcp)) => {
                    datagrams.push(udp);
                    listeners.push(tcp);
                }
                // A pod without IPv6 has no ::1.
                Err(_) if address.is_ipv6() && !datagrams.is_empty() => {}
                Err(source) => return Err(OpenError::Listen { port: address.port(), source }),
            }
        }
        Ok(Some((proxy.clone(), datagrams, listeners)))
    }

    fn serve<F, S>(&self, seats: &Seats, listeners: Vec<Listener>, name: &'static str, serve: F)
    where
        F: Fn(TcpStream, SocketAddr, Arc<Seat>, Arc<Node>) -> S + Clone + Send + Sync + 'static,
        S: Future<Output = ()> + Send + 'static,
    {
        for listener in listeners {
            let accepting = accept(listener, seats.clone(), self.node.clone(), name, serve.clone());
            // It ends when the pod drains, and is waited for by its token.
            task::spawn(name, accepting).detach();
        }
    }
}

/// Whose listeners are opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    /// A pod's that we proxy for.
    APods,
    /// Those of the pod that the proxy itself is.
    OurOwn,
}

type DnsSockets = (dns::Proxy, Vec<UdpSocket>, Vec<Listener>);

/// Accepts until the pod drains, and then whoever already waits.
async fn accept<F, S>(listener: Listener, seats: Seats, node: Arc<Node>, name: &'static str, serve: F)
where
    F: Fn(TcpStream, SocketAddr, Arc<Seat>, Arc<Node>) -> S + Send + Sync + 'static,
    S: Future<Output = ()> + Send + 'static,
{
    let pod = seats.pod();
    let _token = pod.work.token();
    // Until then connections wait in the kernel, where they lose nothing.
    let first = timeout(FIRST_CERTIFICATE_DEADLINE, node.certificates.fetch(&pod.identity));
    if let Ok(Err(error)) = first.await {
        tracing::warn!(pod = &*pod.pod.name, namespace = &*pod.pod.namespace, %error, "no certificate yet");
    }
    let take = |(stream, from): (std::net::TcpStream, SocketAddr)| {
        let seat = seats.take();
        // It is heard of on the worker where it is served.
        let stream = {
            let _there = seat.worker.enter();
            TcpStream::from_std(stream)?
        };
        // A drain waits for it from here on, also while it is still being connected.
        let serving = pod.work.track_future(serve(stream, from, seat.clone(), node.clone()));
        task::spawn_on(&seat.worker, name, serving).detach();
        Ok::<_, io::Error>(())
    };
    loop {
        let accepted = tokio::select! {
            biased;
            accepted = listener.accept() => accepted,
            () = pod.draining.cancelled() => break,
        };
        // One that was reset while it waited is nobody's fault; without descriptors a pause helps.
        if let Err(error) = accepted.and_then(take)
            && error.kind() != io::ErrorKind::ConnectionAborted
        {
            tracing::warn!(%error, listener = name, "cannot accept a connection");
            sleep(ACCEPT_PAUSE).await;
        }
    }
    // Who waits already is served still. Who comes between the last of them and the close goes over
    // to the listener of the next process (`tcp_migrate_req`), if there is one.
    // The kernel is asked itself: the runtime may not have heard yet of those who came last.
    while let Ok(accepted) = listener.waiting() {
        let _gone = take(accepted);
    }
}

impl Listening {
    /// Connections that carry tunnels of the pod to others.
    pub fn tunnels(&self) -> usize {
        self.seats.tunnels()
    }

    /// Takes no more connections, waits for the open ones, and breaks off what is left after `grace`.
    pub async fn drain(self, grace: Duration) {
        self.drain_until(grace, std::future::pending()).await;
    }

    /// The same, but breaks off sooner if `sooner` is ready.
    pub async fn drain_until(self, grace: Duration, sooner: impl Future<Output = ()>) {
        self.close();
        tokio::select! {
            () = self.pod.work.wait() => return,
            () = sleep(grace.saturating_sub(LAST_WORDS)) => {}
            () = sooner => {}
        }
        self.break_off(Cause::DrainDeadline);
        // Whoever does not notice that is left to the end of the process.
        let _late = timeout(LAST_WORDS, self.pod.work.wait()).await;
    }

    /// Ends everything now.
    pub fn end(self) {
        self.close();
        self.break_off(Cause::PodGone);
    }

    fn close(&self) {
        self.node.pods.remove(&self.pod);
        self.pod.draining.cancel();
        self.pod.work.close();
    }

    fn break_off(&self, cause: Cause) {
        let broken = self.node.live.break_off_pod(&self.pod.breaker, cause);
        if broken > 0 {
            tracing::info!(pod = &*self.pod.pod.name, "{broken} connections: {cause}");
        }
    }
}

/// The pod, as its DNS proxy knows it.
struct DnsClient {
    pod: Arc<LocalPod>,
    node: Arc<Node>,
}

impl dns::Pod for DnsClient {
    fn view(&self) -> (Arc<View>, Option<Arc<Workload>>) {
        let view = self.node.view.now();
        let Pod { namespace, name, service_account, .. } = &self.pod.pod;
        let workload = view.workload_of_pod(namespace, name, service_account).cloned();
        (view, workload)
    }

    async fn known(&self) {
        let _known_or_not = self.node.workload_of(&self.pod.pod).await;
    }
}
