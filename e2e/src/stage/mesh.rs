//! What a scenario adds to the configuration of the mesh.
//!
//! On the lab there is none but what it says. On a cluster the chart has made one, which stays, and what is added comes
//! after it, below a line by which it is found again.

use super::{Ground, SYSTEM_NAMESPACE, Stage};
use crate::kind::Cluster;
use anyhow::{Context, Result};
use serde_json::json;

const ADDED_BELOW: &str = "# of a scenario:\n";

impl Stage {
    /// Adds top-level settings to the mesh's configuration, in place of those that were added before; an empty text takes
    /// them away.
    pub fn mesh(&self, settings: &str) -> Result<()> {
        match &self.ground {
            Ground::Lab(_) if settings.is_empty() => self.delete(&object(settings)),
            Ground::Lab(_) => self.apply(&object(settings)),
            Ground::Kind(cluster) => add(cluster, settings),
        }
    }
}

fn object(settings: &str) -> String {
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": { "name": "istio", "namespace": SYSTEM_NAMESPACE },
        "data": { "mesh": settings },
    })
    .to_string()
}

/// On a cluster.
pub(crate) fn add(cluster: &Cluster, settings: &str) -> Result<()> {
    let place = ["configmap", "istio", "--namespace", SYSTEM_NAMESPACE];
    let there = cluster.get(&place)?;
    let mesh = there["data"]["mesh"].as_str().context("the chart's ConfigMap istio has no mesh")?;
    let with = with(mesh, settings);
    if with != mesh {
        let patch = json!({ "data": { "mesh": with } }).to_string();
        cluster.kubectl(&[&["patch"], &place[..], &["--type", "merge", "--patch", &patch]].concat())?;
    }
    Ok(())
}

fn with(mesh: &str, settings: &str) -> String {
    let charts = mesh.split_once(ADDED_BELOW).map_or(mesh, |(charts, _)| charts);
    if settings.is_empty() {
        return charts.to_owned();
    }
    let end = if charts.is_empty() || charts.ends_with('\n') { "" } else { "\n" };
    format!("{charts}{end}{ADDED_BELOW}{settings}")
}

#[cfg(test)]
mod tests {
    use super::with;

    #[test]
    fn what_is_added_comes_after_the_charts_and_goes_again() {
        let charts = "trustDomain: cluster.local\n";
        let added = with(charts, "accessLogFile: ''\n");
        assert_eq!(added, "trustDomain: cluster.local\n# of a scenario:\naccessLogFile: ''\n");
        assert_eq!(with(&added, "a: 1\n"), "trustDomain: cluster.local\n# of a scenario:\na: 1\n");
        assert_eq!(with(&added, ""), charts);
        assert_eq!(with("a: 1", "b: 1"), "a: 1\n# of a scenario:\nb: 1");
    }
}
