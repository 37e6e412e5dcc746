//! A mesh of YAML that nobody runs: written once, then changed file by file, each replaced whole, as kubelet and the
//! lab do.

use anyhow::Result;
use std::{fmt::Write as _, net::Ipv4Addr, path::Path};

/// What names of the pods begin with, as proxies are told of them.
const POD: &str = "Kubernetes//Pod/bench/";
/// The pod that moves.
const MOVING: &str = "moving";
/// What the names of those that come and go begin with.
const PASSING: &str = "passing-";
/// Pods in one file take this many; more files are read side by side no faster.
const PODS_PER_FILE: usize = 1000;
/// Where each group of addresses begins: the pods that stay, the one that moves, services, those that come and go.
const PODS: u32 = 0x0a00_0000;
const PLACES: u32 = 0x0b00_0000;
const SERVICES: u32 = 0x0c00_0000;
const PASSING_PODS: u32 = 0x0d00_0000;
/// Addresses of a group.
const GROUP: u32 = 0x00ff_ffff;

/// The name that proxies are told the pod by which moves.
pub(super) fn moving() -> String {
    format!("{POD}{MOVING}")
}

/// Moves it to another address.
pub(super) fn move_it(config: &Path, number: usize) -> Result<()> {
    replace(config, MOVING, &pod("bench", MOVING, "default", MOVING, &address(PLACES, number)))
}

/// A pod that comes.
pub(super) fn comes(config: &Path, number: usize) -> Result<()> {
    let name = format!("{PASSING}{number}");
    replace(config, &name, &pod("bench", &name, "default", "passing", &address(PASSING_PODS, number)))
}

/// A pod that goes.
pub(super) fn goes(config: &Path, number: usize) -> Result<()> {
    Ok(std::fs::remove_file(config.join(format!("{PASSING}{number}.yaml")))?)
}

/// Which of those that come and go a proxy is told of.
pub(super) fn passing(name: &str) -> Option<usize> {
    name.strip_prefix(POD)?.strip_prefix(PASSING)?.parse().ok()
}

/// Writes a mesh of so many pods for a control plane to read, ten of them to a service, with the proxy that listens.
pub fn write(config: &Path, pods: usize) -> Result<()> {
    std::fs::create_dir_all(config)?;
    std::fs::write(config.join("proxy.yaml"), pod("istio-system", "ztunnel-1", "ztunnel", "ztunnel", "10.255.0.1"))?;
    for first in (0..pods).step_by(PODS_PER_FILE) {
        let mut text = String::new();
        for n in first..pods.min(first + PODS_PER_FILE) {
            let app = n / 10;
            text.push_str(&pod("bench", &format!("pod-{n}"), "default", &format!("app-{app}"), &address(PODS, n)));
            if n % 10 == 0 {
                let _ = writeln!(
                    text,
                    "---\napiVersion: v1\nkind: Service\nmetadata: {{ name: app-{app}, namespace: bench }}\n\
                     spec: {{ clusterIP: {}, selector: {{ app: app-{app} }}, ports: [{{ port: 80, targetPort: 8080 }}] }}",
                    address(SERVICES, app)
                );
            }
        }
        std::fs::write(config.join(format!("pods-{first}.yaml")), text)?;
    }
    move_it(config, GROUP as usize)
}

fn address(group: u32, number: usize) -> String {
    Ipv4Addr::from(group + number as u32 % (GROUP + 1)).to_string()
}

fn replace(config: &Path, name: &str, text: &str) -> Result<()> {
    let fresh = config.join(format!(".{name}.tmp"));
    std::fs::write(&fresh, text)?;
    Ok(std::fs::rename(fresh, config.join(format!("{name}.yaml")))?)
}

/// A pod that runs.
fn pod(namespace: &str, name: &str, account: &str, app: &str, address: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{ name: {name}, namespace: {namespace}, uid: uid-{name}, \
         labels: {{ app: \"{app}\" }} }}\nspec: {{ nodeName: node1, serviceAccountName: {account}, \
         containers: [{{ name: app }}] }}\n\
         status: {{ phase: Running, podIP: {address}, conditions: [{{ type: Ready, status: \"True\" }}] }}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_that_pass_are_known_by_their_names() {
        for (name, want) in [
            ("Kubernetes//Pod/bench/passing-12", Some(12)),
            ("Kubernetes//Pod/bench/pod-12", None),
            ("bench/app-12.bench.svc.cluster.local", None),
        ] {
            assert_eq!(passing(name), want, "{name}");
        }
    }

    #[test]
    fn groups_of_addresses_do_not_meet() {
        assert_eq!(address(PODS, 99_999), "10.1.134.159");
        assert_eq!(address(PLACES, GROUP as usize), "11.255.255.255");
        assert_eq!(address(PLACES, GROUP as usize + 1), "11.0.0.0");
    }
}
