//! The control plane dies and comes back while the mesh works: nobody notices.

use crate::{apps::load, stage::Stage};
use anyhow::{Result, ensure};
use std::time::Duration;

/// SIGKILL.
const KILL: i32 = 9;

/// Runs the scenario.
pub fn run(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    stage.apply(super::traffic::MANIFESTS)?;
    stage.ready(&["shop/client", "shop/web-far"])?;
    let root = std::fs::read(root_certificate(stage))?;
    let full = received(stage, "ztunnel-node1")?;
    let target = "web-far.shop.svc.cluster.local:81";
    let load = stage.load("shop/client", target, 200, 10)?;
    for round in 1..=3 {
        stage.lab().kill_component("istiod", "", KILL)?;
        stage.wait("istiod-lite runs again", Duration::from_secs(20), |s| {
            Ok(s.pod("istio-system/istiod-0").is_ok_and(|p| p.is_ready && p.restarts >= round))
        })?;
    }
    let report: load::Report = load.report()?;
    ensure!(report.failures() == 0, "{} of {} failed: {:?}", report.failures(), report.ok, report.failed);
    seen.push(format!("killed 3 times under 200 connections/s: {} ok, none failed", report.ok));
    ensure!(std::fs::read(root_certificate(stage))? == root, "it came back with another root");

    // The proxies are connected again, and what they were sent since is a small part of what they know.
    let service = "apiVersion: v1\nkind: Service\nmetadata: { name: late, namespace: shop }\n\
                   spec: { selector: { app: web-far }, ports: [{ name: http, port: 81, targetPort: 8081 }] }\n";
    stage.apply(service)?;
    let vip = stage.cluster_ips("late.shop.svc.cluster.local")?[0];
    let after = stage.wait("a new service is known", Duration::from_secs(20), |s| {
        Ok(s.answers("shop/client", &format!("{vip}:81")))
    })?;
    stage.delete(service)?;
    let again = received(stage, "ztunnel-node1")? - full;
    ensure!(again < full, "after 3 reconnects the proxy was sent {again} bytes again, of {full} at first");
    seen.push(format!(
        "same root; a new service works {} ms later; {again} bytes sent since, of {full} at first",
        after.as_millis()
    ));
    Ok(())
}

fn root_certificate(stage: &Stage) -> std::path::PathBuf {
    stage.lab().run_dir().join("state/root-cert.pem")
}

/// Bytes of configuration that a proxy was sent, by its own metric.
fn received(stage: &Stage, proxy: &str) -> Result<u64> {
    let text = stage.metrics(&format!("istio-system/{proxy}"), 15020)?;
    let lines = text.lines().filter(|l| l.starts_with("istio_xds_message_bytes_total{"));
    let sum: f64 = lines.filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok()).sum();
    ensure!(sum > 0.0, "{proxy} has no istio_xds_message_bytes_total");
    Ok(sum as u64)
}
