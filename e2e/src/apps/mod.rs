//! Small programs that scenarios run inside pods, where no program of the system does the job:
//! `e2e app load` (new connections at a fixed rate), `e2e app crowd` (many open at once) and
//! `e2e app hold` (one connection, watched).
//!
//! Each prints one JSON document on stdout when it ends, for the scenario to judge.

pub mod ambiguous;
pub mod attack;
pub mod audience;
pub mod backend;
pub mod crowd;
pub mod forward;
pub mod hand;
pub mod hold;
pub mod idle;
pub mod load;
pub mod mislead;
pub mod probe;
pub mod requests;
pub mod serve;
pub mod switch;

use clap::Subcommand;
use std::process::ExitCode;

/// Which program.
#[derive(Debug, Subcommand)]
pub enum App {
    /// Open new connections at a fixed rate, one HTTP request each, and count what failed and how.
    Load(load::Options),
    /// Have many connections open at the same moment, each answered while all the others are open.
    Crowd(crowd::Options),
    /// Ask a certificate authority for what is not due, in every way.
    Attack(attack::Options),
    /// Be a thousand node proxies of a control plane, change the mesh, and time when all have heard of it.
    Audience(audience::Options),
    /// Start a node proxy under a control plane that speaks nonsense.
    Mislead(mislead::Options),
    /// Make mutual TLS with a proxy for programs that cannot.
    Forward(forward::Options),
    /// Run the commands that are said on standard input.
    Hand,
    /// Keep one connection open, send a line at an interval, and say when and how it ended.
    Hold(hold::Options),
    /// Have many connections open that do nothing, and stay.
    Idle(idle::Options),
    /// Ask the same question again and again and note when the answer changes.
    Probe(probe::Options),
    /// Send HTTP/1 requests that can be read in more than one way.
    Ambiguous(ambiguous::Options),
    /// Serve HTTP that does what it is told, and counts.
    Backend(backend::Options),
    /// Send HTTP requests at a fixed rate over kept connections, and count who answered what.
    Requests(requests::Options),
    /// Ask for WebSocket or CONNECT, and see whether bytes come back.
    Switch(switch::Options),
    /// Serve HTTP that says who answered, and a TCP echo.
    Serve(serve::Options),
}

/// Runs the program to its end.
pub fn run(app: App) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("cannot start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let answer = match app {
        App::Load(options) => runtime.block_on(load::run(options)).and_then(|r| Ok(serde_json::to_string(&r)?)),
        App::Crowd(options) => runtime.block_on(crowd::run(options)).and_then(|r| Ok(serde_json::to_string(&r)?)),
        App::Attack(options) => runtime.block_on(attack::run(options)).and_then(|r| Ok(serde_json::to_string(&r)?)),
        App::Audience(options) => runtime.block_on(audience::run(options)).and_then(|r| Ok(serde_json::to_string(&r)?)),
        App::Forward(options) => runtime.block_on(forward::run(options)).and_then(|r| Ok(serde_json::to_string(&r)?)),
        App::Hand => hand::run().map(|()| String::new()),
        App::Hold(options) => runtime.block_on(hold::run(options)).and_then(|r| Ok(serde_json::to_string(&r)?)),
        App::Idle(options) => runtime.block_on(idle::run(options)).and_then(|r| Ok(serde_json::to_string(&r)?)),
        App::Mislead(options) => runtime.block_on(mislead::run(options)).and_then(|r| Ok(serde_json::to_string(&r)?)),
        App::Probe(options) => runtime.block_on(probe::run(options)).and_then(|r| Ok(serde_json::to_string(&r)?)),
        App::Ambiguous(options) => {
            runtime.block_on(ambiguous::run(options)).and_then(|r| Ok(serde_json::to_string(&r)?))
        }
        App::Backend(options) => runtime.block_on(backend::run(options)).and_then(|r| Ok(serde_json::to_string(&r)?)),
        App::Requests(options) => runtime.block_on(requests::run(options)).and_then(|r| Ok(serde_json::to_string(&r)?)),
        App::Switch(options) => runtime.block_on(switch::run(options)).and_then(|r| Ok(serde_json::to_string(&r)?)),
        App::Serve(options) => runtime.block_on(serve::run(options)).and_then(|r| Ok(serde_json::to_string(&r)?)),
    };
    match answer {
        Ok(json) => {
            println!("{json}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Lets a connection go on by itself; it ends with its socket, or with the program.
#[expect(
    clippy::disallowed_methods,
    reason = "these programs have no tasks to watch; a connection's end is its peer's news"
)]
fn go_on<F>(connection: F)
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    tokio::spawn(connection);
}

/// The value below which a share of sorted values lie; none of none.
pub fn quantile<T: Copy>(sorted: &[T], share: f64) -> Option<T> {
    sorted.get(((sorted.len() as f64 - 1.0) * share).max(0.0) as usize).copied()
}

/// A time in milliseconds.
fn millis(time: std::time::Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Writes the file by which a scenario learns that something has begun, unless it is there.
fn tell(file: Option<&std::path::Path>) {
    if let Some(file) = file.filter(|file| !file.exists())
        && let Err(error) = std::fs::write(file, "ready\n")
    {
        eprintln!("cannot write {}: {error}", file.display());
    }
}
