//! Measures what a mesh of a given size costs the catalog, a session and a client:
//! `cargo run --release -p xds --example scale -- 100000 1000`.

use mesh::{Change, Service, ServiceKey, Workload};
use std::{sync::Arc, time::Instant};
use xds::{
    Kind, Node,
    client::state::Client,
    server::{Scope, catalog, state::Session},
};

fn workload(n: usize, node: usize) -> Change {
    let key = ServiceKey { namespace: "shop".into(), hostname: format!("s{}.shop.svc.cluster.local", n / 10).into() };
    Change::Workload(Arc::new(Workload {
        name: format!("app-{n}").into(),
        namespace: "shop".into(),
        addresses: vec![std::net::Ipv4Addr::from(0x0a00_0000 + n as u32).into()],
        node: format!("node-{node}").into(),
        canonical_name: "app".into(),
        canonical_revision: "v1".into(),
        workload_name: "app".into(),
        services: [(key, [(80, 8080)].into())].into_iter().collect(),
        ..Workload::named(&format!("Kubernetes//Pod/shop/app-{n}"))
    }))
}

fn rss() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kb| kb.parse().ok()).unwrap_or(0)
}

fn main() {
    let mut args = std::env::args().skip(1).map(|a| a.parse::<usize>().unwrap_or(1000));
    let (size, sessions) = (args.next().unwrap_or(10_000), args.next().unwrap_or(100));
    let now = Instant::now();
    let clock = |what: &str, since: Instant| println!("{what:40} {:>10.1?}  rss {} kB", since.elapsed(), rss());
    clock("start", now);
    let (mut publisher, catalog) = catalog();
    let t = Instant::now();
    publisher.apply((0..size).map(|n| workload(n, 1)), now);
    publisher.apply(
        (0..size / 10)
            .map(|n| Change::Service(Arc::new(Service::named("shop", &format!("s{n}.shop.svc.cluster.local"))))),
        now,
    );
    clock("encode everything", t);
    let mut all: Vec<Session> = (0..sessions as u64).map(|id| Session::new(id, Scope::NodeProxy)).collect();
    let mut client = Client::new(Node::ztunnel(None, "z", "istio-system", "n"), Kind::NODE_PROXY);
    let open = client.open();
    let t = Instant::now();
    let mut first = None;
    for session in &mut all {
        for request in open.clone() {
            session.request(request);
        }
        let outgoing = session.round(&catalog.contents()).expect("not behind");
        first.get_or_insert(outgoing);
    }
    clock("first answer to every session", t);
    let t = Instant::now();
    for outgoing in first.into_iter().flatten() {
        client.receive(outgoing.response).expect("asked for");
    }
    clock("client takes it (versions only)", t);
    let t = Instant::now();
    publisher.apply([workload(7, 2)], now);
    let sent: usize = all.iter_mut().map(|s| s.round(&catalog.contents()).expect("not behind").len()).sum();
    clock(&format!("one change to every session ({sent})"), t);
    let t = Instant::now();
    let again = client.open();
    clock("client opens again", t);
    let t = Instant::now();
    let mut session = Session::new(0, Scope::NodeProxy);
    for request in again {
        session.request(request);
    }
    let outgoing = session.round(&catalog.contents()).expect("not behind");
    let resources: usize = outgoing.iter().map(|o| o.response.resources.len()).sum();
    clock(&format!("resume of one session ({resources} sent)"), t);
}
