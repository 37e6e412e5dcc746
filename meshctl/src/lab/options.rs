//! What a lab is started with.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How a lab is to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Options {
    /// Directories and files of manifests.
    pub manifests: Vec<PathBuf>,
    /// Further manifests, as text.
    pub yaml: String,
    /// Whether the sample shop is among them.
    pub shop: bool,
    /// How many nodes, when no manifest describes one.
    pub nodes: u16,
    /// Whether the mesh's own programs run.
    pub mesh: bool,
    /// How long service-account tokens hold.
    pub token_lifetime: Duration,
    /// Environment added to the mesh's own programs.
    pub component_env: Vec<(String, String, String)>,
    /// The environment that every container begins with.
    pub base_env: Vec<(String, String)>,
}
