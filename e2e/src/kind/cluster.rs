//! One cluster: made by kind, spoken to by kubectl, filled with our images, and gone in the end.

use super::{
    forward::Forwards,
    hands::Hands,
    manifest::Names,
    process::{self, Ended},
};
use anyhow::{Context, Result, ensure};
use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

/// Deleting a cluster is stopping its containers.
const DELETE_DEADLINE: Duration = Duration::from_secs(120);
/// kubectl answers in a fraction of a second, or waits for what it was told to wait for.
pub(crate) const KUBECTL_DEADLINE: Duration = Duration::from_secs(120);
/// The images' names; e2e/kind/settings.sh says the same.
pub(crate) const HUB: &str = "localhost/mesh";
/// Their tag.
pub(crate) const TAG: &str = "e2e";

/// A cluster.
#[derive(Debug)]
pub struct Cluster {
    name: String,
    /// Where kind, kubectl and helm are.
    bin: PathBuf,
    kubeconfig: PathBuf,
    keep: bool,
    forwards: Forwards,
    hands: Hands,
}

/// Where this project's files are.
pub(crate) fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("e2e is a folder of the repository")
}

impl Cluster {
    /// Makes a cluster with the images in it, or takes the one of this name that was kept.
    pub(crate) fn start(name: &str, keep: bool, folder: &Path) -> Result<Self> {
        let kubeconfig = std::path::absolute(folder)?.join("kubeconfig");
        let up = repository().join("e2e/kind/up");
        let mut command = Command::new(up);
        command.current_dir(repository()).args(["--prometheus", "--name", name, "--kubeconfig"]).arg(&kubeconfig);
        if !keep {
            command.arg("--anew");
        }
        if cfg!(debug_assertions) {
            // The images are of the profile that this program was built with, as the lab's programs are.
            command.env("E2E_KIND_DEBUG", "1");
        }
        // What it says of its progress is for whoever waits: the first time, most of an hour.
        let up =
            command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().context("e2e/kind/up does not start")?;
        ensure!(up.status.success(), "e2e/kind/up failed: {}", up.status);
        let bin = PathBuf::from(String::from_utf8(up.stdout)?.trim());
        Ok(Self { name: name.into(), bin, kubeconfig, keep, forwards: Forwards::default(), hands: Hands::default() })
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.bin.join(program));
        command.args(arguments).env("KUBECONFIG", &self.kubeconfig).current_dir(repository());
        command
    }

    fn run(&self, program: &str, arguments: &[&str], deadline: Duration) -> Result<String> {
        process::ok(&mut self.command(program, arguments), None, deadline)
    }

    fn kind(&self, arguments: &[&str]) -> Result<String> {
        self.run("kind", arguments, DELETE_DEADLINE)
    }

    /// Runs kubectl, which must succeed.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.run("kubectl", arguments, KUBECTL_DEADLINE)
    }

    /// Runs kubectl with something to read.
    pub fn kubectl_with(&self, arguments: &[&str], input: &str) -> Result<String> {
        process::ok(&mut self.command("kubectl", arguments), Some(input), KUBECTL_DEADLINE)
    }

    /// Runs kubectl; how it ends is the caller's to judge.
    pub(crate) fn try_kubectl(&self, arguments: &[&str]) -> Result<Ended> {
        process::run(&mut self.command("kubectl", arguments), None, KUBECTL_DEADLINE)
    }

    /// kubectl, to be started.
    pub(crate) fn kubectl_command(&self, arguments: &[&str]) -> Command {
        self.command("kubectl", arguments)
    }

    /// Runs a line that a person types into a shell, at the root of the repository and with the cluster as the one that is
    /// meant; it must succeed. What it printed.
    pub fn shell(&self, line: &str, deadline: Duration) -> Result<String> {
        let mut bash = Command::new("bash");
        let line = format!("PATH=\"$CLUSTER_TOOLS:$PATH\"\n{line}");
        bash.args(["-euo", "pipefail", "-c", &line]).current_dir(repository()).env("CLUSTER_TOOLS", &self.bin);
        bash.env("KUBECONFIG", &self.kubeconfig).env("KIND_CLUSTER_NAME", &self.name);
        process::ok(&mut bash, None, deadline)
    }

    /// An object, or a list of them, as JSON.
    pub fn get(&self, arguments: &[&str]) -> Result<serde_json::Value> {
        let text = self.kubectl(&[&["get", "-o", "json"], arguments].concat())?;
        serde_json::from_str(&text).context("kubectl prints JSON")
    }

    /// Runs helm, which must succeed.
    pub fn helm(&self, arguments: &[&str], deadline: Duration) -> Result<String> {
        self.run("helm", arguments, deadline)
    }

    /// Runs docker on a node's container: `stop`, `start` and so on.
    pub fn docker(&self, arguments: &[&str]) -> Result<String> {
        process::ok(Command::new("docker").args(arguments), None, KUBECTL_DEADLINE)
    }

    /// The container of the control plane.
    pub fn control_plane(&self) -> String {
        format!("{}-control-plane", self.name)
    }

    /// The nodes that scenarios call `node1` and `node2`.
    pub fn workers(&self) -> [String; 2] {
        [format!("{}-worker", self.name), format!("{}-worker2", self.name)]
    }

    /// How this cluster calls things in manifests.
    pub(crate) fn names(&self) -> Names {
        Names { apps: format!("{HUB}/apps:{TAG}"), workers: self.workers() }
    }

    /// Ways to the ports of its pods.
    pub(super) fn forwards(&self) -> &Forwards {
        &self.forwards
    }

    /// Hands in its pods.
    pub(super) fn hands(&self) -> &Hands {
        &self.hands
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Where kind, kubectl and helm are.
    pub fn bin(&self) -> &Path {
        &self.bin
    }

    /// It stays when this is dropped.
    pub(crate) fn keep(&mut self) {
        self.keep = true;
    }

    /// Fails unless the API server answers and all nodes are ready.
    pub(crate) fn healthy(&self) -> Result<()> {
        let nodes = self.get(&["nodes"])?;
        for node in nodes["items"].as_array().into_iter().flatten() {
            let conditions = node["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let ready = conditions.iter().any(|c| c["type"] == "Ready" && c["status"] == "True");
            ensure!(ready, "node {} is not ready", node["metadata"]["name"]);
        }
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.keep {
            println!("cluster {} stays: export KUBECONFIG={}", self.name, self.kubeconfig.display());
        } else if let Err(error) = self.kind(&["delete", "cluster", "--name", &self.name]) {
            eprintln!("the cluster {} was not deleted: {error:#}", self.name);
        }
    }
}
