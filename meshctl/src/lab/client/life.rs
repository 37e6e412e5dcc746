//! The life of a lab: how it is started or found, kept, and ended, by its
//! process outside and the line it hangs on.

use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::{Lab, LabError, pause};
use crate::lab::control::dial;
use crate::lab::control::protocol::Request;
use crate::lab::options::Options;
use crate::lab::rundir::{RunDir, RunDirError};

/// How long a lab may take to answer for the first time: it makes its
/// network before that.
const FIRST_ANSWER: Duration = Duration::from_secs(20);
/// How long a lab may take to end by itself, and then by force. Its pods have
/// 3 s.
const END_DEADLINE: Duration = Duration::from_secs(10);

/// How to start a lab.
#[derive(Clone, Debug)]
pub struct StartOptions {
    /// The `meshctl` binary to run.
    pub binary: PathBuf,
    /// The lab's name; labs with different names do not see each other.
    pub name: String,
    /// Files and directories of manifests.
    pub manifests: Vec<PathBuf>,
    /// Further manifests, as text.
    pub yaml: String,
    /// Start the built-in sample shop too.
    pub shop: bool,
    /// How many nodes, when the manifests name none.
    pub nodes: u16,
    /// Start the mesh (control plane, agents, proxies), or plain pods only.
    pub mesh: bool,
    /// Environment added to components, by component name (`ztunnel`,
    /// `istiod`, `agent`), as `(component, key, value)`.
    pub component_env: Vec<(String, String, String)>,
    /// How long service-account tokens hold; they are renewed when a fifth of
    /// that is left.
    pub token_lifetime: Duration,
    /// How long to wait until every pod is ready.
    pub ready_timeout: Duration,
}

/// Reads `PROGRAM:KEY=VALUE`, a variable of one of the mesh's own programs: (program, key, value).
pub fn component_variable(text: &str) -> Result<(String, String, String), String> {
    let parts = text.split_once(':').and_then(|(program, rest)| Some((program, rest.split_once('=')?)));
    let (program, (key, value)) = parts.ok_or_else(|| format!("`{text}` is not of the form PROGRAM:KEY=VALUE"))?;
    Ok((program.to_owned(), key.to_owned(), value.to_owned()))
}

impl StartOptions {
    /// A lab of two nodes with the mesh and without workloads.
    pub fn new(binary: impl Into<PathBuf>, name: &str) -> Self {
        Self {
            binary: binary.into(),
            name: name.to_owned(),
            manifests: Vec::new(),
            yaml: String::new(),
            shop: false,
            nodes: 2,
            mesh: true,
            component_env: Vec::new(),
            token_lifetime: Duration::from_secs(12 * 3600),
            ready_timeout: Duration::from_secs(60),
        }
    }
}

impl Lab {
    /// Starts a lab and returns once every pod in it is ready.
    pub fn start(options: StartOptions) -> Result<Self, LabError> {
        let lab = Self::begin(&options)?;
        lab.wait_ready(options.ready_timeout)?;
        Ok(lab)
    }

    /// Starts a lab and returns once it takes orders; pods are still starting.
    pub fn begin(options: &StartOptions) -> Result<Self, LabError> {
        let run_dir = RunDir::of(&options.name)?;
        let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
        let inside = Options {
            manifests: options.manifests.iter().map(absolute).collect(),
            yaml: options.yaml.clone(),
            shop: options.shop,
            nodes: options.nodes,
            mesh: options.mesh,
            token_lifetime: options.token_lifetime,
            component_env: options.component_env.clone(),
            base_env: base_env(&run_dir),
        };
        let inside = serde_json::to_string(&inside).map_err(|_| LabError::Confused)?;
        let mut child = Command::new(&options.binary)
            .args(["lab-outside", &options.name, &inside])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // Ctrl-C is for us; the lab ends when we let go of it.
            .process_group(0)
            .spawn()
            .map_err(|source| LabError::Spawn { binary: options.binary.clone(), source })?;
        let line = child.stdin.take();
        let mut lab = Self { run_dir, started: Some((child, line)) };
        let deadline = Instant::now() + FIRST_ANSWER;
        loop {
            if let Some(ended) = lab.ended_early() {
                return Err(ended);
            }
            // A lab of the same name may be running: only ours has our child
            // in its file.
            let pid = std::fs::read_to_string(lab.run_dir.pid_file()).ok();
            let ours = lab.started.as_ref().map(|(child, _)| child.id().to_string());
            if pid == ours && dial::ask(&lab.run_dir, &Request::Status).is_ok() {
                return Ok(lab);
            }
            if Instant::now() > deadline {
                let waiting_for = lab.own_log();
                return Err(LabError::NotReady { after: FIRST_ANSWER, waiting_for });
            }
            pause();
        }
    }

    /// A lab that somebody else started. Dropping this does not end it.
    pub fn attach(name: &str) -> Result<Self, LabError> {
        Ok(Self { run_dir: RunDir::of(name)?, started: None })
    }

    fn ended_early(&mut self) -> Option<LabError> {
        let log = self.own_log();
        let (child, _) = self.started.as_mut()?;
        let status = child.try_wait().ok().flatten()?;
        let mut output = String::new();
        if let Some(stderr) = child.stderr.as_mut() {
            let _ = stderr.read_to_string(&mut output);
        }
        self.started = None;
        Some(LabError::EndedEarly { status: status.to_string(), output: output + &log })
    }

    /// The end of what the lab itself has logged.
    fn own_log(&self) -> String {
        let text = std::fs::read_to_string(self.run_dir.log()).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Lets the lab go on after this process has ended, until
    /// `meshctl lab down`.
    pub fn keep(mut self) -> Result<(), LabError> {
        self.ask(&Request::Keep)?;
        // The line that the lab hangs on is let go of without waiting.
        drop(self.started.take());
        Ok(())
    }

    /// Whether the process that stands outside has ended.
    pub fn has_ended(&mut self) -> bool {
        match &mut self.started {
            Some((child, _)) => !matches!(child.try_wait(), Ok(None)),
            None => !self.run_dir.exists(),
        }
    }

    /// Ends the lab, running or crashed, and waits until nothing of it is
    /// left.
    pub fn down(mut self) -> Result<(), LabError> {
        self.end()
    }

    fn end(&mut self) -> Result<(), LabError> {
        let asked = dial::ask(&self.run_dir, &Request::Down);
        // It took the order and never answered.
        let hangs = asked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
        if let Some((mut child, line)) = self.started.take() {
            drop(line);
            let deadline = Instant::now() + END_DEADLINE;
            while matches!(child.try_wait(), Ok(None)) && Instant::now() < deadline {
                pause();
            }
            // Process 1 of the lab dies with it, and everything with that.
            let _ = child.kill();
            let _ = child.wait();
        }
        self.wait_gone(hangs)
    }

    fn wait_gone(&self, hangs: bool) -> Result<(), LabError> {
        let deadline = Instant::now() + END_DEADLINE;
        while self.run_dir.exists() {
            match self.run_dir.lock() {
                // Nobody holds it: what is left was left by a crash.
                Ok(_lock) => self.run_dir.remove()?,
                Err(RunDirError::Running(_)) if hangs || Instant::now() > deadline => {
                    self.kill_outside()?;
                }
                Err(RunDirError::Running(_)) => {}
                Err(other) if self.run_dir.exists() => return Err(other.into()),
                Err(_) => {}
            }
            pause();
        }
        Ok(())
    }

    /// Ends a lab that does not listen, by its process outside. That the lock
    /// is held tells that the number is still that process's.
    fn kill_outside(&self) -> Result<(), LabError> {
        let lingers = || LabError::Lingers(self.name().to_owned());
        let text = std::fs::read_to_string(self.run_dir.pid_file()).map_err(|_| lingers())?;
        let pid = text.trim().parse().map_err(|_| lingers())?;
        let killed = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        killed.map_err(|_| lingers())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.started.is_some() {
            let _ = self.end();
        }
    }
}

/// What every container's environment begins with: this program first in the
/// path, then whatever the person who starts the lab has.
fn base_env(run_dir: &RunDir) -> Vec<(String, String)> {
    let kept = ["PATH", "HOME", "LANG", "LC_ALL", "TZ"];
    let mut env: Vec<_> = std::env::vars().filter(|(key, _)| kept.contains(&key.as_str())).collect();
    let path = env.iter().find(|(key, _)| key == "PATH").map(|(_, path)| path.clone());
    let path = path.unwrap_or_else(|| "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned());
    env.retain(|(key, _)| key != "PATH");
    env.push(("PATH".to_owned(), format!("{}:{path}", run_dir.bin().display())));
    env
}
