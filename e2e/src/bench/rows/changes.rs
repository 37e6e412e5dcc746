//! How soon all proxies know of a change: one after the other in meshes of three sizes, and a hundred a second.

use super::{
    OURS, at_most,
    plane::{PROXIES, Plane},
};
use crate::{
    apps::{audience::Report, quantile},
    bench::{
        figure::{Figure, Target, Unit, line, median},
        rig::Rig,
        usage,
    },
};
use anyhow::{Context, Result, ensure};
use std::time::{Duration, Instant};

/// Sizes of the mesh, in pods.
const SIZES: [usize; 3] = [1000, 10_000, 100_000];
/// Changes that are timed one after the other, for each second that a row may take: 200 by default.
const CHANGES_PER_SECOND: f64 = 20.0;
/// From a change to the last proxy.
const LAST_MAX: f64 = 0.030;
/// One change is encoded once, whatever the number of proxies and the size of the mesh.
const ENCODES_MAX: f64 = 1.0;
/// What the size of the mesh may add to a change, of all that it costs, of a hundred.
const SIZE_SHARE_MAX: f64 = 5.0;
/// What the control plane may have resident with the largest mesh and all proxies.
const RESIDENT_MAX: f64 = 400e6;
/// All proxies have connected again within this, ...
const AGAIN_MAX: f64 = 5.0;
/// ... and were told no more than this of what they would be told without what they know, of a hundred.
const AGAIN_SHARE_MAX: f64 = 1.0;
/// Changes a second, where they come all the time.
const RATE: f64 = 100.0;
/// They come for this long, for each second that a row may take: ten minutes by default.
const CHURN_PER_SECOND: f64 = 60.0;
/// From when a change was due to the last proxy, where they come all the time.
const STALE_MAX: f64 = 0.150;
/// No growth: the last quarter of the time to the second, where a share is what an allocator and a clock may be off.
const GROWTH_MAX: f64 = 1.02;
/// Between two looks at memory.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
const EARLIER: &str = "earlier";

/// What one size came to.
struct Measured {
    report: Report,
    /// Seconds of a core that the control plane used for one change.
    cost: f64,
    encodes: f64,
    resident: f64,
}

/// One change after the other, in each size; then all connect again.
pub(super) fn single(rig: &mut Rig) -> Result<Vec<Figure>> {
    let (mut figures, mut costs, mut largest) = (Vec::new(), Vec::new(), None);
    let ours = |what: &str, unit, targets: &[Target], value| Figure::new(what, unit, targets).with(OURS, value);
    for size in SIZES {
        let measured = match of_size(rig, size) {
            Ok(measured) => measured,
            // What smaller ones came to is worth knowing all the same.
            Err(error) => {
                figures.push(Figure::new(
                    &format!("{size} pods: not run: {error:#}"),
                    Unit::Count,
                    &[Target::NoMore(0.0)],
                ));
                return Ok(figures);
            }
        };
        let mut last: Vec<f64> = measured.report.last_ms.iter().map(|ms| ms / 1e3).collect();
        last.sort_by(f64::total_cmp);
        let name = format!("a change until {PROXIES} proxies have it, {size} pods");
        let soon = [Target::NoMore(LAST_MAX)];
        figures.push(ours(&format!("{name}, p99"), Unit::Seconds, &soon, quantile(&last, 0.99).unwrap_or(f64::NAN)));
        figures.push(ours(&format!("{name}, median"), Unit::Seconds, &[], median(&last)));
        let cost = format!("CPU of the control plane for it, {size} pods");
        figures.push(ours(&cost, Unit::Seconds, &[], measured.cost));
        let once = [Target::NoMore(ENCODES_MAX)];
        figures.push(ours(&format!("encodings for it, {size} pods"), Unit::Count, &once, measured.encodes));
        costs.push((size as f64, measured.cost));
        largest = Some(measured);
    }
    let share = [Target::NoMore(SIZE_SHARE_MAX)];
    figures.push(ours("share of that CPU which grows with the mesh", Unit::Percent, &share, grows(&costs)));
    let Measured { report, resident, .. } = largest.context("no size was measured")?;
    let most = [Target::NoMore(RESIDENT_MAX)];
    figures.push(ours("resident, largest mesh and all proxies", Unit::Bytes, &most, resident));
    let again = report.again_seconds.context("they did not connect again")?;
    let quick = [Target::NoMore(AGAIN_MAX)];
    figures.push(ours("all connect again, largest mesh", Unit::Seconds, &quick, again));
    figures.push(ours("attempts that failed then", Unit::Count, &[], report.again_refused as f64));
    let told = report.again_bytes as f64 / (report.all_bytes * PROXIES) as f64 * 100.0;
    let little = [Target::NoMore(AGAIN_SHARE_MAX)];
    figures.push(ours("of everything, what they are told then", Unit::Percent, &little, told));
    Ok(figures)
}

/// What a pod more adds, times the pods of the largest mesh, of all that a change costs there; of a hundred.
fn grows(costs: &[(f64, f64)]) -> f64 {
    let (begin, slope) = line(costs);
    let added = slope * costs.last().map_or(0.0, |(size, _)| *size);
    (added / (begin + added) * 100.0).max(0.0)
}

fn of_size(rig: &mut Rig, size: usize) -> Result<Measured> {
    let plane = Plane::start(rig, &format!("plane-{size}"), size)?;
    let changes = (rig.seconds * CHANGES_PER_SECOND).ceil().max(1.0) as usize;
    let audience = plane.audience(rig, 0.0, &["--changes", &changes.to_string(), "--reconnect"])?;
    let resident = rig.settled(&plane.processes)?.into_iter().sum();
    let before = plane.encodes(rig)?;
    let (going, used) = audience.change(rig, &plane, || Ok(()))?;
    let encodes = (plane.encodes(rig)? - before) / changes as f64;
    let report: Report = going.report()?;
    ensure!(report.last_ms.len() == changes, "{} changes of {changes} were timed", report.last_ms.len());
    plane.stop(rig)?;
    Ok(Measured { report, cost: used / changes as f64, encodes, resident })
}

/// Pods that come and go all the time in the largest mesh.
pub(super) fn churn(rig: &mut Rig) -> Result<Vec<Figure>> {
    let plane = Plane::start(rig, "churn", SIZES[SIZES.len() - 1])?;
    let seconds = rig.seconds * CHURN_PER_SECOND;
    let (rate, text) = (RATE.to_string(), seconds.to_string());
    let audience = plane.audience(rig, seconds, &["--changes", "0", "--rate", &rate, "--seconds", &text])?;
    let (mut resident, mut looked, began) = (Vec::new(), None, Instant::now());
    let (going, used) = audience.change(rig, &plane, || {
        if looked.is_none_or(|at: Instant| at.elapsed() > LOOK_INTERVAL) {
            looked = Some(Instant::now());
            resident.push(usage::total(&plane.processes)?.resident);
        }
        Ok(())
    })?;
    let cores = used / began.elapsed().as_secs_f64();
    let stale = going.report::<Report>()?.stale;
    ensure!(stale.changes > 0, "there were no changes");
    let (earlier, later) = quarters(&resident);
    let what = format!("{RATE:.0} changes a second for {seconds:.0} s: late at the last proxy");
    let mut late = Figure::new(&format!("{what}, p99"), Unit::Seconds, &[Target::NoMore(STALE_MAX)]);
    late.add(OURS, stale.p99_ms / 1e3);
    late.cost(OURS, plane.processes.len(), cores, later);
    plane.stop(rig)?;
    Ok(vec![
        late,
        Figure::new(&format!("{what}, median"), Unit::Seconds, &[]).with(OURS, stale.p50_ms / 1e3),
        Figure::new(&format!("{what}, at worst"), Unit::Seconds, &[]).with(OURS, stale.max_ms / 1e3),
        Figure::new("resident, last quarter of the time to the second", Unit::Bytes, &[at_most(GROWTH_MAX, EARLIER)])
            .with(EARLIER, earlier)
            .with(OURS, later),
    ])
}

/// The medians of the second quarter and of the last: in the first, buffers and pools still fill.
fn quarters(values: &[f64]) -> (f64, f64) {
    let quarter = values.len() / 4;
    (median(&values[quarter..2 * quarter]), median(&values[values.len() - quarter..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_grows_with_the_mesh_is_a_share_of_the_largest() {
        for (costs, want) in [
            (&[(0.0, 5.0), (100.0, 5.0)][..], 0.0),
            (&[(0.0, 5.0), (100.0, 10.0)], 50.0),
            (&[(0.0, 5.0), (100.0, 4.0)], 0.0),
        ] {
            assert_eq!(grows(costs), want, "{costs:?}");
        }
    }

    #[test]
    fn growth_is_seen_between_the_second_quarter_and_the_last() {
        assert_eq!(quarters(&[9.0, 1.0, 5.0, 2.0]), (1.0, 2.0));
        assert_eq!(quarters(&[9.0, 8.0, 1.0, 1.0, 5.0, 5.0, 2.0, 2.0, 7.0]), (1.0, 4.5));
        assert!(quarters(&[]).0.is_nan());
    }
}
