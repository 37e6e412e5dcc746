//! A node and its pods, made of namespaces and links: what cases run on.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::sockopt::{Ip6tOriginalDst, Mark, OriginalDst};
use nix::sys::socket::{getsockopt, setsockopt};
use nix::unistd::{getegid, geteuid};
use ztunnel::net::links::{Links, Route, VethEnd, create_veth, kernel_setting, set_kernel_setting, settle};
use ztunnel::net::netns::Netns;

use crate::Case;

pub(crate) const CASES: &[Case] = &[
    ("a thread comes home from a namespace also when it panics", comes_home),
    ("a thread that goes on from one namespace to another comes back to each", goes_on),
    ("a namespace is told apart from another and recognised again", identity),
    ("a file that is no network namespace is refused", no_namespace),
    ("kernel settings are those of the namespace", settings),
    ("links, addresses and routes can be made, read and removed", links),
];

/// How long a connection that must work may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(3);

/// Leaves the namespaces of this machine for new ones.
pub(crate) fn enter() -> io::Result<()> {
    // 250 pods and all that looks after them are more than the usual 1024.
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    let (user, group) = (geteuid(), getegid());
    if user.is_root() {
        return Ok(unshare(CloneFlags::CLONE_NEWNET)?);
    }
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET)?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("0 {user} 1"))?;
    fs::write("/proc/self/gid_map", format!("0 {group} 1"))
}

/// A node with pods on veth links, routed, both address families.
pub(crate) struct World {
    pub(crate) node: Netns,
    pub(crate) pods: Vec<Netns>,
}

/// Addresses of the pod with a number: 10.0.0.2, fd00::2 and so on.
pub(crate) fn pod_v4(number: usize) -> IpAddr {
    format!("10.0.{}.{}", number / 250, number % 250 + 2).parse().unwrap()
}

pub(crate) fn pod_v6(number: usize) -> IpAddr {
    format!("fd00::{:x}", number + 2).parse().unwrap()
}

impl World {
    pub(crate) fn new(pods: usize) -> Self {
        let node = Netns::new().unwrap();
        let links = Links::open(&node).unwrap();
        settle(&node).unwrap();
        set_kernel_setting(&node, "net/ipv4/ip_forward", "1").unwrap();
        set_kernel_setting(&node, "net/ipv6/conf/all/forwarding", "1").unwrap();
        let pods = (0..pods).map(|number| add_pod(&node, &links, number)).collect();
        Self { node, pods }
    }
}

fn add_pod(node: &Netns, node_links: &Links, number: usize) -> Netns {
    let pod = Netns::new().unwrap();
    settle(&pod).unwrap();
    let host_end = format!("veth{number}");
    create_veth(VethEnd { netns: node, name: &host_end }, VethEnd { netns: &pod, name: "eth0" }).unwrap();
    let links = Links::open(&pod).unwrap();
    links.up("eth0").unwrap();
    node_links.up(&host_end).unwrap();
    for (own, gateway, any) in [(pod_v4(number), "10.0.0.1", "0.0.0.0/0"), (pod_v6(number), "fd00::1", "::/0")] {
        let bits = if own.is_ipv4() { 32 } else { 128 };
        let gateway: IpAddr = gateway.parse().unwrap();
        links.add_address("eth0", ipnet::IpNet::new(own, bits).unwrap()).unwrap();
        node_links.add_address(&host_end, ipnet::IpNet::new(gateway, bits).unwrap()).unwrap();
        node_links.add_route(&Route::device(ipnet::IpNet::new(own, bits).unwrap(), &host_end)).unwrap();
        links.add_route(&Route::device(ipnet::IpNet::new(gateway, bits).unwrap(), "eth0")).unwrap();
        links.add_route(&Route::via(any.parse().unwrap(), gateway, "eth0")).unwrap();
        links.pin_neighbour("eth0", gateway, node_links.hardware_address(&host_end).unwrap()).unwrap();
        node_links.pin_neighbour(&host_end, own, links.hardware_address("eth0").unwrap()).unwrap();
    }
    links.wait_until_usable("eth0").unwrap();
    node_links.wait_until_usable(&host_end).unwrap();
    pod
}

/// A listener that says its word to each that connects, and then closes. Its
/// thread ends with the process.
pub(crate) fn serve(netns: &Netns, address: SocketAddr, word: &'static str) {
    let listener = netns.run(|| TcpListener::bind(address)).unwrap().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = stream;
            let original = original_destination(&stream).map_or_else(|| "-".to_owned(), |to| to.to_string());
            let from = stream.peer_addr().map_or_else(|_| "-".to_owned(), |from| from.ip().to_string());
            let _ = write!(stream, "{word} {original} {from}");
        }
    });
}

/// Where a connection was meant to go, if it was led elsewhere.
pub(crate) fn original_destination(stream: &TcpStream) -> Option<SocketAddr> {
    if stream.local_addr().ok()?.is_ipv4() {
        let raw = getsockopt(stream, OriginalDst).ok()?;
        let ip = u32::from_be(raw.sin_addr.s_addr).to_be_bytes();
        Some(SocketAddr::from((ip, u16::from_be(raw.sin_port))))
    } else {
        let raw = getsockopt(stream, Ip6tOriginalDst).ok()?;
        Some(SocketAddr::from((raw.sin6_addr.s6_addr, u16::from_be(raw.sin6_port))))
    }
}

/// What a client in `netns` hears at `to`: the word of the listener with the
/// original destination and the client it saw, or the error.
pub(crate) fn hear(netns: &Netns, to: SocketAddr) -> Result<String, io::ErrorKind> {
    netns.run(|| TcpStream::connect_timeout(&to, PATIENCE)).unwrap().and_then(read_word).map_err(|error| error.kind())
}

/// The same with the proxy's mark on the socket.
pub(crate) fn hear_marked(netns: &Netns, to: SocketAddr, mark: u32) -> Result<String, io::ErrorKind> {
    let connect = || {
        let socket = socket2::Socket::new(socket2::Domain::for_address(to), socket2::Type::STREAM, None)?;
        setsockopt(&socket, Mark, &mark)?;
        socket.connect_timeout(&to.into(), PATIENCE)?;
        Ok(TcpStream::from(socket))
    };
    netns.run(connect).unwrap().and_then(read_word).map_err(|error: io::Error| error.kind())
}

/// A connection from this address and port, which with a mark need not be this namespace's own.
pub(crate) fn open_as(netns: &Netns, from: SocketAddr, to: SocketAddr, mark: Option<u32>) -> io::Result<TcpStream> {
    let connect = || {
        let socket = socket2::Socket::new(socket2::Domain::for_address(to), socket2::Type::STREAM, None)?;
        if let Some(mark) = mark {
            setsockopt(&socket, Mark, &mark)?;
            match to {
                SocketAddr::V4(_) => socket.set_ip_transparent_v4(true)?,
                SocketAddr::V6(_) => socket.set_ip_transparent_v6(true)?,
            }
        }
        socket.bind(&from.into())?;
        socket.connect_timeout(&to.into(), PATIENCE)?;
        Ok(TcpStream::from(socket))
    };
    netns.run(connect).unwrap()
}

pub(crate) fn read_word(mut stream: TcpStream) -> io::Result<String> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut heard = String::new();
    stream.read_to_string(&mut heard)?;
    Ok(heard)
}

pub(crate) fn at(ip: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(ip, port)
}

fn comes_home() {
    let home = Netns::current().unwrap().id();
    let away = Netns::new().unwrap();
    assert_eq!(away.run(|| Netns::current().unwrap().id()).unwrap(), away.id());
    assert_eq!(Netns::current().unwrap().id(), home);
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let panicked = std::panic::catch_unwind(|| away.run(|| panic!("in a pod")));
    std::panic::set_hook(hook);
    assert!(panicked.is_err());
    assert_eq!(Netns::current().unwrap().id(), home);
}

/// What a thread remembers of where it is must be true wherever it goes on from.
fn goes_on() {
    let here = || Netns::current().unwrap().id();
    let (home, one, other) = (here(), Netns::new().unwrap(), Netns::new().unwrap());
    for _ in 0..2 {
        let seen = one.run(|| {
            let further = other.run(|| (here(), one.run(here).unwrap(), here())).unwrap();
            (here(), further, one.run(here).unwrap(), other.run(here).unwrap(), here())
        });
        let (one, other) = (one.id(), other.id());
        assert_eq!(seen.unwrap(), (one, (other, one, other), one, other, one));
        assert_eq!(here(), home);
    }
    let elsewhere = one.run(|| std::thread::spawn(move || (here(), other.run(here).unwrap(), here()))).unwrap();
    let (before, away, after) = elsewhere.join().unwrap();
    assert_eq!((before, after), (one.id(), one.id()), "a thread that begins in a namespace is at home there");
    assert_ne!(away, one.id());
}

fn identity() {
    let one = Netns::new().unwrap();
    let other = Netns::new().unwrap();
    assert_ne!(one.id(), other.id());
    assert_eq!(one.try_clone().unwrap().id(), one.id());
    let reopened = one.run(Netns::current).unwrap().unwrap();
    assert_eq!(reopened.id(), one.id());
}

fn no_namespace() {
    for path in ["/dev/null", "/proc/self/ns/mnt", "/proc/self/ns/user"] {
        let refused = Netns::from_path(path.as_ref()).map(|netns| netns.id());
        assert!(refused.is_err(), "{path} passed for {refused:?}");
    }
}

fn settings() {
    let one = Netns::new().unwrap();
    let other = Netns::new().unwrap();
    for name in ["net/ipv4/ip_forward", "net/ipv4/tcp_migrate_req"] {
        set_kernel_setting(&one, name, "1").unwrap();
        set_kernel_setting(&other, name, "0").unwrap();
        assert_eq!(
            (kernel_setting(&one, name).unwrap(), kernel_setting(&other, name).unwrap()),
            ("1".into(), "0".into())
        );
    }
    for name in ["kernel/hostname", "net/../kernel/hostname", "/etc/passwd", ""] {
        assert!(kernel_setting(&one, name).is_err(), "{name:?} was read");
    }
}

fn links() {
    let world = World::new(1);
    let links = Links::open(&world.pods[0]).unwrap();
    assert!(links.holds(pod_v4(0)).unwrap() && links.holds(pod_v6(0)).unwrap());
    assert!(!links.holds(pod_v4(1)).unwrap());
    let extra: ipnet::IpNet = "192.0.2.7/32".parse().unwrap();
    links.add_address("lo", extra).unwrap();
    links.add_address("lo", extra).unwrap();
    assert!(links.addresses().unwrap().contains(&("lo".into(), extra)));
    links.remove_address("lo", extra).unwrap();
    links.remove_address("lo", extra).unwrap();
    assert!(!links.holds(extra.addr()).unwrap());
    let to: ipnet::IpNet = "198.51.100.0/24".parse().unwrap();
    links.add_route(&Route::via(to, "10.0.0.1".parse().unwrap(), "eth0")).unwrap();
    links.remove_route(to).unwrap();
    links.remove_route(to).unwrap();
    assert!(links.up("no-such-link").is_err());
    assert!(links.up("a-name-that-is-too-long").is_err());
    links.delete("eth0").unwrap();
    assert!(!Links::open(&world.node).unwrap().names().unwrap().contains(&"veth0".into()));
}
