//! One process goes and another takes its place.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use chassis::task;

use crate::mesh_of_pods::{CLIENT, MeshOfPods, SERVER, SERVER_VIP, netns, pod};
use crate::{Case, tell};

pub(crate) const CASES: &[Case] = &[
    ("a drain waits for open connections and takes no new ones", waits),
    ("a drain breaks off what is open at its deadline", breaks_off),
    ("listeners are replaced under load without a refused connection", replaced),
];

fn waits() {
    tell(async {
        let mut mesh = MeshOfPods::new().await;
        let listener = mesh.listen(SERVER, 8080);
        let mut stream = mesh.connect(CLIENT, SERVER_VIP).await.expect("connected");
        stream.write_all(b"x").await.expect("sent");
        let (mut accepted, _) = listener.accept().await.expect("accepted");
        let listening = std::mem::take(&mut mesh.nodes[0].listening);
        let client = listening.into_iter().find(|one| &*one.pod.pod.name == "client").expect("the client");
        let draining = task::spawn("drain", client.drain(Duration::from_secs(20)));
        // Who connects before the listener is closed is still served; `tell` has the deadline.
        let refused = loop {
            match mesh.connect(CLIENT, SERVER_VIP).await {
                // Reset, because its application never takes it.
                Ok(late) => ztunnel::net::sockets::reset(late),
                // It waited to be accepted when the listener closed, and there is no next process to take it.
                Err(late) if late.kind() == std::io::ErrorKind::ConnectionReset => {}
                Err(refused) => break refused,
            }
        };
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        accepted.write_all(b"still here").await.expect("sent");
        let mut word = [0; 10];
        stream.read_exact(&mut word).await.expect("received");
        assert!(!draining.is_finished(), "the drain did not wait");
        drop((stream, accepted));
        draining.await.expect("drained");
    });
}

fn breaks_off() {
    tell(async {
        let mut mesh = MeshOfPods::new().await;
        let listener = mesh.listen(SERVER, 8080);
        let mut stream = mesh.connect(CLIENT, SERVER_VIP).await.expect("connected");
        stream.write_all(b"x").await.expect("sent");
        let (_accepted, _) = listener.accept().await.expect("accepted");
        for one in std::mem::take(&mut mesh.nodes[1].listening) {
            one.drain(Duration::from_millis(400)).await;
        }
        assert!(!matches!(stream.read(&mut [0]).await, Ok(1..)), "the caller hears of it");
        mesh.until_counted(1, "istio_tcp_connections_closed_total", "reporter=\"destination\"", 1.0).await;
    });
}

fn replaced() {
    const ROUNDS: usize = 5;
    tell(async {
        let mut mesh = MeshOfPods::new().await;
        let listener = Arc::new(mesh.listen(SERVER, 8080));
        let serving = listener.clone();
        let _echo = task::spawn("echo", async move {
            while let Ok((mut stream, _)) = serving.accept().await {
                let one = async move {
                    let (mut from, mut to) = stream.split();
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                };
                task::spawn("echo", one).detach();
            }
        });
        let calls = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let stop = tokio_util::sync::CancellationToken::new();
        let netns_of = [CLIENT, SERVER].map(|pod| Arc::new(netns(&mesh, pod)));
        let callers: Vec<_> = (0..8)
            .map(|_| {
                let (calls, stop, client) = (calls.clone(), stop.clone(), netns_of[0].clone());
                task::spawn("caller", async move {
                    while !stop.is_cancelled() {
                        let socket = client.run(tokio::net::TcpSocket::new_v4).expect("inside").expect("a socket");
                        let to = SERVER_VIP.parse().expect("an address");
                        let mut stream = socket.connect(to).await.expect("a connection was refused");
                        stream.write_all(b"hello").await.expect("sent");
                        let mut word = [0; 5];
                        stream.read_exact(&mut word).await.expect("a connection was broken");
                        calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    }
                })
            })
            .collect();
        for _ in 0..ROUNDS {
            for (node, name, at) in [(0, "client", 0), (1, "server", 1)] {
                let proxy = &mut mesh.nodes[node];
                let workers = proxy.workers.handles().to_vec();
                let next = proxy.opener.open(pod(name), Some(netns_of[at].clone()), workers).await.expect("listening");
                let old = proxy.listening.iter().position(|one| &*one.pod.pod.name == name).expect("the old one");
                let old = std::mem::replace(&mut proxy.listening[old], next);
                old.drain(Duration::from_secs(5)).await;
            }
        }
        stop.cancel();
        for caller in callers {
            caller.await.expect("no call failed");
        }
        assert!(calls.load(std::sync::atomic::Ordering::Relaxed) > ROUNDS * 10, "there was hardly any load");
    });
}
