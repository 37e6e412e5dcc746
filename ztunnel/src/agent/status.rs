//! What the agent says on a Pod: the annotation `ambient.istio.io/redirection`. In a cluster it is
//! patched, in a directory it is an overlay of its own beside the user's files.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use chassis::objects;
use serde_json::json;

use super::facts::{PodFacts, PodName};
#[cfg(feature = "kubernetes")]
use super::kubernetes::Kubernetes;
use super::steps::Told;

const REDIRECTION: &str = "ambient.istio.io/redirection";

/// Where one agent says it.
#[derive(Debug, Clone)]
pub enum Status {
    /// In files of this directory.
    Files(PathBuf),
    /// On the Pods themselves.
    #[cfg(feature = "kubernetes")]
    Cluster(Kubernetes),
}

/// Why it could not be said.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// The file cannot be written.
    #[error("cannot write the pod's status: {0}")]
    File(#[from] io::Error),
    /// The API server does not take it.
    #[cfg(feature = "kubernetes")]
    #[error("cannot annotate the pod: {0}")]
    Cluster(#[from] cluster::CallError),
}

impl StatusError {
    /// Whether we may not say it, and trying again changes nothing.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::File(_) => false,
            #[cfg(feature = "kubernetes")]
            Self::Cluster(error) => {
                matches!(error, cluster::CallError::Forbidden(_) | cluster::CallError::Unauthorized(_))
            }
        }
    }
}

impl Status {
    /// The overlays of the agent of `node`, in a directory of objects.
    pub fn of(config_dir: &Path, node: &str) -> Self {
        Self::Files(config_dir.join("status").join(format!("agent-{node}")))
    }

    /// Says something on a Pod; with a uid only on that one.
    pub async fn tell(&self, pod: &PodName, uid: Option<&str>, told: Told) -> Result<(), StatusError> {
        let value = match told {
            Told::Enabled => Some("enabled"),
            Told::Pending => Some("pending"),
            Told::Nothing => None,
        };
        match self {
            Self::Files(dir) => {
                // Files have no uids: whoever writes them answers for the names.
                let _ = uid;
                Ok(overlay(dir, pod, value)?)
            }
            #[cfg(feature = "kubernetes")]
            Self::Cluster(cluster) => Ok(cluster.annotate(pod, uid, REDIRECTION, value).await?),
        }
    }

    /// Takes back what an earlier agent said of pods that are not there any more. Pods that are
    /// gone from a cluster took it with them.
    pub fn forget_all_but<'a>(&self, pods: impl Iterator<Item = &'a PodName>) -> io::Result<()> {
        match self {
            Self::Files(dir) => forget_all_but(dir, pods),
            #[cfg(feature = "kubernetes")]
            Self::Cluster(_) => Ok(()),
        }
    }
}

fn overlay(dir: &Path, pod: &PodName, value: Option<&str>) -> io::Result<()> {
    let Some(value) = value else { return absent_is_fine(std::fs::remove_file(file(dir, pod))) };
    let overlay = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "namespace": pod.namespace, "name": pod.name, "annotations": { REDIRECTION: value } },
    });
    // JSON is YAML.
    objects::write(&file(dir, pod), &format!("{overlay:#}\n"))
}

fn forget_all_but<'a>(dir: &Path, pods: impl Iterator<Item = &'a PodName>) -> io::Result<()> {
    let known: BTreeSet<PathBuf> = pods.map(|pod| file(dir, pod)).collect();
    let entries = match std::fs::read_dir(dir) {
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
fn file(dir: &Path, pod: &PodName) -> PathBuf {
    dir.join(format!("{}_{}.yaml", pod.namespace, pod.name))
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
