//! A running lab, as a program sees it: start one, run commands in its pods,
//! change its manifests, break its parts, end it. The scenarios of `e2e` are
//! written against this and nothing else.

pub(crate) mod conditions;
mod known;
mod life;
mod running;

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin};
use std::sync::mpsc;
use std::time::{Duration, Instant};

pub use self::conditions::ConditionReport;
pub use self::known::unknown;
pub use self::life::{StartOptions, component_variable};
pub use self::running::{Output, Running};
use super::control::dial;
use super::control::protocol::{Problem, Reply, Request, StatusReport};
use super::rundir::{RunDir, RunDirError};
use super::show;
use super::system::SYSTEM_NAMESPACE;

/// Why a lab did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// The binary could not be started.
    #[error("cannot run {binary}: {source}")]
    Spawn {
        /// The binary that was to be run.
        binary: PathBuf,
        /// What the system said.
        source: io::Error,
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
        source: io::Error,
    },
    /// There cannot be a lab of this name.
    #[error(transparent)]
    Dir(#[from] RunDirError),
    /// The lab understood and refused.
    #[error("{0}")]
    Refused(String),
    /// The lab answered something else than was asked.
    #[error("the lab gave an answer that does not fit; is it of another version?")]
    Confused,
    /// The lab did not end.
    #[error("the lab `{0}` does not end; look for its processes")]
    Lingers(String),
}

/// One running lab. Dropping it ends the lab, if it was started here.
#[derive(Debug)]
pub struct Lab {
    run_dir: RunDir,
    /// The process that stands outside, and the line it hangs on.
    started: Option<(Child, Option<ChildStdin>)>,
}

/// How often something is looked at that cannot tell of itself.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// How long the change of a proxy may take: the old one has 30 s to drain.
const REPLACE_DEADLINE: Duration = Duration::from_secs(60);

impl Lab {
    fn ask(&self, request: &Request) -> Result<Reply, LabError> {
        match dial::ask(&self.run_dir, request) {
            Ok(Reply::Refused { reason }) => Err(LabError::Refused(reason)),
            Ok(reply) => Ok(reply),
            Err(source) => Err(self.unreachable(source)),
        }
    }

    fn unreachable(&self, source: io::Error) -> LabError {
        LabError::Unreachable { name: self.name().to_owned(), source }
    }

    /// Adds or replaces objects; what could not be taken is returned.
    pub fn apply(&self, yaml: &str) -> Result<Vec<Problem>, LabError> {
        self.change(Request::Apply { file: "<text>".to_owned(), yaml: yaml.to_owned() }).map(|(_, problems)| problems)
    }

    /// Removes objects.
    pub fn delete(&self, yaml: &str) -> Result<Vec<Problem>, LabError> {
        self.change(Request::Delete { file: "<text>".to_owned(), yaml: yaml.to_owned() }).map(|(_, problems)| problems)
    }

    pub(crate) fn change(&self, request: Request) -> Result<(Vec<String>, Vec<Problem>), LabError> {
        match self.ask(&request)? {
            Reply::Changed { lines, problems } => Ok((lines, problems)),
            _ => Err(LabError::Confused),
        }
    }

    /// Everything the lab knows about its nodes, pods and services.
    pub fn status(&self) -> Result<StatusReport, LabError> {
        match self.ask(&Request::Status)? {
            Reply::Status(report) => Ok(*report),
            _ => Err(LabError::Confused),
        }
    }

    /// Waits until every pod is ready, and every node proxy knows it.
    pub fn wait_ready(&self, timeout: Duration) -> Result<StatusReport, LabError> {
        let begun = Instant::now();
        loop {
            let report = self.status()?;
            let unknown = if report.ready { self.unknown(&report)? } else { Vec::new() };
            if report.ready && unknown.is_empty() {
                return Ok(report);
            }
            if begun.elapsed() > timeout {
                let waiting_for = format!("{}\n{}", show::status(&report), unknown.join("\n"));
                return Err(LabError::NotReady { after: timeout, waiting_for: waiting_for.trim_end().to_owned() });
            }
            pause();
        }
    }

    /// Sends a signal (a number) to one of the mesh's own programs:
    /// `ztunnel` or `agent` on a node, or `istiod`.
    pub fn kill_component(&self, component: &str, node: &str, signal: i32) -> Result<(), LabError> {
        let (component, node) = (component.to_owned(), node.to_owned());
        self.ask(&Request::Kill { component, node, signal }).map(drop)
    }

    /// Replaces a node's `ztunnel` as a rolling update with `maxSurge: 1` does: a
    /// second one starts, is waited for until it is ready (its 15021 says so), then
    /// the old one gets SIGTERM and is waited for until it has drained and ended.
    /// Returns when only the new one runs.
    pub fn replace_component(&self, component: &str, node: &str) -> Result<(), LabError> {
        if component != "ztunnel" {
            return Err(LabError::Refused(format!("{component} cannot be replaced, only ztunnel")));
        }
        let Reply::Replacing { pod: new } = self.ask(&Request::Replace { node: node.to_owned() })? else {
            return Err(LabError::Confused);
        };
        let begun = Instant::now();
        loop {
            let report = self.status()?;
            let proxies: Vec<_> = report
                .pods
                .iter()
                .filter(|pod| pod.namespace == SYSTEM_NAMESPACE && pod.node == node && pod.name.starts_with("ztunnel-"))
                .collect();
            if matches!(proxies.as_slice(), [one] if one.name == new && one.is_ready) {
                return Ok(());
            }
            if begun.elapsed() > REPLACE_DEADLINE {
                return Err(LabError::NotReady { after: REPLACE_DEADLINE, waiting_for: show::status(&report) });
            }
            pause();
        }
    }

    /// Gives a waypoint (`namespace/name` of its Gateway) this many pods. New
    /// ones start at once; those that are too many drain.
    pub fn scale_gateway(&self, gateway: &str, replicas: u64) -> Result<(), LabError> {
        let (namespace, name) = gateway.split_once('/').unwrap_or(("default", gateway));
        let request = Request::Scale { namespace: namespace.to_owned(), name: name.to_owned(), replicas };
        self.ask(&request).map(drop)
    }

    /// What a pod has printed so far.
    pub fn logs(&self, pod: &str) -> Result<String, LabError> {
        let mut text = String::new();
        for path in self.log_files(pod, None)? {
            let bytes = std::fs::read(&path).unwrap_or_default();
            text.push_str(&String::from_utf8_lossy(&bytes));
        }
        Ok(text)
    }

    pub(crate) fn log_files(&self, pod: &str, container: Option<String>) -> Result<Vec<PathBuf>, LabError> {
        match self.ask(&Request::Logs { pod: pod.to_owned(), container })? {
            Reply::LogFiles { paths } => Ok(paths.into_iter().map(PathBuf::from).collect()),
            _ => Err(LabError::Confused),
        }
    }

    /// The lab's directory: `config/`, `logs/`, `state/`, `lab.log`.
    pub fn run_dir(&self) -> &Path {
        self.run_dir.root()
    }

    pub(crate) fn dir(&self) -> &RunDir {
        &self.run_dir
    }

    /// The lab's name.
    pub fn name(&self) -> &str {
        self.run_dir.name()
    }
}

/// Waits a moment. The lab's answers are looked for again and again because
/// what is waited for happens in other processes.
pub(crate) fn pause() {
    // A receive that nobody sends to is a sleep that the lints let pass for
    // what it is: waiting for a condition, with a deadline around it.
    let (_sender, receiver) = mpsc::channel::<()>();
    let _ = receiver.recv_timeout(LOOK_AGAIN);
}
