//! One container: a process tree with its own root file system, process
//! numbers, host name and mounts, in the network of its pod.
//!
//! The supervisor describes it ([`Spec`]), [`spawn`] starts this program once
//! more as the container's process 1 ([`first`]), which builds the root file
//! system ([`rootfs`]), starts the command, passes signals on and reaps. When
//! process 1 is killed the kernel ends everything in the container.

pub(crate) mod first;
pub(crate) mod rootfs;
pub(crate) mod spawn;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::rundir::RunDir;

/// Everything process 1 of a container needs to know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Spec {
    /// The network namespace to run in.
    pub netns: PathBuf,
    /// The host name.
    pub hostname: String,
    /// The command and its arguments.
    pub argv: Vec<String>,
    /// The whole environment.
    pub env: BTreeMap<String, String>,
    /// Where the command starts; `/` if absent.
    pub working_dir: Option<PathBuf>,
    /// What the container sees of the file system.
    pub root: Root,
    /// The lab's directory, which containers do not see.
    pub run_dir: PathBuf,
    /// Directories and files of the container's own.
    pub mounts: Vec<Mount>,
    /// Files written into the root, by path: `/etc/resolv.conf` and the like.
    pub files: BTreeMap<PathBuf, String>,
    /// An empty directory on which the root file system is built.
    pub scratch: PathBuf,
}

/// What a container sees of the file system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Root {
    /// The host's files; what is written is the container's own and is gone
    /// with it. The lab's directory is hidden.
    #[default]
    Copy,
    /// Exactly what the lab's supervisor sees. For the node agent, which must
    /// see the network namespaces of pods as they come.
    Node,
}

/// One mount of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mount {
    /// The path outside.
    pub source: PathBuf,
    /// The path inside.
    pub target: PathBuf,
    /// Whether the container may only read it.
    pub read_only: bool,
}

/// The command that joins a container; to be born in its process namespace.
pub(crate) fn join_command(run_dir: &RunDir, argv: &[String], tty: bool) -> tokio::process::Command {
    let mut command = tokio::process::Command::new(run_dir.bin().join("meshctl"));
    command.arg("lab-join").arg(if tty { "--tty" } else { "--no-tty" }).args(argv);
    command
}
