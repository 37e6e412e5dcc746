use super::*;
use crate::{authn::Authenticator, facts::PodLookup};
use crate::{authn::reviewed::ReviewingAuthenticator as Reviewing, ca::policy::Policy, config::Place};
use pki::issue::{Lifetimes, ROOT_LIFETIME};
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
        owner: "istiod-clusterrole-istio-system".into(),
        trust_domain_said: false,
        root_namespace_said: false,
        webhook_address: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
        webhook: "istiod-default-validator".into(),
        failure_policy: crate::webhook::bundle::FailurePolicy::Fail,
        waypoints: waypoints(),
    }
}

fn waypoints() -> Settings {
    let said = std::collections::BTreeMap::from([("WAYPOINT_IMAGE".to_owned(), "hub/waypoint:1".to_owned())]);
    let mut reader = chassis::env::Reader::new(&said);
    let settings = Settings::read(&mut reader, &Mesh::default(), "istio-system");
    Settings { revision: "default".into(), trust_bundle: "istio-ca-root-cert".into(), ..settings }
}

fn config(pod: &str) -> Config {
    let any = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
    Config {
        place: Place::Cluster(Box::new(us(pod))),
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
    let role = json!({"metadata": {"name": "istiod-clusterrole-istio-system"}});
    let role = server.put("/apis/rbac.authorization.k8s.io/v1/clusterroles", role);
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
    let owned = bundle("shop").expect("it is there")["metadata"]["ownerReferences"][0]["uid"].clone();
    assert_eq!(owned, role["metadata"]["uid"]);

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

const GATEWAYS: &str = "/apis/gateway.networking.k8s.io/v1/gateways";
const CLASSES: &str = "/apis/gateway.networking.k8s.io/v1/gatewayclasses";
const SERVICES: &str = "/api/v1/services";
const DEPLOYMENTS: &str = "/apis/apps/v1/deployments";
const BUDGETS: &str = "/apis/policy/v1/poddisruptionbudgets";

fn gateway(name: &str, uid: &str, infrastructure: Value) -> Value {
    json!({
        "metadata": {"namespace": "shop", "name": name, "uid": uid, "generation": 1},
        "spec": {
            "gatewayClassName": "istio-waypoint", "infrastructure": infrastructure,
            "listeners": [{"name": "mesh", "port": 15008, "protocol": "HBONE"}],
        },
    })
}

fn condition(object: Option<Value>, kind: &str) -> Option<(String, String)> {
    let object = object?;
    let all = object["status"]["conditions"].as_array()?;
    let found = all.iter().find(|condition| condition["type"] == kind)?;
    let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
    Some((text("status"), text("reason")))
}

fn is(status: &str, reason: &str) -> Option<(String, String)> {
    Some((status.to_owned(), reason.to_owned()))
}

/// A cluster with Gateway API, and a replica that leads in it.
async fn with_gateways() -> (ApiServer, Process) {
    let server = ApiServer::start().await;
    server.put(NAMESPACES, json!({"metadata": {"name": "shop"}}));
    for plural in ["gateways", "gatewayclasses"] {
        server.define("gateway.networking.k8s.io", &["v1"], plural);
    }
    let (process, _) = replica(&server, "istiod-0").await;
    (server, process)
}

#[tokio::test]
async fn a_waypoint_is_deployed_programmed_and_bound() {
    let (server, _process) = with_gateways().await;
    let class = || server.object(CLASSES, "", "istio-waypoint");
    until("the class", || condition(class(), "Accepted") == is("True", "Accepted")).await;

    server.put(GATEWAYS, gateway("wp", "u1", json!({})));
    let of = |kind: &str| server.object(kind, "shop", "wp");
    until("its objects", || of(DEPLOYMENTS).is_some() && of(SERVICES).is_some()).await;
    assert!(of("/api/v1/serviceaccounts").is_some());
    let programmed = || condition(of(GATEWAYS), "Programmed");
    until("that no pod is ready", || programmed() == is("False", "AddressNotAssigned")).await;

    // What Kubernetes does: an address for the service, and a pod.
    let mut service = of(SERVICES).expect("it was made");
    service["spec"]["clusterIPs"] = json!(["10.96.0.9"]);
    server.put(SERVICES, service);
    server.put(
        "/api/v1/pods",
        json!({
            "metadata": {"namespace": "shop", "name": "wp-1", "uid": "p", "labels": {"gateway.networking.k8s.io/gateway-name": "wp"}},
            "spec": {"nodeName": "n1", "serviceAccountName": "wp"},
            "status": {"phase": "Running", "podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]},
        }),
    );
    until("that it is programmed", || programmed() == is("True", "Programmed")).await;
    let addresses = json!([
        {"type": "IPAddress", "value": "10.96.0.9"}, {"type": "Hostname", "value": "wp.shop.svc.cluster.local"}]);
    assert_eq!(of(GATEWAYS).expect("there")["status"]["addresses"], addresses);

    let bound = |name: &str| {
        let labels = json!({"istio.io/use-waypoint": "wp"});
        server.put(SERVICES, json!({"metadata": {"namespace": "shop", "name": name, "labels": labels}, "spec": {"clusterIPs": ["10.96.1.1"]}}));
    };
    let said = |name: &str| condition(server.object(SERVICES, "shop", name), "istio.io/WaypointBound");
    bound("web");
    until("that it is bound", || said("web") == is("True", "WaypointAccepted")).await;

    // Nothing is written again for the sake of another.
    let (statuses, applied) = (server.requests("/status?"), server.requests("/deployments/wp?"));
    bound("other");
    until("that the other is bound", || said("other") == is("True", "WaypointAccepted")).await;
    assert_eq!(server.requests("/status?"), statuses + 1);
    assert_eq!(server.requests("/deployments/wp?"), applied);
}

#[tokio::test]
async fn parameters_change_what_is_deployed_and_nothing_of_others() {
    let (server, _process) = with_gateways().await;
    let parameters = json!({"parametersRef": {"group": "", "kind": "ConfigMap", "name": "p"}});
    let map = |data: Value| server.put(MAPS, json!({"metadata": {"namespace": "shop", "name": "p"}, "data": data}));
    map(json!({"podDisruptionBudget": "spec: {minAvailable: 1}", "deployment": "spec: {replicas: 3}"}));
    server.put(
        DEPLOYMENTS,
        json!({"metadata": {"namespace": "shop", "name": "taken", "uid": "d"}, "spec": {"own": true}}),
    );
    server.put(GATEWAYS, gateway("taken", "u0", json!({})));
    server.put(GATEWAYS, gateway("wp", "u1", parameters));
    let of = |kind: &str| server.object(kind, "shop", "wp");
    until("a budget", || of(BUDGETS).is_some() && of(DEPLOYMENTS).is_some()).await;
    assert_eq!(of(DEPLOYMENTS).expect("there")["spec"]["replicas"], 3);

    // A mistake changes nothing, and is said.
    map(json!({"deploiment": "spec: {replicas: 5}"}));
    until("the mistake", || condition(of(GATEWAYS), "Accepted") == is("False", "InvalidParameters")).await;
    assert!(of(BUDGETS).is_some() && of(DEPLOYMENTS).is_some_and(|it| it["spec"]["replicas"] == 3));
    until("an event", || {
        let events = server.objects("/api/v1/events");
        events.iter().any(|event| event["reason"] == "InvalidParameters" && event["involvedObject"]["name"] == "wp")
    })
    .await;

    map(json!({"deployment": "spec: {replicas: 4}"}));
    until("that the budget is gone", || of(BUDGETS).is_none()).await;
    until("four of them", || of(DEPLOYMENTS).is_some_and(|it| it["spec"]["replicas"] == 4)).await;
    until("that it is accepted", || condition(of(GATEWAYS), "Accepted") == is("True", "Accepted")).await;

    // Somebody scales by hand what was asked for otherwise, and deletes what is needed.
    let mut scaled = of(DEPLOYMENTS).expect("there");
    scaled["spec"]["replicas"] = json!(9);
    scaled["metadata"]["generation"] = json!(7);
    server.put(DEPLOYMENTS, scaled);
    server.remove(SERVICES, "shop", "wp");
    until("four again", || of(DEPLOYMENTS).is_some_and(|it| it["spec"]["replicas"] == 4)).await;
    until("a service again", || of(SERVICES).is_some()).await;

    // What was there before and is somebody's own was never touched.
    let taken = server.object(DEPLOYMENTS, "shop", "taken").expect("there");
    assert_eq!((&taken["spec"], &taken["metadata"]["labels"]), (&json!({"own": true}), &Value::Null));
    let said = condition(server.object(GATEWAYS, "shop", "taken"), "Programmed");
    assert_eq!(said, is("False", "DeploymentFailed"));
}
