//! Does nothing until told to end.

use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

pub(crate) async fn run() -> anyhow::Result<ExitCode> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    Ok(ExitCode::SUCCESS)
}
