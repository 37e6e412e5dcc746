//! What is served without being redirected, and without an agent: SOCKS5, the proxy's own pod, and the
//! pod of a dedicated proxy, which is the real program here.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use chassis::task;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use ztunnel::pods::protocol::Pod;

use crate::mesh_of_pods::{CLIENT, MeshOfPods, NEAR, SERVER, says_back, v4};
use crate::{Case, tell};

pub(crate) const CASES: &[Case] = &[
    ("what is asked for by SOCKS5 is served as what is redirected", by_socks5),
    ("the proxy's own metrics are scraped through a tunnel", own_metrics),
    ("a dedicated proxy serves its own pod by a local state and certifies it itself", dedicated),
];

/// Asks for this at the pod's SOCKS5, and returns the stream and what was answered.
async fn ask(mesh: &MeshOfPods, pod: usize, kind_and_address: &[u8], port: u16) -> (TcpStream, u8) {
    let mut stream = mesh.connect(pod, "127.0.0.1:15080").await.expect("SOCKS5 is spoken");
    stream.write_all(&[5, 1, 0]).await.expect("sent");
    let mut method = [0; 2];
    stream.read_exact(&mut method).await.expect("answered");
    assert_eq!(method, [5, 0]);
    let request = [&[5, 1, 0][..], kind_and_address, &port.to_be_bytes()].concat();
    stream.write_all(&request).await.expect("sent");
    let mut answer = [0; 10];
    stream.read_exact(&mut answer).await.expect("answered");
    assert_eq!(answer[0], 5);
    (stream, answer[1])
}

fn by_socks5() {
    tell(async {
        let mesh = MeshOfPods::new().await;
        let listener = mesh.listen(SERVER, 8080);
        let (stream, answer) = ask(&mesh, CLIENT, &[1, 10, 1, 0, 1], 80).await;
        assert_eq!(answer, 0);
        assert_eq!(says_back(stream, &listener).await, v4(CLIENT), "the application sees the pod, not its loopback");
        let mutual = "connection_security_policy=\"mutual_tls\"";
        mesh.until_counted(0, "istio_tcp_connections_closed_total", mutual, 1.0).await;
        mesh.until_counted(1, "istio_tcp_connections_closed_total", mutual, 1.0).await;
        // Without a tunnel the destination sees the pod just the same.
        let near = mesh.listen(NEAR, 8080);
        let (stream, _) = ask(&mesh, CLIENT, &[1, 10, 1, 0, 2], 80).await;
        assert_eq!(says_back(stream, &near).await, v4(CLIENT));
        // Nobody listens there, and policy forbids: both are told, each as what it is.
        let (_, answer) = ask(&mesh, CLIENT, &[1, 10, 1, 0, 1], 81).await;
        assert_ne!(answer, 0);
        mesh.change("allow nobody ns=shop\n");
        let (_, answer) = ask(&mesh, CLIENT, &[1, 10, 1, 0, 1], 80).await;
        assert_eq!(answer, 2, "not allowed");
        assert!(
            mesh.connect(SERVER, &format!("{}:15080", v4(CLIENT))).await.is_err() || {
                let mut stream = mesh.connect(SERVER, &format!("{}:15080", v4(CLIENT))).await.expect("connected");
                stream.write_all(&[5, 1, 0]).await.is_err() || !matches!(stream.read(&mut [0]).await, Ok(1..))
            },
            "it is on the loopback only"
        );
    });
}

fn own_metrics() {
    tell(async {
        let mesh = MeshOfPods::with("pod zt ns=istio-system sa=zt ip=10.0.0.1 node=n1 uid=zt\n", |_| {}).await;
        let node = Arc::new(mesh.world.node.try_clone().expect("a namespace"));
        let own = Pod {
            uid: "ztunnel".into(),
            name: "zt".into(),
            namespace: "istio-system".into(),
            service_account: "zt".into(),
        };
        let proxy = &mesh.nodes[0];
        let listening =
            proxy.opener.open_own(own, Some(node.clone()), proxy.workers.handles().to_vec()).await.expect("listening");
        let listener = node.run(|| std::net::TcpListener::bind("10.0.0.1:15020")).expect("inside").expect("listening");
        listener.set_nonblocking(true).expect("not blocking");
        let listener = tokio::net::TcpListener::from_std(listener).expect("listening");
        let stream = mesh.connect(SERVER, "10.0.0.1:15020").await.expect("connected");
        says_back(stream, &listener).await;
        let scraped = "destination_principal=\"spiffe://cluster.local/ns/istio-system/sa/zt\"";
        mesh.until_counted(0, "istio_tcp_connections_closed_total", scraped, 1.0).await;
        mesh.until_counted(1, "istio_tcp_connections_closed_total", scraped, 1.0).await;
        listening.drain(Duration::from_secs(5)).await;
    });
}

/// The program, ended with the test.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

const LOCAL: &str = "
workloads:
- uid: one
  name: client
  namespace: shop
  serviceAccount: client
  workloadIps: [10.0.0.2]
  protocol: HBONE
  services:
    shop/one.shop: {80: 8080}
services:
- name: one
  namespace: shop
  hostname: one.shop
  vips: [/10.1.0.9]
  ports: {80: 8080}
policies:
- name: not-9999
  namespace: shop
  scope: Namespace
  action: Deny
  rules: [[[{destinationPorts: [9999]}]]]
";

fn dedicated() {
    tell(async {
        let mesh = MeshOfPods::without_listeners("", |_| {});
        let mut command = Command::new(env!("CARGO_BIN_EXE_ztunnel"));
        command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).args(["proxy", "ztunnel"]).envs([
            ("PROXY_MODE", "dedicated"),
            ("PROXY_WORKLOAD_INFO", "shop/client/client"),
            ("LOCAL_XDS", LOCAL),
            ("FAKE_CA", "true"),
            // A tunnel to oneself is one.
            ("FORCE_TUNNEL", "true"),
            ("PACKET_MARK", "1337"),
            ("PROXY_CONFIG", "{concurrency: 1, proxyAdminPort: 15900}"),
        ]);
        // A program is born where the thread is that starts it.
        let mut program = Program(mesh.inside(CLIENT, || command.spawn()).expect("the program starts"));
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        while !get(&mesh, "127.0.0.1:15021", "/healthz/ready").await.contains("200 OK") {
            assert!(tokio::time::Instant::now() < deadline, "it does not get ready");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let listener = mesh.listen(CLIENT, 8080);
        let stream = mesh.connect(CLIENT, "10.1.0.9:80").await.expect("connected");
        says_back(stream, &listener).await;
        let stream = mesh.connect(CLIENT, "10.1.0.9:9999").await;
        let silent = async {
            let Ok(mut stream) = stream else { return true };
            let _gone = stream.write_all(b"hello").await;
            !matches!(stream.read(&mut [0]).await, Ok(1..))
        };
        assert!(silent.await, "nobody serves that port");
        let dump = get(&mesh, "127.0.0.1:15900", "/config_dump").await;
        let body = dump.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
        let dump: serde_json::Value = serde_json::from_str(body).expect("JSON");
        assert_eq!(dump["staticConfig"]["services"][0]["hostname"], "one.shop");
        assert_eq!(dump["staticConfig"]["policies"][0]["name"], "not-9999");
        assert_eq!(dump["workloads"][0]["uid"], "one");
        assert_eq!(dump["certificates"][0]["state"], "Available");
        assert_eq!(dump["config"]["ADMIN_PORT"], "15900");
        let metrics = get(&mesh, "127.0.0.1:15020", "/metrics").await;
        assert!(metrics.contains("connection_security_policy=\"mutual_tls\""), "{metrics}");
        assert!(metrics.contains("istio_crl_policy_rejections_total{reporter=\"source\"} 0"), "{metrics}");
        let asked = request(&mesh, "127.0.0.1:15900", "POST /quitquitquit").await;
        assert!(asked.contains("200 OK"), "{asked}");
        let ended = task::spawn("wait", async move {
            tokio::task::spawn_blocking(move || program.0.wait().expect("it can be waited for")).await
        });
        let status = tokio::time::timeout(Duration::from_secs(10), ended).await.expect("it ends");
        assert!(status.expect("waited for").expect("waited for").success());
    });
}

async fn get(mesh: &MeshOfPods, at: &str, path: &str) -> String {
    request(mesh, at, &format!("GET {path}")).await
}

/// The whole answer; nothing while nobody listens.
async fn request(mesh: &MeshOfPods, at: &str, line: &str) -> String {
    let Ok(mut stream) = mesh.connect(CLIENT, at).await else { return String::new() };
    let request = format!("{line} HTTP/1.1\r\nhost: ztunnel\r\nconnection: close\r\n\r\n");
    let mut answer = String::new();
    let _broken = stream.write_all(request.as_bytes()).await;
    let _broken = stream.read_to_string(&mut answer).await;
    answer
}
