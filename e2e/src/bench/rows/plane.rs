//! The control plane: how soon all proxies know of a change, and what that costs in meshes of different sizes.

use super::OURS;
use crate::{
    apps::audience::{self, Report},
    bench::{
        figure::{Figure, Target, Unit, line, median, quantile},
        rig::Rig,
        usage,
    },
    stage::Stage,
};
use anyhow::{Context, Result, ensure};
use std::time::Duration;

/// Proxies that are connected.
const PROXIES: usize = 1000;
/// Sizes of the mesh, in pods.
const SIZES: [usize; 3] = [1000, 10_000, 100_000];
/// Changes that are timed, one after the other.
const CHANGES: usize = 200;
/// From a change to the last proxy.
const LAST_MAX: f64 = 0.030;
/// What the size of the mesh may add to a change, of all that it costs.
const SIZE_SHARE_MAX: f64 = 5.0;
/// What the control plane may have resident with the largest mesh and all proxies.
const RESIDENT_MAX: f64 = 400e6;
/// All proxies have connected again within this, ...
const AGAIN_MAX: f64 = 5.0;
/// ... and were told no more than this of what they would be told without what they know, of a hundred.
const AGAIN_SHARE_MAX: f64 = 1.0;
/// The largest mesh is read within this, and told to all proxies.
const READ_DEADLINE: Duration = Duration::from_secs(600);

/// One change after the other, in each size; then all connect again at once.
pub(super) fn changes(rig: &mut Rig) -> Result<Vec<Figure>> {
    let (mut figures, mut costs, mut largest) = (Vec::new(), Vec::new(), None);
    for size in SIZES {
        let measured = of_size(rig, size)?;
        let mut last: Vec<f64> = measured.report.last_ms.iter().map(|ms| ms / 1e3).collect();
        ensure!(last.len() == CHANGES, "{} changes of {CHANGES} were timed", last.len());
        last.sort_by(f64::total_cmp);
        let name = format!("a change until {PROXIES} proxies have it, {size} pods");
        let soon = [Target::NoMore(LAST_MAX)];
        figures.push(Figure::new(&format!("{name}, p99"), Unit::Seconds, &soon).with(OURS, quantile(&last, 0.99)));
        figures.push(Figure::new(&format!("{name}, median"), Unit::Seconds, &[]).with(OURS, median(&last)));
        let cost = format!("CPU of the control plane for a change, {size} pods");
        figures.push(Figure::new(&cost, Unit::Seconds, &[]).with(OURS, measured.cost));
        costs.push((size as f64, measured.cost));
        largest = Some(measured);
    }
    // What a pod more adds, times the pods of the largest mesh, of all that a change costs there.
    let (begin, slope) = line(&costs);
    let added = slope * costs.last().map_or(0.0, |(size, _)| *size);
    let share = [Target::NoMore(SIZE_SHARE_MAX)];
    let shared = (added / (begin + added) * 100.0).max(0.0);
    figures.push(Figure::new("share of that which grows with the mesh", Unit::Percent, &share).with(OURS, shared));
    let largest = largest.context("no size was measured")?;
    let resident = [Target::NoMore(RESIDENT_MAX)];
    figures.push(
        Figure::new("resident, largest mesh and all proxies", Unit::Bytes, &resident).with(OURS, largest.resident),
    );
    let report = largest.report;
    let again = report.again_seconds.context("they did not connect again")?;
    let quick = [Target::NoMore(AGAIN_MAX)];
    figures.push(Figure::new("all connect again at once, largest mesh", Unit::Seconds, &quick).with(OURS, again));
    let told = report.again_bytes as f64 / (report.all_bytes * PROXIES) as f64 * 100.0;
    let little = [Target::NoMore(AGAIN_SHARE_MAX)];
    figures.push(Figure::new("of everything, what they are told then", Unit::Percent, &little).with(OURS, told));
    Ok(figures)
}

/// What one size came to.
struct Measured {
    report: Report,
    /// Seconds of a core that the control plane used for one change.
    cost: f64,
    resident: f64,
}

fn of_size(rig: &mut Rig, size: usize) -> Result<Measured> {
    let folder = rig.folder(&format!("plane-{size}"))?;
    let (config, state) = (folder.join("config"), folder.join("state"));
    std::fs::create_dir_all(&state)?;
    audience::write_mesh(&config, size)?;
    let place = folder.to_str().context("a path that is no text")?;
    let manifest = POD.replace("PLACE", place).replace("SIZE", &size.to_string());
    rig.stage.apply(&manifest)?;
    let pod = format!("plain/plane-{size}");
    rig.stage.wait("the control plane has read everything", READ_DEADLINE, |stage| {
        Ok(stage.pod(&pod).is_ok_and(|pod| pod.is_ready))
    })?;
    let config = config.to_str().context("a path that is no text")?;
    let plane = rig.process(&["meshctl", "istiod", config])?;
    let address = format!("https://{}:15012", rig.address(&pod)?);
    let (ready, go) = (Stage::fresh_path(), Stage::fresh_path());
    let (proxies, changes, state) = (PROXIES.to_string(), CHANGES.to_string(), format!("{place}/state"));
    let argv =
        ["audience", &address, "--state", &state, "--config", config, "--proxies", &proxies, "--changes", &changes];
    let argv = [&argv[..], &["--reconnect", "--ready-file", &ready, "--go-file", &go]].concat();
    // It runs where the control plane does, so that both see one directory.
    let going = rig.stage.app(&pod, &argv)?;
    let opened = rig.stage.wait("all proxies are connected", READ_DEADLINE, |stage| {
        Ok(stage.exec(&pod, &["test", "-s", &ready])?.code == 0)
    });
    if let Err(error) = opened {
        return Err(error.context(going.stop()?.stderr));
    }
    let resident = rig.settled(&plane)?.into_iter().sum();
    let before = usage::total(&plane)?;
    rig.stage.exec(&pod, &["touch", &go])?.ok()?;
    let changed = rig.stage.wait("all changes are made", READ_DEADLINE, |stage| {
        Ok(stage.exec(&pod, &["test", "-s", &format!("{go}.done")])?.code == 0)
    });
    let cost = (usage::total(&plane)?.seconds - before.seconds) / CHANGES as f64;
    if let Err(error) = changed {
        return Err(error.context(going.stop()?.stderr));
    }
    let report = going.report()?;
    rig.stage.delete(&manifest)?;
    Ok(Measured { report, cost, resident })
}

/// A control plane of its own, which reads a mesh that nobody runs.
const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata: { name: plane-SIZE, namespace: plain, labels: { app: plane } }\n\
    spec:\n  nodeName: node2\n  containers:\n    - name: discovery\n\
    \x20     command: [meshctl, istiod, discovery, --config-dir, PLACE/config, --state-dir, PLACE/state]\n\
    \x20     readinessProbe: { httpGet: { port: 8080, path: /ready }, periodSeconds: 1 }\n\
    \x20     volumeMounts: [{ name: place, mountPath: PLACE }]\n\
    \x20 volumes: [{ name: place, hostPath: { path: PLACE } }]\n";
