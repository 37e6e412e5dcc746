use super::*;
use crate::{authn::Authenticator, facts::PodLookup};
use crate::{authn::reviewed::ReviewingAuthenticator as Reviewing, ca::policy::Policy, config::Place};
use pki::issue::{Lifetimes, ROOT_LIFETIME};
use serde_json::json;
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::{Duration, SystemTime},
};
use testkit::api_server::{ApiServer, Trouble, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const SECRETS: &str = "/api/v1/secrets";
const MAPS: &str = "/api/v1/configmaps";
const NAMESPACES: &str = "/api/v1/namespaces";

fn us(pod: &str) -> InCluster {
    InCluster {
        namespace: "istio-system".into(),
        pod: pod.into(),
        revision: "default".into(),
        audiences: vec!["istio-ca".into()],
        trust_bundle: "istio-ca-root-cert".into(),
        trust_domain_said: false,
        root_namespace_said: false,
    }
}

fn config(pod: &str) -> Config {
    let any = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
    Config {
        place: Place::Cluster(us(pod)),
        cacerts: None,
        mesh: Mesh::default(),
        policy: Policy::default(),
        lifetimes: Lifetimes::default(),
        addresses: Addresses { xds: any, metrics: any, ready: any },
        serving_names: vec![],
    }
}

async fn replica(server: &ApiServer, pod: &str) -> (Process, Addresses) {
    let process = Process::detached();
    let client = Client::at(&server.url()).expect("a good address");
    let addresses = start_with(&mut config(pod), us(pod), client, &process).await.expect("it starts");
    (process, addresses)
}

async fn page(address: SocketAddr, path: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("it listens");
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("it answers");
    answer
}

async fn is_on(address: SocketAddr, path: &str, what: &str) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        let text = page(address, path).await;
        if text.contains(what) {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "{what} is not on {path}: {text}");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn two_replicas_serve_a_cluster_with_one_root() {
    let server = ApiServer::start().await;
    for name in ["istio-system", "shop", "kube-public"] {
        server.put(NAMESPACES, json!({"metadata": {"name": name}}));
    }
    server.put(
        "/api/v1/services",
        json!({
            "metadata": {"namespace": "shop", "name": "web"},
            "spec": {"clusterIPs": ["10.96.0.7"], "selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]},
        }),
    );
    let ((first, one), (_second, two)) = tokio::join!(replica(&server, "istiod-0"), replica(&server, "istiod-1"));
    for addresses in [one, two] {
        is_on(addresses.ready, "/ready", "200 OK").await;
        is_on(addresses.ready, "/debug/ambientz", "web.shop.svc.cluster.local").await;
    }
    assert_eq!(server.objects(SECRETS).len(), 1, "one root for both");
    let bundle = |namespace: &str| server.object(MAPS, namespace, "istio-ca-root-cert");
    until("the roots", || bundle("istio-system").is_some() && bundle("shop").is_some()).await;
    assert!(bundle("kube-public").is_none());

    // A definition that comes later, a namespace, and a bundle that somebody breaks.
    server.put(
        "/apis/security.istio.io/v1/authorizationpolicies",
        json!({"metadata": {"namespace": "shop", "name": "nobody"}, "spec": {}}),
    );
    server.define("security.istio.io", &["v1"], "authorizationpolicies");
    server.put(NAMESPACES, json!({"metadata": {"name": "late"}}));
    let good = bundle("shop").expect("it is there")["data"].clone();
    server.put(MAPS, json!({"metadata": {"namespace": "shop", "name": "istio-ca-root-cert"}, "data": {}}));
    until("the new namespace's roots", || bundle("late").is_some()).await;
    until("the mended roots", || bundle("shop").is_some_and(|map| map["data"] == good)).await;
    for addresses in [one, two] {
        is_on(addresses.ready, "/debug/ambientz", "nobody").await;
    }

    // One goes; what changes then still reaches the other, and is told at once.
    first.drain.start(Duration::from_secs(5));
    assert!(first.drain.finish().await);
    server.put(
        "/api/v1/services",
        json!({"metadata": {"namespace": "shop", "name": "other"}, "spec": {"clusterIPs": ["10.96.0.8"]}}),
    );
    is_on(two.ready, "/debug/ambientz", "other.shop.svc.cluster.local").await;
}

#[tokio::test]
async fn the_root_is_made_once_followed_and_never_lost() {
    let server = ApiServer::start().await;
    let client = Client::at(&server.url()).expect("a good address");
    let now = SystemTime::now();
    let open = |at| Vault::open(client.clone(), "istio-system", "mesh", Duration::from_secs(3600), at);
    let (one, two) = tokio::join!(open(now), open(now));
    let ((mut a, root_a), (mut b, root_b)) = (one.expect("it opens"), two.expect("it opens"));
    let signer = |root: &Root| root.issuer().certificate().serial.clone();
    assert_eq!(signer(&root_a), signer(&root_b));
    assert!(!a.tick(&root_a, now).await.expect("nothing is due"));

    // Near its end both take the same steps, and agree after each.
    let first = signer(&root_a);
    let mut at = now + ROOT_LIFETIME.mul_f64(0.85);
    for roots in [2, 2, 1] {
        let (one, two) = tokio::join!(a.tick(&root_a, at), b.tick(&root_b, at));
        assert!(one.expect("it ticks") && two.expect("it ticks"), "both changed");
        assert_eq!(signer(&root_a), signer(&root_b));
        assert_eq!((root_a.issuer().roots().len(), root_b.issuer().roots().len()), (roots, roots));
        at += Duration::from_secs(3600);
    }
    assert_ne!(signer(&root_a), first);

    // Deleted, it is written again; in trouble it stays.
    server.remove(SECRETS, "istio-system", "istio-ca-secret");
    assert!(!b.tick(&root_b, at).await.expect("it is there again"));
    assert_eq!(server.objects(SECRETS).len(), 1);
    server.trouble("secrets", Trouble::Status(500));
    assert!(a.tick(&root_a, at).await.is_err());
    assert!(!a.tick(&root_a, at).await.expect("it is the same"));

    // That of another mesh is refused.
    let other = Vault::open(client.clone(), "other", "mesh", Duration::from_secs(3600), at).await;
    assert!(other.is_ok());
    let mut foreign = server.object(SECRETS, "other", "istio-ca-secret").expect("it was made");
    foreign["metadata"] = json!({"namespace": "istio-system", "name": "istio-ca-secret"});
    server.put(SECRETS, foreign);
    assert!(a.tick(&root_a, at).await.expect_err("it is foreign").to_string().contains("none in common"));
}

#[tokio::test]
async fn tokens_are_asked_about_once_in_a_while() {
    struct Nobody;
    impl PodLookup for Nobody {
        fn pod(&self, _: &str, _: &str) -> Option<crate::facts::PodRecord> {
            None
        }
        fn runs_on(&self, _: &str, _: &str, _: &str) -> bool {
            false
        }
    }
    let server = ApiServer::start().await;
    let client = Client::at(&server.url()).expect("a good address");
    let user = |extra: Value| json!({"username": "system:serviceaccount:shop:web", "groups": ["system:serviceaccounts"], "extra": extra});
    server.token("a.b.c", json!({"authenticated": true, "audiences": ["istio-ca"], "user": user(json!({}))}));
    let bound = json!({"authentication.kubernetes.io/pod-name": ["p"], "authentication.kubernetes.io/pod-uid": ["u"]});
    server.token("b.o.d", json!({"authenticated": true, "audiences": ["istio-ca"], "user": user(bound)}));
    let reviewing = Reviewing::new(client, vec!["istio-ca".into()], "mesh", "Kubernetes", Arc::new(Nobody));
    for _ in 0..10 {
        let caller = reviewing.authenticate("a.b.c", "").await.expect("it holds");
        assert_eq!(caller.identity.to_string(), "spiffe://mesh/ns/shop/sa/web");
    }
    assert_eq!(server.requests("tokenreviews"), 1);
    for (token, cluster) in [("x.y.z", ""), ("b.o.d", ""), ("a.b.c", "other"), ("garbage", "")] {
        assert!(reviewing.authenticate(token, cluster).await.is_err(), "{token} of {cluster:?}");
    }
    assert_eq!(server.requests("tokenreviews"), 3, "garbage is not asked about");
}

#[test]
fn the_environment_counts_more_than_the_configuration_of_the_mesh() {
    let said = json!({"trustDomain": "a@b.c", "rootNamespace": "root"});
    for (config, us, want) in [
        (json!({}), us(""), ("cluster.local", "istio-system")),
        (said.clone(), us(""), ("a.b.c", "root")),
        (
            said,
            InCluster { trust_domain_said: true, root_namespace_said: true, ..us("") },
            ("cluster.local", "istio-system"),
        ),
    ] {
        let mut mesh = Mesh::default();
        told_by_mesh_config(&mut mesh, &config, &us).expect("a good configuration");
        assert_eq!((&*mesh.trust_domain, &*mesh.root_namespace), want, "{config}");
    }
    assert!(told_by_mesh_config(&mut Mesh::default(), &json!({"trustDomain": "a/b"}), &us("")).is_err());
}
