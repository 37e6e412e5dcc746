use super::*;
use std::collections::BTreeMap;
use std::path::Path;

fn read(args: &[&str], environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let environment: BTreeMap<String, String> =
        environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Config::read(std::iter::once("agent").chain(args.iter().copied()).map(OsString::from), &environment, true)
}

#[test]
fn defaults_are_those_of_the_chart() {
    let config = read(&[], &[("NODE_NAME", "n1")]).unwrap();
    assert_eq!(config.zds_socket.to_str(), Some("/var/run/ztunnel/ztunnel.sock"));
    assert_eq!(config.cni_socket.to_str(), Some("/var/run/istio-cni/pluginevent.sock"));
    assert_eq!((config.metrics_port, config.readiness_port, config.dns), (15014, 8000, true));
    assert_eq!(config.selection.excluded_namespaces, ["kube-system"]);
    assert_eq!(config.selection.system_namespace, "istio-system");
    assert_eq!(config.facts, Facts::Cluster);
    assert_eq!(config.host, Some(Host { mounts: "/host".into(), switch: false }));
    let install = config.install.unwrap();
    assert_eq!(install.conf_dir, Path::new("/host/etc/cni/net.d"));
    assert_eq!(install.bin_dir, Path::new("/host/opt/cni/bin"));
    assert_eq!((install.manner.owns, install.manner.owned.as_str()), (false, "02-istio-cni.conflist"));
    assert_eq!(install.manner.plugin.agent_pods, "");
}

#[test]
fn a_directory_needs_no_host() {
    let config = read(&["--config-dir", "/c"], &[("NODE_NAME", "n1")]).unwrap();
    assert_eq!((config.facts, config.host), (Facts::Directory("/c".into()), None));
}

#[test]
fn its_own_pod_says_which_daemon_set_it_is_of() {
    let config =
        read(&[], &[("NODE_NAME", "n"), ("POD_NAME", "istio-cni-node-x7k2p"), ("POD_NAMESPACE", "mesh")]).unwrap();
    assert_eq!(config.own, Some(Own { namespace: "mesh".into(), daemon_set: "istio-cni-node".into() }));
    assert_eq!(config.selection.system_namespace, "mesh");
    let plugin = config.install.unwrap().manner.plugin;
    assert_eq!((plugin.agent_pods.as_str(), plugin.agent_namespace.as_str()), ("istio-cni-node-", "mesh"));
}

#[test]
fn what_is_missing_or_wrong_is_told_by_name() {
    for (args, environment, name) in [
        (vec!["--config-dir", "/c"], vec![], "NODE_NAME"),
        (vec!["--config-dir", "/c"], vec![("NODE_NAME", "n"), ("MONITORING_PORT", "many")], "MONITORING_PORT"),
        (vec!["--config"], vec![("NODE_NAME", "n")], "--config"),
        (
            vec![],
            vec![("NODE_NAME", "n"), ("ISTIO_OWNED_CNI_CONFIG_FILENAME", "x.conf")],
            "ISTIO_OWNED_CNI_CONFIG_FILENAME",
        ),
        (vec![], vec![("NODE_NAME", "n"), ("ISTIO_OWNED_CNI_CONFIG", "perhaps")], "ISTIO_OWNED_CNI_CONFIG"),
    ] {
        let error = read(&args, &environment).unwrap_err().to_string();
        assert!(error.contains(name), "{error}");
    }
}
