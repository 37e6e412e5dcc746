//! DNS: what a pod asks its proxy, and the pod's `resolv.conf`.

use crate::text;
use mesh::{View, Workload, fixture};
use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, LazyLock, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    net::{TcpStream, UdpSocket},
    runtime::Runtime,
};
use ztunnel::{
    dns::{
        answer::Zone,
        forward::{self, Reach},
        resolve,
        server::{Pod, Proxy},
    },
    report::DnsMetrics,
};

const SHOP: &str = "
pod client ns=shop sa=client ip=127.0.0.1
service web ns=shop vip=10.1.0.1 80->8080 pods=client
";

/// The number of the question that is always asked after an input, and of no input.
const GOOD: [u8; 2] = [0x60, 0x0d];

/// A stranger's datagram, and then a question that must be answered as if nothing had been.
pub(crate) fn query(input: &[u8]) {
    let server = SERVER.lock().unwrap_or_else(PoisonError::into_inner);
    let asked = async {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        socket.connect(server.address).await?;
        let strange = input.strip_prefix(&GOOD).unwrap_or(input);
        // Too long for a datagram: the kernel says so, the proxy never sees it.
        let _ = socket.send(strange).await;
        socket.send(&question(GOOD, "web.shop.svc.cluster.local", 1)).await?;
        let mut reply = [0; 4096];
        loop {
            let length = socket.recv(&mut reply).await?;
            if reply[..length].starts_with(&GOOD) {
                return io::Result::Ok(reply[..length].to_vec());
            }
        }
    };
    let reply = server.runtime.block_on(async { tokio::time::timeout(Duration::from_secs(5), asked).await });
    let reply = reply.expect("the proxy answers no more").expect("loopback works");
    assert!(reply.ends_with(&[10, 1, 0, 1]), "the proxy answers wrongly: {}", reply.escape_ascii());
}

pub(crate) fn query_seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<_> =
        [1, 28, 5, 16, 255].map(|kind| question([0, 1], "web.shop.svc.cluster.local", kind)).to_vec();
    seeds.push(question([0, 2], "nowhere.shop.svc.cluster.local", 1));
    // With EDNS: 4096 bytes, and a cookie.
    let mut edns = question([0, 3], "web.shop", 1);
    edns[11] = 1;
    edns.extend(b"\0\0\x29\x10\0\0\0\0\0\0\x0c\0\x0a\0\x08cookie!!");
    seeds.push(edns);
    // A name that points at itself, and one that is a pointer to the header.
    seeds.push([&question([0, 4], "", 1)[..12], b"\xc0\x0c\0\x01\0\x01"].concat());
    seeds.push([&question([0, 5], "", 1)[..12], b"\x03web\xc0\x00\0\x01\0\x01"].concat());
    seeds
}

/// What another server says of an endpoint's name.
pub(crate) fn answer(input: &[u8]) {
    assert!(resolve::read(input, "db.example.com.").len() <= 64);
}

pub(crate) fn answer_seeds() -> Vec<Vec<u8>> {
    let mut answer = question([0, 1], "db.example.com", 1);
    answer[2] = 0x81;
    answer[7] = 2;
    // An alias of the question's name to `a.` of the same domain, and that one's address.
    answer.extend(b"\xc0\x0c\0\x05\0\x01\0\0\0\x3c\0\x04\x01a\xc0\x0f");
    answer.extend(b"\x01a\xc0\x0f\0\x01\0\x01\0\0\0\x1e\0\x04\xc0\0\x02\x01");
    assert_eq!(resolve::read(&answer, "db.example.com."), [std::net::IpAddr::from([192, 0, 2, 1])]);
    vec![answer]
}

pub(crate) fn resolv_conf(input: &[u8]) {
    assert!(forward::name_servers(text(input)).iter().all(|server| !server.ip().is_loopback()));
}

pub(crate) fn resolv_conf_seeds() -> Vec<Vec<u8>> {
    [
        "nameserver 10.0.0.10\nsearch shop.svc.cluster.local\noptions ndots:5\n",
        "nameserver fe80::1%eth0\n# x\nnameserver ::1\nnameserver 127.0.0.53",
    ]
    .map(|seed| seed.as_bytes().to_vec())
    .to_vec()
}

/// A message with one question.
fn question(id: [u8; 2], name: &str, kind: u8) -> Vec<u8> {
    let mut message = [&id[..], b"\x01\0\0\x01\0\0\0\0\0\0"].concat();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        message.push(label.len() as u8);
        message.extend(label.as_bytes());
    }
    message.extend([0, 0, kind, 0, 1]);
    message
}

/// A pod's DNS proxy on the loopback device.
struct Server {
    runtime: Runtime,
    address: SocketAddr,
    _serving: chassis::task::Task<()>,
}

static SERVER: LazyLock<Mutex<Server>> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime needs no more than descriptors");
    let socket = runtime.block_on(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))).expect("loopback works");
    let address = socket.local_addr().expect("a bound socket has an address");
    let view = Arc::new(fixture::view(SHOP));
    let client = view.workloads().next().cloned();
    let zone = Zone { domain: "cluster.local".into(), ipv6: true, preferred_namespace: None };
    // Nobody to ask: a forwarded question is refused at once.
    let proxy = Proxy::new(zone, &[], DnsMetrics::default());
    let serving = async move {
        proxy.serve(vec![socket], vec![], Arc::new(Shop { view, client }), Arc::new(Nowhere)).await;
    };
    let serving = chassis::task::spawn_on(runtime.handle(), "dns", serving);
    Mutex::new(Server { runtime, address, _serving: serving })
});

struct Shop {
    view: Arc<View>,
    client: Option<Arc<Workload>>,
}

impl Pod for Shop {
    fn view(&self) -> (Arc<View>, Option<Arc<Workload>>) {
        (self.view.clone(), self.client.clone())
    }

    async fn known(&self) {}
}

struct Nowhere;

impl Reach for Nowhere {
    fn datagrams_to(&self, _: SocketAddr) -> io::Result<UdpSocket> {
        Err(io::ErrorKind::NetworkUnreachable.into())
    }

    async fn connect(&self, _: SocketAddr) -> io::Result<TcpStream> {
        Err(io::ErrorKind::NetworkUnreachable.into())
    }
}
