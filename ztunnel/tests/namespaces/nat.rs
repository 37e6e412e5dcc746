//! What a node's address translation does.

use std::collections::BTreeMap;
use std::io::ErrorKind::ConnectionRefused;
use std::net::{IpAddr, UdpSocket};

use ztunnel::net::links::{Links, Route};
use ztunnel::net::nat::{
    Protocol, ServicePort, ServiceRules, add_probed, apply_services, ensure_probe_rules, probed, remove_probed,
};
use ztunnel::net::redirect::{Redirect, apply};

use crate::Case;
use crate::world::{PATIENCE, World, at, hear, pod_v4, pod_v6, serve};

pub(crate) const CASES: &[Case] = &[
    ("a service address leads to each of its pods", spread),
    ("a service without pods refuses", unanswered),
    ("a service works in udp", udp),
    ("a pod reaches itself through its service", hairpin),
    ("the node itself reaches a service", from_node),
    ("replacing the rules takes effect at once and all together", replaced),
    ("two thousand service ports fit into one step", many),
    ("the way out of the cluster hides the pod", masquerade),
    ("probes of the node reach a redirected pod, others do not", probes),
    ("the probe set forgets and remembers", probe_set),
];

fn vip_v4() -> IpAddr {
    "10.96.0.1".parse().unwrap()
}

fn vip_v6() -> IpAddr {
    "fd96::1".parse().unwrap()
}

/// Of both families: the address of a pod by number, and that of a Service.
type Addresses = (fn(usize) -> IpAddr, fn() -> IpAddr);

const BOTH: [Addresses; 2] = [(pod_v4, vip_v4), (pod_v6, vip_v6)];

fn service(frontend: IpAddr, protocol: Protocol, backends: &[IpAddr]) -> ServicePort {
    ServicePort { frontend: at(frontend, 80), protocol, backends: backends.iter().map(|ip| at(*ip, 8080)).collect() }
}

fn rules(ports: Vec<ServicePort>) -> ServiceRules {
    ServiceRules { ports, ..ServiceRules::default() }
}

fn spread() {
    for (ip, vip) in BOTH {
        let world = World::new(4);
        for (number, word) in [(1, "one"), (2, "two"), (3, "three")] {
            serve(&world.pods[number], at(ip(number), 8080), word);
        }
        apply_services(&world.node, &rules(vec![service(vip(), Protocol::Tcp, &[ip(1), ip(2), ip(3)])])).unwrap();
        let mut heard = BTreeMap::new();
        for _ in 0..90 {
            let word = hear(&world.pods[0], at(vip(), 80)).unwrap();
            let (word, rest) = word.split_once(' ').unwrap();
            assert!(rest.ends_with(&format!(" {}", ip(0))), "the source is kept: {rest}");
            *heard.entry(word.to_owned()).or_insert(0) += 1;
        }
        // 90 throws of a fair die with three sides: less than 10 of one is
        // rarer than one in a million.
        assert!(heard.len() == 3 && heard.values().all(|count| *count >= 10), "{heard:?}");
    }
}

fn unanswered() {
    for (_, vip) in BOTH {
        let world = World::new(2);
        route_to(&world, vip(), "veth1");
        apply_services(&world.node, &rules(vec![service(vip(), Protocol::Tcp, &[])])).unwrap();
        assert_eq!(hear(&world.node, at(vip(), 80)), Err(ConnectionRefused), "from the node");
        assert_eq!(hear(&world.pods[0], at(vip(), 80)), Err(ConnectionRefused), "from a pod");
    }
}

/// A node needs some route for a Service address, as its default route is.
fn route_to(world: &World, vip: IpAddr, device: &str) {
    let net = ipnet::IpNet::new(vip, if vip.is_ipv4() { 32 } else { 128 }).unwrap();
    Links::open(&world.node).unwrap().add_route(&Route::device(net, device)).unwrap();
}

fn udp() {
    for (ip, vip) in BOTH {
        let world = World::new(2);
        apply_services(&world.node, &rules(vec![service(vip(), Protocol::Udp, &[ip(1)])])).unwrap();
        let server = world.pods[1].run(|| UdpSocket::bind(at(ip(1), 8080))).unwrap().unwrap();
        let client = world.pods[0].run(|| UdpSocket::bind(at(ip(0), 0))).unwrap().unwrap();
        for socket in [&server, &client] {
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
        }
        client.connect(at(vip(), 80)).unwrap();
        client.send(b"there?").unwrap();
        let mut buffer = [0; 16];
        let (_, from) = server.recv_from(&mut buffer).unwrap();
        assert_eq!(from.ip(), ip(0));
        server.send_to(b"yes", from).unwrap();
        assert_eq!(client.recv(&mut buffer).unwrap(), 3);
    }
}

fn hairpin() {
    for (ip, vip) in BOTH {
        let world = World::new(1);
        serve(&world.pods[0], at(ip(0), 8080), "self");
        apply_services(&world.node, &rules(vec![service(vip(), Protocol::Tcp, &[ip(0)])])).unwrap();
        assert!(hear(&world.pods[0], at(vip(), 80)).unwrap().starts_with("self "));
    }
}

fn from_node() {
    for (ip, vip) in BOTH {
        let world = World::new(1);
        serve(&world.pods[0], at(ip(0), 8080), "app");
        route_to(&world, vip(), "veth0");
        apply_services(&world.node, &rules(vec![service(vip(), Protocol::Tcp, &[ip(0)])])).unwrap();
        assert!(hear(&world.node, at(vip(), 80)).unwrap().starts_with("app "));
    }
}

fn replaced() {
    for (ip, vip) in BOTH {
        let world = World::new(3);
        serve(&world.pods[1], at(ip(1), 8080), "one");
        serve(&world.pods[2], at(ip(2), 8080), "two");
        for (backend, word) in [(1, "one "), (2, "two "), (1, "one ")] {
            apply_services(&world.node, &rules(vec![service(vip(), Protocol::Tcp, &[ip(backend)])])).unwrap();
            assert!(hear(&world.pods[0], at(vip(), 80)).unwrap().starts_with(word));
        }
    }
}

fn many() {
    let world = World::new(2);
    serve(&world.pods[1], at(pod_v4(1), 8080), "last");
    let frontend = |number: u32| IpAddr::from((0x0a60_0000 + number).to_be_bytes());
    let ports = (0..2000).map(|number| service(frontend(number), Protocol::Tcp, &[pod_v4(1)])).collect();
    match apply_services(&world.node, &rules(ports)) {
        Ok(()) => assert!(hear(&world.pods[0], at(frontend(1999), 80)).unwrap().starts_with("last ")),
        // In a user namespace the system's own limit holds; it has to be named.
        Err(error) => assert!(error.to_string().contains("wmem_max"), "{error}"),
    }
}

fn masquerade() {
    // Pod 0 is in the cluster, pod 1 stands for a machine outside of it.
    for (ip, _) in BOTH {
        let world = World::new(2);
        serve(&world.pods[1], at(ip(1), 80), "out");
        let net = |ip: IpAddr| ipnet::IpNet::new(ip, if ip.is_ipv4() { 32 } else { 128 }).unwrap();
        let node = if ip(0).is_ipv4() { "10.0.0.1" } else { "fd00::1" };
        for (cluster, seen) in [(vec![net(ip(0))], node.to_owned()), (vec![net(ip(0)), net(ip(1))], ip(0).to_string())]
        {
            let rules = ServiceRules { ports: Vec::new(), cluster, masquerade: vec![net(ip(0))] };
            apply_services(&world.node, &rules).unwrap();
            let word = hear(&world.pods[0], at(ip(1), 80)).unwrap();
            assert!(word.ends_with(&format!(" {seen}")), "{word}");
        }
    }
}

fn probes() {
    for (ip, _) in BOTH {
        let world = World::new(2);
        serve(&world.pods[1], at(ip(1), 80), "app");
        apply(&world.pods[1], &Redirect::default()).unwrap();
        ensure_probe_rules(&world.node).unwrap();
        assert_eq!(hear(&world.node, at(ip(1), 80)), Err(ConnectionRefused), "not in the set yet");
        add_probed(&world.node, &[ip(1)]).unwrap();
        let word = hear(&world.node, at(ip(1), 80)).unwrap();
        let source = if ip(1).is_ipv4() { "169.254.7.127" } else { "fd16:9254:7127:1337:ffff:ffff:ffff:ffff" };
        assert!(word.starts_with("app ") && word.ends_with(source), "{word}");
        assert_eq!(hear(&world.pods[0], at(ip(1), 80)), Err(ConnectionRefused), "another pod is no probe");
        remove_probed(&world.node, &[ip(1)]).unwrap();
        assert_eq!(hear(&world.node, at(ip(1), 80)), Err(ConnectionRefused), "no longer in the set");
    }
}

fn probe_set() {
    let world = World::new(0);
    assert!(probed(&world.node).unwrap().is_empty());
    ensure_probe_rules(&world.node).unwrap();
    let pods = [pod_v4(0), pod_v4(1), pod_v6(0)];
    add_probed(&world.node, &pods).unwrap();
    add_probed(&world.node, &pods[..1]).unwrap();
    ensure_probe_rules(&world.node).unwrap();
    let mut found = probed(&world.node).unwrap();
    found.sort();
    assert_eq!(found, pods);
    remove_probed(&world.node, &pods[1..]).unwrap();
    remove_probed(&world.node, &pods[1..]).unwrap();
    assert_eq!(probed(&world.node).unwrap(), pods[..1]);
}
