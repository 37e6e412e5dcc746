//! The agent with a cluster behind it: in a network namespace of its own, as a DaemonSet's pod is.

use std::fs;
use std::sync::Arc;
use std::thread::JoinHandle;

use cluster::Client;
use serde_json::{Value, json};
use testkit::api_server::{ApiServer, Trouble};
use tokio::sync::oneshot;
use ztunnel::agent::config::{Facts, Host, Own};
use ztunnel::agent::run::{World, start_in};
use ztunnel::net::links::settle;
use ztunnel::net::netns::Netns;
use ztunnel::net::redirect::Standing;

use super::mesh::{ENABLED, Mesh, until};
use super::node::{PROVIDER, cgroup, on_host, process, uid};
use crate::Case;
use crate::world::{pod_v4, pod_v6};

pub(crate) const CASES: &[Case] = &[
    ("cluster: a running pod follows the labels of its namespace", follows),
    ("cluster: a pod does not start outside when its namespace was labelled a moment ago", asked_again),
    ("cluster: when the mesh is removed nothing of it is left", removed),
    ("cluster: the same when the role goes before the agent's DaemonSet", role_first),
    ("cluster: without an answer everything stays in place", stays),
];

const PODS: &str = "/api/v1/pods";
const NAMESPACES: &str = "/api/v1/namespaces";
const DAEMON_SETS: &str = "/apis/apps/v1/daemonsets";
const REDIRECTION: &str = "ambient.istio.io/redirection";

/// What Helm makes of the charts.
const RENDERED: &str = include_str!("../../../../charts/golden/ambient.yaml");

/// The agent may do what the chart says and nothing else.
fn grant(server: &ApiServer) {
    let (objects, problems) = chassis::objects::parse("ambient.yaml".as_ref(), RENDERED);
    assert_eq!(problems, []);
    let roles: Vec<_> =
        objects.iter().filter(|object| object.kind.ends_with("Role") && object.name.starts_with("istio-cni")).collect();
    assert_eq!(roles.len(), 3, "the roles of the agent are called otherwise");
    for role in roles {
        let namespace = (role.kind == "Role").then_some("istio-system");
        server.grant(namespace, role.value["rules"].as_array().unwrap());
    }
}

/// A node of a cluster, whose agent is in a namespace of its own.
struct Node {
    mesh: Mesh,
    own: Netns,
    server: Arc<ApiServer>,
    serving: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

/// An API server in a namespace.
fn serve(netns: &Netns) -> (Arc<ApiServer>, oneshot::Sender<()>, JoinHandle<()>) {
    let netns = netns.try_clone().unwrap();
    let (tell, told) = std::sync::mpsc::channel();
    let (stop, stopped) = oneshot::channel::<()>();
    let run = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            tell.send(Arc::new(ApiServer::start().await)).unwrap();
            let _ = stopped.await;
        });
    };
    let thread = std::thread::spawn(move || netns.run(run).unwrap());
    (told.recv().unwrap(), stop, thread)
}

fn namespace(mode: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop", "labels": {"istio.io/dataplane-mode": mode}}})
}

fn pod(number: usize, status: Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": format!("pod-{number}"), "namespace": "shop", "uid": uid(number), "annotations": {"a": "b"}},
        "spec": {"nodeName": "n1", "serviceAccountName": "web"},
        "status": status,
    })
}

fn running(number: usize) -> Value {
    let ips = [pod_v4(number), pod_v6(number)].map(|ip| json!({ "ip": ip }));
    pod(number, json!({"phase": "Running", "podIPs": ips}))
}

impl Node {
    fn new(pods: usize) -> Self {
        let mut mesh = on_host(pods);
        let own = Netns::new().unwrap();
        settle(&own).unwrap();
        let (server, stop, thread) = serve(&own);
        grant(&server);
        server.put(DAEMON_SETS, json!({"metadata": {"name": "istio-cni-node", "namespace": "istio-system"}}));
        mesh.host = Some(Host { mounts: mesh.place("host"), switch: true });
        Self { mesh, own, server, serving: Some((stop, thread)) }
    }

    fn start(&mut self) {
        let mut config = self.mesh.settings();
        config.facts = Facts::Cluster;
        config.own = Some(Own { namespace: "istio-system".into(), daemon_set: "istio-cni-node".into() });
        let url = self.server.url();
        self.mesh.run(self.own.try_clone().unwrap(), move |process| async move {
            let world = World::of_cluster(&config, Client::at(&url)?);
            start_in(world, config, process).await
        });
    }

    fn told(&self, number: usize) -> Option<String> {
        self.annotation(number, REDIRECTION)
    }

    fn annotation(&self, number: usize, key: &str) -> Option<String> {
        let pod = self.server.object(PODS, "shop", &format!("pod-{number}"))?;
        Some(pod["metadata"]["annotations"].get(key)?.as_str()?.to_owned())
    }

    /// Nobody answers any more.
    fn silence(&mut self) {
        let (stop, thread) = self.serving.take().unwrap();
        stop.send(()).unwrap();
        thread.join().unwrap();
    }
}

fn follows() {
    let mut node = Node::new(1);
    process(&node.mesh, 100, &cgroup(0), 50, &node.mesh.world.pods[0]);
    node.server.put(NAMESPACES, namespace("none"));
    node.server.put(PODS, running(0));
    node.start();
    let proxy = node.mesh.proxy();
    for _ in 0..3 {
        node.server.put(NAMESPACES, namespace("ambient"));
        until("in", || node.told(0).as_deref() == Some(ENABLED));
        assert!(proxy.has(&uid(0)));
        assert_eq!(node.mesh.rules(0), Standing::InPlace);
        assert_eq!(node.mesh.probed(), [pod_v4(0), pod_v6(0)], "in the node's namespace, not the agent's");
        node.server.put(NAMESPACES, namespace("none"));
        until("out", || node.told(0).is_none());
        assert!(!proxy.has(&uid(0)));
    }
    assert_eq!(node.annotation(0, "a").as_deref(), Some("b"), "what others say stays");
}

fn asked_again() {
    let mut node = Node::new(1);
    node.server.put(NAMESPACES, namespace("none"));
    node.server.put(PODS, pod(0, json!({"phase": "Pending"})));
    node.start();
    let _proxy = node.mesh.proxy();
    // The cluster knows, and the watch, which is in trouble for a while, has not said so yet.
    (0..4).for_each(|_| node.server.trouble("GET /api/v1/namespaces?", Trouble::Status(503)));
    node.server.cut();
    node.server.put(NAMESPACES, namespace("ambient"));
    until("the runtime, which asks again and again, is told yes", || {
        let (status, _) = node.mesh.announcing(0, "/var/run/netns/pod-0").join().unwrap();
        assert!(status != 200 || node.mesh.rules(0) == Standing::InPlace, "it started outside");
        status == 200
    });
    assert!(node.server.requests("/api/v1/namespaces/shop") > 0, "the namespace was read anew");
}

/// A node whose pod is in.
fn with_one_in() -> Node {
    let mut node = Node::new(1);
    process(&node.mesh, 100, &cgroup(0), 50, &node.mesh.world.pods[0]);
    fs::write(node.mesh.place("host/etc/cni/net.d").join("10-kindnet.conflist"), PROVIDER).unwrap();
    node.server.put(NAMESPACES, namespace("ambient"));
    node.server.put(PODS, running(0));
    node.start();
    let proxy = node.mesh.proxy();
    until("in", || node.told(0).as_deref() == Some(ENABLED) && proxy.has(&uid(0)));
    let watch = "daemonsets?fieldSelector=metadata.name%3Distio-cni-node&labelSelector=&watch=true";
    until("it looks after its DaemonSet", || node.server.requests(watch) > 0);
    until("installed", || node.mesh.place("host/opt/cni/bin").join("istio-cni").exists() && chained(&node));
    node
}

fn chained(node: &Node) -> bool {
    let path = node.mesh.place("host/etc/cni/net.d").join("10-kindnet.conflist");
    fs::read_to_string(path).unwrap().contains("istio-cni")
}

fn removed() {
    let mut node = with_one_in();
    // As helm does: the DaemonSet goes, and with it what we are known by.
    unknown(&node);
    node.server.remove(DAEMON_SETS, "istio-system", "istio-cni-node");
    // The proxy has gone before.
    node.mesh.stop();
    assert!(node.told(0).is_none());
    nothing_left(&node);
}

fn nothing_left(node: &Node) {
    assert_eq!(node.mesh.rules(0), Standing::Absent, "its network is as it was");
    assert!(node.mesh.probed().is_empty());
    assert!(!chained(node));
    assert_eq!(fs::read_dir(node.mesh.place("host/opt/cni/bin")).unwrap().count(), 0);
    assert!(!node.mesh.place("").join("pluginevent.sock").exists());
}

fn role_first() {
    let mut node = with_one_in();
    node.server.grant_nothing();
    node.server.remove(DAEMON_SETS, "istio-system", "istio-cni-node");
    node.mesh.stop();
    nothing_left(&node);
}

/// From now on the agent, asking for its DaemonSet, is told that nobody knows it.
fn unknown(node: &Node) {
    let question = "GET /apis/apps/v1/namespaces/istio-system/daemonsets/istio-cni-node";
    (0..100).for_each(|_| node.server.trouble(question, Trouble::Status(401)));
}

fn stays() {
    let mut node = with_one_in();
    let check = |node: &mut Node| {
        node.mesh.stop();
        assert_eq!(node.mesh.rules(0), Standing::InPlace);
        assert_eq!(node.told(0).as_deref(), Some(ENABLED));
        assert!(chained(node) && node.mesh.probed().len() == 2);
    };
    // An upgrade, a role that is not there, a pod that was deleted by force, and nobody who could be asked.
    check(&mut node);
    node.start();
    node.server.grant_nothing();
    check(&mut node);
    grant(&node.server);
    node.start();
    unknown(&node);
    check(&mut node);
    node.start();
    node.silence();
    check(&mut node);
}
