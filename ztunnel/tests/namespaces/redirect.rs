//! What a pod's connections do with the redirection rules in place.

use std::io::ErrorKind::{ConnectionRefused, ConnectionReset, TimedOut};
use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Instant;

use ztunnel::net::conntrack;
use ztunnel::net::redirect::{PROXY_MARK, Redirect, Standing, apply, carried, leave, let_go, remove, verify};

use crate::Case;
use crate::crowd::pause;
use crate::world::{PATIENCE, World, at, hear, hear_marked, open_as, pod_v4, pod_v6, read_word, serve};

pub(crate) const CASES: &[Case] = &[
    ("outbound is led to the proxy, which learns where it was meant to go", outbound),
    ("without a proxy a pod's connections are refused and reach nobody", fail_closed),
    ("plaintext to a pod is led to the proxy, a tunnel is not", inbound),
    ("the proxy's own connections are not led back to it", marked),
    ("a pod may speak to itself", itself),
    ("dns is led to the proxy in udp and tcp", dns),
    ("a pod that bypasses inbound capture is reached directly", bypass_inbound),
    ("what comes by a rerouted interface counts as outbound", reroute),
    ("removing the rules gives a pod its own ways back", restore),
    ("verify tells rules in place from absent and changed ones", standing),
    ("a pod whose loopback is still down is redirected all the same", loopback_down),
    ("applying again changes nothing, and other wishes replace the rules", again),
    ("a connection stays open while its rules are applied again", survives),
    ("an open connection goes on when its rules are let go of, and new ones go directly", lets_go),
    ("what was connected around the proxy does not stay so when the rules are back", no_way_around),
    ("what is open when a pod joins goes on, and what comes then does not", goes_on),
    ("what connects while a pod joins goes on", watched),
    ("what is open when a pod joins does not lend its port to what comes then", lends_no_port),
    ("what ended while a pod joined is not remembered", pruned),
    ("what comes while a pod leaves goes on, by ports too that the proxy used in the caller's name", leaves),
    ("what needs the rules to go on is counted until it has ended", counted),
    ("a port that a caller used in plaintext is free for the proxy in the caller's name", same_port),
];

const BOTH: [fn(usize) -> IpAddr; 2] = [pod_v4, pod_v6];

fn any(ip: IpAddr) -> IpAddr {
    if ip.is_ipv4() { "0.0.0.0".parse().unwrap() } else { "::".parse().unwrap() }
}

/// A client pod and a server pod with a server on port 80.
fn client_and_server(ip: fn(usize) -> IpAddr) -> World {
    let world = World::new(2);
    serve(&world.pods[1], at(any(ip(1)), 80), "app");
    assert_eq!(hear(&world.pods[0], at(ip(1), 80)).map(|word| word[..3].to_owned()), Ok("app".into()));
    world
}

fn outbound() {
    for ip in BOTH {
        let world = client_and_server(ip);
        apply(&world.pods[0], &Redirect::default()).unwrap();
        serve(&world.pods[0], at(any(ip(0)), 15001), "proxy");
        let meant = at(ip(1), 80);
        assert_eq!(hear(&world.pods[0], meant), Ok(format!("proxy {meant} {}", ip(0))));
        let nowhere = at(if ip(0).is_ipv4() { "10.9.9.9" } else { "fd09::9" }.parse().unwrap(), 443);
        assert_eq!(hear(&world.pods[0], nowhere), Ok(format!("proxy {nowhere} {}", ip(0))));
    }
}

fn loopback_down() {
    let world = client_and_server(pod_v4);
    let pod = &world.pods[0];
    ztunnel::net::links::Links::open(pod).unwrap().down("lo").unwrap();
    apply(pod, &Redirect::default()).unwrap();
    assert_eq!(verify(pod, &Redirect::default()).unwrap(), Standing::InPlace);
    serve(pod, at(any(pod_v4(0)), 15001), "proxy");
    let meant = at(pod_v4(1), 80);
    assert_eq!(hear(pod, meant), Ok(format!("proxy {meant} {}", pod_v4(0))));
}

fn fail_closed() {
    for ip in BOTH {
        let world = client_and_server(ip);
        apply(&world.pods[0], &Redirect::default()).unwrap();
        assert_eq!(hear(&world.pods[0], at(ip(1), 80)), Err(ConnectionRefused), "out");
        remove(&world.pods[0]).unwrap();
        apply(&world.pods[1], &Redirect::default()).unwrap();
        assert_eq!(hear(&world.pods[0], at(ip(1), 80)), Err(ConnectionRefused), "in");
        assert_eq!(hear(&world.pods[0], at(ip(1), 15008)), Err(ConnectionRefused), "tunnel");
    }
}

fn inbound() {
    for ip in BOTH {
        let world = client_and_server(ip);
        apply(&world.pods[1], &Redirect::default()).unwrap();
        serve(&world.pods[1], at(any(ip(1)), 15006), "plain");
        serve(&world.pods[1], at(any(ip(1)), 15008), "tunnel");
        let meant = at(ip(1), 80);
        assert_eq!(hear(&world.pods[0], meant), Ok(format!("plain {meant} {}", ip(0))));
        assert!(hear(&world.pods[0], at(ip(1), 15008)).unwrap().starts_with("tunnel "));
    }
}

fn marked() {
    for ip in BOTH {
        let world = client_and_server(ip);
        apply(&world.pods[0], &Redirect::default()).unwrap();
        let word = hear_marked(&world.pods[0], at(ip(1), 80), PROXY_MARK).unwrap();
        assert!(word.starts_with("app "), "{word}");
        // Other bits of the mark are not ours to look at.
        assert!(hear_marked(&world.pods[0], at(ip(1), 80), PROXY_MARK | 0x10000).unwrap().starts_with("app "));
        assert_eq!(hear_marked(&world.pods[0], at(ip(1), 80), 7), Err(ConnectionRefused));
    }
}

fn itself() {
    for ip in BOTH {
        let world = client_and_server(ip);
        apply(&world.pods[1], &Redirect::default()).unwrap();
        let loopback = if ip(1).is_ipv4() { "127.0.0.1" } else { "::1" }.parse().unwrap();
        for own in [loopback, ip(1)] {
            assert!(hear(&world.pods[1], at(own, 80)).unwrap().starts_with("app "), "{own}");
        }
    }
}

fn dns() {
    for ip in BOTH {
        let world = World::new(2);
        apply(&world.pods[0], &Redirect::default()).unwrap();
        serve(&world.pods[0], at(any(ip(0)), 15053), "dns");
        assert!(hear(&world.pods[0], at(ip(1), 53)).unwrap().starts_with("dns "));
        // Queries arrive at loopback, and a datagram socket that is bound to
        // it answers from there.
        let loopback = if ip(0).is_ipv4() { "127.0.0.1" } else { "::1" }.parse().unwrap();
        let server = world.pods[0].run(|| UdpSocket::bind(at(loopback, 15053))).unwrap().unwrap();
        let client = world.pods[0].run(|| UdpSocket::bind(at(any(ip(0)), 0))).unwrap().unwrap();
        for socket in [&server, &client] {
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
        }
        client.connect(at(ip(1), 53)).unwrap();
        client.send(b"who").unwrap();
        let mut buffer = [0; 16];
        let (len, from) = server.recv_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..len], b"who");
        server.send_to(b"me", from).unwrap();
        // A connected socket hears only the address it asked: the answer was
        // translated back.
        assert_eq!(client.recv(&mut buffer).unwrap(), 2);
        apply(&world.pods[0], &Redirect { dns: false, ..Redirect::default() }).unwrap();
        assert_eq!(hear(&world.pods[0], at(ip(1), 53)), Err(ConnectionRefused), "tcp goes to the outbound port");
    }
}

fn bypass_inbound() {
    for ip in BOTH {
        let world = client_and_server(ip);
        apply(&world.pods[1], &Redirect { inbound: false, ..Redirect::default() }).unwrap();
        assert!(hear(&world.pods[0], at(ip(1), 80)).unwrap().starts_with("app "));
        assert_eq!(hear(&world.pods[1], at(ip(0), 80)), Err(ConnectionRefused), "out is still captured");
    }
}

fn reroute() {
    for ip in BOTH {
        let world = client_and_server(ip);
        let redirect = Redirect { reroute_interfaces: vec!["eth0".into()], ..Redirect::default() };
        apply(&world.pods[1], &redirect).unwrap();
        assert_eq!(verify(&world.pods[1], &redirect).unwrap(), Standing::InPlace);
        serve(&world.pods[1], at(any(ip(1)), 15001), "proxy");
        assert!(hear(&world.pods[0], at(ip(1), 80)).unwrap().starts_with("proxy "));
    }
}

fn restore() {
    for ip in BOTH {
        let world = client_and_server(ip);
        for _ in 0..2 {
            apply(&world.pods[0], &Redirect::default()).unwrap();
            apply(&world.pods[1], &Redirect::default()).unwrap();
            assert_eq!(hear(&world.pods[0], at(ip(1), 80)), Err(ConnectionRefused));
            for pod in &world.pods {
                remove(pod).unwrap();
                remove(pod).unwrap();
                assert_eq!(verify(pod, &Redirect::default()).unwrap(), Standing::Absent);
            }
            assert!(hear(&world.pods[0], at(ip(1), 80)).unwrap().starts_with("app "));
        }
    }
}

fn standing() {
    let world = World::new(1);
    let pod = &world.pods[0];
    let variants = [
        Redirect::default(),
        Redirect { dns: false, ..Redirect::default() },
        Redirect { inbound: false, ..Redirect::default() },
        Redirect { reroute_interfaces: vec!["eth0".into(), "tap9".into()], ..Redirect::default() },
    ];
    for there in &variants {
        apply(pod, there).unwrap();
        for wanted in &variants {
            let found = verify(pod, wanted).unwrap();
            // Not having asked for dns is content with rules that have it not.
            assert_eq!(found == Standing::InPlace, there == wanted, "{there:?} seen as {wanted:?}: {found:?}");
        }
    }
    remove(pod).unwrap();
    assert_eq!(verify(pod, &Redirect::default()).unwrap(), Standing::Absent);
}

fn again() {
    let world = World::new(1);
    let pod = &world.pods[0];
    for redirect in [Redirect::default(), Redirect::default(), Redirect { dns: false, ..Redirect::default() }] {
        apply(pod, &redirect).unwrap();
        assert_eq!(verify(pod, &redirect).unwrap(), Standing::InPlace);
    }
}

/// A connection through the proxy of the first pod, both ends of it.
pub(crate) fn redirected(world: &World, ip: fn(usize) -> IpAddr) -> (TcpStream, TcpStream) {
    let proxy = world.pods[0].run(|| TcpListener::bind(at(any(ip(0)), 15001))).unwrap().unwrap();
    let client = world.pods[0].run(|| TcpStream::connect_timeout(&at(ip(1), 80), PATIENCE)).unwrap().unwrap();
    let (accepted, _) = proxy.accept().unwrap();
    for stream in [&client, &accepted] {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
    }
    (client, accepted)
}

/// A word goes each way.
pub(crate) fn talk(client: &mut TcpStream, accepted: &mut TcpStream) -> std::io::Result<()> {
    let mut heard = [0; 5];
    accepted.write_all(b"still")?;
    client.read_exact(&mut heard)?;
    client.write_all(b"here!")?;
    accepted.read_exact(&mut heard)
}

fn survives() {
    for ip in BOTH {
        let world = World::new(2);
        let redirect = Redirect::default();
        apply(&world.pods[0], &redirect).unwrap();
        let (mut client, mut accepted) = redirected(&world, ip);
        for _ in 0..3 {
            apply(&world.pods[0], &redirect).unwrap();
            talk(&mut client, &mut accepted).unwrap();
        }
    }
}

fn lets_go() {
    for ip in BOTH {
        let world = client_and_server(ip);
        let pod = &world.pods[0];
        apply(pod, &Redirect::default()).unwrap();
        let (mut client, mut accepted) = redirected(&world, ip);
        for _ in 0..2 {
            let_go(pod).unwrap();
            talk(&mut client, &mut accepted).unwrap();
            assert!(hear(pod, at(ip(1), 80)).unwrap().starts_with("app "), "a new one goes directly");
        }
        remove(pod).unwrap();
        assert_eq!(verify(pod, &Redirect::default()).unwrap(), Standing::Absent);
    }
}

fn no_way_around() {
    for ip in BOTH {
        let world = World::new(2);
        let pod = &world.pods[0];
        let server = world.pods[1].run(|| TcpListener::bind(at(any(ip(1)), 80))).unwrap().unwrap();
        apply(pod, &Redirect::default()).unwrap();
        let_go(pod).unwrap();
        let mut client = pod.run(|| TcpStream::connect_timeout(&at(ip(1), 80), PATIENCE)).unwrap().unwrap();
        let (mut accepted, _) = server.accept().unwrap();
        for stream in [&client, &accepted] {
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
        }
        talk(&mut client, &mut accepted).unwrap();
        apply(pod, &Redirect::default()).unwrap();
        conntrack::forget(pod).unwrap();
        assert_eq!(
            client.write_all(b"around").and_then(|()| client.read(&mut [0])).unwrap_err().kind(),
            ConnectionReset
        );
    }
}

/// A server in the second pod and what calls it from the first, as it was before either joined.
struct Outside {
    world: World,
    server: TcpListener,
    ip: fn(usize) -> IpAddr,
}

impl Outside {
    fn new(ip: fn(usize) -> IpAddr) -> Self {
        let world = World::new(2);
        let server = world.pods[1].run(|| TcpListener::bind(at(any(ip(1)), 80))).unwrap().unwrap();
        Self { world, server, ip }
    }

    /// Both ends of a connection from this port.
    fn open(&self, port: u16) -> (TcpStream, TcpStream) {
        let client = open_as(&self.world.pods[0], at((self.ip)(0), port), at((self.ip)(1), 80), None).unwrap();
        let (accepted, _) = self.server.accept().unwrap();
        for stream in [&client, &accepted] {
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
        }
        (client, accepted)
    }
}

fn goes_on() {
    for ip in BOTH {
        let outside = Outside::new(ip);
        let world = &outside.world;
        let mut pairs = [outside.open(0), outside.open(0)];
        let (client, mut half) = outside.open(0);
        client.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(half.read(&mut [0]).unwrap(), 0, "one side has ended");
        for pod in &world.pods {
            let_go(pod).unwrap();
            let_go(pod).unwrap();
            let adopted = conntrack::adopt(pod).unwrap();
            // Of the half-closed one the kernel may have seen an acknowledgement that was late.
            assert!(adopted >= 2, "{adopted}");
            assert_eq!(conntrack::adopt(pod).unwrap(), 0, "twice is once");
            apply(pod, &Redirect::default()).unwrap();
            assert_eq!(conntrack::prune(pod).unwrap(), 0);
            assert_eq!(verify(pod, &Redirect::default()).unwrap(), Standing::InPlace);
        }
        for (client, accepted) in &mut pairs {
            talk(client, accepted).unwrap();
            talk(accepted, client).unwrap();
        }
        half.write_all(b"the answer").unwrap();
        drop(half);
        assert_eq!(read_word(client).unwrap(), "the answer");
        assert_eq!(hear(&world.pods[0], at(ip(1), 80)), Err(ConnectionRefused), "nobody listens for what comes then");
    }
}

/// What connects after `let_go` and before the rules is not torn by them either.
fn watched() {
    for ip in BOTH {
        let outside = Outside::new(ip);
        outside.world.pods.iter().for_each(|pod| let_go(pod).unwrap());
        let (mut client, mut accepted) = outside.open(0);
        outside.world.pods.iter().for_each(|pod| apply(pod, &Redirect::default()).unwrap());
        talk(&mut client, &mut accepted).unwrap();
    }
}

fn lends_no_port() {
    const PORT: u16 = 40_404;
    for ip in BOTH {
        // The rules of whoever calls, and of whoever is called.
        for pod in [0, 1] {
            let outside = Outside::new(ip);
            let (client, accepted) = outside.open(PORT);
            let joins = &outside.world.pods[pod];
            let_go(joins).unwrap();
            assert_eq!(conntrack::adopt(joins).unwrap(), 1);
            apply(joins, &Redirect::default()).unwrap();
            // A reset: the kernel does not take the next SYN for a new connection for ten seconds.
            socket2::SockRef::from(&accepted).set_linger(Some(std::time::Duration::ZERO)).unwrap();
            drop(accepted);
            assert_eq!((&client).read(&mut [0]).unwrap_err().kind(), ConnectionReset);
            drop(client);
            let again = open_as(&outside.world.pods[0], at(ip(0), PORT), at(ip(1), 80), None);
            assert_eq!(again.unwrap_err().kind(), TimedOut, "{pod}: it went around the proxy");
            let_go(joins).unwrap();
            let again = open_as(&outside.world.pods[0], at(ip(0), PORT), at(ip(1), 80), None);
            assert!(again.is_ok(), "{pod}: out of the mesh it goes its own way: {again:?}");
        }
    }
}

fn pruned() {
    const PORT: u16 = 40_404;
    for ip in BOTH {
        // Its end was not seen, or it was, and the kernel remembers that for ten seconds.
        for seen in [false, true] {
            let outside = Outside::new(ip);
            let pod = &outside.world.pods[0];
            if seen {
                let_go(pod).unwrap();
            }
            let (client, accepted) = outside.open(PORT);
            assert_eq!(conntrack::adopt(pod).unwrap(), usize::from(!seen));
            socket2::SockRef::from(&accepted).set_linger(Some(std::time::Duration::ZERO)).unwrap();
            drop(accepted);
            assert_eq!((&client).read(&mut [0]).unwrap_err().kind(), ConnectionReset);
            drop(client);
            apply(pod, &Redirect::default()).unwrap();
            assert_eq!(conntrack::prune(pod).unwrap(), 1);
            let again = open_as(pod, at(ip(0), PORT), at(ip(1), 80), None);
            assert_eq!(again.unwrap_err().kind(), ConnectionRefused, "it is led to the proxy, of which there is none");
        }
    }
}

/// With the proxy's connection still remembered, the kernel would translate the caller's, and stop to with the rules.
fn leaves() {
    const PORT: u16 = 40_404;
    for ip in BOTH {
        let outside = Outside::new(ip);
        let pod = &outside.world.pods[1];
        apply(pod, &Redirect::default()).unwrap();
        let mut proxys = open_as(pod, at(ip(0), PORT), at(ip(1), 80), Some(PROXY_MARK)).unwrap();
        drop(outside.server.accept().unwrap());
        assert_eq!(proxys.read(&mut [0]).unwrap(), 0, "the server ends it, and remembers it");
        drop(proxys);
        leave(pod).unwrap();
        let (mut client, mut accepted) = outside.open(PORT);
        assert_eq!(accepted.peer_addr().unwrap(), at(ip(0), PORT));
        talk(&mut client, &mut accepted).unwrap();
        remove(pod).unwrap();
        talk(&mut client, &mut accepted).unwrap();
    }
}

/// A pod's connection through the proxy, and the proxy's to a pod in a caller's name.
fn counted() {
    for ip in BOTH {
        let outside = Outside::new(ip);
        let world = &outside.world;
        world.pods.iter().for_each(|pod| apply(pod, &Redirect::default()).unwrap());
        let led = redirected(world, ip);
        let proxys = open_as(&world.pods[1], at(ip(0), 40_404), at(ip(1), 80), Some(PROXY_MARK)).unwrap();
        let accepted = outside.server.accept().unwrap();
        for (pod, both) in [(0, [led.0, led.1]), (1, [proxys, accepted.0])] {
            let pod = &world.pods[pod];
            leave(pod).unwrap();
            assert_eq!(carried(pod).unwrap(), 1);
            drop(both);
            let deadline = Instant::now() + PATIENCE;
            while carried(pod).unwrap() > 0 {
                assert!(Instant::now() < deadline, "it counts although it has ended");
                pause(10);
            }
        }
    }
}

fn same_port() {
    const PORT: u16 = 40_404;
    for ip in BOTH {
        for redirect in [Redirect::default(), Redirect { dns: false, ..Redirect::default() }] {
            let world = client_and_server(ip);
            apply(&world.pods[1], &redirect).unwrap();
            serve(&world.pods[1], at(any(ip(1)), 15006), "plain");
            // In plaintext from the caller, and meanwhile from the proxy in the caller's name and by
            // chance its port; and the other way round, when nobody may come past the proxy.
            for (port, order) in [(PORT, [0, 1]), (PORT + 1, [1, 0])] {
                let open = |from: usize| {
                    let mark = (from == 1).then_some(PROXY_MARK);
                    (from, open_as(&world.pods[from], at(ip(0), port), at(ip(1), 80), mark).unwrap())
                };
                for (from, stream) in order.map(open) {
                    let word = read_word(stream).unwrap();
                    assert!(word.starts_with(["plain ", "app "][from]), "{port} {from}: {word}");
                }
            }
        }
    }
}
