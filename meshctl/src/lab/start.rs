//! How a lab begins: the process that makes its directory and enters its
//! namespaces, and the supervisor inside.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use chassis::task;
use chassis::telemetry::{self, Format};
use tokio::net::unix::pipe;
use tokio::sync::mpsc;

use super::control::serve::serve;
use super::enter::{self, EnterError};
use super::options::Options;
use super::rundir::{RunDir, RunDirError};
use super::site::Site;
use super::supervisor::{ORDERS_MAX, Order, Supervisor};
use super::world::World;

/// Worker threads of the supervisor: it waits more than it works.
const WORKERS: usize = 2;

/// Why a lab did not begin.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error(transparent)]
    Dir(#[from] RunDirError),
    #[error(transparent)]
    Enter(#[from] EnterError),
    #[error("cannot write {0}: {1}")]
    Write(&'static str, io::Error),
    #[error("the lab's options cannot be read: {0}")]
    Options(String),
    #[error("cannot make the lab's network: {0}")]
    Network(io::Error),
    #[error("cannot read the manifests: {0}")]
    Manifests(io::Error),
    #[error("cannot start the supervisor: {0}")]
    Runtime(io::Error),
}

/// The process that stands outside: makes the directory, holds its lock,
/// enters, and removes the directory when the lab has ended.
pub(crate) fn outside(run_dir: &RunDir, options: &str) -> Result<ExitCode, StartError> {
    run_dir.create()?;
    let lock = run_dir.lock()?;
    let write =
        |name, path: &Path, text: &str| std::fs::write(path, text).map_err(|error| StartError::Write(name, error));
    write("the options", &options_file(run_dir), options)?;
    write("the process number", &run_dir.pid_file(), &std::process::id().to_string())?;
    let code = enter::enter(run_dir)?;
    run_dir.remove()?;
    drop(lock);
    Ok(code)
}

fn options_file(run_dir: &RunDir) -> std::path::PathBuf {
    run_dir.root().join("options.json")
}

/// The supervisor, inside. Ends when it is told to, or when whoever started
/// the lab is gone: that one holds the other end of standard input.
pub(crate) fn supervise(run_dir: RunDir) -> Result<ExitCode, StartError> {
    let text = std::fs::read(options_file(&run_dir)).map_err(|error| StartError::Options(error.to_string()))?;
    let options: Options = serde_json::from_slice(&text).map_err(|error| StartError::Options(error.to_string()))?;
    // Standard output is the lab's own log.
    let _log = telemetry::start(Format::Plain, "info").map_err(|error| StartError::Options(error.to_string()))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()
        .map_err(StartError::Runtime)?;
    let result = runtime.block_on(run(run_dir, options));
    runtime.shutdown_background();
    result.map(|()| ExitCode::SUCCESS)
}

async fn run(run_dir: RunDir, options: Options) -> Result<(), StartError> {
    let world = World::new(&run_dir.netns()).map_err(StartError::Network)?;
    let base_env = options.base_env.iter().cloned().collect();
    let site = Arc::new(Site::new(run_dir, world, options.mesh, base_env, options.token_lifetime));
    let (orders, ordered) = mpsc::channel(ORDERS_MAX);
    let mut supervisor = Supervisor::new(site.clone(), options);
    supervisor.load().map_err(StartError::Manifests)?;
    // The socket is there once the lab can be spoken to, and not before.
    let _served = task::spawn("control socket", serve(site.clone(), orders.clone()));
    let _watched = task::spawn("starter", end_with_starter(site, orders));
    supervisor.run(ordered).await.map_err(StartError::Runtime)
}

/// Orders the end once standard input is at its end.
async fn end_with_starter(site: Arc<Site>, orders: mpsc::Sender<Order>) {
    let opened = io::stdin().as_fd().try_clone_to_owned().and_then(|fd| pipe::Receiver::from_file(File::from(fd)));
    // Not a pipe: started by hand, nobody to wait for.
    let Ok(stdin) = opened else { return };
    let mut buffer = [0; 64];
    loop {
        if stdin.readable().await.is_err() {
            break;
        }
        match stdin.try_read(&mut buffer) {
            Ok(0) => break,
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => break,
            _ => {}
        }
    }
    if !site.kept.load(Ordering::Relaxed) {
        let _ = orders.send(Order::Down).await;
    }
}
