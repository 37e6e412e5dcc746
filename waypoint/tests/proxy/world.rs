//! A waypoint, and callers who come to it through tunnels.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use chassis::metrics::Registry;
use chassis::run::Process;
use chassis::task;
use hbone::head::{Authority, ConnectHead};
use hbone::limits::Limits;
use hbone::open;
use hbone::stream::Tunnel;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use mesh::route::{Compiled, CompiledGateway, GatewayRules, ServiceRules};
use mesh::{Change, Identity, fixture};
use pki::SystemClock;
use pki::cache::CertificateCache;
use testkit::certs::FakeCa;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use waypoint::accept;
use waypoint::authn::KeyStore;
use waypoint::authn::fetch::Direct;
use waypoint::config::{Own, Settings};
use waypoint::context::{Core, Waypoint};
use waypoint::limit::Limiter;
use waypoint::live::{self, Live};
use waypoint::report::Reporter;
use waypoint::rules::Preparations;
use waypoint::siblings::Siblings;
use waypoint::trace::{self, Tracer};
use waypoint::upstream::asking::Asker;
use waypoint::upstream::cluster::Clusters;
use waypoint::view::CurrentView;

/// A running waypoint of Gateway `shop/wp`, and the authority that everybody believes.
pub(crate) struct World {
    pub(crate) ca: Arc<FakeCa>,
    pub(crate) waypoint: Arc<Waypoint>,
    pub(crate) process: Process,
    cores: Vec<(SocketAddr, Arc<Core>)>,
}

/// The waypoint itself, in every mesh here.
const OWN: &str = "
pod wp-1 ns=shop sa=wp ip=127.77.0.9
pod client ns=shop sa=client ip=127.0.0.1
service wp ns=shop vip=10.1.0.9 15008->15008 pods=wp-1
";

impl World {
    /// A waypoint in this mesh, with rules for itself and for `web` that say nothing.
    pub(crate) async fn new(mesh: &str) -> Self {
        let world = Self::untold(mesh).await;
        world.own_rules();
        world.rules(|_| {});
        world
    }

    /// A waypoint in this mesh that was told no rules.
    pub(crate) async fn untold(mesh: &str) -> Self {
        let ca = Arc::new(FakeCa::new());
        let (certificates, driver) = CertificateCache::new(ca.clone(), Arc::new(SystemClock));
        task::spawn("certificates", driver.run()).detach();
        let process = Process::detached();
        let own = Own {
            pod: "wp-1".into(),
            ip: Some("127.77.0.9".parse().unwrap()),
            node: "".into(),
            identity: Identity::new("cluster.local", "shop", "wp").unwrap(),
            gateway: "wp".into(),
            hostname: "wp.shop.svc.cluster.local".into(),
        };
        let settings = Settings {
            own: own.clone(),
            network: "".into(),
            forward_client_identity: false,
            grace: std::time::Duration::from_secs(5),
            tunnels: Limits::default(),
        };
        let (asker, runtime) = (Asker::default(), tokio::runtime::Handle::current());
        let keys = KeyStore::new(Arc::new(Direct::new().unwrap()), runtime.clone());
        let waypoint = Arc::new(Waypoint {
            view: CurrentView::default(),
            certificates,
            rules: Preparations::new(own.namespace(), &own.gateway, false, keys),
            clusters: Clusters::default(),
            clients: Arc::default(),
            live: Live::default(),
            reporter: Reporter::new(&mut Registry::default(), None),
            limiter: Limiter::new(Arc::new(Siblings::by(asker.clone())), own.identity, Arc::new(asker.clone())),
            tracer: Tracer::new(trace::Own::default(), Arc::new(asker.clone()), runtime),
            draining: CancellationToken::new(),
            signal: process.signal.clone(),
            settings,
        });
        waypoint.view.apply(fixture::changes(&format!("{OWN}{mesh}")));
        let core = Self::core(&waypoint).await;
        asker.bind(&core.1);
        let (watched, changes) = (waypoint.clone(), waypoint.view.changes());
        task::spawn("live", async move { live::watch(watched.live.clone(), || watched.view.now(), changes).await })
            .detach();
        Self { ca, waypoint, process, cores: vec![core] }
    }

    async fn core(waypoint: &Arc<Waypoint>) -> (SocketAddr, Arc<Core>) {
        let core = Arc::new(Core::new(waypoint.clone()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        task::spawn("listener", accept::listen(listener, core.clone())).detach();
        (address, core)
    }

    /// One core more, whose connections are its own; it has the number that comes next.
    pub(crate) async fn add_core(&mut self) {
        self.cores.push(Self::core(&self.waypoint).await);
    }

    /// Rules of the waypoint's own Gateway, which say nothing.
    pub(crate) fn own_rules(&self) {
        let rules = GatewayRules::of("shop".into(), "wp".into());
        let compiled = Arc::new(CompiledGateway::new(rules).expect("usable rules"));
        self.waypoint.view.apply(vec![Change::GatewayRules(compiled)]);
    }

    /// Rules of `web.shop`.
    pub(crate) fn rules(&self, change: impl FnOnce(&mut ServiceRules)) {
        let mut rules = ServiceRules::of("shop/web.shop.svc.cluster.local".parse().unwrap());
        change(&mut rules);
        let compiled = Arc::new(Compiled::new(rules).expect("usable rules"));
        self.waypoint.view.apply(vec![Change::ServiceRules(compiled)]);
    }

    /// A tunnel of `client` to what is asked for, or the status that it was refused with.
    pub(crate) async fn tunnel(&self, asked: &str) -> Result<Tunnel, String> {
        self.tunnel_within(0, asked, &Limits::default()).await
    }

    /// As [`World::tunnel`], to this core and of a client with limits of its own.
    pub(crate) async fn tunnel_within(&self, core: usize, asked: &str, limits: &Limits) -> Result<Tunnel, String> {
        let certificate = self.ca.certificate("shop", "client");
        let expected = [self.waypoint.settings.own.identity.clone()];
        let tcp = TcpStream::connect(self.cores[core].0).await.unwrap();
        let tls = pki::tls::connect(tcp, pki::tls::client_config(&certificate, &expected)).await.unwrap();
        let (link, drive) = open::begin(tls.0, limits).await.unwrap();
        task::spawn("drive", drive).detach();
        let head = ConnectHead::to(Authority::parse(asked).unwrap());
        match link.tunnel(&head, Box::new(())).await {
            Ok((tunnel, _)) => Ok(tunnel),
            Err(error) => Err(error.to_string()),
        }
    }

    /// A connection of HTTP/1 to `web`.
    pub(crate) async fn http1(&self) -> http1::SendRequest<Full<Bytes>> {
        self.http1_of(0).await
    }

    async fn http1_of(&self, core: usize) -> http1::SendRequest<Full<Bytes>> {
        let tunnel = self.tunnel_within(core, "10.1.0.1:80", &Limits::default()).await.unwrap();
        let (sender, connection) = http1::handshake(TokioIo::new(tunnel)).await.unwrap();
        task::spawn("client", connection.with_upgrades()).detach();
        sender
    }

    /// One request to `web`, and its answer with the whole body.
    pub(crate) async fn ask(&self, request: Request<Full<Bytes>>) -> Response<Bytes> {
        self.ask_core(0, request).await
    }

    /// As [`World::ask`], of this core.
    pub(crate) async fn ask_core(&self, core: usize, request: Request<Full<Bytes>>) -> Response<Bytes> {
        let response = self.http1_of(core).await.send_request(request).await.unwrap();
        let (parts, body) = response.into_parts();
        Response::from_parts(parts, body.collect().await.unwrap().to_bytes())
    }

    /// `GET path`: status and body.
    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        let response = self.ask(request("GET", path, "")).await;
        (response.status().as_u16(), String::from_utf8_lossy(response.body()).into_owned())
    }
}

/// A request to `web`.
pub(crate) fn request(method: &str, path: &str, body: &str) -> Request<Full<Bytes>> {
    let body = Full::from(body.to_owned());
    Request::builder().method(method).uri(path).header("host", "web").body(body).unwrap()
}
