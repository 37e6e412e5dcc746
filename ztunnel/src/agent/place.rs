//! Where a pod's network namespace is.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::net::netns::Netns;

/// Where a pod's network namespace is.
#[derive(Debug, Clone)]
pub enum Place {
    /// At this path, as whoever made it said.
    Path(PathBuf),
    /// Found, and held since: a path through one of its processes would end with that process.
    Held(Arc<Netns>),
}

impl Place {
    /// Opens it.
    pub fn open(&self) -> io::Result<Netns> {
        match self {
            Self::Path(path) => Netns::from_path(path),
            Self::Held(netns) => netns.try_clone(),
        }
    }
}

impl PartialEq for Place {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Path(one), Self::Path(other)) => one == other,
            (Self::Held(one), Self::Held(other)) => one.id() == other.id(),
            (Self::Path(_), Self::Held(_)) | (Self::Held(_), Self::Path(_)) => false,
        }
    }
}

impl Eq for Place {}

impl From<&str> for Place {
    fn from(path: &str) -> Self {
        Self::Path(path.into())
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Held(netns) => write!(f, "{}", netns.id()),
        }
    }
}

/// Why a path of the host cannot be followed from here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the network namespace {} is not below {}: mount its directory there (value ambient.cniNetnsDir)",
    path.display(), KNOWN.map(|(theirs, _)| theirs).join(", ")
)]
pub struct NotMounted {
    path: PathBuf,
}

/// Directories of the host, and where the agent's container has them.
const KNOWN: [(&str, &str); 3] =
    [("/var/run/netns", "var/run/netns"), ("/run/netns", "var/run/netns"), ("/proc", "proc")];

/// A path of the host as the agent sees it, with the host's directories mounted below `mounts`.
pub fn seen_from(mounts: &Path, path: &Path) -> Result<PathBuf, NotMounted> {
    let plain = path.components().all(|part| !matches!(part, std::path::Component::ParentDir));
    let below = |(theirs, ours): &(&str, &str)| Some(mounts.join(ours).join(path.strip_prefix(theirs).ok()?));
    KNOWN.iter().filter(|_| plain).find_map(below).ok_or_else(|| NotMounted { path: path.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_the_host_is_followed_only_below_what_is_mounted() {
        for (path, expected) in [
            ("/var/run/netns/cni-1", Some("/host/var/run/netns/cni-1")),
            ("/run/netns/cni-1", Some("/host/var/run/netns/cni-1")),
            ("/proc/12/ns/net", Some("/host/proc/12/ns/net")),
            ("/var/run/netns/../../etc/x", None),
            ("/etc/x", None),
            ("relative", None),
            ("", None),
        ] {
            let seen = seen_from(Path::new("/host"), Path::new(path)).ok();
            assert_eq!(seen.as_deref(), expected.map(Path::new), "{path}");
        }
    }
}
