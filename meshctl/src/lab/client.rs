//! A running lab, as a program sees it: start one, run commands in its pods,
//! change its manifests, break its parts, end it. The scenarios of `e2e` are
//! written against this and nothing else.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::control::protocol::{Problem, StatusReport};

/// How to start a lab.
#[derive(Clone, Debug)]
pub struct StartOptions {
    /// The `meshctl` binary to run.
    pub binary: PathBuf,
    /// The lab's name; labs with different names do not see each other.
    pub name: String,
    /// A directory of manifests; `None` starts with no workloads.
    pub manifests: Option<PathBuf>,
    /// Further manifests as text, applied before the start.
    pub yaml: String,
    /// How many nodes, when the manifests name none.
    pub nodes: u16,
    /// Start the mesh (control plane, agents, proxies), or plain pods only.
    pub mesh: bool,
    /// Environment added to components, by component name (`ztunnel`,
    /// `istiod`, `agent`), as `(component, key, value)`.
    pub component_env: Vec<(String, String, String)>,
    /// How long to wait until every pod is ready.
    pub ready_timeout: Duration,
}

/// What a command in a pod printed and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Exit code; 128 + signal number if a signal ended it.
    pub code: i32,
    /// Everything it wrote to its standard output.
    pub stdout: Vec<u8>,
    /// Everything it wrote to its standard error.
    pub stderr: Vec<u8>,
}

/// Why a lab did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// The binary could not be started.
    #[error("cannot run {binary}: {source}")]
    Spawn {
        /// The binary that was to be run.
        binary: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The lab ended before it was ready.
    #[error("the lab ended before it was ready ({status}):\n{output}")]
    EndedEarly {
        /// Its exit status.
        status: String,
        /// The end of what it printed.
        output: String,
    },
    /// Not everything was ready in time.
    #[error("not ready after {after:?}: {waiting_for}")]
    NotReady {
        /// How long was waited.
        after: Duration,
        /// The pods that are missing.
        waiting_for: String,
    },
    /// The lab cannot be spoken to.
    #[error("cannot speak to the lab `{name}`: {source}; is it running?")]
    Unreachable {
        /// The lab's name.
        name: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The lab understood and refused.
    #[error("{0}")]
    Refused(String),
}

/// One running lab. Dropping it ends the lab.
#[derive(Debug)]
pub struct Lab {
    name: String,
    run_dir: PathBuf,
}

impl Lab {
    /// Starts a lab and returns once every pod in it is ready.
    pub fn start(options: StartOptions) -> Result<Self, LabError> {
        let _ = options;
        todo!()
    }

    /// Runs a command in a pod (`name`, `namespace/name`, or the name of the
    /// workload that owns it) and waits for its end.
    pub fn exec(&self, pod: &str, argv: &[&str]) -> Result<Output, LabError> {
        let _ = (pod, argv);
        todo!()
    }

    /// Starts a command in a pod, with the given standard streams, and
    /// returns at once.
    pub fn spawn(&self, pod: &str, argv: &[&str]) -> Result<Running, LabError> {
        let _ = (pod, argv);
        todo!()
    }

    /// Adds or replaces objects; what could not be taken is returned.
    pub fn apply(&self, yaml: &str) -> Result<Vec<Problem>, LabError> {
        let _ = yaml;
        todo!()
    }

    /// Removes objects.
    pub fn delete(&self, yaml: &str) -> Result<Vec<Problem>, LabError> {
        let _ = yaml;
        todo!()
    }

    /// Everything the lab knows about its nodes, pods and services.
    pub fn status(&self) -> Result<StatusReport, LabError> {
        todo!()
    }

    /// Waits until every pod is ready.
    pub fn wait_ready(&self, timeout: Duration) -> Result<StatusReport, LabError> {
        let _ = timeout;
        todo!()
    }

    /// Sends a signal (a number) to one of the mesh's own programs:
    /// `ztunnel` or `agent` on a node, or `istiod`.
    pub fn kill_component(&self, component: &str, node: &str, signal: i32) -> Result<(), LabError> {
        let _ = (component, node, signal);
        todo!()
    }

    /// Replaces a node's `ztunnel` as a rolling update with `maxSurge: 1` does: a
    /// second one starts, is waited for until it is ready (its 15021 says so), then
    /// the old one gets SIGTERM and is waited for until it has drained and ended.
    /// Returns when only the new one runs.
    pub fn replace_component(&self, component: &str, node: &str) -> Result<(), LabError> {
        let _ = (component, node);
        todo!()
    }

    /// What a pod has printed so far.
    pub fn logs(&self, pod: &str) -> Result<String, LabError> {
        let _ = pod;
        todo!()
    }

    /// The lab's directory: `config/`, `logs/`, `state/`, `pods/`.
    pub fn run_dir(&self) -> &Path {
        &self.run_dir
    }

    /// The lab's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Ends the lab and waits until nothing of it is left.
    pub fn down(self) -> Result<(), LabError> {
        todo!()
    }
}

/// A command running in a pod.
#[derive(Debug)]
pub struct Running {}

impl Running {
    /// Waits for its end.
    pub fn wait(self) -> Result<Output, LabError> {
        todo!()
    }

    /// Ends it.
    pub fn kill(&mut self) {
        todo!()
    }
}
