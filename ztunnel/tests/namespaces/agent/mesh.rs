//! A node with pods, its agent, and a proxy that takes every pod.

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
use ztunnel::agent::config::{Config, Facts, Host};
use ztunnel::agent::enrol::Selection;
use ztunnel::agent::install::Settings;
use ztunnel::net::nat::probed;
use ztunnel::net::netns::{Netns, NetnsId};
use ztunnel::net::redirect::{self, Redirect, Standing};
use ztunnel::net::seqpacket::Seqpacket;
use ztunnel::pods::protocol::{self, MESSAGE_BYTES_MAX, Request};

use crate::world::{World, pod_v4, pod_v6};

pub(crate) const ENABLED: &str = "enabled";

pub(crate) struct Mesh {
    dir: tempfile::TempDir,
    pub(crate) world: World,
    agent: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
    pub(crate) host: Option<Host>,
    pub(crate) install: Option<Settings>,
}

impl Mesh {
    pub(crate) fn new(pods: usize) -> Self {
        let mut mesh = Self::stopped(pods);
        mesh.start();
        mesh
    }

    /// Without an agent yet.
    pub(crate) fn stopped(pods: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("config/manifests")).unwrap();
        Self { dir, world: World::new(pods), agent: None, host: None, install: None }
    }

    /// A directory of its own below that of the mesh.
    pub(crate) fn place(&self, name: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    pub(crate) fn start(&mut self) {
        let config = self.settings();
        let node = self.world.node.try_clone().unwrap();
        self.run(node, move |process| ztunnel::agent::run::start(config, process));
    }

    /// What the agent is told.
    pub(crate) fn settings(&self) -> Config {
        Config {
            node: "n1".into(),
            facts: Facts::Directory(self.config()),
            zds_socket: self.dir.path().join("ztunnel.sock"),
            cni_socket: self.dir.path().join("pluginevent.sock"),
            selection: Selection { excluded_namespaces: Vec::new(), system_namespace: "istio-system".into() },
            dns: true,
            host: self.host.clone(),
            install: self.install.clone(),
            own: None,
            untaint: false,
            metrics_port: 15014,
            readiness_port: 8000,
        }
    }

    /// Starts an agent in a namespace, and waits until it serves.
    pub(crate) fn run<F>(&mut self, node: Netns, start: impl FnOnce(Process) -> F + Send + 'static)
    where
        F: Future<Output = anyhow::Result<()>>,
    {
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let run = || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    let process = Process::detached();
                    start(process.clone()).await.unwrap();
                    let _ = stopped.await;
                    // As a signal to end does.
                    process.drain.start(Duration::from_secs(15));
                    assert!(process.drain.finish().await, "the agent did not end in time");
                    assert!(!process.has_failed(), "the agent failed");
                });
            };
            node.run(run).unwrap();
        });
        self.agent = Some((stop, thread));
        until("the agent serves", || self.dir.path().join("ztunnel.sock").exists());
    }

    pub(crate) fn stop(&mut self) {
        let (stop, thread) = self.agent.take().unwrap();
        stop.send(()).unwrap();
        thread.join().unwrap();
        let _removed_with_the_mesh = fs::remove_file(self.dir.path().join("ztunnel.sock"));
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.dir.path().join("config")
    }

    pub(crate) fn write(&self, file: &str, text: &str) {
        chassis::objects::write(&self.config().join("manifests").join(file), text).unwrap();
    }

    pub(crate) fn namespace(&self, mode: &str) {
        self.write(
            "namespace.yaml",
            &format!("apiVersion: v1\nkind: Namespace\nmetadata:\n  name: shop\n  labels: {{istio.io/dataplane-mode: {mode}}}\n"),
        );
    }

    /// A running pod with the namespace and addresses of the world's pod.
    pub(crate) fn pod(&self, number: usize) {
        self.pod_as(&format!("uid-{number}"), number, number);
    }

    /// The same with another uid, and a claim to the addresses of pod `claims`.
    pub(crate) fn pod_as(&self, uid: &str, number: usize, claims: usize) {
        self.pod_in(uid, number, number, claims);
    }

    /// The same in the namespace of pod `netns`.
    pub(crate) fn pod_in(&self, uid: &str, number: usize, netns: usize, claims: usize) {
        let netns = format!("/proc/self/fd/{}", self.world.pods[netns].as_fd().as_raw_fd());
        let (v4, v6) = (pod_v4(claims), pod_v6(claims));
        self.write(
            &format!("pod-{number}.yaml"),
            &format!(
                "apiVersion: v1\nkind: Pod\nmetadata:\n  name: pod-{number}\n  namespace: shop\n  uid: {uid}\n  annotations: {{lab.istiod-lite.io/netns: {netns}}}\nspec: {{nodeName: n1, serviceAccountName: web}}\nstatus: {{phase: Running, podIPs: [{{ip: {v4}}}, {{ip: \"{v6}\"}}]}}\n"
            ),
        );
    }

    pub(crate) fn remove_pod(&self, number: usize) {
        fs::remove_file(self.config().join(format!("manifests/pod-{number}.yaml"))).unwrap();
    }

    /// What the annotation of a pod says.
    pub(crate) fn told(&self, number: usize) -> Option<String> {
        let file = self.config().join(format!("status/agent-n1/shop_pod-{number}.yaml"));
        let text = fs::read_to_string(file).ok()?;
        let value: serde_json::Value = serde_json::from_str(&text).ok()?;
        Some(value.pointer("/metadata/annotations/ambient.istio.io~1redirection")?.as_str()?.to_owned())
    }

    pub(crate) fn rules(&self, number: usize) -> Standing {
        redirect::verify(&self.world.pods[number], &Redirect::default()).unwrap()
    }

    pub(crate) fn probed(&self) -> Vec<IpAddr> {
        let mut found = probed(&self.world.node).unwrap();
        found.sort();
        found
    }

    pub(crate) fn proxy(&self) -> Proxy {
        Proxy::connect(&self.dir.path().join("ztunnel.sock"))
    }

    /// Announces a pod as a container runtime does; the status of the answer.
    pub(crate) fn announce(&self, number: usize) -> (u16, String) {
        let netns = format!("/proc/self/fd/{}", self.world.pods[number].as_fd().as_raw_fd());
        self.announcing(number, &netns).join().unwrap()
    }

    /// The same from a thread of its own, with the namespace at a path.
    pub(crate) fn announcing(&self, number: usize, netns: &str) -> JoinHandle<(u16, String)> {
        let body = format!(
            r#"{{"Netns":"{netns}","PodName":"pod-{number}","PodNamespace":"shop","IPs":[{{"Interface":null,"Address":{{"IP":"{}","Mask":"/////w=="}},"Gateway":"10.0.0.1"}}]}}"#,
            pod_v4(number)
        );
        let mut stream = UnixStream::connect(self.dir.path().join("pluginevent.sock")).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(8))).unwrap();
        write!(stream, "POST /cmdadd HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}", body.len())
            .unwrap();
        std::thread::spawn(move || {
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
            (status, answer.split("\r\n\r\n").nth(1).unwrap_or_default().to_owned())
        })
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
pub(crate) struct Proxy {
    pub(crate) pods: Arc<Mutex<BTreeMap<String, NetnsId>>>,
    pub(crate) snapshots: Arc<Mutex<Vec<Vec<String>>>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    pub(crate) fn connect(path: &Path) -> Self {
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

    pub(crate) fn netns_of(&self, uid: &str) -> Option<NetnsId> {
        self.pods.lock().unwrap().get(uid).copied()
    }

    pub(crate) fn has(&self, uid: &str) -> bool {
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
            Request::Del(uid, _) => drop(pods.lock().unwrap().remove(&*uid)),
            Request::SnapshotSent => snapshots.lock().unwrap().push(std::mem::take(&mut named)),
        }
        if connection.send(&protocol::encode_ack(Ok(())), None).await.is_err() {
            return;
        }
    }
}

/// Waits until it is so; within half a minute, on a very busy machine.
pub(crate) fn until(what: &str, mut so: impl FnMut() -> bool) {
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
