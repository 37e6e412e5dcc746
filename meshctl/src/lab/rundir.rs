//! Where a lab keeps its files, and who may use them.
//!
//! One directory a lab, `<base>/<name>`, readable by its owner only. It is on
//! the ordinary file system, so that other terminals find the control socket
//! and a person can look at logs and configuration; everything mounted in it
//! (network namespaces, the binary) is private to the lab and ends with it.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

/// Longest name of a lab: control and node sockets must stay below the 108
/// bytes of a unix socket address, whatever the base directory.
const NAME_BYTES_MAX: usize = 32;
/// Longest base directory for the same reason; a longer one is not used.
const BASE_BYTES_MAX: usize = 40;

/// Why there is no directory for a lab.
#[derive(Debug, thiserror::Error)]
pub enum RunDirError {
    /// The name would not make a file name.
    #[error("`{0}` cannot name a lab: use 1 to {NAME_BYTES_MAX} of a-z, 0-9 and -")]
    Name(String),
    /// The directory belongs to someone else.
    #[error("{0} belongs to another user; choose another --name or remove it")]
    Foreign(PathBuf),
    /// Another lab of this name is running.
    #[error("a lab named `{0}` is already running; end it with `meshctl lab down --name {0}` or use another --name")]
    Running(String),
    /// The file system refused.
    #[error("cannot use {path}: {source}")]
    Io {
        /// What was to be used.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The directory of one lab.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RunDir {
    root: PathBuf,
    name: String,
}

impl RunDir {
    /// The directory of the lab `name` under the base of this user. Nothing
    /// is created.
    pub(crate) fn of(name: &str) -> Result<Self, RunDirError> {
        let uid = nix::unistd::geteuid().as_raw();
        #[expect(
            clippy::disallowed_methods,
            reason = "where a user's run-time files go is asked of the environment once, here"
        )]
        let base = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        Self::under(&base_dir(base.as_deref(), uid), name)
    }

    /// The directory of the lab `name` under `base`.
    pub(crate) fn under(base: &Path, name: &str) -> Result<Self, RunDirError> {
        let fits = !name.is_empty()
            && name.len() <= NAME_BYTES_MAX
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if !fits {
            return Err(RunDirError::Name(name.to_owned()));
        }
        Ok(Self { root: base.join(name), name: name.to_owned() })
    }

    /// The same directory, known by its path; used by the lab's own parts.
    pub(crate) fn at(root: &Path) -> Self {
        let name = root.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Self { root: root.to_owned(), name }
    }

    /// Makes the directory, empty, for a new lab. What a crashed lab of the
    /// same name left is removed; a running one is an error.
    pub(crate) fn create(&self) -> Result<(), RunDirError> {
        let base = self.root.parent().unwrap_or_else(|| Path::new("/"));
        private_dir(base)?;
        if self.root.exists() {
            private_dir(&self.root)?;
            drop(self.lock()?);
            self.remove()?;
        }
        private_dir(&self.root)?;
        for dir in [
            self.manifests(),
            self.overlays(),
            self.logs(),
            self.state(),
            self.netns(),
            self.pods(),
            self.bin(),
            self.agents(),
        ] {
            fs::create_dir_all(&dir).map_err(|source| RunDirError::Io { path: dir, source })?;
        }
        Ok(())
    }

    /// Removes the directory and everything in it.
    pub(crate) fn remove(&self) -> Result<(), RunDirError> {
        match fs::remove_dir_all(&self.root) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(RunDirError::Io { path: self.root.clone(), source })
            }
            _ => Ok(()),
        }
    }

    /// Holds the lab's lock, which tells a running lab from a crashed one:
    /// the kernel lets go of it with the process.
    pub(crate) fn lock(&self) -> Result<Flock<File>, RunDirError> {
        let path = self.root.join("lock");
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|source| RunDirError::Io { path: path.clone(), source })?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(lock),
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => Err(RunDirError::Running(self.name.clone())),
            Err((_, errno)) => Err(RunDirError::Io { path, source: errno.into() }),
        }
    }

    /// The lab's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The directory itself.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Whether there is such a directory.
    pub(crate) fn exists(&self) -> bool {
        self.root.is_dir()
    }

    /// What the lab itself has to say.
    pub(crate) fn log(&self) -> PathBuf {
        self.root.join("lab.log")
    }

    /// Takes orders from other terminals.
    pub(crate) fn control_socket(&self) -> PathBuf {
        self.root.join("control.sock")
    }

    /// The process outside the lab whose end ends it.
    pub(crate) fn pid_file(&self) -> PathBuf {
        self.root.join("pid")
    }

    /// What the control plane and the node agents read.
    pub(crate) fn config(&self) -> PathBuf {
        self.root.join("config")
    }

    /// The objects as the user described them, one file each.
    pub(crate) fn manifests(&self) -> PathBuf {
        self.config().join("manifests")
    }

    /// What the lab itself says about them, as kubelet would.
    pub(crate) fn overlays(&self) -> PathBuf {
        self.config().join("status").join("kubelet")
    }

    /// `<namespace>/<pod>/<container>.log`.
    pub(crate) fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    /// The control plane's keys and certificates.
    pub(crate) fn state(&self) -> PathBuf {
        self.root.join("state")
    }

    /// Where network namespaces are mounted.
    pub(crate) fn netns(&self) -> PathBuf {
        self.root.join("netns")
    }

    /// Volumes, tokens and descriptions of containers, by pod.
    pub(crate) fn pods(&self) -> PathBuf {
        self.root.join("pods")
    }

    /// Holds this program, first in the `PATH` of every container.
    pub(crate) fn bin(&self) -> PathBuf {
        self.root.join("bin")
    }

    /// The sockets of the node agents, by node.
    pub(crate) fn agents(&self) -> PathBuf {
        self.root.join("agents")
    }

    /// The directory of one node's agent.
    pub(crate) fn agent(&self, node: &str) -> PathBuf {
        self.agents().join(node)
    }
}

fn base_dir(runtime_dir: Option<&Path>, uid: u32) -> PathBuf {
    match runtime_dir {
        Some(dir) if dir.is_absolute() && dir.is_dir() && dir.as_os_str().len() <= BASE_BYTES_MAX => {
            dir.join("meshctl-lab")
        }
        _ => PathBuf::from(format!("/tmp/meshctl-lab-{uid}")),
    }
}

/// Makes a directory that only its owner may enter, or checks that it is one.
fn private_dir(path: &Path) -> Result<(), RunDirError> {
    let io_error = |source| RunDirError::Io { path: path.to_owned(), source };
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(io_error(error)),
    }
    let found = fs::symlink_metadata(path).map_err(io_error)?;
    if !found.is_dir() || found.uid() != nix::unistd::geteuid().as_raw() || found.mode() & 0o077 != 0 {
        return Err(RunDirError::Foreign(path.to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
