//! What scenarios ask of a stage, done on a cluster by kubectl.

use super::{
    cluster::{Cluster, KUBECTL_DEADLINE},
    manifest, observed,
    process::{self, Ended},
};
use crate::stage::{Output, Stage, pause};
use anyhow::{Context, Result, ensure};
use meshctl::lab::control::protocol::StatusReport;
use std::{
    process::{Child, Stdio},
    time::{Duration, Instant},
};

/// The longest thing that a scenario runs in a pod is a load of a minute.
const EXEC_DEADLINE: Duration = Duration::from_secs(300);
/// A namespace gets its account from a controller, a moment after it is made.
const ACCOUNT_DEADLINE: Duration = Duration::from_secs(30);
/// A namespace is gone when its last pod is.
const GONE_DEADLINE: Duration = Duration::from_secs(120);
/// Between two looks: each is a process.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// A command that goes on in a pod.
#[derive(Debug)]
pub(crate) struct Remote {
    child: Child,
    /// kubectl, ready to stop the command: ending the kubectl that started it would leave it running.
    stop: std::process::Command,
}

impl Remote {
    /// Waits for its end.
    pub(crate) fn end(self) -> Result<Output> {
        Ok(process::wait(self.child, EXEC_DEADLINE)?.into())
    }

    /// Stops it and waits for its end.
    pub(crate) fn stop(mut self) -> Result<Output> {
        process::ok(&mut self.stop, None, KUBECTL_DEADLINE)?;
        self.end()
    }
}

impl From<Ended> for Output {
    fn from(ended: Ended) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { code: ended.code, stdout: text(&ended.stdout), stderr: text(&ended.stderr) }
    }
}

/// `namespace/name`, apart.
pub(super) fn apart(pod: &str) -> Result<(&str, &str)> {
    pod.split_once('/').with_context(|| format!("{pod:?} is not namespace/name"))
}

impl Cluster {
    /// Runs a command in a pod to its end.
    pub(crate) fn exec(&self, pod: &str, argv: &[&str]) -> Result<Ended> {
        let (namespace, name) = apart(pod)?;
        if let Some(ended) = self.by_hand(pod, argv, EXEC_DEADLINE)? {
            return Ok(ended);
        }
        let front = ["exec", "--namespace", namespace, name, "--"];
        process::run(&mut self.kubectl_command(&[&front, argv].concat()), None, EXEC_DEADLINE)
    }

    /// Starts a command in a pod and leaves it running.
    pub(crate) fn spawn(&self, pod: &str, argv: &[&str]) -> Result<Remote> {
        let (namespace, name) = apart(pod)?;
        let file = format!("{}.pid", Stage::fresh_path());
        let front = ["exec", "--namespace", namespace, name, "--", "sh", "-c"];
        let script = format!("echo $$ > {file}; exec \"$@\"");
        let mut start = self.kubectl_command(&[&front[..], &[&script, "sh"], argv].concat());
        start.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let kill = format!("kill $(cat {file})");
        let stop = self.kubectl_command(&[&front[..], &[&kill]].concat());
        Ok(Remote { child: start.spawn().context("kubectl does not start")?, stop })
    }

    /// Applies manifests of scenarios.
    pub(crate) fn apply(&self, manifests: &str) -> Result<()> {
        let objects = manifest::read(manifests, &self.names())?;
        let split = objects.iter().take_while(|object| object["kind"] == "Namespace").count();
        let (namespaces, others) = objects.split_at(split);
        for part in [namespaces, others].into_iter().filter(|part| !part.is_empty()) {
            // Server-side: what a controller or a default has put into the object is left as it is.
            self.kubectl_with(&["apply", "--server-side", "--force-conflicts", "-f", "-"], &manifest::list(part))?;
            for namespace in part.iter().filter(|object| object["kind"] == "Namespace") {
                self.account(namespace["metadata"]["name"].as_str().unwrap_or_default())?;
            }
        }
        Ok(())
    }

    /// Applies one object that may be refused, as a person does; what kubectl says is the caller's to judge.
    pub(crate) fn try_apply(&self, manifest: &str) -> Result<Output> {
        let mut apply = self.kubectl_command(&["apply", "-f", "-"]);
        Ok(process::run(&mut apply, Some(manifest), KUBECTL_DEADLINE)?.into())
    }

    /// Waits until pods may be made in a namespace.
    fn account(&self, namespace: &str) -> Result<()> {
        let start = Instant::now();
        while self.try_kubectl(&["get", "serviceaccount", "default", "--namespace", namespace])?.code != 0 {
            ensure!(start.elapsed() < ACCOUNT_DEADLINE, "the namespace {namespace} got no default account");
            pause(LOOK_INTERVAL);
        }
        Ok(())
    }

    /// Deletes the objects of manifests, and waits until they are gone.
    pub(crate) fn delete(&self, manifests: &str) -> Result<()> {
        let objects = manifest::read(manifests, &self.names())?;
        let list = manifest::list(&objects);
        self.kubectl_with(&["delete", "--ignore-not-found", "--wait", "--timeout", "90s", "-f", "-"], &list)?;
        Ok(())
    }

    /// Everything that scenarios look at, in the lab's words.
    pub(crate) fn status(&self) -> Result<StatusReport> {
        let list = self.get(&["nodes,pods,services", "--all-namespaces"])?;
        Ok(observed::report(self.name(), &list, &self.workers()))
    }

    /// The log of a pod, all containers.
    pub(crate) fn logs(&self, pod: &str) -> Result<String> {
        let (namespace, name) = apart(pod)?;
        self.kubectl(&["logs", "--namespace", namespace, name, "--all-containers", "--tail", "20000"])
    }

    /// Removes every namespace that a scenario made.
    pub(crate) fn clear(&self) -> Result<()> {
        let label = format!("{}=scenario", manifest::OURS);
        self.kubectl(&["delete", "namespace", "--selector", &label, "--wait=false"])?;
        let start = Instant::now();
        loop {
            let left = self.kubectl(&["get", "namespace", "--selector", &label, "-o", "name"])?;
            if left.trim().is_empty() {
                return Ok(());
            }
            ensure!(start.elapsed() < GONE_DEADLINE, "namespaces do not go: {}", left.replace('\n', " "));
            pause(LOOK_INTERVAL);
        }
    }
}
