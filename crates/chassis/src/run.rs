//! The whole of every `main`: runtime, log, signals, drain, exit code.
//!
//! ```no_run
//! use chassis::run::{self, Options, Process};
//!
//! fn main() -> std::process::ExitCode {
//!     run::run(&Options::from_environment("ztunnel"), |process: Process| async move {
//!         let _starting = process.ready.register("state manager");
//!         Ok(())
//!     })
//! }
//! ```

use crate::{
    drain::{self, Drain, Signal},
    env::{self, Key},
    ready::Ready,
    task,
    telemetry::{self, Format, Level, Log},
};
use std::{
    future::Future,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    runtime::{Builder, Handle, Runtime},
    signal::unix::{Signal as Listener, SignalKind, signal},
};

/// What is logged.
pub const RUST_LOG: Key<String> =
    Key::new("RUST_LOG", "info", "filter", "What is logged: a level, or pairs such as `info,access=off`.");
/// How log lines look.
pub const LOG_FORMAT: Key<String> = Key::new("LOG_FORMAT", "plain", "plain or json", "How log lines look.");
/// How long a drain may last. Seconds as a bare number, as Kubernetes writes them, or a duration.
pub const GRACE: Key<Seconds> = Key::new(
    "TERMINATION_GRACE_PERIOD_SECONDS",
    "5",
    "seconds",
    "How long open connections may go on after the process was told to end.",
);

/// What is left of a grace period when the process wants to be gone at its end.
pub fn drain_time(grace: Duration) -> Duration {
    let for_the_rest = if grace > Duration::from_secs(10) { 5 } else { 1 };
    grace.saturating_sub(Duration::from_secs(for_the_rest))
}

/// A duration that is written as a number of seconds, or with a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seconds(pub Duration);

impl env::Value for Seconds {
    fn parse(text: &str) -> Result<Self, String> {
        if let Ok(seconds) = text.parse::<u32>() {
            return Ok(Self(Duration::from_secs(seconds.into())));
        }
        Duration::parse(text).map(Self)
    }
}

/// What is different from one program to the next.
#[derive(Clone, Debug)]
pub struct Options {
    /// Name of the program, for its threads and first log line.
    pub name: &'static str,
    /// How log lines look: `plain` or `json`.
    pub log_format: String,
    /// What is logged, in the syntax of `RUST_LOG`.
    pub log_filter: String,
    /// How long open work may go on after a signal to end.
    pub grace: Duration,
}

impl Options {
    /// The defaults.
    pub fn new(name: &'static str) -> Self {
        Self { name, log_format: "plain".into(), log_filter: "info".into(), grace: Duration::from_secs(5) }
    }

    /// [`LOG_FORMAT`], [`RUST_LOG`] and [`GRACE`] are read from the environment. A mistake there
    /// is told by [`run`], and a program that reads them again sees it too.
    pub fn from_environment(name: &'static str) -> Self {
        let mut reader = env::Reader::new(&env::ProcessEnvironment);
        let (log_format, log_filter) = (reader.read(&LOG_FORMAT), reader.read(&RUST_LOG));
        let grace = reader.read(&GRACE).0;
        if let Err(mistakes) = reader.finish() {
            eprintln!("{name}: {mistakes}: the default is used");
        }
        Self { name, log_format, log_filter, grace }
    }
}

/// What the program is given.
#[derive(Clone, Debug)]
pub struct Process {
    /// Starts the drain (a signal does too).
    pub drain: Drain,
    /// Learns of the drain.
    pub signal: Signal,
    /// Why we are not ready.
    pub ready: Ready,
    /// Changes what is logged.
    pub level: Level,
    /// How long open work may go on once a drain started.
    pub grace: Duration,
    failed: Arc<AtomicBool>,
}

impl Process {
    /// A process for tests: nothing is logged, and nobody sends it signals.
    pub fn detached() -> Self {
        let (drain, signal) = drain::channel();
        let failed = Arc::new(AtomicBool::new(false));
        let (ready, level) = (Ready::new(), Level::fixed());
        Self { drain, signal, ready, level, grace: Duration::from_secs(5), failed }
    }

    /// Spawns what the process cannot live without: if it ends before the drain, or fails or
    /// panics, the process drains and exits with 1.
    pub fn vital<F>(&self, name: &'static str, future: F)
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let process = self.clone();
        let task = task::spawn(name, future);
        task::spawn(name, async move {
            let reason = match task.await {
                Ok(Ok(())) if process.signal.is_draining() => return,
                Ok(Ok(())) => "it ended".to_owned(),
                Ok(Err(error)) => format!("{error:#}"),
                Err(ended) => ended.to_string(),
            };
            process.fail(&format!("{name} is needed and stopped: {reason}"));
        })
        .detach();
    }

    /// Drains, and then exits with 1.
    pub fn fail(&self, reason: &str) {
        tracing::error!("{reason}; the process ends");
        self.failed.store(true, Ordering::Relaxed);
        self.drain.start(self.grace);
    }

    /// Whether it will exit with 1.
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }
}

/// Runs a program on this thread until it is told to end: SIGTERM or SIGINT starts the drain, a
/// second one ends it at once. `program` sets everything up, spawns and returns; what it returns is kept
/// alive until the drain is over. An error from it ends the process with 1.
pub fn run<F, P, T>(options: &Options, program: P) -> ExitCode
where
    P: FnOnce(Process) -> F,
    F: Future<Output = anyhow::Result<T>>,
{
    match start(options) {
        Ok((runtime, log)) => {
            let code = runtime.block_on(until_the_end(options, &log, program));
            // What is left was told to stop and does not: it is cut off, and blocking threads are not waited for.
            runtime.shutdown_background();
            code
        }
        Err(reason) => {
            eprintln!("{}: {reason}", options.name);
            ExitCode::FAILURE
        }
    }
}

fn start(options: &Options) -> Result<(Runtime, Log), String> {
    let format: Format = options.log_format.parse().map_err(|e: telemetry::UnknownFormat| e.to_string())?;
    let log = telemetry::start(format, &options.log_filter).map_err(|e| e.to_string())?;
    task::log_panics();
    raise_descriptor_limit();
    let runtime = Builder::new_current_thread().enable_all().thread_name(options.name).build();
    Ok((runtime.map_err(|e| format!("cannot start the runtime: {e}"))?, log))
}

async fn until_the_end<F, P, T>(options: &Options, log: &Log, program: P) -> ExitCode
where
    P: FnOnce(Process) -> F,
    F: Future<Output = anyhow::Result<T>>,
{
    let process = Process { level: log.level(), grace: options.grace, ..Process::detached() };
    tracing::info!("{} starts", options.name);
    // Before anything else, so that no signal finds nobody listening.
    let _listening = match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(terminate), Ok(interrupt)) => task::spawn("signals", signals(process.clone(), terminate, interrupt)),
        (Err(error), _) | (_, Err(error)) => {
            tracing::error!("cannot listen for signals: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut draining = process.signal.clone();
    // A program that is still starting when it is told to end has nothing to drain.
    let kept = tokio::select! {
        started = program(process.clone()) => match started {
            Ok(kept) => Some(kept),
            Err(error) => {
                process.fail(&format!("cannot start: {error:#}"));
                None
            }
        },
        _deadline = draining.draining() => None,
    };
    if kept.is_some() && !process.drain.finish().await {
        tracing::warn!("the grace period is over: {} connections or tasks were cut off", process.drain.outstanding());
    }
    drop(kept);
    tracing::info!("{} ends", options.name);
    log.flush();
    if process.has_failed() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

async fn signals(process: Process, mut terminate: Listener, mut interrupt: Listener) {
    loop {
        let name = tokio::select! {
            Some(()) = terminate.recv() => "SIGTERM",
            Some(()) = interrupt.recv() => "SIGINT",
            else => return,
        };
        if process.signal.is_draining() {
            tracing::warn!("{name} again: ending at once");
            // A grace of zero cannot be set on a drain that has started, so its deadline is overtaken.
            process.drain.end();
        } else {
            tracing::info!("{name}: draining for up to {:?}", process.grace);
            process.drain.start(process.grace);
        }
    }
}

/// Every connection is two descriptors or more, and the soft limit is made for programs that use `select`.
fn raise_descriptor_limit() {
    use nix::sys::resource::{Resource::RLIMIT_NOFILE, getrlimit, setrlimit};
    if let Ok((soft, hard)) = getrlimit(RLIMIT_NOFILE)
        && soft < hard
        && let Err(error) = setrlimit(RLIMIT_NOFILE, hard, hard)
    {
        tracing::warn!(%error, "the limit of open files stays at {soft}");
    }
}

/// Worker threads, each with a runtime of its own, for the data path: what is spawned on one
/// stays on its core. Dropping ends them.
#[derive(Debug)]
pub struct Workers {
    handles: Vec<Handle>,
    stop: Vec<tokio::sync::oneshot::Sender<()>>,
}

impl Workers {
    /// Starts `count` threads called `<name>-<n>`.
    pub fn start(name: &str, count: usize) -> std::io::Result<Self> {
        let mut workers = Self { handles: Vec::new(), stop: Vec::new() };
        for n in 0..count.max(1) {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            workers.handles.push(runtime.handle().clone());
            let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
            workers.stop.push(stop);
            std::thread::Builder::new().name(format!("{name}-{n}")).spawn(move || {
                let _dropped = runtime.block_on(stopped);
                runtime.shutdown_background();
            })?;
        }
        Ok(workers)
    }

    /// Their runtimes; spawn on one with [`crate::task::spawn_on`].
    pub fn handles(&self) -> &[Handle] {
        &self.handles
    }
}

/// Threads that share the tasks of a server: what its many connections have to do comes all at once, and each is idle
/// for most of the time. Dropping ends them.
#[derive(Debug)]
pub struct Pool {
    runtime: Option<Runtime>,
    handle: Handle,
}

impl Pool {
    /// Starts as many threads as there are processors.
    pub fn start(name: &str) -> std::io::Result<Self> {
        let runtime = Builder::new_multi_thread().enable_all().thread_name(name).build()?;
        Ok(Self { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }

    /// Their runtime; spawn on it with [`crate::task::spawn_on`].
    pub fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_vital_task_that_stops_ends_the_process() {
        for (n, act) in [0, 1, 2].into_iter().enumerate() {
            let process = Process::detached();
            process.vital("vital", async move {
                match act {
                    0 => Ok(()),
                    1 => Err(anyhow::anyhow!("broken")),
                    _ => panic!("on purpose"),
                }
            });
            process.signal.clone().draining().await;
            assert!(process.has_failed(), "case {n}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_vital_task_may_end_once_the_drain_has_started() {
        let process = Process::detached();
        let mut signal = process.signal.clone();
        process.vital("vital", async move {
            signal.draining().await;
            Ok(())
        });
        process.drain.start(Duration::ZERO);
        process.drain.finish().await;
        tokio::task::yield_now().await;
        assert!(!process.has_failed());
    }

    #[test]
    fn workers_run_what_is_spawned_on_them() {
        let workers = Workers::start("worker", 2).unwrap();
        let names: Vec<Option<String>> =
            workers
                .handles()
                .iter()
                .map(|handle| {
                    let (sender, receiver) = std::sync::mpsc::channel();
                    task::spawn_on(handle, "ask", async move {
                        sender.send(std::thread::current().name().map(str::to_owned))
                    })
                    .detach();
                    receiver.recv().unwrap()
                })
                .collect();
        assert_eq!(names, [Some("worker-0".to_owned()), Some("worker-1".to_owned())]);
    }

    #[test]
    fn seconds_are_written_with_or_without_a_unit() {
        for (text, expected) in [("5", Some(5)), ("5s", Some(5)), ("1m", Some(60)), ("x", None), ("-1", None)] {
            let seconds = <Seconds as env::Value>::parse(text).ok().map(|s| s.0.as_secs());
            assert_eq!(seconds, expected, "{text}");
        }
    }
}
