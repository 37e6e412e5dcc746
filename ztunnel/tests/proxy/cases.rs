//! Bytes, both ways, unchanged.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::mesh_of_pods::{
    CLIENT, MeshOfPods, NEAR, NEAR_VIP, OUTSIDE, OUTSIDE_VIP, SERVER, SERVER_VIP, says_back, v4, v6,
};
use crate::{Case, tell};

pub(crate) const CASES: &[Case] = &[
    ("a service on another node is reached through a tunnel", another_node),
    ("a service on the same node is reached without a tunnel and told at both ends", same_node),
    ("a service on the same node is reached through a tunnel if that is forced", forced),
    ("few connections of a pod share a tunnel, many are spread over the workers", spread),
    ("pods reach each other by address, IPv4 and IPv6", by_address),
    ("a pod reaches what is not in the mesh, and is reached from there", in_and_out),
    ("an end of one direction leaves the other open", half_close),
    ("a reset of one side resets the other", resets),
    ("a server may speak first", server_first),
    ("many bytes arrive whole", many_bytes),
    ("a port where nobody listens refuses", nobody_listens),
    ("a client that gives up while it is being connected is noticed at once", gives_up),
    ("a pod may call itself by its service", self_call),
];

fn another_node() {
    tell(async {
        let mesh = MeshOfPods::new().await;
        let listener = mesh.listen(SERVER, 8080);
        let stream = mesh.connect(CLIENT, SERVER_VIP).await.expect("connected");
        assert_eq!(says_back(stream, &listener).await, v4(CLIENT), "the application sees its caller");
        let mutual = "connection_security_policy=\"mutual_tls\"";
        mesh.until_counted(0, "istio_tcp_connections_closed_total", mutual, 1.0).await;
        mesh.until_counted(1, "istio_tcp_connections_closed_total", mutual, 1.0).await;
        assert_eq!(mesh.counted(0, "istio_tcp_sent_bytes_total", "reporter=\"source\""), 5.0);
        assert_eq!(mesh.counted(1, "istio_tcp_received_bytes_total", "reporter=\"destination\""), 5.0);
    });
}

fn same_node() {
    tell(async {
        let mesh = MeshOfPods::new().await;
        let listener = mesh.listen(NEAR, 8080);
        let stream = mesh.connect(CLIENT, NEAR_VIP).await.expect("connected");
        assert_eq!(says_back(stream, &listener).await, v4(CLIENT), "the application sees its caller");
        let name = "istio_tcp_connections_closed_total";
        for reporter in ["source", "destination"] {
            mesh.until_counted(0, name, &format!("reporter=\"{reporter}\""), 1.0).await;
        }
        let principals = "source_principal=\"spiffe://cluster.local/ns/shop/sa/client\"";
        mesh.until_counted(0, name, principals, 2.0).await;
        assert_eq!(mesh.counted(0, "istio_tcp_received_bytes_total", "reporter=\"destination\""), 5.0);
        let connections = mesh.nodes[0].tunnels();
        assert_eq!(connections, 0, "there was a tunnel");
    });
}

fn forced() {
    tell(async {
        let mesh = MeshOfPods::with("", |settings| settings.force_tunnel = true).await;
        let listener = mesh.listen(NEAR, 8080);
        let stream = mesh.connect(CLIENT, NEAR_VIP).await.expect("connected");
        assert_eq!(says_back(stream, &listener).await, v4(CLIENT));
        let connections = mesh.nodes[0].tunnels();
        assert_eq!(connections, 1, "there was no tunnel");
    });
}

fn spread() {
    tell(async {
        let mesh = MeshOfPods::new().await;
        let listener = mesh.listen(SERVER, 8080);
        let mut open = Vec::new();
        for tunnels in [1, 1, 1, 1, 2, 2, 2, 2, 2] {
            let mut stream = mesh.connect(CLIENT, SERVER_VIP).await.expect("connected");
            let (mut accepted, _) = listener.accept().await.expect("accepted");
            stream.write_all(b"!").await.expect("sent");
            assert_eq!(accepted.read_u8().await.expect("received"), b'!');
            open.push((stream, accepted));
            let connections = mesh.nodes[0].tunnels();
            assert_eq!(connections, tunnels, "with {} connections", open.len());
        }
        for (mut stream, mut accepted) in open {
            accepted.write_all(b"?").await.expect("answered");
            assert_eq!(stream.read_u8().await.expect("an answer"), b'?');
        }
    });
}

fn by_address() {
    tell(async {
        let mesh = MeshOfPods::new().await;
        for pod in [SERVER, NEAR] {
            let listener = mesh.listen(pod, 9000);
            for (to, from) in [(format!("{}:9000", v4(pod)), v4(CLIENT)), (format!("[{}]:9000", v6(pod)), v6(CLIENT))] {
                let stream = mesh.connect(CLIENT, &to).await.expect("connected");
                assert_eq!(says_back(stream, &listener).await, from, "to {to}");
            }
        }
    });
}

fn in_and_out() {
    tell(async {
        let mesh = MeshOfPods::new().await;
        let listener = mesh.listen(OUTSIDE, 8080);
        for to in [OUTSIDE_VIP.to_owned(), format!("{}:8080", v4(OUTSIDE)), format!("[{}]:8080", v6(OUTSIDE))] {
            let stream = mesh.connect(CLIENT, &to).await.expect("connected");
            let expected = if to.starts_with('[') { v6(CLIENT) } else { v4(CLIENT) };
            assert_eq!(says_back(stream, &listener).await, expected);
        }
        let listener = mesh.listen(SERVER, 8080);
        let stream = mesh.connect(OUTSIDE, &format!("{}:8080", v4(SERVER))).await.expect("connected");
        assert_eq!(says_back(stream, &listener).await, v4(OUTSIDE));
    });
}

fn half_close() {
    tell(async {
        let mesh = MeshOfPods::new().await;
        for (pod, vip) in [(SERVER, SERVER_VIP), (NEAR, NEAR_VIP)] {
            let listener = mesh.listen(pod, 8080);
            let mut stream = mesh.connect(CLIENT, vip).await.expect("connected");
            stream.write_all(b"question").await.expect("sent");
            stream.shutdown().await.expect("ended");
            let (mut accepted, _) = listener.accept().await.expect("accepted");
            let mut heard = String::new();
            accepted.read_to_string(&mut heard).await.expect("heard to the end");
            assert_eq!(heard, "question");
            accepted.write_all(b"answer").await.expect("answered");
            drop(accepted);
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.expect("answered to the end");
            assert_eq!(answer, "answer");
        }
    });
}

fn resets() {
    tell(async {
        let mesh = MeshOfPods::new().await;
        for (pod, vip) in [(SERVER, SERVER_VIP), (NEAR, NEAR_VIP)] {
            let listener = mesh.listen(pod, 8080);
            for by_client in [true, false] {
                let mut stream = mesh.connect(CLIENT, vip).await.expect("connected");
                stream.write_all(b"x").await.expect("sent");
                let (mut accepted, _) = listener.accept().await.expect("accepted");
                accepted.read_exact(&mut [0]).await.expect("received");
                let (resetting, mut other) = if by_client { (stream, accepted) } else { (accepted, stream) };
                resetting.set_zero_linger().expect("set");
                drop(resetting);
                let error = other.read(&mut [0]).await.expect_err("it was reset");
                assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "by client: {by_client}, {vip}");
            }
        }
    });
}

fn server_first() {
    tell(async {
        let mesh = MeshOfPods::new().await;
        for (pod, vip) in [(SERVER, SERVER_VIP), (NEAR, NEAR_VIP)] {
            let listener = mesh.listen(pod, 8080);
            let mut stream = mesh.connect(CLIENT, vip).await.expect("connected");
            let (mut accepted, _) = listener.accept().await.expect("accepted");
            accepted.write_all(b"220 ready").await.expect("greeted");
            let mut greeting = [0; 9];
            stream.read_exact(&mut greeting).await.expect("a greeting");
            assert_eq!(&greeting, b"220 ready");
        }
    });
}

fn many_bytes() {
    const BYTES: usize = 8 << 20;
    tell(async {
        let mesh = MeshOfPods::new().await;
        let sent: Vec<u8> = (0..BYTES).map(|at| (at * 31 % 251) as u8).collect();
        for (pod, vip) in [(SERVER, SERVER_VIP), (NEAR, NEAR_VIP)] {
            let listener = mesh.listen(pod, 8080);
            let stream = mesh.connect(CLIENT, vip).await.expect("connected");
            let (mut from_client, mut to_server) = stream.into_split();
            let (accepted, _) = listener.accept().await.expect("accepted");
            let (mut at_server, mut back) = accepted.into_split();
            let echo = async {
                tokio::io::copy(&mut at_server, &mut back).await.expect("echoed");
                back.shutdown().await.expect("ended");
            };
            let send = async {
                to_server.write_all(&sent).await.expect("sent");
                to_server.shutdown().await.expect("ended");
            };
            let mut received = Vec::with_capacity(BYTES);
            let receive = async { from_client.read_to_end(&mut received).await.expect("received") };
            tokio::join!(echo, send, receive);
            assert!(received == sent, "{} bytes came back and differ", received.len());
        }
    });
}

fn nobody_listens() {
    tell(async {
        let mesh = MeshOfPods::new().await;
        for vip in [SERVER_VIP, NEAR_VIP] {
            assert!(crate::mesh_of_pods::is_turned_away(&mesh, CLIENT, vip).await);
        }
        let failed = "istio_tcp_connections_failed_total";
        mesh.until_counted(0, failed, "response_flags=\"CONNECT\"", 3.0).await;
        mesh.until_counted(1, failed, "response_flags=\"CONNECT\"", 1.0).await;
    });
}

fn gives_up() {
    tell(async {
        let mut mesh = MeshOfPods::without_listeners("", |_| {});
        mesh.open(CLIENT).await;
        // The other end of the tunnel takes the connection and says nothing.
        let silent = mesh.listen(SERVER, 15008);
        let stream = mesh.connect(CLIENT, SERVER_VIP).await.expect("connected");
        let _held = silent.accept().await.expect("a tunnel is being made");
        ztunnel::net::sockets::reset(stream);
        // Were it noticed by the deadline of the handshake only, the flag would be another.
        let given_up = "response_flags=\"-\"";
        mesh.until_counted(0, "istio_tcp_connections_failed_total", given_up, 1.0).await;
    });
}

fn self_call() {
    tell(async {
        let mesh = MeshOfPods::new().await;
        let listener = mesh.listen(NEAR, 8080);
        let stream = mesh.connect(NEAR, NEAR_VIP).await.expect("connected");
        assert_eq!(says_back(stream, &listener).await, v4(NEAR));
    });
}
