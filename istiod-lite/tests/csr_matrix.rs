//! Who gets which certificate, asked over the real RPC of the real process: every kind of caller,
//! with every kind of token, for every identity. One wrong certificate and the mesh is nobody's.

#![expect(clippy::expect_used, reason = "tests")]

use chassis::run::Process;
use istiod_lite::{
    app,
    ca::policy::Policy,
    config::{Addresses, Config, Place},
    index::Mesh,
};
use mesh::Identity;
use pki::{
    ca_client::{Ask, CaClient},
    cache::{Authority, CertificateError},
    control_plane::{ControlPlane, Source},
    issue::Lifetimes,
};
use serde_json::Value;
use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};
use tempfile::TempDir;
use testkit::tokens::{self, FLAWS, Holder, Signer};

/// Pods of the world: namespace, name, service account, node, phase. The uid is `uid-<name>`.
const PODS: &[(&str, &str, &str, &str, &str)] = &[
    ("istio-system", "ztunnel-n1", "ztunnel", "n1", "Running"),
    ("istio-system", "ztunnel-n2", "ztunnel", "n2", "Running"),
    ("istio-system", "ztunnel-new", "ztunnel", "", "Pending"),
    ("istio-system", "istiod-0", "istiod", "n1", "Running"),
    ("shop", "web-1", "web", "n1", "Running"),
    ("shop", "web-2", "web", "n2", "Running"),
    ("shop", "client-1", "client", "n2", "Running"),
    ("shop", "db-1", "db", "n1", "Failed"),
    ("shop", "new-1", "new", "", "Pending"),
    ("shop", "ztunnel-n1", "ztunnel", "n1", "Running"),
    ("other", "web-1", "web", "n2", "Running"),
    ("kube-system", "admin-1", "admin", "n2", "Running"),
];

fn manifest(pods: &[(&str, &str, &str, &str, &str)]) -> String {
    let pod = |(at, (namespace, name, account, node, phase)): (usize, &(&str, &str, &str, &str, &str))| {
        let node = if node.is_empty() { String::new() } else { format!("nodeName: {node}, ") };
        let ip = at + 2;
        format!(
            "apiVersion: v1\nkind: Pod\n\
             metadata: {{name: {name}, namespace: {namespace}, uid: uid-{name}}}\n\
             spec: {{{node}serviceAccountName: {account}, containers: [{{name: app}}]}}\n\
             status: {{phase: {phase}, podIPs: [{{ip: 10.0.0.{ip}}}]}}\n---\n"
        )
    };
    pods.iter().enumerate().map(pod).collect()
}

/// Identities that are asked for; the last is of another trust domain.
const ASKED: &[&str] = &[
    "spiffe://cluster.local/ns/shop/sa/web",
    "spiffe://cluster.local/ns/shop/sa/client",
    "spiffe://cluster.local/ns/shop/sa/db",
    "spiffe://cluster.local/ns/shop/sa/new",
    "spiffe://cluster.local/ns/shop/sa/ghost",
    "spiffe://cluster.local/ns/shop/sa/ztunnel",
    "spiffe://cluster.local/ns/other/sa/web",
    "spiffe://cluster.local/ns/kube-system/sa/admin",
    "spiffe://cluster.local/ns/istio-system/sa/ztunnel",
    "spiffe://cluster.local/ns/istio-system/sa/istiod",
    "spiffe://cluster.local/ns/default/sa/web",
    "spiffe://evil.local/ns/shop/sa/web",
];

/// What the answer must be, written down by hand for each caller whose token holds: the identities it
/// gets when it asks for others.
const MAY: &[(&str, &str, &[&str])] = &[
    ("istio-system", "ztunnel-n1", &["shop/web", "shop/ztunnel", "istio-system/ztunnel", "istio-system/istiod"]),
    (
        "istio-system",
        "ztunnel-n2",
        &["shop/web", "shop/client", "other/web", "kube-system/admin", "istio-system/ztunnel"],
    ),
    ("istio-system", "ztunnel-new", &[]),
    ("istio-system", "istiod-0", &[]),
    ("shop", "web-1", &[]),
    ("shop", "client-1", &[]),
    ("shop", "ztunnel-n1", &[]),
    ("kube-system", "admin-1", &[]),
];

/// The holder of a token; `node` is what the token says, which nobody may believe.
struct Claimant<'a> {
    namespace: &'a str,
    pod: &'a str,
    account: &'a str,
    node: &'a str,
    uid: String,
    neighbour: (String, String),
}

impl<'a> Claimant<'a> {
    fn new(namespace: &'a str, pod: &'a str, account: &'a str, node: &'a str) -> Self {
        let other = PODS.iter().find(|other| other.0 == namespace && other.2 != account).map_or("none", |pod| pod.1);
        let neighbour = (other.to_owned(), format!("uid-{other}"));
        Self { namespace, pod, account, node, uid: format!("uid-{pod}"), neighbour }
    }

    fn holder(&self) -> Holder<'_> {
        let neighbour = Some((&*self.neighbour.0, &*self.neighbour.1));
        let Claimant { namespace, pod, account, node, uid, .. } = self;
        Holder { namespace, pod, uid, account, node, neighbour }
    }
}

/// Honest claims of a pod's token.
fn claims(namespace: &str, pod: &str, account: &str, node: &str) -> Value {
    tokens::claims(&Claimant::new(namespace, pod, account, node).holder())
}

struct World {
    config: TempDir,
    state: TempDir,
    addresses: Addresses,
    _process: Process,
}

impl World {
    async fn start() -> Self {
        let (config, state) = (TempDir::new().expect("a directory"), TempDir::new().expect("a directory"));
        chassis::objects::write(&config.path().join("pods.yaml"), &manifest(PODS)).expect("written");
        let any = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
        let settings = Config {
            place: Place::Directories { config: config.path().into(), state: state.path().into() },
            cacerts: None,
            mesh: Mesh::default(),
            policy: Policy::default(),
            lifetimes: Lifetimes::default(),
            addresses: Addresses { xds: any, metrics: any, ready: any },
            serving_names: vec![],
        };
        let process = Process::detached();
        let addresses = app::start(settings, &process).await.expect("it starts");
        let world = Self { config, state, addresses, _process: process };
        let honest = world.client(&world.sign(&claims("istio-system", "ztunnel-n1", "ztunnel", "n1")), "");
        let web: Identity = ASKED[0].parse().expect("an identity");
        until("the pods are known", async || honest.certify(&web).await.is_ok()).await;
        world
    }

    fn signer(&self) -> Signer {
        Signer::new(&fs::read_to_string(self.state.path().join("token-key.pem")).expect("the signing key is there"))
    }

    fn sign(&self, claims: &Value) -> String {
        self.signer().sign(claims)
    }

    fn control_plane(&self, token: &str, cluster: &str) -> ControlPlane {
        ControlPlane {
            address: format!("https://{}", self.addresses.xds).parse().expect("an address"),
            roots: Source::File(self.root_file()),
            token: (!token.is_empty()).then(|| Source::Literal(token.to_owned())),
            cluster_id: cluster.into(),
            alternative_hostname: Some("istiod.istio-system.svc".into()),
            headers: vec![],
        }
    }

    fn client(&self, token: &str, cluster: &str) -> CaClient {
        let to = self.control_plane(token, cluster);
        CaClient::new(to, Ask::ForOthers, Duration::from_secs(600)).expect("a good address")
    }

    fn own(&self, token: &str) -> CaClient {
        let to = self.control_plane(token, "Kubernetes");
        CaClient::new(to, Ask::ForItself, Duration::from_secs(600)).expect("a good address")
    }

    fn root_file(&self) -> PathBuf {
        self.state.path().join("root-cert.pem")
    }
}

async fn until(what: &str, mut reached: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while !reached().await {
        assert!(tokio::time::Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What a request must bring.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Want {
    Certificate,
    NotBelieved,
    NotAllowed,
}

struct Matrix {
    asked: usize,
    granted: usize,
    wrong: Vec<String>,
}

impl Matrix {
    async fn ask(&mut self, client: &CaClient, identity: &Identity, want: Want, what: &dyn Fn() -> String) {
        self.asked += 1;
        let got = client.certify(identity).await;
        let good = match (&got, want) {
            (Ok(certificate), Want::Certificate) => certificate.identity() == identity,
            (Err(CertificateError::Refused { message, .. }), Want::NotBelieved) => {
                message == "Unauthenticated: request authenticate failure"
            }
            (Err(CertificateError::Refused { message, .. }), Want::NotAllowed) => {
                message == "Unauthenticated: request impersonation authentication failure"
            }
            _ => false,
        };
        self.granted += usize::from(got.is_ok());
        if !good {
            let got = got.map_or_else(|e| e.to_string(), |c| format!("a certificate of {}", c.identity()));
            self.wrong.push(format!("{} asks for {identity}: want {want:?}, got {got}", what()));
        }
    }
}

#[tokio::test]
async fn nobody_ever_gets_a_certificate_that_is_not_due() {
    let world = World::start().await;
    let mut matrix = Matrix { asked: 0, granted: 0, wrong: Vec::new() };
    let asked: Vec<Identity> = ASKED.iter().map(|text| text.parse().expect("an identity")).collect();
    for (namespace, pod, may) in MAY {
        let account = PODS.iter().find(|p| p.0 == *namespace && p.1 == *pod).expect("a pod of the world").2;
        // Whatever node the token says: where the caller is, the index knows.
        for node in ["n1", "n2", ""] {
            let honest = claims(namespace, pod, account, node);
            let token = world.sign(&honest);
            let client = world.client(&token, if node.is_empty() { "" } else { "Kubernetes" });
            for identity in &asked {
                let name = format!("{}/{}", identity.namespace(), identity.service_account());
                let due = &**identity.trust_domain() == "cluster.local" && may.contains(&&*name);
                let want = if due { Want::Certificate } else { Want::NotAllowed };
                let what = || format!("{namespace}/{pod} (token says {node:?})");
                matrix.ask(&client, identity, want, &what).await;
            }
            let own = Identity::new("cluster.local", namespace, account).expect("an identity");
            let what = || format!("{namespace}/{pod} for itself");
            matrix.ask(&world.own(&token), &own, Want::Certificate, &what).await;
        }
        // With a token that does not hold, nobody gets anything.
        let honest = Claimant::new(namespace, pod, account, "n1");
        for flaw in FLAWS {
            let (token, cluster) = world.signer().flawed(*flaw, &honest.holder());
            let client = world.client(&token, cluster);
            for identity in [&asked[0], &asked[8]] {
                let what = || format!("{namespace}/{pod} with {flaw:?}");
                matrix.ask(&client, identity, Want::NotBelieved, &what).await;
            }
        }
    }
    assert!(matrix.wrong.is_empty(), "{} of {}:\n{}", matrix.wrong.len(), matrix.asked, matrix.wrong.join("\n"));
    assert!(matrix.asked >= 500, "only {} requests", matrix.asked);
    assert_eq!(matrix.granted, 3 * (MAY.len() + MAY.iter().map(|(_, _, may)| may.len()).sum::<usize>()));
}

#[tokio::test]
async fn who_asks_for_itself_gets_its_own_name_whatever_it_hoped_for() {
    let world = World::start().await;
    let token = world.sign(&claims("shop", "web-1", "web", "n1"));
    let admin: Identity = "spiffe://cluster.local/ns/kube-system/sa/admin".parse().expect("an identity");
    // The request names the admin; the answer is for whom the token says, and our client refuses it.
    let got = world.own(&token).certify(&admin).await.expect_err("not the admin's");
    assert!(matches!(got, CertificateError::Unusable(_)), "{got}");
    assert!(got.to_string().contains("ns/shop/sa/web"), "{got}");
}

#[tokio::test]
async fn a_pod_that_leaves_takes_its_certificate_along() {
    let world = World::start().await;
    let client = world.client(&world.sign(&claims("istio-system", "ztunnel-n2", "ztunnel", "n2")), "");
    let shopper: Identity = "spiffe://cluster.local/ns/shop/sa/client".parse().expect("an identity");
    client.certify(&shopper).await.expect("the pod is on its node");
    let rest: Vec<_> = PODS.iter().copied().filter(|pod| pod.1 != "client-1" && pod.1 != "ztunnel-n1").collect();
    let left = tokio::time::Instant::now();
    chassis::objects::write(&world.config.path().join("pods.yaml"), &manifest(&rest)).expect("written");
    until("the certificate is refused", async || client.certify(&shopper).await.is_err()).await;
    assert!(left.elapsed() < Duration::from_secs(5), "the stale window is {:?}", left.elapsed());
    // So is that of a proxy whose pod is gone, however long its token would hold.
    let gone = world.client(&world.sign(&claims("istio-system", "ztunnel-n1", "ztunnel", "n1")), "");
    let web: Identity = ASKED[0].parse().expect("an identity");
    let refused = gone.certify(&web).await.expect_err("its pod is gone");
    assert!(refused.to_string().contains("request authenticate failure"), "{refused}");
}
