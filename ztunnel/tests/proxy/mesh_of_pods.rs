//! Four pods and the proxies of two nodes: what cases run on.
//!
//! `client` and `near` are on node n1, `server` is on n2; `outside` is not in the mesh.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use chassis::metrics::{Exposition, Registry};
use chassis::run::Workers;
use mesh::fixture;
use pki::SystemClock;
use pki::cache::CertificateCache;
use testkit::certs::FakeCa;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use ztunnel::config::Served;
use ztunnel::dns::Resolver;
use ztunnel::live::Live;
use ztunnel::net::netns::Netns;
use ztunnel::net::redirect::{self, Redirect};
use ztunnel::net::sockets::Options;
use ztunnel::node::{CurrentView, LocalPods, Node, Settings};
use ztunnel::pods::listeners::{Listening, Opener};
use ztunnel::pods::protocol::Pod;
use ztunnel::report::Reporter;

use crate::world::{World, pod_v4, pod_v6};

/// The number of a pod of the [`World`].
pub(crate) const CLIENT: usize = 0;
pub(crate) const SERVER: usize = 1;
pub(crate) const NEAR: usize = 2;
pub(crate) const OUTSIDE: usize = 3;

const NAMES: [(&str, &str); 4] = [("client", "n1"), ("server", "n2"), ("near", "n1"), ("outside", "n2")];

/// The service of `server` and the one of `near`, and of `outside`.
pub(crate) const SERVER_VIP: &str = "10.1.0.1:80";
pub(crate) const NEAR_VIP: &str = "10.1.0.2:80";
pub(crate) const OUTSIDE_VIP: &str = "10.1.0.3:80";

pub(crate) const SHOP: &str = "
pod client ns=shop sa=client ip=10.0.0.2,fd00::2 node=n1 uid=client
pod server ns=shop sa=server ip=10.0.0.3,fd00::3 node=n2 uid=server
pod near ns=shop sa=near ip=10.0.0.4,fd00::4 node=n1 uid=near
pod outside ns=shop sa=outside ip=10.0.0.5,fd00::5 node=n2 uid=outside plain
service server ns=shop vip=10.1.0.1 80->8080 pods=server
service near ns=shop vip=10.1.0.2 80->8080 pods=near
service outside ns=shop vip=10.1.0.3 80->8080 pods=outside
";

/// The pods and their proxies.
pub(crate) struct MeshOfPods {
    pub(crate) world: World,
    pub(crate) nodes: [Proxy; 2],
    pub(crate) ca: Arc<FakeCa>,
}

/// The proxy of one node.
pub(crate) struct Proxy {
    pub(crate) opener: Opener,
    pub(crate) workers: Workers,
    pub(crate) listening: Vec<Listening>,
    exposition: Exposition,
    _judging: chassis::task::Task<()>,
}

impl MeshOfPods {
    /// With the policies of `text` besides, and a change of settings.
    pub(crate) async fn with(text: &str, settings: impl Fn(&mut Settings)) -> Self {
        let mut mesh = Self::without_listeners(text, settings);
        for number in 0..OUTSIDE {
            mesh.open(number).await;
        }
        mesh
    }

    /// Opens the listeners of one pod.
    pub(crate) async fn open(&mut self, number: usize) {
        let (name, node) = NAMES[number];
        let netns = Arc::new(netns(self, number));
        let proxy = &mut self.nodes[usize::from(node == "n2")];
        let workers = proxy.workers.handles().to_vec();
        let listening = proxy.opener.open(pod(name), Some(netns), workers).await;
        proxy.listening.push(listening.expect("listening in a pod"));
    }

    /// The pods are redirected, and nobody listens there yet.
    pub(crate) fn without_listeners(text: &str, settings: impl Fn(&mut Settings)) -> Self {
        let world = World::new(NAMES.len());
        for netns in &world.pods[..OUTSIDE] {
            redirect::apply(netns, &Redirect { dns: false, ..Redirect::default() }).expect("redirected");
        }
        let ca = Arc::new(FakeCa::new());
        let changed = &settings;
        let nodes = ["n1", "n2"].map(|name| Proxy::new(name, &format!("{SHOP}{text}"), &ca, changed));
        Self { world, nodes, ca }
    }

    /// As it is by default.
    pub(crate) async fn new() -> Self {
        Self::with("", |_| {}).await
    }

    /// Replaces what the proxies know: these lines in place of the policies.
    pub(crate) fn change(&self, text: &str) {
        for proxy in &self.nodes {
            proxy.opener.node.view.apply(fixture::changes(&format!("{SHOP}{text}")));
        }
    }

    /// A listener of an application.
    pub(crate) fn listen(&self, pod: usize, port: u16) -> TcpListener {
        let address = SocketAddr::new("::".parse().expect("an address"), port);
        let listener = self.inside(pod, || std::net::TcpListener::bind(address)).expect("listening");
        listener.set_nonblocking(true).expect("not blocking");
        TcpListener::from_std(listener).expect("listening")
    }

    /// A connection of an application.
    pub(crate) async fn connect(&self, pod: usize, to: &str) -> std::io::Result<TcpStream> {
        let to: SocketAddr = to.parse().expect("an address");
        let kind = if to.is_ipv4() { tokio::net::TcpSocket::new_v4 } else { tokio::net::TcpSocket::new_v6 };
        self.inside(pod, kind)?.connect(to).await
    }

    pub(crate) fn inside<T>(&self, pod: usize, act: impl FnOnce() -> T) -> T {
        self.world.pods[pod].run(act).expect("inside the pod")
    }

    /// What the metrics of a node say: the sum of a counter over all series with this text in them.
    pub(crate) fn counted(&self, node: usize, name: &str, with: &str) -> f64 {
        self.nodes[node].counted(name, with)
    }

    /// Waits until a counter has a value.
    pub(crate) async fn until_counted(&self, node: usize, name: &str, with: &str, value: f64) {
        let text = || format!("{name}{{{with}}} of n{} is {}", node + 1, self.counted(node, name, with));
        until(&text, || self.counted(node, name, with) == value).await;
    }
}

impl Proxy {
    fn new(name: &str, text: &str, ca: &Arc<FakeCa>, changed: &impl Fn(&mut Settings)) -> Self {
        let (certificates, driver) = CertificateCache::new(ca.clone(), Arc::new(SystemClock));
        chassis::task::spawn("certificates", driver.run()).detach();
        let mut registry = Registry::default();
        let mut settings = Settings {
            network: "".into(),
            node: name.into(),
            trust_domain: "cluster.local".into(),
            force_tunnel: false,
            tunnel_to_localhost: true,
            response_baggage: true,
            log_policy: false,
            tunnels: hbone::limits::Limits::default(),
        };
        changed(&mut settings);
        let node = Arc::new(Node {
            settings,
            view: CurrentView::default(),
            certificates,
            reporter: Reporter::new(&mut registry),
            live: Live::default(),
            pods: LocalPods::default(),
            resolver: Resolver::new(&[], true),
        });
        node.view.apply(fixture::changes(text));
        let watched = node.clone();
        let judging = chassis::task::spawn("open connections", async move {
            let changes = watched.view.changes();
            ztunnel::live::watch(watched.live.clone(), || watched.view.now(), changes).await;
        });
        let sockets = Options { mark: Some(1337), share_ports: true, ipv6: true, keepalive: None, user_timeout: false };
        let served = Served { redirected: true, socks5: true };
        let opener = Opener { node, sockets, keep_source: None, dns: None, served, grace: Duration::from_secs(5) };
        let workers = Workers::start(name, 2).expect("workers");
        let exposition = Exposition::new(registry);
        Self { opener, workers, listening: Vec::new(), exposition, _judging: judging }
    }

    /// Connections that carry tunnels of its pods to others.
    pub(crate) fn tunnels(&self) -> usize {
        self.listening.iter().map(Listening::tunnels).sum()
    }

    pub(crate) fn counted(&self, name: &str, with: &str) -> f64 {
        let text = self.exposition.prometheus_text();
        let lines = text.lines().filter(|line| line.starts_with(name) && line.contains(with));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }
}

/// Waits for a condition; `what` says what there is instead.
pub(crate) async fn until(what: &impl Fn() -> String, condition: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
    while !condition() {
        assert!(tokio::time::Instant::now() < deadline, "{}", what());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// What the agent tells of a pod.
pub(crate) fn pod(name: &str) -> Pod {
    Pod { uid: name.into(), name: name.into(), namespace: "shop".into(), service_account: name.into() }
}

/// The addresses of a pod.
pub(crate) fn v4(pod: usize) -> IpAddr {
    pod_v4(pod)
}

pub(crate) fn v6(pod: usize) -> IpAddr {
    pod_v6(pod)
}

/// The namespace of a pod, as the agent would hand it over.
pub(crate) fn netns(mesh: &MeshOfPods, pod: usize) -> Netns {
    mesh.world.pods[pod].try_clone().expect("a namespace")
}

/// Sends a word and expects it back, with the address that the application saw.
pub(crate) async fn says_back(mut stream: TcpStream, listener: &TcpListener) -> IpAddr {
    stream.write_all(b"hello").await.expect("sent");
    let (mut accepted, from) = listener.accept().await.expect("accepted");
    let mut word = [0; 5];
    accepted.read_exact(&mut word).await.expect("received");
    assert_eq!(&word, b"hello");
    accepted.write_all(b"world").await.expect("answered");
    stream.read_exact(&mut word).await.expect("an answer");
    assert_eq!(&word, b"world");
    from.ip().to_canonical()
}

/// Whether a connection is refused or broken before an answer comes. An alert of TLS is no answer.
pub(crate) async fn is_turned_away(mesh: &MeshOfPods, pod: usize, to: &str) -> bool {
    let Ok(mut stream) = mesh.connect(pod, to).await else { return true };
    let _ = stream.write_all(b"hello").await;
    let mut word = [0; 5];
    !matches!(stream.read(&mut word).await, Ok(1..) if word[0] != TLS_ALERT)
}

/// How an alert of TLS begins.
const TLS_ALERT: u8 = 21;

/// Shows log lines, for somebody who looks for a mistake.
pub(crate) fn log_to_standard_error() {
    let _log = chassis::telemetry::start(chassis::telemetry::Format::Plain, "info,h2=info").map(std::mem::forget);
}
