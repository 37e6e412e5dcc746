//! Values that cannot work, told by the charts themselves before anything is in the cluster.

use super::{Told, told};
use crate::{kind::install::NAMESPACE, stage::Stage};
use anyhow::{Context, Result};
use std::time::Duration;

/// Rendering a chart takes a second.
const HELM_DEADLINE: Duration = Duration::from_secs(60);

/// (words of the page, what is typed).
const REFUSED: &[(&str, &[&str])] = &[
    ("global.hub (or hub) must be set", &["template", "mesh", "charts/ambient", "--namespace", NAMESPACE]),
    (
        "additional properties 'x' not allowed",
        &[
            "template",
            "mesh",
            "charts/ambient",
            "--namespace",
            NAMESPACE,
            "--set",
            "global.hub=a/b",
            "--set",
            "ztunnel.x=1",
        ],
    ),
    (
        "enabled: false is for the umbrella chart",
        &["template", "mesh", "charts/ztunnel", "--namespace", NAMESPACE, "--set", "hub=a/b", "--set", "enabled=false"],
    ),
    (
        "the control plane would be in namespace …",
        &["template", "mesh", "charts/ambient", "--namespace", "elsewhere", "--set", "global.hub=a/b"],
    ),
    (
        "invalid ownership metadata",
        &["install", "another", "charts/ambient", "--namespace", NAMESPACE, "--set", "global.hub=a/b"],
    ),
];

/// Types each of them.
pub(super) fn run(stage: &mut Stage) -> Result<Vec<Told>> {
    let refused = |(page, typed): &(&'static str, &[&str])| {
        // helm renders for a cluster of its own age unless told of one.
        let version: &[&str] = if typed[0] == "template" { &["--kube-version", "1.34.0"] } else { &[] };
        let error = stage.cluster().helm(&[typed, version].concat(), HELM_DEADLINE).err();
        told(page, format!("{:#}", error.with_context(|| format!("helm {} is not refused", typed.join(" ")))?))
    };
    REFUSED.iter().map(refused).collect()
}
