//! Settings: flags say where things are, environment variables with Istio's names say how the
//! mesh is. Everything is read once, and every mistake is told at once.

use crate::{
    ca::policy::Policy,
    deploy::settings::{self, Settings},
    index::Mesh,
    webhook::bundle::{self, FailurePolicy},
};
use chassis::{
    env::{Key, Mistakes, ProcessEnvironment, Reader, Row, Strings, Value},
    run,
};
use clap::{Args, Parser, Subcommand};
use pki::issue::Lifetimes;
use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

/// The control plane of the mesh.
#[derive(Debug, Parser)]
#[command(name = "istiod-lite", version, about)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Tells node proxies of the mesh and certifies workloads.
    Discovery(Box<Flags>),
    /// Prints the table of environment variables.
    Environment,
}

#[derive(Debug, Args)]
struct Flags {
    /// Directory of Kubernetes YAML that describes the mesh; it is watched. Without it, the cluster does.
    #[arg(long, requires = "state_dir")]
    config_dir: Option<PathBuf>,
    /// Directory for the CA key and certificate, the token signing key, and root-cert.pem. In a
    /// cluster a Secret has them.
    #[arg(long, requires = "config_dir")]
    state_dir: Option<PathBuf>,
    /// Directory with a plugged-in CA: ca-cert.pem, ca-key.pem, root-cert.pem, cert-chain.pem. In a
    /// cluster /etc/cacerts is one if there are certificates in it.
    #[arg(long)]
    cacerts: Option<PathBuf>,
    /// Where xDS and the CA are served, with TLS.
    #[arg(long, alias = "secureGRPCAddr", value_parser = address, default_value = "[::]:15012")]
    xds_address: SocketAddr,
    /// Where /metrics is served.
    #[arg(long, alias = "monitoringAddr", value_parser = address, default_value = "[::]:15014")]
    metrics_address: SocketAddr,
    /// Where /ready is served, and /debug to callers from loopback.
    #[arg(long, alias = "httpAddr", value_parser = address, default_value = "[::]:8080")]
    ready_address: SocketAddr,
    /// Where objects are validated, in a cluster.
    #[arg(long, alias = "httpsAddr", value_parser = address, default_value = "[::]:15017")]
    webhook_address: SocketAddr,
    /// What the host names of services end with; counts more than CLUSTER_DOMAIN.
    #[arg(long)]
    domain: Option<String>,
    /// One more name or address for the serving certificate. May be repeated.
    #[arg(long = "serving-name")]
    serving_names: Vec<String>,
}

/// What a command line asks for.
#[derive(Debug)]
pub enum Asked {
    /// To serve.
    Serve(Box<Config>),
    /// To print this text.
    Print(String),
}

/// Everything that is set.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the mesh is described, and where its keys are.
    pub place: Place,
    /// Directory of a plugged-in CA.
    pub cacerts: Option<PathBuf>,
    /// What is true of the whole mesh.
    pub mesh: Mesh,
    /// Whose tokens may ask for the certificates of others, and for the whole configuration.
    pub policy: Policy,
    /// How long workload certificates live.
    pub lifetimes: Lifetimes,
    /// Where to listen.
    pub addresses: Addresses,
    /// Names and addresses of the serving certificate, besides those of the Kubernetes services.
    pub serving_names: Vec<String>,
}

/// Where the mesh is described, and where its keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In files.
    Directories {
        /// Directory of Kubernetes YAML.
        config: PathBuf,
        /// Directory for keys.
        state: PathBuf,
    },
    /// In a cluster.
    Cluster(Box<InCluster>),
}

/// What we are in a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InCluster {
    /// Our namespace, where our Secret, our leases and the configuration of the mesh are.
    pub namespace: String,
    /// The name of our pod, which no other replica has.
    pub pod: String,
    /// Our revision; "default" is none.
    pub revision: String,
    /// For whom a token must be.
    pub audiences: Vec<String>,
    /// Name of the ConfigMap with the roots in every namespace.
    pub trust_bundle: String,
    /// Name of the ClusterRole that our chart made, with which go the ConfigMaps; "" is none.
    pub owner: String,
    /// The environment says the trust domain, so the configuration of the mesh does not.
    pub trust_domain_said: bool,
    /// The same for the root namespace.
    pub root_namespace_said: bool,
    /// Where the webhook is served.
    pub webhook_address: SocketAddr,
    /// The name of the webhook's configuration.
    pub webhook: String,
    /// What its failures mean.
    pub failure_policy: FailurePolicy,
    /// How waypoints are deployed.
    pub waypoints: Settings,
}

/// Where to listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// xDS and CA.
    pub xds: SocketAddr,
    /// Metrics.
    pub metrics: SocketAddr,
    /// Readiness, and for this machine the debug pages.
    pub ready: SocketAddr,
}

const CLUSTER_ID: Key<String> = Key::new("CLUSTER_ID", "Kubernetes", "name", "Name of this cluster.");
const TRUST_DOMAIN: Key<String> =
    Key::new("TRUST_DOMAIN", "cluster.local", "name", "Trust domain of every identity of the mesh.");
const CLUSTER_DOMAIN: Key<String> =
    Key::new("CLUSTER_DOMAIN", "cluster.local", "DNS name", "What the host names of services end with.");
const ROOT_NAMESPACE: Key<String> =
    Key::new("ROOT_NAMESPACE", "istio-system", "name", "The namespace whose policies are for the whole mesh.");
const ALLOW_AROUND_WAYPOINT: Key<bool> = Key::new(
    "ALLOW_AROUND_WAYPOINT",
    "false",
    "true or false",
    "Callers may go around the waypoint of what is behind one, where the annotation `istiod-lite.io/allow-around-waypoint` of a pod, service or namespace does not say.",
);
const TRUSTED: Key<Accounts> = Key::new(
    "CA_TRUSTED_NODE_ACCOUNTS",
    "istio-system/ztunnel",
    "namespace/name,…",
    "Service accounts of node proxies: they are told of the whole mesh, and may have the certificates of the pods on their node.",
);
const DEFAULT_TTL: Key<Duration> = Key::new(
    "DEFAULT_WORKLOAD_CERT_TTL",
    "24h",
    "duration",
    "Life of a workload certificate when the request does not say.",
);
const MAX_TTL: Key<Duration> =
    Key::new("MAX_WORKLOAD_CERT_TTL", "2160h", "duration", "Longest life of a workload certificate; more is refused.");
/// Which control plane this is among several of a cluster.
pub const REVISION: Key<String> =
    Key::new("REVISION", "default", "name", "Revision of this control plane, in a cluster.");
const POD_NAME: Key<String> =
    Key::new("POD_NAME", "istiod-lite", "name", "Name of this pod, which no other replica has, in a cluster.");
const POD_NAMESPACE: Key<String> =
    Key::new("POD_NAMESPACE", "istio-system", "name", "Namespace of this pod, in a cluster.");
const TOKEN_AUDIENCES: Key<Names> =
    Key::new("TOKEN_AUDIENCES", "istio-ca", "names, by comma", "For whom a token must be, in a cluster.");
/// What waypoints mount.
pub const TRUST_BUNDLE: Key<String> = Key::new(
    "PILOT_CA_CERT_CONFIGMAP",
    "istio-ca-root-cert",
    "name",
    "ConfigMap with the roots of the mesh, which is kept in every namespace of a cluster.",
);
const OWNER: Key<String> = Key::new(
    "OWNER_CLUSTER_ROLE",
    "",
    "name",
    "ClusterRole of the chart, which owns those ConfigMaps, so that they go with it.",
);
/// Read by the crate that talks to the cluster.
const KUBECONFIG: Row = Row {
    name: "KUBECONFIG",
    default: "",
    unit: "paths",
    doc: "Kubeconfig of the cluster; without it, or if no such file is there, the service account of the pod is used.",
};

/// Every variable that is read.
pub const ROWS: [Row; 26] = [
    REVISION.row,
    POD_NAME.row,
    POD_NAMESPACE.row,
    TOKEN_AUDIENCES.row,
    TRUST_BUNDLE.row,
    OWNER.row,
    KUBECONFIG,
    CLUSTER_ID.row,
    TRUST_DOMAIN.row,
    CLUSTER_DOMAIN.row,
    ROOT_NAMESPACE.row,
    ALLOW_AROUND_WAYPOINT.row,
    TRUSTED.row,
    DEFAULT_TTL.row,
    MAX_TTL.row,
    bundle::WEBHOOK.row,
    bundle::FAILURE_POLICY.row,
    settings::KEYS[0],
    settings::KEYS[1],
    settings::KEYS[2],
    settings::KEYS[3],
    settings::KEYS[4],
    settings::KEYS[5],
    run::RUST_LOG.row,
    run::LOG_FORMAT.row,
    run::GRACE.row,
];

#[derive(Debug)]
struct Names(Vec<String>);

impl Value for Names {
    fn parse(text: &str) -> Result<Self, String> {
        let names: Vec<_> = text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect();
        if names.is_empty() { Err("names nobody".into()) } else { Ok(Self(names)) }
    }
}

#[derive(Debug)]
struct Accounts(Vec<(String, String)>);

impl Value for Accounts {
    fn parse(text: &str) -> Result<Self, String> {
        let account = |part: &str| match part.trim().split_once('/') {
            Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
                Ok((namespace.to_owned(), name.to_owned()))
            }
            _ => Err(format!("{part:?} is not of the form <namespace>/<service account>")),
        };
        text.split(',').filter(|part| !part.trim().is_empty()).map(account).collect::<Result<_, _>>().map(Self)
    }
}

impl Cli {
    /// Reads the environment of this process and says what is asked for.
    pub fn read(self) -> Result<Asked, Mistakes> {
        match self.command {
            Command::Discovery(flags) => flags.read(&ProcessEnvironment).map(|config| Asked::Serve(Box::new(config))),
            Command::Environment => Ok(Asked::Print(chassis::env::table(&ROWS))),
        }
    }
}

impl Flags {
    fn read(self, strings: &dyn Strings) -> Result<Config, Mistakes> {
        let mut reader = Reader::new(strings);
        let domain = reader.read(&CLUSTER_DOMAIN);
        let mesh = Mesh {
            cluster_id: reader.read(&CLUSTER_ID).into(),
            trust_domain: reader.read(&TRUST_DOMAIN).into(),
            domain: self.domain.unwrap_or(domain).into(),
            root_namespace: reader.read(&ROOT_NAMESPACE).into(),
            allow_around_waypoint: reader.read(&ALLOW_AROUND_WAYPOINT),
        };
        // An identity checks its trust domain; a wrong one must not wait for the first certificate.
        if let Err(error) = mesh::Identity::new(&mesh.trust_domain, "any", "any") {
            reader.mistake(TRUST_DOMAIN.row.name, &mesh.trust_domain, &error.to_string());
        }
        let (namespace, revision) = (reader.read(&POD_NAMESPACE), reader.read(&REVISION));
        let trust_bundle = reader.read(&TRUST_BUNDLE);
        let in_cluster = InCluster {
            webhook_address: self.webhook_address,
            webhook: reader.read(&bundle::WEBHOOK),
            failure_policy: reader.read(&bundle::FAILURE_POLICY),
            waypoints: Settings {
                revision: revision.clone(),
                trust_bundle: trust_bundle.clone(),
                ..Settings::read(&mut reader, &mesh, &namespace)
            },
            namespace,
            pod: reader.read(&POD_NAME),
            revision,
            audiences: reader.read(&TOKEN_AUDIENCES).0,
            trust_bundle,
            owner: reader.read(&OWNER),
            trust_domain_said: reader.optional(&TRUST_DOMAIN).is_some(),
            root_namespace_said: reader.optional(&ROOT_NAMESPACE).is_some(),
        };
        let config = Config {
            policy: Policy { trusted_node_accounts: reader.read(&TRUSTED).0 },
            lifetimes: Lifetimes { default: reader.read(&DEFAULT_TTL), max: reader.read(&MAX_TTL) },
            place: match (self.config_dir, self.state_dir) {
                (Some(config), Some(state)) => Place::Directories { config, state },
                _ => Place::Cluster(Box::new(in_cluster)),
            },
            cacerts: self.cacerts,
            addresses: Addresses { xds: self.xds_address, metrics: self.metrics_address, ready: self.ready_address },
            serving_names: self.serving_names,
            mesh,
        };
        reader.finish().map(|()| config)
    }
}

/// An address to listen on; `:8080` is every address of the machine, as Go writes it.
fn address(text: &str) -> Result<SocketAddr, String> {
    match text.strip_prefix(':') {
        Some(port) => port.parse().map(|port| SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port)).ok(),
        None => text.parse().ok(),
    }
    .ok_or_else(|| "is not of the form <address>:<port> or :<port>".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn read(environment: &[(&str, &str)]) -> Result<Config, Mistakes> {
        read_with(&["--config-dir", "/config", "--state-dir", "/state"], environment)
    }

    fn read_with(flags: &[&str], environment: &[(&str, &str)]) -> Result<Config, Mistakes> {
        let cli = Cli::parse_from(["istiod-lite", "discovery"].iter().chain(flags));
        let Command::Discovery(flags) = cli.command else { panic!("another command was read") };
        let strings: BTreeMap<String, String> =
            environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        flags.read(&strings)
    }

    #[test]
    fn an_empty_environment_is_the_mesh_of_istio() {
        let config = read(&[]).expect("every default is good");
        assert_eq!(&*config.mesh.trust_domain, "cluster.local");
        assert_eq!(config.policy, Policy::default());
        assert_eq!(config.lifetimes, Lifetimes::default());
        assert_eq!(config.addresses.xds.to_string(), "[::]:15012");
    }

    #[test]
    fn every_mistake_is_told_at_once() {
        let mistakes =
            read(&[("CA_TRUSTED_NODE_ACCOUNTS", "ztunnel"), ("TRUST_DOMAIN", "a/b"), ("MAX_WORKLOAD_CERT_TTL", "9")]);
        let text = mistakes.expect_err("all three are wrong").to_string();
        for name in ["CA_TRUSTED_NODE_ACCOUNTS", "TRUST_DOMAIN", "MAX_WORKLOAD_CERT_TTL"] {
            assert!(text.contains(name), "{name} is missing in {text}");
        }
    }

    #[test]
    fn nobody_is_trusted_when_the_list_is_blank() {
        let config = read(&[("CA_TRUSTED_NODE_ACCOUNTS", " , ")]).expect("a blank list is a list");
        assert_eq!(config.policy.trusted_node_accounts, []);
    }

    #[test]
    fn the_command_line_of_istios_chart_is_a_cluster() {
        let flags = ["--monitoringAddr=:15015", "--domain", "example.org"];
        let config = read_with(&flags, &[("POD_NAMESPACE", "mesh"), ("REVISION", "canary"), ("TRUST_DOMAIN", "td")]);
        let config = config.expect("every value is good");
        assert_eq!((config.addresses.metrics.to_string(), &*config.mesh.domain), ("[::]:15015".into(), "example.org"));
        let Place::Cluster(cluster) = config.place else { panic!("no directory was named") };
        assert_eq!((&*cluster.namespace, &*cluster.revision), ("mesh", "canary"));
        assert!(cluster.trust_domain_said && !cluster.root_namespace_said);
        assert_eq!(cluster.audiences, ["istio-ca"]);
    }

    #[test]
    fn directories_come_in_pairs() {
        for flags in [["--config-dir", "/config"], ["--state-dir", "/state"]] {
            assert!(Cli::try_parse_from(["istiod-lite", "discovery"].iter().chain(&flags)).is_err(), "{flags:?}");
        }
    }
}
