//! Keeps one container as it should be: started, asked whether it is well,
//! started again with patience, ended with grace.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, watch};
use ztunnel::net::netns::Netns;

use super::log::{self, Log};
use super::probe;
use super::state::{ContainerState, Doing};
use super::volumes;
use crate::lab::container::{self, Spec, spawn};
use crate::lab::plan::PodPlan;
use crate::lab::plan::podspec::{Container, Probe, RestartPolicy};
use crate::lab::site::Site;

/// The first restart is at once: what a crash interrupts should be short.
const BACKOFF_MIN: Duration = Duration::from_millis(500);
/// A container that cannot run is tried six times a minute, not more.
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// A container that ran this long begins again without waiting.
const RAN_WELL: Duration = Duration::from_secs(5);
/// Kubernetes gives 30 s; nobody at a terminal wants to wait that long for a
/// program that does not listen.
const GRACE: Duration = Duration::from_secs(2);
/// How often a probe is made while the container is not ready yet. Kubernetes
/// asks every 10 s, which would be most of the start of a lab.
const PERIOD_UNTIL_READY: Duration = Duration::from_millis(100);

/// One container and what it needs.
pub(crate) struct Keeper {
    pub site: Arc<Site>,
    pub pod: Arc<PodPlan>,
    pub container: Container,
    /// Where the pod's network is mounted.
    pub netns: PathBuf,
    /// The pod's own directory.
    pub dir: PathBuf,
    /// Tells every change.
    pub states: mpsc::Sender<ContainerState>,
    /// Turns true when the pod is to end.
    pub stop: watch::Receiver<bool>,
}

/// How long to wait before the next start, from how long the container ran
/// and how often it has failed quickly in a row.
fn backoff(ran: Duration, failures: &mut u32) -> Duration {
    *failures = if ran >= RAN_WELL { 0 } else { *failures + 1 };
    match *failures {
        0 | 1 => Duration::ZERO,
        many => (BACKOFF_MIN * 2_u32.saturating_pow(many - 2)).min(BACKOFF_MAX),
    }
}

impl Keeper {
    /// Runs the container until it has ended for good, or the pod ends.
    /// Returns its last exit code.
    pub(crate) async fn run(mut self, restart: RestartPolicy) -> i32 {
        let mut state = ContainerState {
            name: self.container.name.clone(),
            doing: Doing::Waiting("ContainerCreating".to_owned()),
            ready: false,
            restarts: 0,
            process: None,
        };
        let mut failures = 0;
        loop {
            let started = Instant::now();
            let code = match self.start().await {
                Ok(child) => self.watch(child, &mut state).await,
                Err(reason) => {
                    tracing::warn!(pod = %self.pod.key.name, container = %state.name, reason, "cannot start a container");
                    state.doing = Doing::Waiting(reason);
                    self.tell(&state).await;
                    125
                }
            };
            state.ready = false;
            state.process = None;
            let again = match restart {
                RestartPolicy::Always => true,
                RestartPolicy::OnFailure => code != 0,
                RestartPolicy::Never => false,
            };
            if !matches!(state.doing, Doing::Waiting(_)) {
                state.doing = Doing::Ended(code);
            }
            if !again {
                // A container that has done its work keeps its pod ready only
                // while others run; its own end is not readiness.
                self.tell(&state).await;
                return code;
            }
            if *self.stop.borrow() {
                return code;
            }
            let wait = backoff(started.elapsed(), &mut failures);
            if !wait.is_zero() && matches!(state.doing, Doing::Ended(_)) {
                state.doing = Doing::Waiting("CrashLoopBackOff".to_owned());
            }
            self.tell(&state).await;
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                _ = self.stop.wait_for(|stop| *stop) => return code,
            }
            if matches!(state.doing, Doing::Ended(_)) || wait > Duration::ZERO {
                state.restarts += 1;
            }
        }
    }

    async fn tell(&self, state: &ContainerState) {
        let _ = self.states.send(state.clone()).await;
    }

    async fn start(&self) -> Result<Child, String> {
        let spec = self.spec()?;
        let file = self.dir.join(format!("{}.json", self.container.name));
        let text = serde_json::to_vec(&spec).map_err(|error| error.to_string())?;
        std::fs::write(&file, text).map_err(|error| format!("cannot write {}: {error}", file.display()))?;
        let mut command = Command::new(self.site.run_dir.bin().join("meshctl"));
        command.arg("lab-container").arg(&file).env_clear();
        let path = log_file(&self.site, &self.pod, &self.container.name);
        let log = Log::open(&path).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        let mut child = spawn::spawn(spawn::captured(command), spawn::Birthplace::New)
            .await
            .map_err(|error| format!("cannot start a process: {error}"))?;
        let log = Arc::new(Mutex::new(log));
        if let Some(stdout) = child.stdout.take() {
            chassis::task::spawn("container log", log::keep(stdout, log.clone())).detach();
        }
        if let Some(stderr) = child.stderr.take() {
            chassis::task::spawn("container log", log::keep(stderr, log)).detach();
        }
        Ok(child)
    }

    fn spec(&self) -> Result<Spec, String> {
        let volumes = self.dir.join("volumes");
        let mounts = volumes::mounts(&self.site, &self.pod, &self.container, &volumes);
        let (env, argv) =
            volumes::environment(&self.site, &self.pod, &self.container).map_err(|error| error.to_string())?;
        let scratch = self.dir.join("root").join(&self.container.name);
        std::fs::create_dir_all(&scratch).map_err(|error| format!("cannot make {}: {error}", scratch.display()))?;
        let hostname = self.pod.spec.hostname.clone().unwrap_or_else(|| self.pod.key.name.clone());
        Ok(Spec {
            netns: self.netns.clone(),
            files: super::etc_files(&self.pod, &hostname),
            hostname: hostname.chars().take(63).collect(),
            argv,
            env,
            working_dir: self.container.working_dir.as_ref().map(PathBuf::from),
            root: self.pod.root,
            run_dir: self.site.run_dir.root().to_owned(),
            mounts: mounts.map_err(|error| error.to_string())?,
            scratch,
        })
    }

    /// Watches a started container to its end and returns its exit code.
    async fn watch(&mut self, mut child: Child, state: &mut ContainerState) -> i32 {
        let pid = child.id();
        state.process = pid;
        state.doing = Doing::Running(SystemTime::now());
        state.ready = self.container.readiness_probe.is_none() && self.container.startup_probe.is_none();
        self.tell(state).await;
        let mut stop = self.stop.clone();
        let probed = async {
            let mut health = Health::new(self, pid);
            loop {
                let (ready, alive) = health.next().await;
                if ready != state.ready {
                    state.ready = ready;
                    self.tell(state).await;
                }
                if !alive {
                    return;
                }
            }
        };
        tokio::select! {
            ended = child.wait() => return exit_code(ended),
            () = probed => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
        let grace = self.pod.spec.termination_grace_period_seconds.map_or(GRACE, Duration::from_secs);
        signal(pid, Signal::SIGTERM);
        match tokio::time::timeout(grace, child.wait()).await {
            Ok(ended) => exit_code(ended),
            Err(_) => {
                let _ = child.kill().await;
                137
            }
        }
    }
}

fn exit_code(ended: std::io::Result<std::process::ExitStatus>) -> i32 {
    ended.map_or(255, crate::lab::enter::shell_code)
}

fn signal(pid: Option<u32>, signal: Signal) {
    if let Some(pid) = pid.and_then(|pid| i32::try_from(pid).ok()) {
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

/// Where a container's output goes.
pub(crate) fn log_file(site: &Site, pod: &PodPlan, container: &str) -> PathBuf {
    site.run_dir.logs().join(&pod.key.namespace).join(&pod.key.name).join(format!("{container}.log"))
}

/// A container's probes, in time.
struct Health<'a> {
    keeper: &'a Keeper,
    process: Option<u32>,
    started: bool,
    ready: bool,
    /// In a row, for the probe that counts now and for liveness.
    counts: [(u32, u32); 2],
}

impl<'a> Health<'a> {
    fn new(keeper: &'a Keeper, process: Option<u32>) -> Self {
        Self { keeper, process, started: false, ready: false, counts: [(0, 0); 2] }
    }

    /// Waits for the next probe and says whether the container is ready and
    /// whether it may live.
    async fn next(&mut self) -> (bool, bool) {
        let Container { readiness_probe, liveness_probe, startup_probe, .. } = &self.keeper.container;
        if !self.started {
            let Some(probe) = startup_probe else {
                self.started = true;
                self.ready = readiness_probe.is_none();
                let delay = readiness_probe.as_ref().map_or(0, |probe| probe.initial_delay_seconds);
                tokio::time::sleep(Duration::from_secs(delay)).await;
                return (self.ready, true);
            };
            tokio::time::sleep(PERIOD_UNTIL_READY).await;
            let (passed, failed) = self.count(0, probe).await;
            self.started = passed;
            self.ready = passed && readiness_probe.is_none();
            return (self.ready, !failed);
        }
        if readiness_probe.is_none() && liveness_probe.is_none() {
            return std::future::pending().await;
        }
        let period = [readiness_probe, liveness_probe]
            .into_iter()
            .flatten()
            .map(|probe| probe.period_seconds.unwrap_or(10).max(1))
            .min()
            .unwrap_or(10);
        let until_ready = readiness_probe.is_some() && !self.ready;
        tokio::time::sleep(if until_ready { PERIOD_UNTIL_READY } else { Duration::from_secs(period) }).await;
        if let Some(probe) = readiness_probe {
            match self.count(0, probe).await {
                (true, _) => self.ready = true,
                (_, true) => self.ready = false,
                _ => {}
            }
        }
        let mut alive = true;
        if let Some(probe) = liveness_probe.as_ref().filter(|_| !until_ready) {
            alive = !self.count(1, probe).await.1;
        }
        (self.ready, alive)
    }

    /// Makes a probe; whether it has now succeeded, or failed, often enough.
    async fn count(&mut self, which: usize, probe: &Probe) -> (bool, bool) {
        let well = self.ask(probe).await;
        let (successes, failures) = &mut self.counts[which];
        if well {
            (*successes, *failures) = (*successes + 1, 0);
        } else {
            (*successes, *failures) = (0, *failures + 1);
        }
        let enough = |count: u32, threshold: Option<u32>, default: u32| count >= threshold.unwrap_or(default).max(1);
        (enough(*successes, probe.success_threshold, 1), enough(*failures, probe.failure_threshold, 3))
    }

    async fn ask(&self, probe: &Probe) -> bool {
        let pod = &self.keeper.pod;
        let timeout = Duration::from_secs(probe.timeout_seconds.unwrap_or(1).max(1));
        if let Some(action) = &probe.exec {
            return self.ask_command(&action.command, timeout).await;
        }
        let (Ok(node), Some(address)) = (self.keeper.site.world.node(&pod.node), pod.addresses.first()) else {
            return false;
        };
        let node: Netns = node;
        if let Some(get) = &probe.http_get {
            let headers: Vec<_> = get
                .http_headers
                .iter()
                .map(|header| (header.name.clone(), header.value.clone().unwrap_or_default()))
                .collect();
            let Some(port) = pod.spec.port(&get.port) else { return false };
            let path = get.path.as_deref().unwrap_or("/");
            return probe::http(&node, *address, port, path, &headers, timeout).await;
        }
        if let Some(socket) = &probe.tcp_socket {
            let Some(port) = pod.spec.port(&socket.port) else { return false };
            return probe::tcp(&node, *address, port, timeout).await;
        }
        true
    }

    async fn ask_command(&self, argv: &[String], timeout: Duration) -> bool {
        let Some(process) = self.process else { return false };
        let Ok((env, _)) = volumes::environment(&self.keeper.site, &self.keeper.pod, &self.keeper.container) else {
            return false;
        };
        let mut command = container::join_command(&self.keeper.site.run_dir, argv, false);
        command.env_clear().envs(env);
        command
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null());
        let Ok(mut child) = spawn::spawn(command, spawn::Birthplace::Of(process)).await else { return false };
        matches!(tokio::time::timeout(timeout, child.wait()).await, Ok(Ok(status)) if status.success())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_restart_is_at_once_and_later_ones_wait_longer() {
        let mut failures = 0;
        let quick = Duration::from_millis(10);
        let waits: Vec<_> = (0..8).map(|_| backoff(quick, &mut failures).as_millis()).collect();
        assert_eq!(waits, [0, 500, 1000, 2000, 4000, 8000, 10000, 10000]);
        assert_eq!(backoff(RAN_WELL, &mut failures), Duration::ZERO);
        assert_eq!(backoff(quick, &mut failures), Duration::ZERO);
    }
}
