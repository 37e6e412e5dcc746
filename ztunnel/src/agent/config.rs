//! What the agent is told by its command line and environment, parsed once.

use std::ffi::OsString;
use std::path::PathBuf;

use chassis::env::{Key, Reader, Row, Strings};

use super::enrol::Selection;

const NODE_NAME: Key<String> = Key::new("NODE_NAME", "", "name", "The node whose pods are ours.");
const ZTUNNEL_UDS_ADDRESS: Key<String> = Key::new(
    "ZTUNNEL_UDS_ADDRESS",
    "/var/run/ztunnel/ztunnel.sock",
    "path",
    "Socket at which the node proxy is told of pods.",
);
const CNI_AGENT_RUN_DIR: Key<String> = Key::new(
    "CNI_AGENT_RUN_DIR",
    "/var/run/istio-cni",
    "path",
    "Directory of the socket `pluginevent.sock`, at which new pods are announced.",
);
const EXCLUDE_NAMESPACES: Key<String> =
    Key::new("EXCLUDE_NAMESPACES", "kube-system", "names, by comma", "Namespaces whose pods are never in the mesh.");
const SYSTEM_NAMESPACE: Key<String> =
    Key::new("SYSTEM_NAMESPACE", "istio-system", "name", "Where the mesh's own programs run.");
const AMBIENT_DNS_CAPTURE: Key<bool> =
    Key::new("AMBIENT_DNS_CAPTURE", "true", "true or false", "Whether pods ask the node proxy for names.");
const MONITORING_PORT: Key<u16> = Key::new("MONITORING_PORT", "15014", "port", "Port of the metrics.");
const READINESS_PORT: Key<u16> = Key::new("READINESS_PORT", "8000", "port", "Port of /readyz and /healthz.");

/// The rows of the documentation table.
pub const ROWS: [Row; 8] = [
    NODE_NAME.row,
    ZTUNNEL_UDS_ADDRESS.row,
    CNI_AGENT_RUN_DIR.row,
    EXCLUDE_NAMESPACES.row,
    SYSTEM_NAMESPACE.row,
    AMBIENT_DNS_CAPTURE.row,
    MONITORING_PORT.row,
    READINESS_PORT.row,
];

/// What the agent is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The node whose pods are ours.
    pub node: String,
    /// The directory of objects.
    pub config_dir: PathBuf,
    /// Socket of the node proxy.
    pub zds_socket: PathBuf,
    /// Socket of container runtimes.
    pub cni_socket: PathBuf,
    /// Who may be in.
    pub selection: Selection,
    /// Whether DNS is captured where the pod does not say.
    pub dns: bool,
    /// Port of the metrics.
    pub metrics_port: u16,
    /// Port of readiness and liveness.
    pub readiness_port: u16,
}

/// Why the agent cannot start as it was told.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The command line is wrong, or asks for help.
    #[error("{0}")]
    Arguments(#[from] clap::Error),
    /// The environment is wrong.
    #[error("{0}")]
    Environment(#[from] chassis::env::Mistakes),
}

#[derive(Debug, clap::Parser)]
#[command(name = "agent", about = "The node agent: takes pods into the mesh and out of it")]
struct Arguments {
    /// The directory of Kubernetes objects that says what is on this node
    #[arg(long, value_name = "DIR")]
    config_dir: PathBuf,
}

impl Config {
    /// Reads command line and environment.
    pub fn read(args: impl IntoIterator<Item = OsString>, environment: &dyn Strings) -> Result<Self, ConfigError> {
        let arguments = <Arguments as clap::Parser>::try_parse_from(args)?;
        let mut reader = Reader::new(environment);
        let exclude = reader.read(&EXCLUDE_NAMESPACES);
        let config = Self {
            node: reader.required(&NODE_NAME).unwrap_or_default(),
            config_dir: arguments.config_dir,
            zds_socket: reader.read(&ZTUNNEL_UDS_ADDRESS).into(),
            cni_socket: PathBuf::from(reader.read(&CNI_AGENT_RUN_DIR)).join("pluginevent.sock"),
            selection: Selection {
                excluded_namespaces: exclude.split(',').map(|name| name.trim().to_owned()).collect(),
                system_namespace: reader.read(&SYSTEM_NAMESPACE),
            },
            dns: reader.read(&AMBIENT_DNS_CAPTURE),
            metrics_port: reader.read(&MONITORING_PORT),
            readiness_port: reader.read(&READINESS_PORT),
        };
        reader.finish()?;
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn read(args: &[&str], environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let environment: BTreeMap<String, String> =
            environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Config::read(std::iter::once("agent").chain(args.iter().copied()).map(OsString::from), &environment)
    }

    #[test]
    fn defaults_are_those_of_the_chart() {
        let config = read(&["--config-dir", "/c"], &[("NODE_NAME", "n1")]).unwrap();
        assert_eq!(config.zds_socket.to_str(), Some("/var/run/ztunnel/ztunnel.sock"));
        assert_eq!(config.cni_socket.to_str(), Some("/var/run/istio-cni/pluginevent.sock"));
        assert_eq!((config.metrics_port, config.readiness_port, config.dns), (15014, 8000, true));
        assert_eq!(config.selection.excluded_namespaces, ["kube-system"]);
    }

    #[test]
    fn what_is_missing_or_wrong_is_told_by_name() {
        for (args, environment, name) in [
            (vec!["--config-dir", "/c"], vec![], "NODE_NAME"),
            (vec!["--config-dir", "/c"], vec![("NODE_NAME", "n"), ("MONITORING_PORT", "many")], "MONITORING_PORT"),
            (vec![], vec![("NODE_NAME", "n")], "--config-dir"),
        ] {
            let error = read(&args, &environment).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
    }
}
