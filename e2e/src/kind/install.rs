//! The mesh in a cluster: put there and taken away by its charts, as its users do.

use super::{
    cluster::{Cluster, HUB, KUBECTL_DEADLINE, TAG, repository},
    process,
};
use anyhow::{Context, Result, ensure};
use std::{
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

/// Where the mesh lives.
pub const NAMESPACE: &str = "istio-system";
/// The release of the umbrella chart.
pub const RELEASE: &str = "ambient";
/// Longer than the 60 s that a ready mesh may take: how long it takes is judged where it is measured.
const INSTALL_DEADLINE: Duration = Duration::from_secs(180);

/// The definitions of the Gateway API, which users install by themselves.
pub const GATEWAY_API: &str = "e2e/kind/crds/gateway-api-v1.6.1-standard.yaml";

/// The umbrella chart, its parts put into place beside it: in the repository nothing is written.
fn chart(cluster: &Cluster) -> Result<PathBuf> {
    let copy = cluster.kubeconfig().with_file_name("charts");
    let _ = std::fs::remove_dir_all(&copy);
    process::ok(Command::new("cp").arg("-a").arg(repository().join("charts")).arg(&copy), None, KUBECTL_DEADLINE)?;
    let umbrella = copy.join("ambient");
    ensure!(umbrella.join("Chart.yaml").exists(), "charts/ambient is not there");
    let path = umbrella.to_str().context("the path of the charts is UTF-8")?;
    cluster.helm(&["dependency", "update", "--skip-refresh", path], INSTALL_DEADLINE)?;
    Ok(umbrella)
}

/// Installs the definitions of the Gateway API.
pub(crate) fn gateway_api(cluster: &Cluster) -> Result<()> {
    // Server-side: the definitions are larger than what an annotation holds.
    cluster.kubectl(&["apply", "--server-side", "-f", GATEWAY_API])?;
    cluster.kubectl(&["wait", "--for=condition=Established", "--timeout=60s", "-f", GATEWAY_API])?;
    Ok(())
}

/// Installs the mesh, or brings it to these values, and waits until it is ready; how long that took.
pub(crate) fn install(cluster: &Cluster, values: &[&str]) -> Result<Duration> {
    let chart = chart(cluster)?;
    let chart = chart.to_str().context("the path of the charts is UTF-8")?;
    let (hub, tag) = (format!("global.hub={HUB}"), format!("global.tag={TAG}"));
    let mut arguments = vec!["upgrade", "--install", RELEASE, chart, "--namespace", NAMESPACE, "--create-namespace"];
    arguments.extend(["--wait", "--timeout", "150s", "--set", &hub, "--set", &tag]);
    for value in values {
        arguments.extend(["--set", value]);
    }
    let start = Instant::now();
    cluster.helm(&arguments, INSTALL_DEADLINE)?;
    Ok(start.elapsed())
}

/// Takes the mesh away.
pub(crate) fn uninstall(cluster: &Cluster) -> Result<()> {
    cluster.helm(&["uninstall", RELEASE, "--namespace", NAMESPACE, "--wait", "--timeout", "120s"], INSTALL_DEADLINE)?;
    Ok(())
}

/// Whether the mesh is installed.
pub(crate) fn installed(cluster: &Cluster) -> Result<bool> {
    let releases = cluster.helm(&["list", "--namespace", NAMESPACE, "--deployed", "--short"], INSTALL_DEADLINE)?;
    Ok(releases.lines().any(|line| line.trim() == RELEASE))
}
