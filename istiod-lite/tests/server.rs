//! The real server on loopback, with the real clients: what a file says arrives, what changes
//! arrives, and a restart costs only what changed.

use chassis::run::Process;
use istiod_lite::{
    app,
    authn::local::{TokenIssuer, TokenRequest},
    ca::policy::Policy,
    config::{Addresses, Config, Place},
    index::Mesh,
};
use mesh::{Change, Identity};
use pki::{
    ca_client::{Ask, CaClient},
    cache::Authority,
    control_plane::{ControlPlane, Source},
    issue::Lifetimes,
};
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, SystemTime},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
    time::timeout,
};
use xds::{Node, client};

/// How long anything here may take before it is a failure; it takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(20);

const NODES: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: istio-system}
---
apiVersion: v1
kind: Node
metadata: {name: n1}
---
apiVersion: v1
kind: Pod
metadata: {name: ztunnel-n1, namespace: istio-system, uid: uid-ztunnel}
spec: {nodeName: n1, serviceAccountName: ztunnel, containers: [{name: istio-proxy}]}
status: {phase: Running, podIPs: [{ip: 10.0.0.2}], conditions: [{type: Ready, status: 'True'}]}
";

fn pod(name: &str, ip: &str, node: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Pod
metadata:
  {{name: {name}, namespace: shop, uid: uid-{name}, labels: {{app: {name}}}, annotations: {{ambient.istio.io/redirection: enabled}}}}
spec: {{nodeName: {node}, serviceAccountName: {name}, containers: [{{name: app, ports: [{{containerPort: 8080}}]}}]}}
status: {{phase: Running, podIPs: [{{ip: {ip}}}], conditions: [{{type: Ready, status: 'True'}}]}}
---"
    )
}

const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.1.0.1, clusterIPs: [10.1.0.1], selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
";

const POLICY: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: nobody, namespace: shop}
spec: {action: DENY, rules: [{from: [{source: {namespaces: [elsewhere]}}]}]}
";

struct Server {
    process: Process,
    addresses: Addresses,
}

struct Site {
    config: TempDir,
    state: TempDir,
}

impl Site {
    fn new() -> Self {
        let site = Self { config: TempDir::new().expect("a directory"), state: TempDir::new().expect("a directory") };
        site.write("nodes.yaml", NODES);
        site.write("shop.yaml", &(pod("web", "10.0.0.3", "n1") + SERVICE));
        site
    }

    fn write(&self, name: &str, text: &str) {
        chassis::objects::write(&self.config.path().join(name), text).expect("the file is written");
    }

    async fn serve(&self) -> Server {
        self.serve_at(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0)).await
    }

    async fn serve_at(&self, xds: SocketAddr) -> Server {
        let any = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
        let config = Config {
            place: Place::Directories { config: self.config.path().into(), state: self.state.path().into() },
            cacerts: None,
            mesh: Mesh::default(),
            policy: Policy::default(),
            lifetimes: Lifetimes::default(),
            addresses: Addresses { xds, metrics: any, ready: any },
            serving_names: vec![],
        };
        let process = Process::detached();
        let addresses = app::start(config, &process).await.expect("it starts");
        Server { process, addresses }
    }

    fn control_plane(&self, server: &Server, namespace: &str, account: &str, pod: &str) -> ControlPlane {
        let request = TokenRequest {
            namespace,
            service_account: account,
            pod,
            pod_uid: &format!("uid-{}", if pod == "ztunnel-n1" { "ztunnel" } else { pod }),
            node: "n1",
            lifetime: Duration::from_secs(600),
        };
        let token = TokenIssuer::open(self.state.path()).expect("a key").issue(&request, SystemTime::now());
        ControlPlane {
            address: format!("https://{}", server.addresses.xds).parse().expect("an address"),
            roots: Source::File(self.state.path().join("root-cert.pem")),
            token: Some(Source::Literal(token.expect("a token"))),
            cluster_id: "Kubernetes".into(),
            alternative_hostname: Some("istiod.istio-system.svc".into()),
            headers: vec![],
        }
    }

    fn ztunnel(&self, server: &Server) -> ControlPlane {
        self.control_plane(server, "istio-system", "ztunnel", "ztunnel-n1")
    }
}

impl Server {
    async fn stop(self) {
        self.process.drain.start(Duration::from_millis(200));
        self.process.drain.finish().await;
    }

    async fn get(&self, address: SocketAddr, path: &str) -> String {
        let mut stream = tokio::net::TcpStream::connect(address).await.expect("it listens");
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("it reads");
        let mut answer = String::new();
        timeout(PATIENCE, stream.read_to_string(&mut answer)).await.expect("in time").expect("it answers");
        answer
    }
}

/// What a client is told, one line a change.
struct Heard {
    batches: mpsc::UnboundedReceiver<Vec<String>>,
    /// Ends when this is dropped.
    _task: chassis::task::Task<()>,
}

struct Ear(mpsc::UnboundedSender<Vec<String>>);

impl client::Sink for Ear {
    fn apply(&mut self, changes: Vec<Change>) {
        let _ = self.0.send(changes.iter().map(show).collect());
    }

    fn synced(&mut self) {
        let _ = self.0.send(vec!["synced".into()]);
    }
}

fn show(change: &Change) -> String {
    match change {
        Change::Workload(w) => format!("workload {} on {}", w.uid, w.node),
        Change::Service(s) => format!("service {}", s.key()),
        Change::Policy(p) => format!("policy {}", p.key()),
        Change::RemoveAddress(name) => format!("no {name}"),
        Change::RemovePolicy(name) => format!("no policy {name}"),
        Change::ServiceRules(rules) => format!("rules of service {}", rules.rules().service),
        Change::RemoveServiceRules(name) => format!("no rules of service {name}"),
        Change::GatewayRules(rules) => format!("rules of waypoint {}", rules.rules().key()),
        Change::RemoveGatewayRules(name) => format!("no rules of waypoint {name}"),
    }
}

impl Heard {
    fn listen(control_plane: ControlPlane) -> Self {
        Self::listen_as(control_plane, client::Config::new(Node::ztunnel(None, "ztunnel-n1", "istio-system", "n1")))
    }

    /// What the waypoint `wp` of the shop is told.
    fn listen_as_waypoint(control_plane: ControlPlane) -> Self {
        let node = Node::waypoint(None, "wp", "shop", "wp", "cluster.local");
        Self::listen_as(control_plane, client::Config::waypoint(node))
    }

    fn listen_as(control_plane: ControlPlane, config: client::Config) -> Self {
        let (send, batches) = mpsc::unbounded_channel();
        let dial = move || {
            let control_plane = control_plane.clone();
            async move { Ok((control_plane.channel()?, control_plane.metadata()?)) }
        };
        let config = client::Config { backoff_max: Duration::from_millis(100), ..config };
        let _task = chassis::task::spawn("client", client::run(config, dial, Ear(send), Arc::new(())));
        Self { batches, _task }
    }

    /// Everything that is heard until `line` is, that included.
    async fn until(&mut self, line: &str) -> Vec<String> {
        let mut heard = Vec::new();
        while !heard.iter().any(|l| l == line) {
            match timeout(PATIENCE, self.batches.recv()).await {
                Ok(Some(batch)) => heard.extend(batch),
                _ => panic!("{line:?} never came; what came: {heard:#?}"),
            }
        }
        heard
    }
}

const WEB: &str = "workload Kubernetes//Pod/shop/web on n1";

#[tokio::test]
async fn what_files_say_arrives_and_so_does_every_change() {
    let site = Site::new();
    let server = site.serve().await;
    let mut heard = Heard::listen(site.ztunnel(&server));
    let first = heard.until("synced").await;
    assert!(first.contains(&WEB.to_owned()), "{first:#?}");
    assert!(first.contains(&"service shop/web.shop.svc.cluster.local".to_owned()), "{first:#?}");

    site.write("more.yaml", &pod("cart", "10.0.0.4", "n1"));
    heard.until("workload Kubernetes//Pod/shop/cart on n1").await;
    site.write("policy.yaml", POLICY);
    heard.until("policy shop/nobody").await;
    std::fs::remove_file(site.config.path().join("more.yaml")).expect("it is there");
    heard.until("no Kubernetes//Pod/shop/cart").await;
    std::fs::remove_file(site.config.path().join("policy.yaml")).expect("it is there");
    heard.until("no policy shop/nobody").await;
    server.stop().await;
}

#[tokio::test]
async fn a_restart_keeps_the_root_and_sends_only_what_changed() {
    let site = Site::new();
    let server = site.serve().await;
    let at = server.addresses.xds;
    let root = || std::fs::read_to_string(site.state.path().join("root-cert.pem")).expect("the root is there");
    let before = root();
    let mut heard = Heard::listen(site.ztunnel(&server));
    heard.until("synced").await;
    server.stop().await;

    site.write("shop.yaml", &(pod("web", "10.0.0.3", "n2") + SERVICE));
    site.write("policy.yaml", POLICY);
    let server = site.serve_at(at).await;
    let mut again = heard.until("policy shop/nobody").await;
    again.extend(heard.until("workload Kubernetes//Pod/shop/web on n2").await.into_iter().filter(|l| !l.is_empty()));
    assert!(!again.iter().any(|line| line.starts_with("service") || line.contains("ztunnel")), "{again:#?}");
    assert_eq!(root(), before);
    server.stop().await;
}

#[tokio::test]
async fn certificates_go_to_whom_they_are_due() {
    let site = Site::new();
    let server = site.serve().await;
    // Whoever is told of the mesh can also ask for certificates: the index knows the pods.
    Heard::listen(site.ztunnel(&server)).until("synced").await;
    let ca = |plane: ControlPlane, ask| CaClient::new(plane, ask, Duration::from_secs(3600)).expect("a client");
    let web = Identity::new("cluster.local", "shop", "web").expect("an identity");
    let nobody = Identity::new("cluster.local", "shop", "nobody").expect("an identity");

    let ztunnel = ca(site.ztunnel(&server), Ask::ForOthers);
    let certificate = ztunnel.certify(&web).await.expect("web has a pod on the node");
    assert_eq!(certificate.identity(), &web);
    ztunnel.certify(&nobody).await.expect_err("nobody has no pod there");
    let own = ca(site.control_plane(&server, "shop", "web", "web"), Ask::ForItself);
    assert_eq!(own.certify(&web).await.expect("its own").identity(), &web);
    let thief = ca(site.control_plane(&server, "shop", "web", "web"), Ask::ForOthers);
    let ztunnels = Identity::new("cluster.local", "istio-system", "ztunnel").expect("an identity");
    thief.certify(&ztunnels).await.expect_err("web is no node proxy");
    let metrics = server.get(server.addresses.metrics, "/metrics").await;
    assert!(metrics.contains("citadel_server_success_cert_issuance_count"), "{metrics}");
    server.stop().await;
}

#[tokio::test]
async fn a_mistake_is_shown_and_everything_else_stays() {
    let site = Site::new();
    let server = site.serve().await;
    let mut heard = Heard::listen(site.ztunnel(&server));
    heard.until("synced").await;
    site.write("policy.yaml", POLICY);
    heard.until("policy shop/nobody").await;
    site.write("policy.yaml", &POLICY.replace("rules: [", "rules: [["));
    site.write("more.yaml", &pod("cart", "10.0.0.4", "n1"));
    let after = heard.until("workload Kubernetes//Pod/shop/cart on n1").await;
    assert!(!after.contains(&"no policy shop/nobody".to_owned()), "the last good policy stays");
    let problems = problems(&server, "policy.yaml").await;
    assert!(problems.contains("\"line\""), "{problems}");
    let metrics = server.get(server.addresses.metrics, "/metrics").await;
    assert!(metrics.contains("istiod_lite_problems 1"), "{metrics}");

    site.write("policy.yaml", POLICY);
    let body = timeout(PATIENCE, async {
        loop {
            let body = server.get(server.addresses.ready, "/debug/problems").await;
            if !body.contains("policy.yaml") {
                return body;
            }
        }
    });
    body.await.expect("the mistake was taken back");
    server.stop().await;
}

async fn problems(server: &Server, about: &str) -> String {
    let shown = timeout(PATIENCE, async {
        loop {
            let body = server.get(server.addresses.ready, "/debug/problems").await;
            if body.contains(about) {
                return body;
            }
        }
    });
    shown.await.expect("the problem is shown")
}

#[tokio::test]
async fn only_node_proxies_are_told() {
    let site = Site::new();
    let server = site.serve().await;
    Heard::listen(site.ztunnel(&server)).until("synced").await;
    // The pod web says it is a node proxy; its token says otherwise.
    let mut thief = Heard::listen(site.control_plane(&server, "shop", "web", "web"));
    let mut nobody =
        Heard::listen(ControlPlane { token: Some(Source::Literal("nonsense".into())), ..site.ztunnel(&server) });
    for heard in [&mut thief, &mut nobody] {
        let told = timeout(Duration::from_millis(300), heard.batches.recv()).await;
        assert!(told.is_err(), "a stranger was told {told:?}");
    }
    server.stop().await;
}

const WAYPOINT: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: wp, namespace: shop}
spec: {gatewayClassName: istio-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}
status: {addresses: [{type: Hostname, value: wp.shop.svc.cluster.local}]}
---";

fn route(to: &str) -> String {
    format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: r, namespace: shop}}
spec:
  parentRefs: [{{group: '', kind: Service, name: web}}]
  rules: [{{backendRefs: [{to}]}}]
"
    )
}

#[tokio::test]
async fn a_waypoint_is_told_the_rules_of_what_it_serves() {
    let rules = "rules of service shop/web.shop.svc.cluster.local";
    let site = Site::new();
    let service = SERVICE.replace("namespace: shop}", "namespace: shop, labels: {istio.io/use-waypoint: wp}}");
    site.write("shop.yaml", &(pod("web", "10.0.0.3", "n1") + &pod("wp", "10.0.0.4", "n1") + WAYPOINT + &service));
    site.write("route.yaml", &route("{name: web, port: 80}"));
    let server = site.serve().await;
    let mut node = Heard::listen(site.ztunnel(&server));
    let first = node.until("synced").await;
    assert!(!first.iter().any(|line| line.contains("rules")), "a node proxy was told of rules: {first:#?}");

    let mut waypoint = Heard::listen_as_waypoint(site.control_plane(&server, "shop", "wp", "wp"));
    let first = waypoint.until("synced").await;
    assert!(first.contains(&rules.to_owned()), "{first:#?}");
    site.write("route.yaml", &route("{name: web, port: 80, weight: 2}"));
    waypoint.until(rules).await;

    // What cannot be understood changes nothing; what is gone is taken back.
    site.write("route.yaml", &route("{name: web}"));
    let problems = problems(&server, "HTTPRoute shop/r").await;
    assert!(problems.contains("spec.rules[0].backendRefs[0].port"), "{problems}");
    let status = server.get(server.addresses.ready, "/debug/status").await;
    assert!(status.contains("the last good version stays"), "{status}");
    std::fs::remove_file(site.config.path().join("route.yaml")).expect("it is there");
    // Without routes there are rules that say nothing, as long as the waypoint serves the service.
    waypoint.until(rules).await;
    site.write("shop.yaml", &(pod("web", "10.0.0.3", "n1") + &pod("wp", "10.0.0.4", "n1") + WAYPOINT + SERVICE));
    waypoint.until("no rules of service shop/web.shop.svc.cluster.local").await;
    server.stop().await;
}

#[tokio::test]
async fn readiness_and_the_pages_answer() {
    let site = Site::new();
    let server = site.serve().await;
    let mut heard = Heard::listen(site.ztunnel(&server));
    heard.until("synced").await;
    let ready = server.get(server.addresses.ready, "/ready").await;
    assert!(ready.starts_with("HTTP/1.1 200"), "{ready}");
    let connections = server.get(server.addresses.ready, "/debug/connections").await;
    assert!(connections.contains("ztunnel-n1"), "{connections}");
    let told = server.get(server.addresses.ready, "/debug/ambientz").await;
    assert!(told.contains("Kubernetes//Pod/shop/web"), "{told}");
    let metrics = server.get(server.addresses.metrics, "/metrics").await;
    for line in ["pilot_xds{version=", "pilot_services 1", "pilot_info{", "istiod_uptime_seconds"] {
        assert!(metrics.contains(line), "{line} is missing in\n{metrics}");
    }
    server.process.drain.start(Duration::from_millis(200));
    let ready = server.get(server.addresses.ready, "/ready").await;
    assert!(ready.starts_with("HTTP/1.1 503"), "{ready}");
    server.process.drain.finish().await;
}
