//! A waypoint that takes HTTP without a tunnel, to be measured beside proxies that know of none:
//! `cargo run --release -p waypoint --example plain -- --port 9000 --to 10.0.0.2:8080 [--http2] [--routes 5000]`.
//!
//! Everything behind the tunnel is the waypoint as it is: its workers, its pipeline with the phases, its pools of
//! connections, its metrics and its access log. With `--routes` so many rules ask for other paths than any request
//! has, and the last of them, by Gateway API's order, takes all.

#![expect(clippy::print_stdout, reason = "this program says when it is ready")]

use anyhow::Context;
use chassis::metrics::Registry;
use chassis::run::{Process, Workers};
use chassis::task;
use hbone::limits::Limits;
use mesh::route::{Compiled, CompiledGateway, GatewayRules, ServiceRules};
use mesh::service::{AppProtocol, ServiceKey};
use mesh::{Change, Identity, fixture};
use pki::SystemClock;
use pki::cache::CertificateCache;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use testkit::certs::FakeCa;
use tokio_util::sync::CancellationToken;
use waypoint::authn::{KeyStore, fetch::Direct};
use waypoint::config::{Own, Settings};
use waypoint::context::{Call, Core, Waypoint};
use waypoint::limit::Limiter;
use waypoint::live::Live;
use waypoint::report::{Asked, Party, Reporter, Shared, Writer, access::Format};
use waypoint::rules::Preparations;
use waypoint::siblings::Siblings;
use waypoint::target::{self, Target};
use waypoint::trace::{self, Tracer};
use waypoint::upstream::asking::Asker;
use waypoint::upstream::cluster::Clusters;
use waypoint::view::CurrentView;
use waypoint::{accept, serve};

/// As many as the peers that it is measured beside.
const WORKERS: usize = 2;

struct Wanted {
    port: u16,
    to: SocketAddr,
    http2: bool,
    routes: usize,
}

fn main() -> anyhow::Result<()> {
    let asked = arguments()?;
    let workers = Workers::start("waypoint-worker", WORKERS)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(asked, &workers))
}

fn arguments() -> anyhow::Result<Wanted> {
    let (mut port, mut to, mut http2, mut routes) = (None, None, false, 0);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().with_context(|| format!("{word} wants a value"));
        match &*word {
            "--port" => port = Some(value()?.parse()?),
            "--to" => to = Some(value()?.parse()?),
            "--routes" => routes = value()?.parse()?,
            "--http2" => http2 = true,
            other => anyhow::bail!("no option {other}"),
        }
    }
    Ok(Wanted { port: port.context("--port")?, to: to.context("--to")?, http2, routes })
}

async fn run(asked: Wanted, workers: &Workers) -> anyhow::Result<()> {
    let control = workers.handles()[0].clone();
    let waypoint = waypoint(&control)?;
    waypoint.view.apply(mesh_of(&asked)?);
    for handle in workers.handles() {
        let (waypoint, port, http2) = (waypoint.clone(), asked.port, asked.http2);
        let opened = task::spawn_on(handle, "open the listener", async move {
            let listener = accept::listener(port)?;
            task::spawn("listener", listen(listener, Arc::new(Core::new(waypoint)), http2)).detach();
            Ok::<_, std::io::Error>(())
        });
        opened.await??;
    }
    println!("ready");
    std::future::pending().await
}

/// The waypoint of its own process, but for a control plane, an authority and operators.
fn waypoint(control: &tokio::runtime::Handle) -> anyhow::Result<Arc<Waypoint>> {
    let process = Process::detached();
    let (certificates, _nobody_asks) = CertificateCache::new(Arc::new(FakeCa::new()), Arc::new(SystemClock));
    let own = Own {
        pod: "wp-1".into(),
        ip: None,
        node: "".into(),
        identity: Identity::new("cluster.local", "shop", "wp")?,
        gateway: "wp".into(),
        hostname: "wp.shop.svc.cluster.local".into(),
    };
    let settings = Settings {
        own: own.clone(),
        network: "".into(),
        forward_client_identity: false,
        grace: Duration::from_secs(5),
        tunnels: Limits::default(),
    };
    let asker = Asker::default();
    let log = Writer::start(std::io::stdout())?;
    let keys = KeyStore::new(Arc::new(Direct::new().map_err(anyhow::Error::msg)?), control.clone());
    Ok(Arc::new(Waypoint {
        view: CurrentView::default(),
        certificates,
        rules: Preparations::new(own.namespace(), &own.gateway, true, keys),
        clusters: Clusters::default(),
        clients: Arc::default(),
        live: Live::default(),
        reporter: Reporter::new(&mut Registry::default(), Some((log, Format::default()))),
        limiter: Limiter::new(Arc::new(Siblings::by(asker.clone())), own.identity, Arc::new(asker.clone())),
        tracer: Tracer::new(trace::Own::default(), Arc::new(asker), control.clone()),
        draining: CancellationToken::new(),
        signal: process.signal,
        settings,
    }))
}

/// A service with one endpoint, bound to this waypoint, and its rules.
fn mesh_of(asked: &Wanted) -> anyhow::Result<Vec<Change>> {
    let (address, port) = (asked.to.ip(), asked.to.port());
    let mut changes = fixture::changes(&format!(
        "pod web-1 ns=shop sa=web ip={address} plain\nservice web ns=shop vip=10.1.0.1 80->{port} pods=web-1 waypoint=wp\n\
         pod wp-1 ns=shop sa=wp ip=127.77.0.9\nservice wp ns=shop vip=10.1.0.9 15008->15008 pods=wp-1\n"
    ));
    for change in &mut changes {
        if let Change::Service(service) = change {
            let protocol = if asked.http2 { AppProtocol::Grpc } else { AppProtocol::Http11 };
            Arc::make_mut(service).ports.values_mut().for_each(|port| port.app_protocol = protocol);
        }
    }
    let service: ServiceKey = "shop/web.shop.svc.cluster.local".parse()?;
    let mut rules = ServiceRules::of(service.clone());
    rules.http = fixture::routes(&service, asked.routes);
    changes.push(Change::ServiceRules(Arc::new(Compiled::new(rules)?)));
    let gateway = GatewayRules::of("shop".into(), "wp".into());
    changes.push(Change::GatewayRules(Arc::new(CompiledGateway::new(gateway)?)));
    Ok(changes)
}

/// Each connection is served as if it had come through a tunnel to the service.
async fn listen(listener: tokio::net::TcpListener, core: Arc<Core>, http2: bool) {
    while let Ok((stream, from)) = listener.accept().await {
        let _gone = stream.set_nodelay(true);
        let Some(call) = call(&core, from) else { return };
        let (call, core) = (Arc::new(call), core.clone());
        task::spawn("caller", async move {
            if http2 {
                serve::http::two(stream, call, core).await;
            } else {
                serve::http::one(stream, call, core).await;
            }
        })
        .detach();
    }
}

fn call(core: &Core, from: SocketAddr) -> Option<Call> {
    let view = core.waypoint.view.now();
    let authority = hbone::head::Authority::Address(SocketAddr::new(IpAddr::from([10, 1, 0, 1]), 80));
    let target: Target = target::of(&view, "", &core.waypoint.settings.own, &authority).ok()?;
    let caller = Identity::new("cluster.local", "shop", "client").ok()?;
    Some(Call {
        source: Party::of(None, Some(&caller)),
        asked: target.service().map_or_else(Shared::<Asked>::none, |service| Shared::service(service)),
        caller,
        from,
        target,
        trace: None,
    })
}
