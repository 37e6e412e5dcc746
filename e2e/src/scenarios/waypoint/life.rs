//! A waypoint that grows, shrinks, is replaced and goes: without a failed request while one is there,
//! and closed when none is.

use super::{CLIENT, ask, waypoints};
use crate::{apps::requests, stage::Stage};
use anyhow::{Context, Result, ensure};
use std::time::Duration;

/// A replica is a process in a namespace of its own.
const SCALED: Duration = Duration::from_secs(60);

/// The mall's Gateway with so many replicas.
pub(crate) fn replicas(count: u32) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{ name: waypoint-size, namespace: mall }}\ndata:\n  deployment: |\n\
         \x20   spec:\n      replicas: {count}\n\
         ---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{ name: waypoint, namespace: mall }}\n\
         spec:\n  gatewayClassName: istio-waypoint\n\
         \x20 infrastructure: {{ parametersRef: {{ group: '', kind: ConfigMap, name: waypoint-size }} }}\n\
         \x20 listeners: [{{ name: mesh, port: 15008, protocol: HBONE }}]\n"
    )
}

/// Gives the waypoint so many replicas, and waits for them.
pub(crate) fn scale(stage: &mut Stage, count: u32) -> Result<()> {
    stage.apply(&replicas(count))?;
    stage.wait(&format!("{count} replicas of the waypoint are ready"), SCALED, |stage| {
        let pods = stage.status()?.pods;
        let ours = pods.iter().filter(|pod| pod.namespace == "mall" && pod.name.starts_with("waypoint"));
        Ok(ours.clone().count() == count as usize && ours.clone().all(|pod| pod.is_ready))
    })?;
    Ok(())
}

/// Runs the scenario.
pub fn run(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    super::open(stage)?;
    let load = ["requests", "http://store.mall/", "--rate", "200", "--seconds", "40", "--connections", "24"];
    let going = stage.app(CLIENT, &load)?;
    for count in [3, 1, 3, 1] {
        scale(stage, count)?;
    }
    let report: requests::Report = going.report()?;
    ensure!(report.failures() == 0 && report.status(200) == report.due, "1 to 3 to 1, twice: {report:?}");
    seen.push(format!("from 1 to 3 replicas and back, twice, under 200/s: {} requests, none failed", report.due));

    replaced(stage, seen)?;
    spread(stage, seen)?;
    gone(stage, seen)
}

/// A waypoint of another make takes the place of the one that runs, under load, twice.
fn replaced(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    let load = ["requests", "http://store.mall/", "--rate", "200", "--seconds", "30", "--connections", "24"];
    let going = stage.app(CLIENT, &load)?;
    for make in ["one", "two"] {
        let before = waypoints(stage)?;
        let template = format!(
            "      template:\n        spec:\n          containers: [{{ name: istio-proxy, env: [{{ name: MAKE, value: {make} \
             }}] }}]\n---"
        );
        stage.apply(&replicas(1).replacen("---", &template, 1))?;
        stage.wait("another waypoint is there, and the one before is gone", SCALED, |stage| {
            let pods = stage.status()?.pods;
            let ours: Vec<_> =
                pods.iter().filter(|pod| pod.namespace == "mall" && pod.name.starts_with("waypoint")).collect();
            let new = |name: &str| before.iter().all(|before| *before != format!("mall/{name}"));
            Ok(!ours.is_empty() && ours.iter().all(|pod| pod.is_ready && new(&pod.name)))
        })?;
    }
    let report: requests::Report = going.report()?;
    ensure!(report.failures() == 0 && report.status(200) == report.due, "replaced twice: {report:?}");
    scale(stage, 1)?;
    seen.push(format!("replaced by another make twice under 200/s: {} requests, none failed", report.due));
    Ok(())
}

/// Requests are shared among replicas, also those of a few connections that are kept: each ends in order after
/// 250, and a node proxy chooses a replica for the next. That makes 64 choices here, so a third of them, give or
/// take four times its deviation, is within the bounds.
fn spread(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    scale(stage, 3)?;
    let pods = waypoints(stage)?;
    let before: Vec<f64> = pods.iter().map(|pod| answered(stage, pod)).collect::<Result<_>>()?;
    let load = ["requests", "http://store.mall/", "--rate", "800", "--seconds", "20", "--connections", "8"];
    let report: requests::Report = stage.app(CLIENT, &load)?.report()?;
    ensure!(report.status(200) == report.due, "{report:?}");
    let after: Vec<f64> = pods.iter().map(|pod| answered(stage, pod)).collect::<Result<_>>()?;
    let shares: Vec<f64> =
        after.iter().zip(&before).map(|(after, before)| (after - before) / report.due as f64).collect();
    ensure!(shares.iter().all(|share| (0.09..0.57).contains(share)), "the replicas answered {shares:?}");
    let shown: Vec<String> = shares.iter().map(|share| format!("{:.0} %", share * 100.0)).collect();
    seen.push(format!("3 replicas answered {} of {} requests of eight connections", shown.join(", "), report.due));
    scale(stage, 1)
}

fn answered(stage: &Stage, pod: &str) -> Result<f64> {
    let text = stage.metrics(pod, 15020)?;
    let values = text.lines().filter(|line| line.starts_with("istio_requests_total{"));
    values.map(|line| Ok(line.rsplit(' ').next().unwrap_or_default().parse::<f64>()?)).sum()
}

/// Without its waypoint the namespace is closed, and says why.
fn gone(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    let gateway =
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: { name: waypoint, namespace: mall }\n";
    stage.delete(gateway)?;
    stage.wait("the store is closed without its waypoint", SCALED, |stage| {
        Ok(ask(stage, CLIENT, "http://store.mall/", &["--max-time", "2"]).is_err())
    })?;
    let pod = stage.pod_addresses("mall/store-v1")?[0];
    let direct = format!("http://{}/", std::net::SocketAddr::new(pod, 8080));
    ensure!(ask(stage, CLIENT, &direct, &["--max-time", "2"]).is_err(), "its pods cannot be dialled instead");
    let status = stage.told("status")?;
    ensure!(status.contains("istio.io/WaypointBound"), "the service's status says why: {status}");
    stage.apply(&replicas(1))?;
    stage.wait("it opens again with its waypoint", SCALED, |stage| {
        Ok(ask(stage, CLIENT, "http://store.mall/", &[]).is_ok_and(|answer| answer.status == 200))
    })?;
    ensure!(ask(stage, CLIENT, &direct, &["--max-time", "2"]).is_err(), "whoever goes around the waypoint is refused");
    seen.push("a waypoint that is named and missing closes its services; going around it is refused".into());
    waypoints(stage)?.pop().context("it is back")?;
    Ok(())
}
