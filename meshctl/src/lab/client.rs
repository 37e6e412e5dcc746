//! A running lab, as a program sees it: start one, run commands in its pods,
//! change its manifests, break its parts, end it. The scenarios of `e2e` are
//! written against this and nothing else.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::control::dial::{self, Call};
use super::control::protocol::{Problem, Reply, Request, StatusReport};
use super::options::Options;
use super::rundir::{RunDir, RunDirError};
use super::show;
use super::system::SYSTEM_NAMESPACE;

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
/// How long a lab may take to answer for the first time: it makes its
/// network before that.
const FIRST_ANSWER: Duration = Duration::from_secs(20);
/// How long a lab may take to end by itself, and then by force. Its pods have
/// 3 s.
const END_DEADLINE: Duration = Duration::from_secs(10);

/// How long the change of a proxy may take: the old one has 30 s to drain.
const REPLACE_DEADLINE: Duration = Duration::from_secs(60);

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

    /// Runs a command in a pod (`name`, `namespace/name`, or the name of the
    /// workload that owns it) and waits for its end.
    pub fn exec(&self, pod: &str, argv: &[&str]) -> Result<Output, LabError> {
        self.spawn(pod, argv)?.wait()
    }

    /// Runs a command in a pod with something to read.
    pub fn exec_with_input(&self, pod: &str, argv: &[&str], input: &[u8]) -> Result<Output, LabError> {
        let mut running = self.spawn_piped(pod, argv, true)?;
        if let Some(mut stdin) = running.stdin.take() {
            let input = input.to_vec();
            // A command that does not read must not stop us.
            std::thread::spawn(move || drop(stdin.write_all(&input)));
        }
        running.wait()
    }

    /// Starts a command in a pod and returns at once. Its output is collected.
    pub fn spawn(&self, pod: &str, argv: &[&str]) -> Result<Running, LabError> {
        self.spawn_piped(pod, argv, false)
    }

    fn spawn_piped(&self, pod: &str, argv: &[&str], with_input: bool) -> Result<Running, LabError> {
        let request = Request::Exec {
            pod: pod.to_owned(),
            container: None,
            argv: argv.iter().map(|&word| word.to_owned()).collect(),
            tty: false,
        };
        let failed = |source| self.unreachable(source);
        let (out_read, out_write) = io::pipe().map_err(failed)?;
        let (error_read, error_write) = io::pipe().map_err(failed)?;
        let (in_read, in_write) = io::pipe().map_err(failed)?;
        let files = [in_read.as_fd(), out_write.as_fd(), error_write.as_fd()];
        let mut call = Call::make(&self.run_dir, &request, &files).map_err(failed)?;
        match call.reply().map_err(failed)? {
            Reply::Started => {}
            Reply::Refused { reason } => return Err(LabError::Refused(reason)),
            _ => return Err(LabError::Confused),
        }
        let stdin = with_input.then_some(in_write);
        Ok(Running { call, stdin, stdout: collect(out_read), stderr: collect(error_read) })
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

    /// Waits until every pod is ready.
    pub fn wait_ready(&self, timeout: Duration) -> Result<StatusReport, LabError> {
        let begun = Instant::now();
        loop {
            let report = self.status()?;
            if report.ready {
                return Ok(report);
            }
            if begun.elapsed() > timeout {
                return Err(LabError::NotReady { after: timeout, waiting_for: show::status(&report) });
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

/// Waits a moment. The lab's answers are looked for again and again because
/// what is waited for happens in other processes.
pub(crate) fn pause() {
    // A receive that nobody sends to is a sleep that the lints let pass for
    // what it is: waiting for a condition, with a deadline around it.
    let (_sender, receiver) = mpsc::channel::<()>();
    let _ = receiver.recv_timeout(LOOK_AGAIN);
}

/// Reads a stream to its end, beside whatever else happens.
fn collect(mut from: io::PipeReader) -> Stream {
    let bytes: Arc<Mutex<Vec<u8>>> = Arc::default();
    let into = bytes.clone();
    let reader = std::thread::spawn(move || {
        let mut buffer = [0; 8192];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            into.lock().expect("no holder panics").extend_from_slice(&buffer[..length]);
        }
    });
    Stream { bytes, reader }
}

/// What has been read of a stream, and who reads.
#[derive(Debug)]
struct Stream {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Stream {
    fn so_far(&self) -> Vec<u8> {
        self.bytes.lock().expect("no holder panics").clone()
    }

    fn end(self) -> Vec<u8> {
        let _ = self.reader.join();
        std::mem::take(&mut *self.bytes.lock().expect("no holder panics"))
    }
}

/// A command running in a pod.
#[derive(Debug)]
pub struct Running {
    call: Call,
    stdin: Option<io::PipeWriter>,
    stdout: Stream,
    stderr: Stream,
}

impl Running {
    /// Waits for its end.
    pub fn wait(mut self) -> Result<Output, LabError> {
        drop(self.stdin.take());
        let code = match self.call.reply() {
            Ok(Reply::Exited { code }) => code,
            Ok(Reply::Refused { reason }) => return Err(LabError::Refused(reason)),
            Ok(_) => return Err(LabError::Confused),
            Err(source) => return Err(LabError::Unreachable { name: String::new(), source }),
        };
        Ok(Output { code, stdout: self.stdout.end(), stderr: self.stderr.end() })
    }

    /// What it has written to its standard output so far.
    pub fn stdout_so_far(&self) -> Vec<u8> {
        self.stdout.so_far()
    }

    /// Sends it a signal, by number.
    pub fn signal(&self, number: i32) -> Result<(), LabError> {
        let failed = |source| LabError::Unreachable { name: String::new(), source };
        self.call.add(&Request::Signal { number }).map_err(failed)
    }

    /// Ends it.
    pub fn kill(&mut self) {
        let _ = self.signal(9);
    }
}

impl Output {
    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard error as text.
    pub fn error_text(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }
}
