//! A running lab and what scenarios ask of it. A wait has a condition and a deadline.

use anyhow::{Context, Result, anyhow, ensure};
use meshctl::lab::{
    client::{self, Lab, StartOptions},
    control::protocol::{PodReport, StatusReport},
};
use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
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
/// Between two looks at a condition.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Builds `meshctl` with the profile this program was built with, and says where it is.
pub fn meshctl() -> Result<PathBuf> {
    let this = this_program()?;
    let folder = this.parent().context("a program is in a folder")?;
    let meshctl = folder.join("meshctl");
    if let Some(cargo) = option_env!("CARGO") {
        let mut build = Command::new(cargo);
        // Both packages, into the folder this program came from: the same features, so nothing is built twice.
        build.args(["build", "--quiet", "-p", "meshctl", "-p", "e2e"]).current_dir(env!("CARGO_MANIFEST_DIR"));
        build.arg("--target-dir").arg(folder.parent().context("a target folder has profiles in it")?);
        if !cfg!(debug_assertions) {
            build.arg("--release");
        }
        ensure!(build.status().context("cargo does not start")?.success(), "meshctl does not build");
    }
    ensure!(meshctl.exists(), "{} is missing: build it with `cargo build -p meshctl`", meshctl.display());
    Ok(meshctl)
}

/// The path of this program as it was at first: the build below may replace the file.
fn this_program() -> Result<&'static Path> {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    let first = std::env::current_exe()?;
    Ok(PATH.get_or_init(|| first))
}

/// Fails with the program's name if it is not installed.
pub fn require(program: &str) -> Result<()> {
    let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).stdout(Stdio::null()).status()?;
    ensure!(found.success(), "the program `{program}` is needed and is not installed (.ci/run installs it)");
    Ok(())
}

/// What a command inside the lab gave back.
#[derive(Debug)]
pub struct Output {
    /// Its exit code; 128 + signal if it was killed.
    pub code: i32,
    /// What it printed.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
}

impl Output {
    /// What it printed, or an error if it failed.
    pub fn ok(self) -> Result<String> {
        ensure!(self.code == 0, "exit code {}: {} {}", self.code, self.stderr.trim(), self.stdout.trim());
        Ok(self.stdout)
    }
}

impl From<client::Output> for Output {
    fn from(raw: client::Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { code: raw.code, stdout: text(&raw.stdout), stderr: text(&raw.stderr) }
    }
}

/// A command that goes on in a pod.
pub struct Going(client::Running);

impl Going {
    /// Waits for its end.
    pub fn end(self) -> Result<Output> {
        Ok(self.0.wait()?.into())
    }

    /// Stops it and waits for its end.
    pub fn stop(mut self) -> Result<Output> {
        self.0.kill();
        self.end()
    }

    /// Waits for its end and reads the report it printed.
    pub fn report<T: serde::de::DeserializeOwned>(self) -> Result<T> {
        let out = self.end()?.ok()?;
        serde_json::from_str(&out).with_context(|| format!("this is no report: {out:?}"))
    }
}

/// A running lab.
pub struct Stage {
    lab: Option<Lab>,
}

impl Stage {
    /// Starts a lab with two nodes and a pod on each that shares the node's network, and waits until it is ready.
    /// `env` is for the mesh's own programs: `(component, key, value)`.
    pub fn start(meshctl: &Path, env: &[(&str, &str, &str)]) -> Result<Self> {
        let lab = Lab::start(StartOptions {
            yaml: ON_THE_NODES.into(),
            component_env: env.iter().map(|(c, k, v)| ((*c).into(), (*k).into(), (*v).into())).collect(),
            ready_timeout: START_DEADLINE,
            ..StartOptions::new(meshctl, &format!("e2e-{}", std::process::id()))
        })?;
        Ok(Self { lab: Some(lab) })
    }

    /// The lab.
    pub fn lab(&self) -> &Lab {
        self.lab.as_ref().expect("the lab is taken only by drop")
    }

    /// The lab stays when this stage is dropped.
    pub fn keep(&mut self) {
        let kept = self.lab.take().map(Lab::keep);
        if let Some(Err(error)) = kept {
            eprintln!("the lab is not kept: {error}");
        }
    }

    /// Fails when the lab ended behind our back.
    pub fn healthy(&self) -> Result<()> {
        self.status().context("the lab does not answer")?;
        Ok(())
    }

    /// Starts a command in a pod (`namespace/name`) and leaves it running.
    pub fn spawn(&self, pod: &str, argv: &[&str]) -> Result<Going> {
        Ok(Going(self.lab().spawn(pod, argv)?))
    }

    /// Runs a command in a pod (`namespace/name`) to its end.
    pub fn exec(&self, pod: &str, argv: &[&str]) -> Result<Output> {
        Ok(self.lab().exec(pod, argv)?.into())
    }

    /// The path of this program, which has the small programs for pods.
    pub fn e2e() -> Result<String> {
        Ok(this_program()?.to_str().context("the path of this program is not UTF-8")?.into())
    }

    /// A path in a pod's own `/tmp` that nobody used before.
    pub fn fresh_path() -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        format!("/tmp/e2e-{}", NEXT.fetch_add(1, Ordering::Relaxed))
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
        let out = self.lab().exec(pod, &["cat", path])?;
        ensure!(out.code == 0, "cannot read {path} in {pod}");
        Ok(out.stdout)
    }

    /// Applies manifests; `E2E` as a command stands for this program.
    pub fn apply(&self, manifests: &str) -> Result<()> {
        let problems = self.lab().apply(&manifests.replace("[E2E,", &format!("[{:?},", Self::e2e()?)))?;
        ensure!(problems.is_empty(), "lab apply: {}", join(&problems));
        Ok(())
    }

    /// Deletes the objects of manifests.
    pub fn delete(&self, manifests: &str) -> Result<()> {
        let problems = self.lab().delete(manifests)?;
        ensure!(problems.is_empty(), "lab delete: {}", join(&problems));
        Ok(())
    }

    /// What the lab says of itself.
    pub fn status(&self) -> Result<StatusReport> {
        Ok(self.lab().status()?)
    }

    /// What the lab says of a pod.
    pub fn pod(&self, pod: &str) -> Result<PodReport> {
        let mut pods = self.status()?.pods.into_iter();
        pods.find(|p| format!("{}/{}", p.namespace, p.name) == pod).ok_or_else(|| anyhow!("the lab has no pod {pod}"))
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
            Ok(stage.lab().unknown(&report)?.is_empty())
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
        addresses(&found.ok_or_else(|| anyhow!("the lab has no service {host}"))?.cluster_ips)
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
            pause();
        }
    }

    /// Starts one of this program's small programs in a pod.
    pub fn app(&self, pod: &str, argv: &[&str]) -> Result<Going> {
        self.spawn(pod, &[&[Self::e2e()?.as_str(), "app"], argv].concat())
    }

    /// Starts a load in a pod: new connections a second, for some seconds.
    pub fn load(&self, pod: &str, target: &str, rate: u32, seconds: u32) -> Result<Going> {
        self.app(pod, &["load", target, "--rate", &rate.to_string(), "--seconds", &seconds.to_string()])
    }

    /// What a program in a pod tells Prometheus.
    pub fn metrics(&self, pod: &str, port: u16) -> Result<String> {
        let address = self.pod_addresses(pod)?[0];
        let url = format!("http://{}/metrics", std::net::SocketAddr::new(address, port));
        self.exec("kube-system/node1", &["curl", "-sS", "-f", "--max-time", "5", &url])?.ok()
    }

    /// What a node proxy knows, as its admin page says; `proxy` is its pod.
    pub fn config_dump(&self, proxy: &str) -> Result<serde_json::Value> {
        let dump = self.exec(proxy, &["curl", "-sS", "-f", "http://127.0.0.1:15000/config_dump"])?.ok()?;
        Ok(serde_json::from_str(&dump)?)
    }

    /// Replaces a node's proxy the way a rolling update does: the new one is ready before the old one drains.
    pub fn replace_ztunnel(&mut self, node: &str) -> Result<()> {
        self.lab().replace_component("ztunnel", node)?;
        Ok(())
    }

    /// The log of a pod.
    pub fn logs(&self, pod: &str) -> Result<String> {
        Ok(self.lab().logs(pod)?)
    }

    /// Keeps what helps to understand a failure.
    pub fn save(&self, folder: &Path) {
        let Ok(status) = self.status() else { return };
        let _ = std::fs::create_dir_all(folder);
        let _ = std::fs::write(folder.join("status.json"), serde_json::to_string_pretty(&status).unwrap_or_default());
        for pod in &status.pods {
            if let Ok(log) = self.logs(&format!("{}/{}", pod.namespace, pod.name)) {
                let _ = std::fs::write(folder.join(format!("{}-{}.log", pod.namespace, pod.name)), log);
            }
        }
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
fn pause() {
    std::thread::sleep(LOOK_INTERVAL);
}
