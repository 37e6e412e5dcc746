//! The only one that awaits.
use super::ObjectEvent;
use std::path::{Path, PathBuf};

/// A watched directory.
#[derive(Debug)]
pub struct Directory {}

/// Why a directory cannot be watched.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It is not there, or is no directory.
    #[error("{} is not a readable directory: create it, or name another", path.display())]
    NotReadable {
        /// Which one.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The kernel gives no more watches.
    #[error("cannot watch {}: raise fs.inotify.max_user_watches and fs.inotify.max_user_instances", path.display())]
    NotWatchable {
        /// Which one.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl Directory {
    /// Begins to watch. Needs a tokio runtime.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, OpenError> {
        let _ = path.into();
        todo!("lands next")
    }

    /// What changed since the last call; the first call returns everything that is there (which
    /// may be nothing) and later ones wait for a change. Never empty but for the first. Cancel safe.
    pub async fn next(&mut self) -> Vec<ObjectEvent> {
        todo!("lands next")
    }
}

pub(super) fn write(path: &Path, content: &str) -> std::io::Result<()> {
    let _ = (path, content);
    todo!("lands next")
}
