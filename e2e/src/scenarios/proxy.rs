//! The node proxy dies, or is replaced: nothing goes around it, and a replacement loses nothing.

use crate::{
    apps::{hold, load, probe},
    capture,
    stage::Stage,
};
use anyhow::{Context, Result, ensure};
use std::time::Duration;

/// SIGKILL.
const KILL: i32 = 9;
/// New connections work again after a kill.
const RECOVERY: Duration = Duration::from_millis(1500);
/// How often the proxy is replaced.
const REPLACEMENTS: u32 = 20;

/// The proxy is killed.
pub fn crash(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    stage.apply(super::traffic::MANIFESTS)?;
    stage.ready(&["shop/client", "shop/web-far", "outside/client", "outside/web-far"])?;
    stage.enrolled(&["shop/client", "shop/web-far"], true)?;
    let (tcpdump, file) = stage.capture()?;
    let address = stage.pod_addresses("shop/web-far")?[0];
    for node in ["node1", "node2"] {
        let ready = Stage::fresh_path();
        let target = format!("{address}:8081");
        let probe = stage.app("shop/client", &["probe", &target, "--seconds", "6", "--ready-file", &ready])?;
        stage.written("shop/client", &ready)?;
        stage.lab().kill_component("ztunnel", node, KILL)?;
        let report: probe::Report = probe.report()?;
        let down = report.turns.iter().find(|t| !t.ok).context("the kill was not noticed: did it bypass the proxy?")?;
        let up = report.turns.iter().find(|t| t.ok && t.asked_at_us > down.asked_at_us);
        let up = up.with_context(|| format!("it never worked again: {:?}", report.turns))?;
        let away = Duration::from_micros(up.asked_at_us - down.asked_at_us);
        ensure!(away <= RECOVERY, "{node}: new connections worked after {} ms", away.as_millis());
        seen.push(format!("ztunnel of {node} killed: new connections work after {} ms", away.as_millis()));
    }
    tcpdump.stop()?;
    let segments = capture::read(&stage.fetch(super::ON_NODE1, &file)?)?;
    let client = stage.pod_addresses("shop/client")?[0];
    let ports = capture::ports_between(&segments, client, address);
    // A refused plaintext attempt would be seen here as port 8081.
    ensure!(ports.iter().all(|p| *p == 15008), "while the proxy was away, the ports {ports:?} were used");
    ensure!(capture::occurrences(&segments, "GET / HTTP/1.1") == 0, "a request is readable on the wire");
    seen.push(format!("{} segments captured meanwhile: only 15008, nothing readable", segments.len()));
    Ok(())
}

/// The proxy is replaced, again and again, under load.
pub fn upgrade(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    stage.apply(super::traffic::MANIFESTS)?;
    stage.ready(&["shop/client", "shop/web-far"])?;
    let target = "web-far.shop.svc.cluster.local:81";
    let load = stage.load("shop/client", target, 500, 40)?;
    let hold = stage.app("shop/client", &["hold", "web-far.shop.svc.cluster.local:7777", "--seconds", "3"])?;
    for n in 0..REPLACEMENTS {
        let node = if n % 2 == 0 { "node1" } else { "node2" };
        stage.replace_ztunnel(node)?;
    }
    let report: load::Report = load.report()?;
    let _: hold::Report = hold.report()?;
    ensure!(
        report.failures() == 0,
        "{} of {} failed: {:?} at {:?} ms",
        report.failures(),
        report.ok + report.failures(),
        report.failed,
        report.failed_at_ms
    );
    seen.push(format!(
        "replaced {REPLACEMENTS} times under 500 new connections/s: {} ok, none failed, p99 {:.1} ms",
        report.ok, report.p99_ms
    ));
    Ok(())
}
