//! What is counted. Each prepares a mesh of some size, and then does one thing, the same each time.

use bytes::Bytes;
use hbone::{
    accept,
    head::{Authority, Baggage, ConnectHead},
    limits::Limits,
    open,
    stream::Tunnel,
};
use mesh::{
    Change, Identity, ServiceKey, View, Workload,
    authz::{self, Attributes},
    balance::{self, Hints},
    fixture,
    route::{Compiled, Head, ServiceRules},
};
use std::{fmt::Write, hint::black_box, net::IpAddr, sync::Arc, time::Duration};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

/// One piece of work.
pub(super) struct Work {
    /// What `--only` calls it.
    pub(super) name: &'static str,
    /// What is done each time.
    pub(super) about: &'static str,
    /// How often it is done for one count: enough that its ends do not matter.
    pub(super) times: u32,
    /// Makes it ready.
    pub(super) prepare: fn() -> Box<dyn FnMut()>,
}

/// Does it that often. Callgrind counts inside this function only, and finds it by its name.
#[inline(never)]
pub(super) fn measured(act: &mut dyn FnMut(), times: u32) {
    for _ in 0..times {
        act();
    }
}

/// All of them.
pub(super) const ALL: &[Work] = &[
    Work {
        name: "authorize",
        about: "a connection, in a mesh of 10,000 policies of which one is for it",
        times: 1000,
        prepare: authorize,
    },
    Work { name: "route", about: "a request, whose route is the last of 5,000", times: 1000, prepare: route },
    Work { name: "pick", about: "an endpoint, of ten", times: 1000, prepare: pick },
    Work { name: "view-apply", about: "an endpoint that moves, in a mesh of 10,000", times: 100, prepare: apply },
    Work { name: "xds-encode", about: "a workload, for all proxies", times: 1000, prepare: encode },
    Work { name: "xds-decode", about: "a workload, at a proxy", times: 1000, prepare: decode },
    Work {
        name: "baggage",
        about: "what a CONNECT says of a workload, printed and read",
        times: 1000,
        prepare: baggage,
    },
    Work {
        name: "tunnel",
        about: "a tunnel, opened, used for one byte each way and closed",
        times: 100,
        prepare: tunnel,
    },
    Work { name: "tunnel-mebibyte", about: "a mebibyte through a tunnel, both its ends", times: 16, prepare: mebibyte },
];

/// The caller of all of them.
fn caller() -> Identity {
    Identity::new("cluster.local", "shop", "client").expect("a usable identity")
}

fn authorize() -> Box<dyn FnMut()> {
    let mut text = String::from("pod server ns=shop sa=server ip=10.0.0.1\n");
    for n in 0..100 {
        let _ = writeln!(text, "pod other-{n} ns=shop sa=other ip=10.1.0.{n}");
    }
    for n in 0..10_000 {
        let _ = writeln!(text, "allow p{n} ns=shop for=other-{} principal=cluster.local/ns/shop/sa/{n}", n % 100);
    }
    text.push_str("allow own ns=shop for=server principal=cluster.local/ns/shop/sa/client port=8080\n");
    let view = fixture::view(&text);
    let (address, source): (IpAddr, _) = (IpAddr::from([10, 0, 0, 1]), caller());
    Box::new(move || {
        let server = view.workload_by_address("", address).expect("the server is there");
        let attributes = Attributes {
            source: Some(&source),
            source_ip: IpAddr::from([10, 9, 0, 1]),
            destination_ip: address,
            destination_port: 8080,
            server_name: None,
            request: None,
        };
        let verdict = authz::decide(&view, server, &attributes);
        assert!(black_box(verdict).allowed);
    })
}

fn route() -> Box<dyn FnMut()> {
    const ROUTES: usize = 5000;
    let service: ServiceKey = "shop/web.shop.svc.cluster.local".parse().expect("a usable name");
    let mut rules = ServiceRules::of(service.clone());
    rules.http = fixture::routes(&service, ROUTES);
    let rules = Compiled::new(rules).expect("usable rules");
    let (source, headers) = (caller(), http::HeaderMap::new());
    Box::new(move || {
        let head = Head {
            method: "GET",
            scheme: "http",
            authority: "web.shop",
            path: "/an/ordinary/path",
            query: None,
            headers: &headers,
            port: 80,
            caller: Some(&source),
            caller_address: IpAddr::from([10, 9, 0, 1]),
            remote_address: IpAddr::from([10, 9, 0, 1]),
            claims: None,
        };
        black_box(rules.select(&head));
    })
}

fn pick() -> Box<dyn FnMut()> {
    let mut text = String::from("pod client ns=shop sa=client ip=10.0.1.1 node=n1\n");
    let mut pods = Vec::new();
    for n in 0..10 {
        let _ = writeln!(text, "pod web-{n} ns=shop sa=web ip=10.0.0.{n} node=n{n}");
        pods.push(format!("web-{n}"));
    }
    let _ = writeln!(text, "service web ns=shop vip=10.1.0.1 80->8080 pods={}", pods.join(","));
    let view = fixture::view(&text);
    let mut dice: u64 = 0;
    Box::new(move || {
        // Through all of the 64 bits, the same way each time.
        dice = dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let dialled = IpAddr::from([10, 1, 0, 1]);
        let service = view.service_by_vip("", dialled, "shop").expect("the service is there");
        let source = view.workload_by_address("", IpAddr::from([10, 0, 1, 1]));
        let hints = Hints { source: source.map(|it| &**it), dialled, port: 80, dice };
        assert!(black_box(balance::pick(&view, service, &hints)).is_some());
    })
}

fn pod(n: u32, address: u32) -> Change {
    let namespace = format!("ns{}", n % 50);
    let hostname = format!("svc-{}.{namespace}.svc.cluster.local", n / 10);
    let mut pod = Workload::named(&format!("Kubernetes//Pod/{namespace}/pod-{n}"));
    pod.name = format!("pod-{n}").into();
    pod.namespace = namespace.as_str().into();
    pod.addresses = vec![std::net::Ipv4Addr::from(address).into()];
    pod.authorization_policies = vec!["istio-system/istio_converted_static_strict".into()];
    let key = ServiceKey { hostname: hostname.into(), namespace: namespace.into() };
    pod.services.insert(key, [(80, 8080)].into());
    Change::Workload(Arc::new(pod))
}

fn apply() -> Box<dyn FnMut()> {
    const PODS: u32 = 10_000;
    let mut view = View::default().apply((0..PODS).map(|n| pod(n, 0x0a00_0000 + n)));
    // A step that has no common factor with the number of pods touches all parts of the mesh.
    let mut moved = (0..PODS).cycle().map(|n| pod(n * 7919 % PODS, 0x0b00_0000 + n));
    let mut next = moved.next();
    Box::new(move || {
        view = view.apply(next.take());
        next = moved.next();
    })
}

fn encode() -> Box<dyn FnMut()> {
    let change = pod(1, 0x0a00_0001);
    Box::new(move || {
        black_box(xds::codec::encode(&change)).expect("it adds something");
    })
}

fn decode() -> Box<dyn FnMut()> {
    let bytes: Bytes = xds::codec::encode(&pod(1, 0x0a00_0001)).expect("it adds something").bytes;
    let mut names = xds::codec::Names::default();
    Box::new(move || {
        black_box(xds::codec::decode(xds::resource::Kind::Address, &bytes, &mut names)).expect("it can be read");
    })
}

fn baggage() -> Box<dyn FnMut()> {
    let text = "k8s.cluster.name=Kubernetes,k8s.namespace.name=shop,k8s.deployment.name=web,service.name=web,\
                service.version=v1,cloud.region=eu,cloud.availability_zone=eu-1";
    let baggage = Baggage::parse(text);
    Box::new(move || {
        let printed = baggage.print().expect("it says something");
        black_box(Baggage::parse(&printed));
    })
}

/// Two ends of a connection in memory, driven by one thread, and a way to open tunnels in it.
struct Ends {
    runtime: tokio::runtime::Runtime,
    link: open::Link,
    accepted: tokio::sync::mpsc::Receiver<accept::Request>,
}

impl Ends {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        let (sender, accepted) = tokio::sync::mpsc::channel(16);
        let (one, other) = tokio::io::duplex(256 << 10);
        runtime.spawn(async move {
            let drain = accept::Drain { start: CancellationToken::new(), deadline: Duration::from_secs(1) };
            let mut connection = accept::serve(other, &Limits::default(), drain).await.expect("HTTP/2 begins");
            while let Some(request) = connection.next().await {
                let _closed = sender.send(request).await;
            }
        });
        let limits = Limits::default();
        let (link, drive) = runtime.block_on(open::begin(one, &limits)).expect("HTTP/2 begins");
        runtime.spawn(drive);
        Self { runtime, link, accepted }
    }

    fn tunnel(&mut self) -> (Tunnel, Tunnel) {
        let (link, accepted) = (&self.link, &mut self.accepted);
        self.runtime.block_on(async {
            let head = ConnectHead::to(Authority::address(IpAddr::from([10, 0, 0, 1]), 80));
            let server = async { accepted.recv().await.expect("a request").accept(None).expect("it waits") };
            let (client, server) = tokio::join!(link.tunnel(&head, Box::new(())), server);
            (client.expect("a tunnel").0, server)
        })
    }
}

fn tunnel() -> Box<dyn FnMut()> {
    let mut ends = Ends::new();
    Box::new(move || {
        let (mut client, mut server) = ends.tunnel();
        ends.runtime.block_on(async {
            let (mut here, mut there) = ([0], [0]);
            client.write_all(b"a").await.expect("a byte goes");
            server.read_exact(&mut there).await.expect("and comes");
            server.write_all(b"b").await.expect("a byte goes");
            client.read_exact(&mut here).await.expect("and comes");
            let (one, other) = tokio::join!(client.shutdown(), server.shutdown());
            one.and(other).expect("both end");
            let ends = tokio::join!(client.read(&mut here), server.read(&mut there));
            assert_eq!((ends.0.expect("the end"), ends.1.expect("the end")), (0, 0));
        });
    })
}

fn mebibyte() -> Box<dyn FnMut()> {
    const BYTES: usize = 1 << 20;
    let mut ends = Ends::new();
    let (mut client, mut server) = ends.tunnel();
    let (payload, mut taken) = (vec![7; 64 << 10], vec![0; 64 << 10]);
    Box::new(move || {
        let send = async {
            for _ in 0..BYTES / payload.len() {
                client.write_all(&payload).await.expect("bytes go");
            }
            client.flush().await.expect("bytes go");
        };
        let take = async {
            let mut left = BYTES;
            while left > 0 {
                left -= server.read(&mut taken).await.expect("bytes come");
            }
        };
        ends.runtime.block_on(async { tokio::join!(send, take) });
    })
}
