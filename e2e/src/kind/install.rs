//! The mesh in a cluster: put there and taken away by its charts, as its users do.

use super::cluster::{Cluster, HUB, TAG};
use anyhow::Result;
use std::time::{Duration, Instant};

/// Where the mesh lives.
pub const NAMESPACE: &str = "istio-system";
/// The release of the umbrella chart.
pub const RELEASE: &str = "ambient";
/// That chart, from the repository.
const CHART: &str = "charts/ambient";
/// Longer than the 60 s that a ready mesh may take: how long it takes is judged where it is measured.
const INSTALL_DEADLINE: Duration = Duration::from_secs(180);

/// Installs the mesh, or brings it to these values, and waits until it is ready; how long that took.
pub(crate) fn install(cluster: &Cluster, values: &[&str]) -> Result<Duration> {
    install_from(cluster, CHART, TAG, values)
}

/// The same by another chart, with images of another tag.
pub(crate) fn install_from(cluster: &Cluster, chart: &str, tag: &str, values: &[&str]) -> Result<Duration> {
    let (hub, tag) = (format!("global.hub={HUB}"), format!("global.tag={tag}"));
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
