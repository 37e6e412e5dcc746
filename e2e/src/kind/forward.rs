//! Ways to the ports of pods, also to those that listen on their loopback address only: one `kubectl port-forward` for each
//! pod and port, which stays, because starting one costs more than what is asked through it.

use super::{
    cluster::{Cluster, KUBECTL_DEADLINE},
    process,
};
use anyhow::{Context, Result};
use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::Mutex,
};

/// Most of them at once; then all are made anew.
const FORWARDS_MAX: usize = 32;

/// Those that are open, by pod and port.
#[derive(Debug, Default)]
pub(super) struct Forwards(Mutex<BTreeMap<(String, u16), Forward>>);

/// A way, until it is dropped.
#[derive(Debug)]
struct Forward {
    child: Child,
    at: String,
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Cluster {
    /// A page of a pod.
    pub(crate) fn page(&self, pod: &str, port: u16, path: &str) -> Result<String> {
        let mut open = self.forwards().0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let key = (pod.to_owned(), port);
        // The pod may be another one of that name by now, or be gone: then its way leads nowhere.
        if let Some(forward) = open.get(&key)
            && let Ok(page) = fetch(&forward.at, path)
        {
            return Ok(page);
        }
        open.remove(&key);
        if open.len() >= FORWARDS_MAX {
            open.clear();
        }
        let what = || format!("page {path} of port {port} of {pod}");
        let forward = self.forward(pod, port).with_context(what)?;
        let page = fetch(&forward.at, path).with_context(what)?;
        open.insert(key, forward);
        Ok(page)
    }

    fn forward(&self, pod: &str, port: u16) -> Result<Forward> {
        let (namespace, name) = super::play::apart(pod)?;
        let mut command = self.kubectl_command(&["port-forward", "--namespace", namespace, name, &format!(":{port}")]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let child = command.spawn().context("kubectl does not start")?;
        let mut forward = Forward { child, at: String::new() };
        let stdout = forward.child.stdout.take().context("its standard output is a pipe")?;
        let mut lines = BufReader::new(stdout).lines();
        let line = lines.next().context("kubectl forwards nothing")??;
        // "Forwarding from 127.0.0.1:40123 -> 15000"
        let at = line.split(' ').nth(2).with_context(|| format!("kubectl forwards nothing: {line:?}"))?;
        forward.at = at.to_owned();
        // It says a word for each connection, and ends when nobody listens.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(forward)
    }
}

fn fetch(at: &str, path: &str) -> Result<String> {
    let url = format!("http://{at}{path}");
    process::ok(Command::new("curl").args(["-sS", "-f", "--max-time", "20", &url]), None, KUBECTL_DEADLINE)
}
