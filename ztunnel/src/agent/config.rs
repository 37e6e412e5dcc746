//! What the agent is told by its command line and environment, parsed once.

use std::ffi::OsString;
use std::path::PathBuf;

use chassis::env::{Key, Reader, Row, Strings};
use chassis::run::{GRACE, LOG_FORMAT, RUST_LOG};

use super::enrol::Selection;
use super::install::Settings;
use super::install::conf::Plugin;
use super::install::plan::Manner;

const NODE_NAME: Key<String> = Key::new("NODE_NAME", "", "name", "The node whose pods are ours.");
const POD_NAME: Key<String> = Key::new(
    "POD_NAME",
    "",
    "name",
    "The agent's own pod. Its DaemonSet, from which the name is, says at the end whether the mesh is being removed.",
);
const POD_NAMESPACE: Key<String> = Key::new("POD_NAMESPACE", "", "name", "The namespace of that.");
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
const EXCLUDE_NAMESPACES: Key<String> = Key::new(
    "EXCLUDE_NAMESPACES",
    "kube-system",
    "names, by comma",
    "Namespaces whose pods are never in the mesh. They start without an agent, too.",
);
const SYSTEM_NAMESPACE: Key<String> =
    Key::new("SYSTEM_NAMESPACE", "", "name", "Where the mesh's own programs run; as POD_NAMESPACE if not set.");
const AMBIENT_DNS_CAPTURE: Key<bool> =
    Key::new("AMBIENT_DNS_CAPTURE", "true", "true or false", "Whether pods ask the node proxy for names.");
const MONITORING_PORT: Key<u16> = Key::new("MONITORING_PORT", "15014", "port", "Port of the metrics.");
const READINESS_PORT: Key<u16> = Key::new("READINESS_PORT", "8000", "port", "Port of /readyz and /healthz.");
const HOST_MOUNTS: Key<PathBuf> = Key::new(
    "HOST_MOUNTS",
    "/host",
    "path",
    "Where directories of the host are mounted: its /proc, /var/run/netns, /opt/cni/bin and /etc/cni/net.d. Not with `--config-dir`.",
);
const ALLOW_SWITCH_TO_HOST_NS: Key<bool> = Key::new(
    "ALLOW_SWITCH_TO_HOST_NS",
    "false",
    "true or false",
    "The host's network namespace is that of its process 1, not the agent's own. Needs CAP_SYS_PTRACE.",
);
const MOUNTED_CNI_NET_DIR: Key<PathBuf> = Key::new(
    "MOUNTED_CNI_NET_DIR",
    "",
    "path",
    "Where the host's CNI configurations are mounted, if not below HOST_MOUNTS.",
);
const MOUNTED_CNI_BIN_DIR: Key<PathBuf> =
    Key::new("MOUNTED_CNI_BIN_DIR", "", "path", "Where the host's CNI programs are, if not below HOST_MOUNTS.");
const CNI_CONF_NAME: Key<String> = Key::new(
    "CNI_CONF_NAME",
    "",
    "file name",
    "The CNI configuration that the plugin is chained into; the first that can be used if not set.",
);
const ISTIO_OWNED_CNI_CONFIG: Key<bool> = Key::new(
    "ISTIO_OWNED_CNI_CONFIG",
    "false",
    "true or false",
    "The plugin is in a file of its own that comes before the network provider's and says the same, so that no program can write it away.",
);
const ISTIO_OWNED_CNI_CONFIG_FILENAME: Key<String> =
    Key::new("ISTIO_OWNED_CNI_CONFIG_FILENAME", "02-istio-cni.conflist", "file name", "The name of that.");
const NODE_UNTAINT_ENABLED: Key<bool> = Key::new(
    "NODE_UNTAINT_ENABLED",
    "false",
    "true or false",
    "The taint `cni.istio.io/not-ready` is taken off the node when new pods can be taken into the mesh.",
);

/// The rows of the documentation table.
pub const ROWS: [Row; 21] = [
    NODE_NAME.row,
    POD_NAME.row,
    POD_NAMESPACE.row,
    ZTUNNEL_UDS_ADDRESS.row,
    CNI_AGENT_RUN_DIR.row,
    EXCLUDE_NAMESPACES.row,
    SYSTEM_NAMESPACE.row,
    AMBIENT_DNS_CAPTURE.row,
    HOST_MOUNTS.row,
    ALLOW_SWITCH_TO_HOST_NS.row,
    MOUNTED_CNI_NET_DIR.row,
    MOUNTED_CNI_BIN_DIR.row,
    CNI_CONF_NAME.row,
    ISTIO_OWNED_CNI_CONFIG.row,
    ISTIO_OWNED_CNI_CONFIG_FILENAME.row,
    NODE_UNTAINT_ENABLED.row,
    MONITORING_PORT.row,
    READINESS_PORT.row,
    RUST_LOG.row,
    LOG_FORMAT.row,
    GRACE.row,
];

/// Where Pods and Namespaces are told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Facts {
    /// In a directory of objects.
    Directory(PathBuf),
    /// By the cluster that this runs in.
    Cluster,
}

/// How the host is reached from a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Where its directories are mounted.
    pub mounts: PathBuf,
    /// Its network namespace is that of its process 1.
    pub switch: bool,
}

/// The pod that this is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Own {
    /// Its namespace.
    pub namespace: String,
    /// Its DaemonSet.
    pub daemon_set: String,
}

/// What the agent is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The node whose pods are ours.
    pub node: String,
    /// Where facts come from.
    pub facts: Facts,
    /// Socket of the node proxy.
    pub zds_socket: PathBuf,
    /// Socket of container runtimes.
    pub cni_socket: PathBuf,
    /// Who may be in.
    pub selection: Selection,
    /// Whether DNS is captured where the pod does not say.
    pub dns: bool,
    /// The host, when this runs in a container.
    pub host: Option<Host>,
    /// The plugin is installed on the node.
    pub install: Option<Settings>,
    /// The pod that this is, as far as known.
    pub own: Option<Own>,
    /// The node's taint is taken off.
    pub untaint: bool,
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
    /// The directory of Kubernetes objects that says what is on this node, instead of the cluster
    #[arg(long, value_name = "DIR")]
    config_dir: Option<PathBuf>,
}

impl Config {
    /// Reads command line and environment. `installs` says that the plugin is to be installed.
    pub fn read(
        args: impl IntoIterator<Item = OsString>,
        environment: &dyn Strings,
        installs: bool,
    ) -> Result<Self, ConfigError> {
        let arguments = <Arguments as clap::Parser>::try_parse_from(args)?;
        let mut reader = Reader::new(environment);
        let facts = arguments.config_dir.map_or(Facts::Cluster, Facts::Directory);
        let own_namespace = reader.optional(&POD_NAMESPACE);
        let system_namespace = reader.optional(&SYSTEM_NAMESPACE).or_else(|| own_namespace.clone());
        let own = own_namespace.zip(reader.optional(&POD_NAME)).and_then(|(namespace, pod)| own(namespace, &pod));
        let selection = Selection {
            excluded_namespaces: names(&reader.read(&EXCLUDE_NAMESPACES)),
            system_namespace: system_namespace.unwrap_or_else(|| "istio-system".to_owned()),
        };
        let run_dir = reader.read(&CNI_AGENT_RUN_DIR);
        let mounts = reader.read(&HOST_MOUNTS);
        let switch = reader.read(&ALLOW_SWITCH_TO_HOST_NS);
        let plugin = Plugin {
            run_dir: run_dir.clone(),
            excluded_namespaces: selection.excluded_namespaces.clone(),
            agent_namespace: selection.system_namespace.clone(),
            agent_pods: own.as_ref().map(|own| format!("{}-", own.daemon_set)).unwrap_or_default(),
        };
        let install = Settings {
            conf_dir: reader.optional(&MOUNTED_CNI_NET_DIR).unwrap_or_else(|| mounts.join("etc/cni/net.d")),
            bin_dir: reader.optional(&MOUNTED_CNI_BIN_DIR).unwrap_or_else(|| mounts.join("opt/cni/bin")),
            // What runs is what is copied, whatever its path is by now.
            program: "/proc/self/exe".into(),
            manner: Manner {
                conf_name: reader.optional(&CNI_CONF_NAME),
                owns: reader.read(&ISTIO_OWNED_CNI_CONFIG),
                owned: owned_name(&mut reader),
                plugin,
            },
        };
        let config = Self {
            node: reader.required(&NODE_NAME).unwrap_or_default(),
            zds_socket: reader.read(&ZTUNNEL_UDS_ADDRESS).into(),
            cni_socket: PathBuf::from(run_dir).join("pluginevent.sock"),
            selection,
            dns: reader.read(&AMBIENT_DNS_CAPTURE),
            host: (facts == Facts::Cluster).then_some(Host { mounts, switch }),
            install: installs.then_some(install),
            own,
            untaint: reader.read(&NODE_UNTAINT_ENABLED),
            metrics_port: reader.read(&MONITORING_PORT),
            readiness_port: reader.read(&READINESS_PORT),
            facts,
        };
        reader.finish()?;
        Ok(config)
    }
}

fn names(list: &str) -> Vec<String> {
    list.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// A pod of a DaemonSet is called by it, with one more word.
fn own(namespace: String, pod: &str) -> Option<Own> {
    let (daemon_set, _) = pod.rsplit_once('-')?;
    Some(Own { namespace, daemon_set: daemon_set.to_owned() })
}

/// Runtimes read a list of plugins only from a file that says so in its name.
fn owned_name(reader: &mut Reader<'_>) -> String {
    let name = reader.read(&ISTIO_OWNED_CNI_CONFIG_FILENAME);
    let usable = name.ends_with(".conflist") && !name.starts_with('.') && !name.contains('/');
    if !usable {
        let reason = "expected a file name that ends in .conflist";
        reader.mistake(ISTIO_OWNED_CNI_CONFIG_FILENAME.row.name, &name, reason);
    }
    name
}

#[cfg(test)]
mod tests;
