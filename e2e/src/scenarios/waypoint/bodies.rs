//! Long bodies in little memory, and readers that stall.

use super::{CLIENT, ask, waypoints};
use crate::stage::{Going, Stage};
use anyhow::{Context, Result, anyhow, ensure};
use std::time::{Duration, Instant};

const GIB: u64 = 1 << 30;
/// What a waypoint may hold while it carries a gibibyte.
const RESIDENT_BYTES_MAX: u64 = 32 << 20;
/// Readers that stop to read.
const STALLED: usize = 64;

/// How much slower the median may be beside them than without them, in the same run.
const SLOWER_MAX: f64 = 2.0;
/// What a busy machine adds to either of two measurements.
const SCHEDULED_MS: f64 = 5.0;

/// Resident memory of the waypoint's process, in bytes.
fn resident(stage: &Stage, pod: &str) -> Result<u64> {
    let text = stage.metrics(pod, 15020)?;
    let line = text.lines().find(|line| line.starts_with("process_resident_memory_bytes "));
    let value: f64 = line.and_then(|line| line.split(' ').nth(1)).context("its memory is a metric")?.parse()?;
    Ok(value as u64)
}

/// The most it holds until a command has ended, and what that printed.
fn peak(stage: &mut Stage, pod: &str, going: Going) -> Result<(u64, String)> {
    let end = std::thread::spawn(move || going.end());
    let mut most = 0;
    stage.wait("a gibibyte is carried", Duration::from_secs(150), |stage| {
        most = most.max(resident(stage, pod)?);
        Ok(end.is_finished())
    })?;
    let output = end.join().map_err(|_| anyhow!("waiting for a command panicked"))??;
    Ok((most, output.ok()?))
}

/// Runs the scenario.
pub fn run(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    super::open(stage)?;
    let pod = waypoints(stage)?.pop().context("the mall has a waypoint")?;
    let idle = resident(stage, &pod)?;

    let write = "%{http_code} %{size_download} %{size_upload}";
    let url = format!("http://store.mall/bytes/{GIB}");
    let down = stage.spawn(CLIENT, &["curl", "-sS", "-o", "/dev/null", "--max-time", "120", "-w", write, &url])?;
    let (most_down, said) = peak(stage, &pod, down)?;
    ensure!(said.trim() == format!("200 {GIB} 0"), "down: {said}");

    let send = format!("head -c {GIB} /dev/zero | curl -sS -T - -X POST --max-time 120 http://store.mall/sink");
    let up = stage.spawn(CLIENT, &["sh", "-c", &send])?;
    let (most_up, said) = peak(stage, &pod, up)?;
    ensure!(said.trim() == GIB.to_string(), "up: {said}");
    let most = most_down.max(most_up);
    ensure!(most <= RESIDENT_BYTES_MAX, "the waypoint held {} MB", most >> 20);
    seen.push(format!("1 GiB down and up: the waypoint held at most {} MB ({} MB when idle)", most >> 20, idle >> 20));

    let requests = ["requests", "http://store.mall/", "--rate", "100", "--seconds", "5"];
    let alone: crate::apps::requests::Report = stage.app(CLIENT, &requests)?.report()?;
    // They ask for a gibibyte and read next to nothing of it.
    let call = format!("curl -sS --limit-rate 1k -o /dev/null --max-time 60 http://store.mall/bytes/{GIB}");
    let all = format!("for n in $(seq {STALLED}); do {call} & done; wait");
    let stalled = stage.spawn(CLIENT, &["sh", "-c", &all])?;
    let before = Instant::now();
    stage.wait("the stalled readers have begun", Duration::from_secs(20), |_| {
        Ok(before.elapsed() > Duration::from_secs(3))
    })?;
    let report: crate::apps::requests::Report = stage.app(CLIENT, &requests)?.report()?;
    let held = resident(stage, &pod)?;
    ensure!(report.status(200) == report.due, "requests beside stalled readers: {report:?}");
    ensure!(report.p99_ms < 1000.0, "requests beside stalled readers are slow: {report:?}");
    // Of one run on one machine, whatever else that does; a step of the scheduler is no slowness.
    let slow = SLOWER_MAX * alone.p50_ms + SCHEDULED_MS;
    ensure!(report.p50_ms <= slow, "beside stalled readers {} ms, alone {} ms", report.p50_ms, alone.p50_ms);
    ensure!(ask(stage, CLIENT, "http://store.mall/", &[])?.status == 200, "one more");
    stalled.stop()?;
    seen.push(format!(
        "beside {STALLED} stalled readers: {} requests, p50 {:.1} ms (alone {:.1} ms), p99 {:.1} ms; the waypoint held {} MB",
        report.due,
        report.p50_ms,
        alone.p50_ms,
        report.p99_ms,
        held >> 20
    ));
    Ok(())
}
