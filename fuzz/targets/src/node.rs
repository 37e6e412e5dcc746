//! What the parts of a node say to each other: the agent to the proxy, the CNI plugin to the agent, an
//! application to the proxy, and an operator.

use mesh::{Str, View};
use std::{
    fs::File,
    os::fd::{AsFd, OwnedFd},
    pin::pin,
    task::{Context, Poll, Waker},
};
use ztunnel::{
    local,
    outbound::socks5::{self, Target},
    pods::protocol::{self, Pod, Request},
};

/// Whatever an application says; what it asks for is a name that can be asked for, or an address.
pub(crate) fn socks5(input: &[u8]) {
    let mut answered = Vec::new();
    let mut stream = tokio::io::join(input, &mut answered);
    let asked = pin!(socks5::asked(&mut stream)).poll(&mut Context::from_waker(Waker::noop()));
    let Poll::Ready(asked) = asked else { panic!("all that there will be was there") };
    if let Ok(Target::Name(name, _)) = &asked {
        assert!(!name.is_empty() && name.len() < 256 && name.is_ascii());
    }
    assert!(answered.len() <= 12, "more is answered than there is to say");
}

pub(crate) fn socks5_seeds() -> Vec<Vec<u8>> {
    [
        &[5, 1, 0, 5, 1, 0, 1, 10, 0, 0, 1, 0, 80][..],
        &[5, 2, 0, 2, 5, 1, 0, 4, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 187],
        b"\x05\x01\x00\x05\x01\x00\x03\x08web.shop\x00\x50",
        &[5, 1, 2],
        &[5, 1, 0, 5, 3, 0, 1],
    ]
    .map(<[u8]>::to_vec)
    .to_vec()
}

/// Whatever a local state says; what is understood can be a view.
pub(crate) fn local_state(input: &[u8]) {
    if let Ok(changes) = local::parse(super::text(input)) {
        let _view = View::default().apply(changes);
    }
}

pub(crate) fn local_state_seeds() -> Vec<Vec<u8>> {
    let text = "
workloads:
- {uid: a, name: a, namespace: b, workloadIps: [10.0.0.1], protocol: HBONE, services: {b/c: {80: 8080}}, capacity: 2}
- {uid: d, waypoint: {destination: b/c, hboneMtlsPort: 15008}, applicationTunnel: {protocol: PROXY}}
services:
- {namespace: b, hostname: c, vips: [/10.1.0.1], cidrVips: [/10.2.0.0/16], ports: {80: 0}, ipFamilies: Dual}
policies:
- {name: p, namespace: b, scope: Global, action: Deny, rules: [[[{namespaces: [{Exact: a}, Presence], sourceIps: [10.0.0.0/8]}]]]}
";
    vec![text.into(), b"workloads: [{uid: a}]".to_vec(), b"{}".to_vec()]
}

/// A descriptor, as one comes with a message.
fn descriptor() -> OwnedFd {
    File::open("/dev/null").expect("there is a /dev/null").into()
}

/// Whatever comes, with a descriptor or without; what is understood is written as it was read.
pub(crate) fn zds(input: &[u8]) {
    let _ = protocol::decode_hello(input, &[]);
    let _ = protocol::decode_ack(input, &[]);
    for descriptors in [vec![], vec![descriptor()]] {
        let Ok(request) = protocol::decode_request(input, descriptors) else { continue };
        let borrowed = match &request {
            Request::Add(pod, netns) => Request::Add(pod.clone(), netns.as_fd()),
            Request::Keep(uid) => Request::Keep(uid.clone()),
            Request::Del(uid, patience) => Request::Del(uid.clone(), *patience),
            Request::SnapshotSent => Request::SnapshotSent,
        };
        // What was longer than a message may be, which only a fuzzer reads, is not written again.
        let Ok((bytes, sent)) = protocol::encode_request(&borrowed) else { continue };
        let descriptors = sent.iter().map(|_| descriptor()).collect();
        let again = protocol::decode_request(&bytes, descriptors).expect("what we write we can read");
        assert_eq!(said(&again), said(&request));
    }
}

fn said(request: &Request) -> String {
    match request {
        Request::Add(pod, _) => format!("add {pod:?}"),
        Request::Keep(uid) => format!("keep {uid}"),
        Request::Del(uid, patience) => format!("delete {uid} {patience:?}"),
        Request::SnapshotSent => "snapshot sent".into(),
    }
}

pub(crate) fn zds_seeds() -> Vec<Vec<u8>> {
    let name = |text: &str| -> Str { text.into() };
    let pod = Pod {
        uid: name("00000000-0000-0000-0000-000000000001"),
        name: name("web-1"),
        namespace: name("shop"),
        service_account: name("web"),
    };
    let netns = descriptor();
    let requests = [
        Request::Add(pod.clone(), netns.as_fd()),
        Request::Keep(pod.uid.clone()),
        Request::Del(pod.uid, Some(std::time::Duration::from_secs(600))),
        Request::SnapshotSent,
    ];
    let mut seeds: Vec<_> =
        requests.iter().filter_map(|request| Some(protocol::encode_request(request).ok()?.0)).collect();
    seeds.extend([protocol::encode_hello(), protocol::encode_ack(Ok(())), protocol::encode_ack(Err("no such pod"))]);
    seeds
}

pub(crate) fn cni(input: &[u8]) {
    if let Ok(announced) = ztunnel::agent::cni::parse(input) {
        assert!(!announced.pod.name.is_empty() && !announced.pod.namespace.is_empty());
    }
}

pub(crate) fn cni_seeds() -> Vec<Vec<u8>> {
    [
        r#"{"Netns":"/var/run/netns/x","PodName":"web-1","PodNamespace":"shop","IPs":[{"Address":{"IP":"10.0.0.2","Mask":"/////w=="}}]}"#,
        r#"{"Netns":"/proc/1/ns/net","PodName":"web-1","PodNamespace":"shop","IPs":[{"Address":{"IP":"fd00::2"}}],"Unknown":[{}]}"#,
    ]
    .map(|seed| seed.as_bytes().to_vec())
    .to_vec()
}
