//! What the agent says on a Pod: the annotation `ambient.istio.io/redirection`, as an overlay of
//! its own beside the user's files.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use chassis::objects;
use serde_json::json;

use super::facts::{PodFacts, PodName};
use super::steps::Told;

const REDIRECTION: &str = "ambient.istio.io/redirection";

/// The overlays of one agent.
#[derive(Debug, Clone)]
pub struct Status {
    dir: PathBuf,
}

impl Status {
    /// Those of the agent of `node`, in a directory of objects.
    pub fn of(config_dir: &Path, node: &str) -> Self {
        Self { dir: config_dir.join("status").join(format!("agent-{node}")) }
    }

    /// Says something on a Pod.
    pub fn tell(&self, pod: &PodName, told: Told) -> io::Result<()> {
        let value = match told {
            Told::Enabled => "enabled",
            Told::Pending => "pending",
            Told::Nothing => return absent_is_fine(std::fs::remove_file(self.file(pod))),
        };
        let overlay = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": { "namespace": pod.namespace, "name": pod.name, "annotations": { REDIRECTION: value } },
        });
        // JSON is YAML.
        objects::write(&self.file(pod), &format!("{overlay:#}\n"))
    }

    /// Takes back what an earlier agent said of pods that are not there any more.
    pub fn forget_all_but<'a>(&self, pods: impl Iterator<Item = &'a PodName>) -> io::Result<()> {
        let known: BTreeSet<PathBuf> = pods.map(|pod| self.file(pod)).collect();
        let entries = match std::fs::read_dir(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let path = entry?.path();
            if !known.contains(&path) {
                absent_is_fine(std::fs::remove_file(path))?;
            }
        }
        Ok(())
    }

    /// No Kubernetes name has an underscore, so no two pods share a file.
    fn file(&self, pod: &PodName) -> PathBuf {
        self.dir.join(format!("{}_{}.yaml", pod.namespace, pod.name))
    }
}

/// What a Pod's annotation says.
pub fn told(pod: &PodFacts) -> Told {
    match pod.annotations.get(REDIRECTION).map(String::as_str) {
        Some("enabled") => Told::Enabled,
        Some("pending") => Told::Pending,
        _ => Told::Nothing,
    }
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
