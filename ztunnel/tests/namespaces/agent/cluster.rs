//! The agent with a cluster behind it: in a network namespace of its own, as a DaemonSet's pod is.

use std::fs;

use cluster::Client;
use serde_json::{Value, json};
use ztunnel::agent::config::{Facts, Host, Own};
use ztunnel::agent::run::{World, start_in};
use ztunnel::net::links::settle;
use ztunnel::net::netns::Netns;
use ztunnel::net::redirect::Standing;

use super::api_server::{ApiServer, DAEMON_SETS, NAMESPACES, PODS};
use super::mesh::{ENABLED, Mesh, until};
use super::node::{PROVIDER, cgroup, on_host, process, uid};
use crate::Case;
use crate::world::{pod_v4, pod_v6};

pub(crate) const CASES: &[Case] = &[
    ("cluster: a running pod follows the labels of its namespace", follows),
    ("cluster: a pod does not start outside when its namespace was labelled a moment ago", asked_again),
    ("cluster: when the mesh is removed nothing of it is left", removed),
    ("cluster: without an answer everything stays in place", stays),
];

const REDIRECTION: &str = "ambient.istio.io/redirection";

/// A node of a cluster, whose agent is in a namespace of its own.
struct Node {
    mesh: Mesh,
    own: Netns,
    server: ApiServer,
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
        let server = ApiServer::start(&own);
        server.put(DAEMON_SETS, json!({"metadata": {"name": "istio-cni-node", "namespace": "istio-system"}}));
        mesh.host = Some(Host { mounts: mesh.place("host"), switch: true });
        Self { mesh, own, server }
    }

    fn start(&mut self) {
        let mut config = self.mesh.settings();
        config.facts = Facts::Cluster;
        config.own = Some(Own { namespace: "istio-system".into(), daemon_set: "istio-cni-node".into() });
        let url = self.server.url.clone();
        self.mesh.run(self.own.try_clone().unwrap(), move |process| async move {
            let world = World::of_cluster(&config, Client::at(&url)?);
            start_in(world, config, process).await
        });
    }

    fn told(&self, number: usize) -> Option<String> {
        self.server.annotation(&format!("pod-{number}"), REDIRECTION)
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
    assert_eq!(node.server.annotation("pod-0", "a").as_deref(), Some("b"), "what others say stays");
}

fn asked_again() {
    let mut node = Node::new(1);
    node.server.put(NAMESPACES, namespace("none"));
    node.server.put(PODS, pod(0, json!({"phase": "Pending"})));
    node.start();
    let _proxy = node.mesh.proxy();
    // The cluster knows, and the watch has not said so yet.
    node.server.withhold(NAMESPACES, namespace("ambient"));
    let announced = node.mesh.announcing(0, "/var/run/netns/pod-0");
    until("it is asked again", || node.server.was_asked("/api/v1/namespaces/shop"));
    assert!(!announced.is_finished());
    node.server.put(NAMESPACES, namespace("ambient"));
    let (status, reason) = announced.join().unwrap();
    assert_eq!(status, 200, "{reason}");
    assert_eq!(node.mesh.rules(0), Standing::InPlace);
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
    until("installed", || node.mesh.place("host/opt/cni/bin").join("istio-cni").exists() && chained(&node));
    node
}

fn chained(node: &Node) -> bool {
    let path = node.mesh.place("host/etc/cni/net.d").join("10-kindnet.conflist");
    fs::read_to_string(path).unwrap().contains("istio-cni")
}

fn removed() {
    let mut node = with_one_in();
    node.server.put(
        DAEMON_SETS,
        json!({"metadata": {"name": "istio-cni-node", "namespace": "istio-system", "deletionTimestamp": "2026-01-01T00:00:00Z"}}),
    );
    // The proxy has gone before.
    node.mesh.stop();
    assert_eq!(node.mesh.rules(0), Standing::Absent, "its network is as it was");
    assert!(node.told(0).is_none() && node.mesh.probed().is_empty());
    assert!(!chained(&node));
    assert_eq!(fs::read_dir(node.mesh.place("host/opt/cni/bin")).unwrap().count(), 0);
    assert!(!node.mesh.place("").join("pluginevent.sock").exists());
}

fn stays() {
    let mut node = with_one_in();
    for silent in [false, true] {
        if silent {
            node.start();
            node.server.close();
        }
        node.mesh.stop();
        assert_eq!(node.mesh.rules(0), Standing::InPlace);
        assert_eq!(node.told(0).as_deref(), Some(ENABLED));
        assert!(chained(&node) && node.mesh.probed().len() == 2);
    }
}
