//! Who may call whom, and until when.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::mesh_of_pods::{
    CLIENT, MeshOfPods, NEAR, NEAR_VIP, OUTSIDE, SERVER, SERVER_VIP, is_turned_away, says_back, v4,
};
use crate::{Case, tell};

pub(crate) const CASES: &[Case] = &[
    ("a caller that policy denies is turned away, on this node and from another", denied),
    ("a connection that policy comes to forbid is closed, and no other", closes),
    ("with STRICT a call without a tunnel is refused, and with one it is not", strict),
    ("a port of the proxy cannot be called, from inside nor from outside", own_ports),
    ("a pod that nobody told of is neither served nor a caller", unknown),
    ("without a certificate nobody is called through a tunnel or as if through one", no_certificate),
];

/// Both services are for `somebody` only.
const NOT_CLIENT: &str = "
allow one ns=shop for=server principal=cluster.local/ns/shop/sa/somebody
allow two ns=shop for=near principal=cluster.local/ns/shop/sa/somebody
";
const CLIENT_ONLY: &str = "
allow one ns=shop for=server principal=cluster.local/ns/shop/sa/client
allow two ns=shop for=near principal=cluster.local/ns/shop/sa/client
";
/// As the control plane says STRICT: whoever has no identity is denied.
const STRICT: &str = "deny strict ns=shop for=server,near not-principal=*";

fn denied() {
    tell(async {
        let mesh = MeshOfPods::with(NOT_CLIENT, |_| {}).await;
        let _listeners = [mesh.listen(SERVER, 8080), mesh.listen(NEAR, 8080)];
        for vip in [SERVER_VIP, NEAR_VIP] {
            assert!(is_turned_away(&mesh, CLIENT, vip).await, "{vip}");
        }
        let failed = "istio_tcp_connections_failed_total";
        mesh.until_counted(1, failed, "response_flags=\"DENY\"", 1.0).await;
        mesh.until_counted(0, failed, "response_flags=\"DENY\"", 3.0).await;
    });
}

fn closes() {
    tell(async {
        let mesh = MeshOfPods::with(CLIENT_ONLY, |_| {}).await;
        for (pod, vip) in [(SERVER, SERVER_VIP), (NEAR, NEAR_VIP)] {
            mesh.change(CLIENT_ONLY);
            let (listener, other) = (mesh.listen(pod, 8080), mesh.listen(OUTSIDE, 8080));
            let mut stream = mesh.connect(CLIENT, vip).await.expect("connected");
            stream.write_all(b"x").await.expect("sent");
            let (mut accepted, _) = listener.accept().await.expect("accepted");
            accepted.read_exact(&mut [0]).await.expect("received");
            let free = mesh.connect(CLIENT, &format!("{}:8080", v4(OUTSIDE))).await.expect("connected");
            mesh.change(NOT_CLIENT);
            assert!(!matches!(stream.read(&mut [0]).await, Ok(1..)), "the caller's end is closed");
            assert!(!matches!(accepted.read(&mut [0]).await, Ok(1..)), "the application's end is closed");
            says_back(free, &other).await;
        }
        let closed = "istio_tcp_connections_closed_total";
        mesh.until_counted(1, closed, "reporter=\"destination\"", 1.0).await;
    });
}

fn strict() {
    tell(async {
        let mesh = MeshOfPods::with(STRICT, |_| {}).await;
        for (pod, vip) in [(SERVER, SERVER_VIP), (NEAR, NEAR_VIP)] {
            let listener = mesh.listen(pod, 8080);
            assert!(is_turned_away(&mesh, OUTSIDE, &format!("{}:8080", v4(pod))).await);
            let stream = mesh.connect(CLIENT, vip).await.expect("connected");
            says_back(stream, &listener).await;
        }
    });
}

fn own_ports() {
    tell(async {
        let mesh = MeshOfPods::new().await;
        for port in ztunnel::PROXY_PORTS {
            for (from, to) in [(CLIENT, v4(CLIENT)), (CLIENT, v4(SERVER)), (CLIENT, v4(NEAR)), (OUTSIDE, v4(SERVER))] {
                let to = format!("{to}:{port}");
                assert!(is_turned_away(&mesh, from, &to).await, "pod {from} to {to}");
            }
            assert!(is_turned_away(&mesh, CLIENT, &format!("127.0.0.1:{port}")).await);
            assert!(is_turned_away(&mesh, CLIENT, &format!("[::1]:{port}")).await);
        }
    });
}

fn unknown() {
    tell(async {
        let mesh = MeshOfPods::new().await;
        let _listener = mesh.listen(SERVER, 8080);
        for proxy in &mesh.nodes {
            let gone = ["client", "server"].map(|uid| mesh::Change::RemoveAddress(uid.into()));
            proxy.opener.node.view.apply(gone.to_vec());
        }
        // Both wait for the control plane, each for its own 5 s.
        let (out, into) =
            (is_turned_away(&mesh, CLIENT, "192.0.2.1:80"), is_turned_away(&mesh, OUTSIDE, "10.0.0.3:8080"));
        assert_eq!(tokio::join!(out, into), (true, true));
    });
}

fn no_certificate() {
    tell(async {
        let mesh = MeshOfPods::without_listeners("", |_| {});
        let refused = pki::cache::CertificateError::Unreachable("nobody is there".into());
        mesh.ca.fail_with(Some(refused));
        let mut mesh = mesh;
        for (pod, node) in [(CLIENT, 0), (NEAR, 0)] {
            let name = if pod == CLIENT { "client" } else { "near" };
            let netns = std::sync::Arc::new(crate::mesh_of_pods::netns(&mesh, pod));
            let proxy = &mut mesh.nodes[node];
            let workers = proxy.workers.handles().to_vec();
            let opened = proxy.opener.open(crate::mesh_of_pods::pod(name), Some(netns), workers).await;
            proxy.listening.push(opened.expect("listening"));
        }
        let _listener = mesh.listen(NEAR, 8080);
        assert!(is_turned_away(&mesh, CLIENT, NEAR_VIP).await);
        assert!(is_turned_away(&mesh, CLIENT, SERVER_VIP).await);
    });
}
