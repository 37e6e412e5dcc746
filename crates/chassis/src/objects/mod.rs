//! A directory of Kubernetes YAML as a watched set of objects.
//!
//! ```no_run
//! # async fn watch() -> Result<(), chassis::objects::OpenError> {
//! use chassis::objects::{Directory, ObjectEvent};
//! let mut directory = Directory::open("/etc/mesh/config")?;
//! loop {
//!     for event in directory.next().await {
//!         match event {
//!             ObjectEvent::Applied(object) => println!("{} is there", object.key()),
//!             ObjectEvent::Removed(key) => println!("{key} is gone"),
//!             ObjectEvent::Problem(problem) => eprintln!("{problem}"),
//!         }
//!     }
//! }
//! # }
//! ```
//!
//! Every `.yaml`, `.yml` and `.json` file below the directory counts, except names that begin
//! with a dot. A file that cannot be read keeps the objects it had. Documents below `status/` are
//! *overlays*: each is laid over the document of the same kind, namespace and name, in path order
//! (maps are merged, lists and scalars replaced), and one without a base waits for it. So the
//! programs that write status never touch the user's files.
//!
//! Rooms: `document` (text → documents) · `set` (files → objects, and what changed) · `scan`
//! (what is in the directory) · `watch` (the only one that waits) · [`write()`] (for those who write there).

mod document;
mod scan;
mod set;
mod watch;
mod write;

pub use document::{parse, value};
pub use watch::{Directory, OpenError};
pub use write::write;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Which object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    /// API group without version: `apps`, `security.istio.io`; "" is the core group.
    pub group: String,
    /// Kind.
    pub kind: String,
    /// Namespace; "" for cluster-scoped kinds. (Namespaced kinds without one get `default`.)
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// One Kubernetes object, as the files describe it.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// `v1`, `apps/v1`, ….
    pub api_version: String,
    /// Kind.
    pub kind: String,
    /// Namespace; "" for cluster-scoped kinds.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// The whole object, overlays included.
    pub value: serde_json::Value,
    /// Where its base document stands.
    pub origin: Origin,
}

/// Where a document stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Origin {
    /// File; `cluster:<kind>` for an object that an API server has.
    pub file: Arc<Path>,
    /// Line of the document's first content, from 1; 0 when it stands in no file.
    pub line: usize,
}

/// Something that could not be taken from the files. Everything else was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// In which file, or directory.
    pub file: PathBuf,
    /// Line, from 1; 0 when it concerns the whole file.
    pub line: usize,
    /// What is wrong, and what was done instead.
    pub reason: String,
}

/// A part of what changed.
#[derive(Debug)]
pub struct Part {
    /// What happened to each object.
    pub events: Vec<ObjectEvent>,
    /// There is more of the same moment: of a directory that is read for the first time.
    pub more: bool,
}

/// What happened to one object.
#[derive(Clone, Debug, PartialEq)]
pub enum ObjectEvent {
    /// It is new, or different.
    Applied(Arc<Object>),
    /// It is gone.
    Removed(ObjectKey),
    /// Something could not be read.
    Problem(Problem),
}

impl Object {
    /// Which object it is.
    pub fn key(&self) -> ObjectKey {
        ObjectKey {
            group: self.api_version.split_once('/').map(|(group, _)| group).unwrap_or_default().to_owned(),
            kind: self.kind.clone(),
            namespace: self.namespace.clone(),
            name: self.name.clone(),
        }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, namespace, name, .. } = self;
        if namespace.is_empty() { write!(f, "{kind} {name}") } else { write!(f, "{kind} {namespace}/{name}") }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}", self.file.display()),
            line => write!(f, "{}:{line}", self.file.display()),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file.display(), self.reason),
            line => write!(f, "{}:{line}: {}", self.file.display(), self.reason),
        }
    }
}

impl std::error::Error for Problem {}

#[cfg(test)]
mod tests;
