//! A whole process, from its start to its exit code: this test runs itself once more as the process.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use chassis::{
    env::{ProcessEnvironment, Strings},
    run::{self, Options, Process},
    task,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    io::{BufRead, BufReader},
    process::{Child, ChildStdout, Command, ExitCode, Stdio, Termination},
    time::{Duration, Instant},
};

/// Says what the process is to do; without it this test binary only tests.
const PART: &str = "CHASSIS_TEST_PART";

#[test]
fn the_process_itself() {
    let Some(part) = ProcessEnvironment.value(PART) else { return };
    let mut options = Options::new("tested");
    options.grace = Duration::from_secs(if part == "stubborn" { 600 } else { 2 });
    let code = run::run(&options, |process: Process| async move {
        match part.as_str() {
            "fails" => anyhow::bail!("no good place"),
            "vital" => process.vital("heart", async { anyhow::bail!("stopped beating") }),
            _ => {}
        }
        let mut signal = process.signal.clone();
        let guard = signal.guard();
        let work = task::spawn("work", async move {
            signal.draining().await;
            tracing::info!("the work ends");
            if part != "quick" && part != "vital" {
                std::future::pending::<()>().await;
            }
            drop(guard);
        });
        tracing::info!("set up");
        Ok(work)
    });
    std::process::exit(if code.report() == ExitCode::SUCCESS { 0 } else { 1 });
}

struct Running {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Running {
    fn start(part: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "the_process_itself", "--nocapture"])
            .env(PART, part)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    /// Reads until a line that contains `text`; the end of the output is a failure.
    fn until(&mut self, text: &str) {
        let mut line = String::new();
        while !line.contains(text) {
            line.clear();
            assert!(self.lines.read_line(&mut line).unwrap() > 0, "{text:?} never came");
        }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    fn exit_code(mut self) -> Option<i32> {
        std::io::copy(&mut self.lines, &mut std::io::sink()).unwrap();
        self.child.wait().unwrap().code()
    }
}

#[test]
fn a_signal_drains_and_the_log_is_written_to_the_end() {
    let mut running = Running::start("quick");
    running.until("set up");
    running.signal(Signal::SIGTERM);
    running.until("SIGTERM: draining for up to 2s");
    running.until("the work ends");
    running.until("tested ends");
    assert_eq!(running.exit_code(), Some(0));
}

#[test]
fn work_that_does_not_end_is_cut_off_after_the_grace_period() {
    let mut running = Running::start("slow");
    running.until("set up");
    let began = Instant::now();
    running.signal(Signal::SIGINT);
    running.until("the grace period is over: 1 connections or tasks were cut off");
    assert_eq!(running.exit_code(), Some(0));
    assert!(began.elapsed() >= Duration::from_secs(2));
}

#[test]
fn a_second_signal_ends_at_once() {
    let mut running = Running::start("stubborn");
    running.until("set up");
    running.signal(Signal::SIGTERM);
    running.until("the work ends");
    running.signal(Signal::SIGTERM);
    running.until("SIGTERM again: ending at once");
    assert_eq!(running.exit_code(), Some(0));
}

#[test]
fn a_process_that_cannot_start_says_why_and_fails() {
    let mut running = Running::start("fails");
    running.until("cannot start: no good place");
    assert_eq!(running.exit_code(), Some(1));
}

#[test]
fn a_process_does_not_live_without_what_it_needs() {
    let mut running = Running::start("vital");
    running.until("heart is needed and stopped: stopped beating");
    assert_eq!(running.exit_code(), Some(1));
}
