//! Commands in pods, and how they end.

use crate::kind::Remote;
use anyhow::{Context, Result, ensure};
use meshctl::lab::client;

/// What a command inside the lab gave back.
#[derive(Debug)]
pub struct Output {
    /// Its exit code; 128 + signal if it was killed.
    pub code: i32,
    /// What it printed.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
}

impl Output {
    /// What it printed, or an error if it failed.
    pub fn ok(self) -> Result<String> {
        ensure!(self.code == 0, "exit code {}: {} {}", self.code, self.stderr.trim(), self.stdout.trim());
        Ok(self.stdout)
    }
}

impl From<client::Output> for Output {
    fn from(raw: client::Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { code: raw.code, stdout: text(&raw.stdout), stderr: text(&raw.stderr) }
    }
}

/// A command that goes on in a pod.
pub struct Going(Running);

/// Where it goes on.
pub(super) enum Running {
    Lab(client::Running),
    Kind(Remote),
}

impl From<Running> for Going {
    fn from(running: Running) -> Self {
        Self(running)
    }
}

impl Going {
    /// Waits for its end.
    pub fn end(self) -> Result<Output> {
        match self.0 {
            Running::Lab(running) => Ok(running.wait()?.into()),
            Running::Kind(remote) => remote.end(),
        }
    }

    /// Stops it and waits for its end.
    pub fn stop(self) -> Result<Output> {
        match self.0 {
            Running::Lab(mut running) => {
                running.kill();
                Ok(running.wait()?.into())
            }
            Running::Kind(remote) => remote.stop(),
        }
    }

    /// Waits for its end and reads the report it printed.
    pub fn report<T: serde::de::DeserializeOwned>(self) -> Result<T> {
        let out = self.end()?.ok()?;
        serde_json::from_str(&out).with_context(|| format!("this is no report: {out:?}"))
    }
}
