//! The whole of every `main`: runtime, log, signals, drain, exit code.
//!
//! ```no_run
//! use chassis::run::{self, Options, Process};
//!
//! fn main() -> std::process::ExitCode {
//!     run::run(Options::new("ztunnel"), |process: Process| async move {
//!         let _starting = process.ready.register("state manager");
//!         Ok(())
//!     })
//! }
//! ```

use crate::{
    drain::{Drain, Signal},
    ready::Ready,
    telemetry::{Format, Level},
};
use std::{future::Future, process::ExitCode, time::Duration};
use tokio::runtime::Handle;

/// What is different from one program to the next.
#[derive(Clone, Debug)]
pub struct Options {
    /// Name of the program, for its threads and first log line.
    pub name: &'static str,
    /// How log lines look.
    pub log_format: Format,
    /// What is logged, in the syntax of `RUST_LOG`.
    pub log_filter: String,
    /// How long open work may go on after a signal to end.
    pub grace: Duration,
}

impl Options {
    /// `LOG_FORMAT`, `RUST_LOG` and `TERMINATION_GRACE_PERIOD_SECONDS` are read from the environment.
    pub fn new(name: &'static str) -> Self {
        Self { name, log_format: Format::Plain, log_filter: "info".into(), grace: Duration::from_secs(5) }
    }
}

/// What the program is given.
#[derive(Clone)]
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
}

impl Process {
    /// Spawns what the process cannot live without: if it ends before the drain, or fails or
    /// panics, the process drains and exits with 1.
    pub fn vital<F>(&self, name: &'static str, future: F)
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let _ = (name, future);
        todo!("lands next")
    }
}

/// Runs a program on this thread's runtime until it is told to end: SIGTERM or SIGINT starts the
/// drain; a second one ends at once. `program` sets everything up, spawns and returns; an error from it ends
/// the process. After it returned `Ok`, the process lives until the drain is over.
pub fn run<F, P>(options: Options, program: P) -> ExitCode
where
    P: FnOnce(Process) -> F,
    F: Future<Output = anyhow::Result<()>>,
{
    let _ = (options, program);
    todo!("lands next")
}

/// Worker threads, each with a runtime of its own, for the data path. Dropping ends them.
#[derive(Debug)]
pub struct Workers {
    handles: Vec<Handle>,
}

impl Workers {
    /// Starts `count` threads called `<name>-<n>`.
    pub fn start(name: &str, count: usize) -> std::io::Result<Self> {
        let _ = (name, count);
        todo!("lands next")
    }

    /// Their runtimes; spawn on one with [`crate::task::spawn_on`].
    pub fn handles(&self) -> &[Handle] {
        &self.handles
    }
}
