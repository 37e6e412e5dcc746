//! What scenarios ask of a running mesh, whether it is the lab's or a cluster's. A wait has a condition and a
//! deadline.

mod age;
mod mesh;
mod pages;
mod programs;
mod running;

use crate::kind::{self, Cluster, install};
use anyhow::{Context, Result, anyhow, ensure};
use meshctl::lab::{
    client::{self, Lab, StartOptions},
    control::protocol::{PodReport, StatusReport},
};
pub use programs::{built, meshctl, require};
pub use running::{Going, Output};
use std::{
    net::IpAddr,
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

/// The lab is up in 10 s on an idle machine; CI shares its two cores with everything else.
const START_DEADLINE: Duration = Duration::from_secs(60);
/// A pod is a namespace and a process: seconds, unless it makes a gigabyte first.
const POD_DEADLINE: Duration = Duration::from_secs(60);
/// Where the mesh's own programs run.
const SYSTEM_NAMESPACE: &str = "istio-system";
/// The link of a node to the others, as it is called in the node.
const NODE_LINK: &str = "eth0";
/// Between two looks at a condition in the lab.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// Between two looks at a cluster: each is a process that wants a tenth of a second of a core.
const CLUSTER_LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// A running mesh.
pub struct Stage {
    ground: Ground,
}

/// What it runs on.
enum Ground {
    /// None when it was given up to live on.
    Lab(Option<Lab>),
    Kind(Cluster),
}

impl Stage {
    /// Starts a lab with two nodes and a pod on each that shares the node's network, and waits until it is ready.
    /// `env` is for the mesh's own programs: `(component, key, value)`.
    pub fn start(meshctl: &Path, env: &[(&str, &str, &str)]) -> Result<Self> {
        Self::start_as(&format!("e2e-{}", std::process::id()), meshctl, env)
    }

    /// The same, of another name: for those who want more than one.
    pub fn start_as(name: &str, meshctl: &Path, env: &[(&str, &str, &str)]) -> Result<Self> {
        let lab = Lab::start(StartOptions {
            yaml: ON_THE_NODES.into(),
            component_env: env.iter().map(|(c, k, v)| ((*c).into(), (*k).into(), (*v).into())).collect(),
            ready_timeout: START_DEADLINE,
            ..StartOptions::new(meshctl, name)
        })?;
        Ok(Self { ground: Ground::Lab(Some(lab)) })
    }

    /// Plays on a cluster: with the mesh installed, and the pods that share their nodes' network.
    pub fn on(cluster: Cluster) -> Self {
        Self { ground: Ground::Kind(cluster) }
    }

    /// The lab; only for scenarios that are played nowhere else.
    pub fn lab(&self) -> &Lab {
        match &self.ground {
            Ground::Lab(lab) => lab.as_ref().expect("the lab is taken only when the stage ends"),
            Ground::Kind(_) => panic!("a scenario of the lab is played on a cluster"),
        }
    }

    /// The cluster; only for scenarios that are played nowhere else.
    pub fn cluster(&self) -> &Cluster {
        match &self.ground {
            Ground::Kind(cluster) => cluster,
            Ground::Lab(_) => panic!("a scenario of a cluster is played on the lab"),
        }
    }

    /// Whether it is a cluster, where objects that cannot work are refused before they are stored.
    pub fn is_cluster(&self) -> bool {
        matches!(self.ground, Ground::Kind(_))
    }

    /// What it runs on stays when this stage is dropped.
    pub fn keep(&mut self) {
        match &mut self.ground {
            Ground::Lab(lab) => {
                println!("the lab still runs; its name is {}", lab.as_ref().map_or("", Lab::name));
                let kept = lab.take().map(Lab::keep);
                if let Some(Err(error)) = kept {
                    eprintln!("the lab is not kept: {error}");
                }
            }
            Ground::Kind(cluster) => cluster.keep(),
        }
    }

    /// Fails when the lab or the cluster ended behind our back.
    pub fn healthy(&self) -> Result<()> {
        match &self.ground {
            Ground::Lab(_) => self.status().map(|_| ()).context("the lab does not answer"),
            Ground::Kind(cluster) => cluster.healthy(),
        }
    }

    /// Removes what scenarios have left, where that can be done; then the mesh is there and nothing else.
    pub fn clear(&mut self) -> Result<()> {
        let Ground::Kind(cluster) = &self.ground else { return Ok(()) };
        cluster.clear()?;
        if install::installed(cluster)? { mesh::add(cluster, "") } else { Ok(()) }
    }

    /// Sees to it that the mesh is there, and the pods on the nodes.
    pub fn installed(&mut self) -> Result<()> {
        if let Ground::Kind(cluster) = &self.ground {
            if !install::installed(cluster)? {
                install::install(cluster, &[])?;
            }
            cluster.apply(ON_THE_NODES)?;
            self.ready(&[crate::scenarios::ON_NODE1, crate::scenarios::ON_NODE2])?;
        }
        Ok(())
    }

    /// Starts a command in a pod (`namespace/name`) and leaves it running.
    pub fn spawn(&self, pod: &str, argv: &[&str]) -> Result<Going> {
        Ok(Going::from(match &self.ground {
            Ground::Lab(_) => running::Running::Lab(self.lab().spawn(pod, argv)?),
            Ground::Kind(cluster) => running::Running::Kind(cluster.spawn(pod, argv)?),
        }))
    }

    /// Runs a command in a pod (`namespace/name`) to its end.
    pub fn exec(&self, pod: &str, argv: &[&str]) -> Result<Output> {
        match &self.ground {
            Ground::Lab(_) => Ok(self.lab().exec(pod, argv)?.into()),
            Ground::Kind(cluster) => Ok(cluster.exec(pod, argv)?.into()),
        }
    }

    /// The path of this program, which has the small programs for pods, as the pods of the lab see it.
    pub fn e2e() -> Result<String> {
        Ok(programs::this_program()?.to_str().context("the path of this program is not UTF-8")?.into())
    }

    /// A path in a pod's own `/tmp` that nobody used before.
    pub fn fresh_path() -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        // A pod of the lab sees what is in /tmp of the machine, where an earlier run may have left something.
        format!("/tmp/e2e-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// Starts `tcpdump` on the link of `node1` to the other nodes and waits until it captures; the file is in
    /// [`crate::scenarios::ON_NODE1`]. Needs the pods `client` and `web-far` of the namespace `outside`.
    pub fn capture(&mut self) -> Result<(Going, String)> {
        let (pod, file) = (crate::scenarios::ON_NODE1, Self::fresh_path());
        let tcpdump = self.spawn(pod, &["tcpdump", "-Z", "root", "-U", "-i", NODE_LINK, "-w", &file, "tcp"])?;
        self.wait("tcpdump captures", POD_DEADLINE, |stage| {
            // It writes nothing before the first packet, so there must be one.
            let call = ["curl", "-sS", "-o", "/dev/null", "--max-time", "2", "http://web-far.outside:81/hello"];
            stage.exec("outside/client", &call)?;
            Ok(stage.exec(pod, &["test", "-s", &file])?.code == 0)
        })?;
        Ok((tcpdump, file))
    }

    /// Waits until a file in a pod is there and not empty.
    pub fn written(&mut self, pod: &str, path: &str) -> Result<()> {
        let what = format!("{path} is written in {pod}");
        self.wait(&what, POD_DEADLINE, |stage| Ok(stage.exec(pod, &["test", "-s", path])?.code == 0)).map(|_| ())
    }

    /// The bytes of a file in a pod.
    pub fn fetch(&self, pod: &str, path: &str) -> Result<Vec<u8>> {
        let (code, bytes) = match &self.ground {
            Ground::Lab(_) => self.lab().exec(pod, &["cat", path]).map(|out| (out.code, out.stdout))?,
            Ground::Kind(cluster) => cluster.exec(pod, &["cat", path]).map(|out| (out.code, out.stdout))?,
        };
        ensure!(code == 0, "cannot read {path} in {pod}");
        Ok(bytes)
    }

    /// Applies manifests; `E2E` as a command stands for this program.
    pub fn apply(&self, manifests: &str) -> Result<()> {
        if let Ground::Kind(cluster) = &self.ground {
            return cluster.apply(manifests);
        }
        let problems = self.lab().apply(&manifests.replace("[E2E,", &format!("[{:?},", Self::e2e()?)))?;
        ensure!(problems.is_empty(), "lab apply: {}", join(&problems));
        Ok(())
    }

    /// Deletes the objects of manifests.
    pub fn delete(&self, manifests: &str) -> Result<()> {
        if let Ground::Kind(cluster) = &self.ground {
            return cluster.delete(manifests);
        }
        let problems = self.lab().delete(manifests)?;
        ensure!(problems.is_empty(), "lab delete: {}", join(&problems));
        Ok(())
    }

    /// Its nodes, pods and services.
    pub fn status(&self) -> Result<StatusReport> {
        match &self.ground {
            Ground::Lab(_) => Ok(self.lab().status()?),
            Ground::Kind(cluster) => cluster.status(),
        }
    }

    /// How a pod is.
    pub fn pod(&self, pod: &str) -> Result<PodReport> {
        let mut pods = self.status()?.pods.into_iter();
        pods.find(|p| format!("{}/{}", p.namespace, p.name) == pod).ok_or_else(|| anyhow!("there is no pod {pod}"))
    }

    /// Waits until pods are ready, and the node proxies know it.
    pub fn ready(&mut self, pods: &[&str]) -> Result<()> {
        for pod in pods {
            self.wait(&format!("pod {pod} is ready"), POD_DEADLINE, |stage| {
                Ok(stage.pod(pod).is_ok_and(|p| p.is_ready))
            })?;
        }
        self.wait(&format!("the proxies know {}", pods.join(", ")), POD_DEADLINE, |stage| {
            let mut report = stage.status()?;
            let proxies = format!("{SYSTEM_NAMESPACE}/ztunnel-");
            report.pods.retain(|pod| {
                let name = format!("{}/{}", pod.namespace, pod.name);
                pods.contains(&name.as_str()) || name.starts_with(&proxies)
            });
            report.services.clear();
            match &stage.ground {
                Ground::Lab(_) => Ok(stage.lab().unknown(&report)?.is_empty()),
                Ground::Kind(_) => {
                    let proxies: Vec<_> = report.pods.iter().filter(|pod| pod.name.starts_with("ztunnel-")).collect();
                    for proxy in proxies {
                        let Ok(dump) = stage.config_dump(&format!("{SYSTEM_NAMESPACE}/{}", proxy.name)) else {
                            return Ok(false);
                        };
                        if !client::unknown(&report, dump).is_empty() {
                            return Ok(false);
                        }
                    }
                    Ok(true)
                }
            }
        })?;
        Ok(())
    }

    /// Waits until pods are in the mesh, or out of it.
    pub fn enrolled(&mut self, pods: &[&str], inside: bool) -> Result<()> {
        let wanted = inside.then_some("enabled");
        for pod in pods {
            self.wait(&format!("{pod} has redirection {wanted:?}"), POD_DEADLINE, |stage| {
                Ok(stage.pod(pod)?.redirection.as_deref() == wanted)
            })?;
        }
        Ok(())
    }

    /// The addresses of a pod, IPv4 first.
    pub fn pod_addresses(&self, pod: &str) -> Result<Vec<IpAddr>> {
        addresses(&self.pod(pod)?.addresses)
    }

    /// The ClusterIPs of a service, by its full hostname.
    pub fn cluster_ips(&self, host: &str) -> Result<Vec<IpAddr>> {
        let mut services = self.status()?.services.into_iter();
        let found = services.find(|s| host.starts_with(&format!("{}.{}.", s.name, s.namespace)));
        addresses(&found.ok_or_else(|| anyhow!("there is no service {host}"))?.cluster_ips)
    }

    /// The pods of a namespace.
    pub fn pods_of(&self, namespace: &str) -> Result<Vec<PodReport>> {
        Ok(self.status()?.pods.into_iter().filter(|pod| pod.namespace == namespace).collect())
    }

    /// Whether an HTTP server answers 200 to a pod.
    pub fn answers(&self, pod: &str, target: &str) -> bool {
        let url = format!("http://{target}/");
        self.exec(pod, &["curl", "-sS", "-f", "-o", "/dev/null", "--max-time", "2", &url]).is_ok_and(|o| o.code == 0)
    }

    /// Waits for a condition, with a deadline.
    pub fn wait(
        &mut self,
        what: &str,
        deadline: Duration,
        mut condition: impl FnMut(&mut Self) -> Result<bool>,
    ) -> Result<Duration> {
        let start = Instant::now();
        loop {
            if condition(self)? {
                return Ok(start.elapsed());
            }
            ensure!(start.elapsed() < deadline, "waited {} s in vain: {what}", deadline.as_secs());
            pause(match &self.ground {
                Ground::Lab(_) => LOOK_INTERVAL,
                Ground::Kind(_) => CLUSTER_LOOK_INTERVAL,
            });
        }
    }

    /// Starts one of this program's small programs in a pod.
    pub fn app(&self, pod: &str, argv: &[&str]) -> Result<Going> {
        let program = match &self.ground {
            Ground::Lab(_) => Self::e2e()?,
            Ground::Kind(_) => kind::E2E.into(),
        };
        self.spawn(pod, &[&[program.as_str(), "app"], argv].concat())
    }

    /// Starts a load in a pod: new connections a second, for some seconds.
    pub fn load(&self, pod: &str, target: &str, rate: u32, seconds: u32) -> Result<Going> {
        self.app(pod, &["load", target, "--rate", &rate.to_string(), "--seconds", &seconds.to_string()])
    }

    /// Replaces a node's proxy the way a rolling update does: the new one is ready before the old one drains.
    pub fn replace_ztunnel(&mut self, node: &str) -> Result<()> {
        self.lab().replace_component("ztunnel", node)?;
        Ok(())
    }
}

/// A pod on each node that shares the node's network: where an eavesdropper or a kubelet would sit.
const ON_THE_NODES: &str = "
apiVersion: v1
kind: Pod
metadata: { name: node1, namespace: kube-system }
spec: { nodeName: node1, hostNetwork: true, containers: [{ name: sleep, command: [sleep, infinity] }] }
---
apiVersion: v1
kind: Pod
metadata: { name: node2, namespace: kube-system }
spec: { nodeName: node2, hostNetwork: true, containers: [{ name: sleep, command: [sleep, infinity] }] }
";

fn join(problems: &[meshctl::lab::control::protocol::Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn addresses(texts: &[String]) -> Result<Vec<IpAddr>> {
    texts.iter().map(|text| text.parse().with_context(|| format!("{text:?} is no address"))).collect()
}

/// The pause between two looks at a condition that has its own deadline.
#[expect(clippy::disallowed_methods, reason = "a poll interval, inside a wait with a deadline")]
pub(crate) fn pause(interval: Duration) {
    std::thread::sleep(interval);
}
