//! The whole node agent on a real kernel, with a proxy that only listens.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use chassis::run::Process;
use tokio::sync::oneshot;
use ztunnel::agent::config::Config;
use ztunnel::agent::enrol::Selection;
use ztunnel::net::changes::Changes;
use ztunnel::net::links::Links;
use ztunnel::net::nat::probed;
use ztunnel::net::netns::{Netns, NetnsId};
use ztunnel::net::redirect::{self, Redirect, Standing};
use ztunnel::net::seqpacket::Seqpacket;
use ztunnel::pods::protocol::{self, MESSAGE_BYTES_MAX, Request};

use crate::Case;
use crate::world::{World, pod_v4, pod_v6};

pub(crate) const CASES: &[Case] = &[
    ("agent: a running pod follows the labels of its namespace", follows_labels),
    ("agent: a new pod may start when its rules are in and the proxy has it", announced),
    ("agent: a pod without a proxy is pending and cannot send", pending),
    ("agent: a namespace without the pod's address is never used", wrong_namespace),
    ("agent: a pod whose address moved away is taken out", address_moved),
    ("agent: rules that somebody changed are put right", healed),
    ("agent: a restart is not felt by the pods", restart),
    ("agent: what was left of pods that are gone is cleaned up", cleaned_up),
    ("agent: the rules of a pod that is gone stay", gone),
    ("agent: a name that returns as another pod is taken in anew", returns),
    ("agent: coming and going leaves no descriptor behind", no_leak),
    ("agent: 250 pods at once are all taken in", many),
    ("agent: its ports answer", ports),
];

const ENABLED: &str = "enabled";

struct Mesh {
    dir: tempfile::TempDir,
    world: World,
    agent: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl Mesh {
    fn new(pods: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("config/manifests")).unwrap();
        let mut mesh = Self { dir, world: World::new(pods), agent: None };
        mesh.start();
        mesh
    }

    fn start(&mut self) {
        let config = Config {
            node: "n1".into(),
            config_dir: self.config(),
            zds_socket: self.dir.path().join("ztunnel.sock"),
            cni_socket: self.dir.path().join("cni.sock"),
            selection: Selection { excluded_namespaces: Vec::new(), system_namespace: "istio-system".into() },
            dns: true,
            metrics_port: 15014,
            readiness_port: 8000,
        };
        let node = self.world.node.try_clone().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let run = || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    let process = Process::detached();
                    ztunnel::agent::run::start(config, process.clone()).await.unwrap();
                    let _ = stopped.await;
                    assert!(!process.has_failed(), "the agent failed");
                });
            };
            node.run(run).unwrap();
        });
        self.agent = Some((stop, thread));
        until("the agent serves", || self.dir.path().join("ztunnel.sock").exists());
    }

    fn stop(&mut self) {
        let (stop, thread) = self.agent.take().unwrap();
        stop.send(()).unwrap();
        thread.join().unwrap();
        fs::remove_file(self.dir.path().join("ztunnel.sock")).unwrap();
    }

    fn config(&self) -> PathBuf {
        self.dir.path().join("config")
    }

    fn write(&self, file: &str, text: &str) {
        chassis::objects::write(&self.config().join("manifests").join(file), text).unwrap();
    }

    fn namespace(&self, mode: &str) {
        self.write(
            "namespace.yaml",
            &format!("apiVersion: v1\nkind: Namespace\nmetadata:\n  name: shop\n  labels: {{istio.io/dataplane-mode: {mode}}}\n"),
        );
    }

    /// A running pod with the namespace and addresses of the world's pod.
    fn pod(&self, number: usize) {
        self.pod_as(&format!("uid-{number}"), number, number);
    }

    /// The same with another uid, and a claim to the addresses of pod `claims`.
    fn pod_as(&self, uid: &str, number: usize, claims: usize) {
        let netns = format!("/proc/self/fd/{}", self.world.pods[number].as_fd().as_raw_fd());
        let (v4, v6) = (pod_v4(claims), pod_v6(claims));
        self.write(
            &format!("pod-{number}.yaml"),
            &format!(
                "apiVersion: v1\nkind: Pod\nmetadata:\n  name: pod-{number}\n  namespace: shop\n  uid: {uid}\n  annotations: {{lab.istiod-lite.io/netns: {netns}}}\nspec: {{nodeName: n1, serviceAccountName: web}}\nstatus: {{phase: Running, podIPs: [{{ip: {v4}}}, {{ip: \"{v6}\"}}]}}\n"
            ),
        );
    }

    fn remove_pod(&self, number: usize) {
        fs::remove_file(self.config().join(format!("manifests/pod-{number}.yaml"))).unwrap();
    }

    /// What the annotation of a pod says.
    fn told(&self, number: usize) -> Option<String> {
        let file = self.config().join(format!("status/agent-n1/shop_pod-{number}.yaml"));
        let text = fs::read_to_string(file).ok()?;
        let value: serde_json::Value = serde_json::from_str(&text).ok()?;
        Some(value.pointer("/metadata/annotations/ambient.istio.io~1redirection")?.as_str()?.to_owned())
    }

    fn rules(&self, number: usize) -> Standing {
        redirect::verify(&self.world.pods[number], &Redirect::default()).unwrap()
    }

    fn probed(&self) -> Vec<IpAddr> {
        let mut found = probed(&self.world.node).unwrap();
        found.sort();
        found
    }

    fn proxy(&self) -> Proxy {
        Proxy::connect(&self.dir.path().join("ztunnel.sock"))
    }

    /// Announces a pod as a container runtime does; the status of the answer.
    fn announce(&self, number: usize) -> (u16, String) {
        let body = format!(
            r#"{{"Netns":"/proc/self/fd/{}","PodName":"pod-{number}","PodNamespace":"shop","IPs":[{{"Interface":null,"Address":{{"IP":"{}","Mask":"/////w=="}},"Gateway":"10.0.0.1"}}]}}"#,
            self.world.pods[number].as_fd().as_raw_fd(),
            pod_v4(number)
        );
        let mut stream = UnixStream::connect(self.dir.path().join("cni.sock")).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(8))).unwrap();
        write!(stream, "POST /cmdadd HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}", body.len())
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        (status, answer.split("\r\n\r\n").nth(1).unwrap_or_default().to_owned())
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.agent.take() {
            let _ = stop.send(());
            let _ = thread.join();
        }
    }
}

/// A proxy that takes every pod.
struct Proxy {
    pods: Arc<Mutex<BTreeMap<String, NetnsId>>>,
    snapshots: Arc<Mutex<Vec<Vec<String>>>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    fn connect(path: &Path) -> Self {
        let (pods, snapshots) = (Arc::new(Mutex::new(BTreeMap::new())), Arc::new(Mutex::new(Vec::new())));
        let (stop, stopped) = oneshot::channel();
        let conversation = converse(path.to_owned(), pods.clone(), snapshots.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                tokio::select! {
                    () = conversation => {}
                    _ = stopped => {}
                }
            });
        });
        let proxy = Self { pods, snapshots, stop: Some(stop), thread: Some(thread) };
        until("the proxy has its snapshot", || !proxy.snapshots.lock().unwrap().is_empty());
        proxy
    }

    fn netns_of(&self, uid: &str) -> Option<NetnsId> {
        self.pods.lock().unwrap().get(uid).copied()
    }

    fn has(&self, uid: &str) -> bool {
        self.netns_of(uid).is_some()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.stop.take().map(|stop| stop.send(()));
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

async fn converse(path: PathBuf, pods: Arc<Mutex<BTreeMap<String, NetnsId>>>, snapshots: Arc<Mutex<Vec<Vec<String>>>>) {
    let connection = Seqpacket::connect(&path).unwrap();
    connection.send(&protocol::encode_hello(), None).await.unwrap();
    let mut named = Vec::new();
    while let Ok(Some(message)) = connection.receive(MESSAGE_BYTES_MAX).await {
        match protocol::decode_request(&message.bytes, message.descriptors).unwrap() {
            Request::Add(pod, netns) => {
                named.push(format!("add {}", pod.uid));
                pods.lock().unwrap().insert(pod.uid.to_string(), Netns::from_fd(netns).unwrap().id());
            }
            Request::Keep(uid) => named.push(format!("keep {uid}")),
            Request::Del(uid) => drop(pods.lock().unwrap().remove(&*uid)),
            Request::SnapshotSent => snapshots.lock().unwrap().push(std::mem::take(&mut named)),
        }
        if connection.send(&protocol::encode_ack(Ok(())), None).await.is_err() {
            return;
        }
    }
}

/// Waits until it is so; within half a minute, on a very busy machine.
fn until(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !so() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        pause();
    }
}

#[expect(clippy::disallowed_methods, reason = "between two looks at a condition")]
fn pause() {
    std::thread::sleep(Duration::from_millis(1));
}

fn is_in(mesh: &Mesh, proxy: &Proxy, number: usize) -> bool {
    proxy.has(&format!("uid-{number}")) && mesh.told(number).as_deref() == Some(ENABLED)
}

fn follows_labels() {
    let mesh = Mesh::new(1);
    let proxy = mesh.proxy();
    mesh.namespace("none");
    mesh.pod(0);
    let mut times = Vec::new();
    for _ in 0..7 {
        let started = Instant::now();
        mesh.namespace("ambient");
        until("in", || is_in(&mesh, &proxy, 0));
        times.push(started.elapsed());
        assert_eq!(mesh.rules(0), Standing::InPlace);
        assert_eq!(proxy.netns_of("uid-0"), Some(mesh.world.pods[0].id()));
        assert_eq!(mesh.probed(), [pod_v4(0), pod_v6(0)]);
        let started = Instant::now();
        mesh.namespace("none");
        until("out", || mesh.told(0).is_none());
        times.push(started.elapsed());
        assert_eq!(mesh.rules(0), Standing::Absent);
        assert!(!proxy.has("uid-0") && mesh.probed().is_empty());
    }
    times.sort();
    let median = times[times.len() / 2];
    println!("     median from the file to the annotation: {} ms", median.as_millis());
    // 30 ms on an idle machine, and this much on one that runs sixteen other things.
    assert!(median < Duration::from_millis(500), "{times:?}");
}

fn announced() {
    let mesh = Mesh::new(2);
    mesh.namespace("ambient");
    // The object of a pod that is about to start: no status yet.
    let object = |number: usize, labels: &str| {
        mesh.write(
            &format!("pod-{number}.yaml"),
            &format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: pod-{number}, namespace: shop, uid: uid-{number}, labels: {{{labels}}}}}\nspec: {{nodeName: n1}}\n"),
        );
    };
    object(0, "");
    object(1, "istio.io/dataplane-mode: none");
    let proxy = mesh.proxy();
    assert_eq!(mesh.announce(0).0, 200);
    assert_eq!(mesh.rules(0), Standing::InPlace);
    assert_eq!(proxy.netns_of("uid-0"), Some(mesh.world.pods[0].id()));
    assert_eq!(mesh.announce(1).0, 200, "it does not belong into the mesh");
    assert_eq!(mesh.rules(1), Standing::Absent);
    assert_eq!(mesh.announce(0).0, 200, "asked again");
}

fn pending() {
    use crate::world::{at, hear, serve};
    let mesh = Mesh::new(2);
    mesh.namespace("ambient");
    mesh.pod(0);
    serve(&mesh.world.pods[1], at(pod_v4(1), 80), "app");
    until("pending", || mesh.told(0).as_deref() == Some("pending"));
    assert_eq!(mesh.rules(0), Standing::InPlace);
    assert_eq!(hear(&mesh.world.pods[0], at(pod_v4(1), 80)), Err(std::io::ErrorKind::ConnectionRefused));
    assert!(mesh.probed().is_empty());
    let (status, reason) = mesh.announce(0);
    assert_eq!(status, 500);
    assert!(reason.contains("no ztunnel connection"), "{reason}");
    let proxy = mesh.proxy();
    until("in", || is_in(&mesh, &proxy, 0));
    assert_eq!(mesh.announce(0).0, 200);
}

fn wrong_namespace() {
    let mesh = Mesh::new(2);
    let proxy = mesh.proxy();
    mesh.namespace("ambient");
    // Pod 0 claims the addresses of pod 1 with its own namespace.
    mesh.pod_as("uid-0", 0, 1);
    let (status, reason) = mesh.announce(0);
    assert_eq!(status, 500);
    assert!(reason.contains("does not hold the pod's address"), "{reason}");
    assert!(!proxy.has("uid-0") && mesh.told(0).is_none());
    assert_eq!(mesh.rules(0), Standing::Absent);
    mesh.pod(0);
    until("in once it is right", || is_in(&mesh, &proxy, 0));
}

fn address_moved() {
    let mesh = Mesh::new(1);
    let proxy = mesh.proxy();
    mesh.namespace("ambient");
    mesh.pod(0);
    until("in", || is_in(&mesh, &proxy, 0));
    let links = Links::open(&mesh.world.pods[0]).unwrap();
    let own = ipnet::IpNet::new(pod_v4(0), 32).unwrap();
    links.remove_address("eth0", own).unwrap();
    until("out", || !proxy.has("uid-0") && mesh.told(0).is_none());
    assert_eq!(mesh.rules(0), Standing::InPlace, "and it still gets nowhere");
    links.add_address("eth0", own).unwrap();
    until("in again", || is_in(&mesh, &proxy, 0));
}

fn healed() {
    let mesh = Mesh::new(1);
    let proxy = mesh.proxy();
    mesh.namespace("ambient");
    mesh.pod(0);
    until("in", || is_in(&mesh, &proxy, 0));
    for _ in 0..5 {
        redirect::remove(&mesh.world.pods[0]).unwrap();
        until("put right", || mesh.rules(0) == Standing::InPlace);
        redirect::apply(&mesh.world.pods[0], &Redirect { inbound: false, ..Redirect::default() }).unwrap();
        until("put right", || mesh.rules(0) == Standing::InPlace);
    }
    assert!(is_in(&mesh, &proxy, 0));
}

/// Whether the rules in a namespace are touched while `act` runs.
fn touched(netns: &Netns, act: impl FnOnce()) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let changes = Changes::of(netns).unwrap();
        act();
        tokio::time::timeout(Duration::from_millis(100), changes.next()).await.is_ok()
    })
}

fn restart() {
    let mut mesh = Mesh::new(2);
    let proxy = mesh.proxy();
    mesh.namespace("ambient");
    mesh.pod(0);
    mesh.pod(1);
    until("in", || is_in(&mesh, &proxy, 0) && is_in(&mesh, &proxy, 1));
    let netns = mesh.world.pods[0].try_clone().unwrap();
    let felt = touched(&netns, || {
        mesh.stop();
        assert_eq!(mesh.rules(0), Standing::InPlace);
        assert_eq!(mesh.told(0).as_deref(), Some(ENABLED));
        assert_eq!(mesh.probed().len(), 4);
        mesh.start();
        let proxy = mesh.proxy();
        let snapshot = proxy.snapshots.lock().unwrap()[0].clone();
        assert_eq!(snapshot, ["add uid-0", "add uid-1"]);
        until("in", || is_in(&mesh, &proxy, 0));
    });
    assert!(!felt, "the rules were touched");
}

fn cleaned_up() {
    let mut mesh = Mesh::new(3);
    let proxy = mesh.proxy();
    mesh.namespace("ambient");
    (0..3).for_each(|number| mesh.pod(number));
    until("in", || (0..3).all(|number| is_in(&mesh, &proxy, number)));
    mesh.stop();
    // While nobody looks, one is deleted and one asks to be out.
    mesh.remove_pod(0);
    let file = mesh.config().join("manifests/pod-1.yaml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("  uid:", "  labels: {istio.io/dataplane-mode: none}\n  uid:")).unwrap();
    mesh.start();
    let proxy = mesh.proxy();
    until("only one is in", || mesh.told(1).is_none() && mesh.told(0).is_none() && is_in(&mesh, &proxy, 2));
    until("probes", || mesh.probed() == [pod_v4(2), pod_v6(2)]);
    assert_eq!(mesh.rules(1), Standing::Absent);
    assert!(!proxy.has("uid-0") && !proxy.has("uid-1"));
}

fn gone() {
    let mesh = Mesh::new(1);
    let proxy = mesh.proxy();
    mesh.namespace("ambient");
    mesh.pod(0);
    until("in", || is_in(&mesh, &proxy, 0));
    mesh.remove_pod(0);
    until("out", || mesh.told(0).is_none() && !proxy.has("uid-0"));
    assert_eq!(mesh.rules(0), Standing::InPlace, "what still runs in there gets nowhere");
    assert!(mesh.probed().is_empty());
}

fn returns() {
    let mesh = Mesh::new(1);
    let proxy = mesh.proxy();
    mesh.namespace("ambient");
    for round in 0..10 {
        let uid = format!("life-{round}");
        mesh.pod_as(&uid, 0, 0);
        until("in", || proxy.has(&uid) && mesh.told(0).as_deref() == Some(ENABLED));
        until("alone", || proxy.pods.lock().unwrap().len() == 1);
        if round % 2 == 0 {
            mesh.remove_pod(0);
        }
    }
}

fn no_leak() {
    let mesh = Mesh::new(1);
    let proxy = mesh.proxy();
    mesh.namespace("ambient");
    let descriptors = || fs::read_dir("/proc/self/fd").unwrap().count();
    let round = || {
        mesh.pod(0);
        until("in", || is_in(&mesh, &proxy, 0));
        mesh.remove_pod(0);
        until("out", || mesh.told(0).is_none() && !proxy.has("uid-0"));
    };
    round();
    let before = descriptors();
    (0..50).for_each(|_| round());
    until("descriptors are back", || descriptors() <= before);
}

fn many() {
    const PODS: usize = 250;
    let mesh = Mesh::new(PODS);
    let proxy = mesh.proxy();
    mesh.namespace("ambient");
    let started = Instant::now();
    (0..PODS).for_each(|number| mesh.pod(number));
    until("all taken", || proxy.pods.lock().unwrap().len() == PODS);
    until("all in", || (0..PODS).all(|number| is_in(&mesh, &proxy, number)));
    println!("     {PODS} pods took {} ms", started.elapsed().as_millis());
    assert_eq!(mesh.probed().len(), 2 * PODS);
}

fn ports() {
    let mesh = Mesh::new(1);
    let _proxy = mesh.proxy();
    for (port, path, part) in
        [(8000, "/readyz", "200 OK"), (8000, "/healthz", "200 OK"), (15014, "/metrics", "\nztunnel_connected 1\n")]
    {
        until(path, || {
            let ask = || {
                let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).ok()?;
                write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").ok()?;
                let mut answer = String::new();
                stream.read_to_string(&mut answer).ok()?;
                Some(answer.contains(part))
            };
            mesh.world.node.run(ask).unwrap().unwrap_or(false)
        });
    }
}
