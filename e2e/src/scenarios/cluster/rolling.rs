//! Rolling restarts of everything, each under load: no request fails.

use crate::{apps::load, kind::install::NAMESPACE, scenarios::waypoint, stage::Stage};
use anyhow::{Result, ensure};
use std::time::Duration;

/// New connections a second while something is restarted.
const RATE: u32 = 200;
/// Longer than any of the restarts takes, so that it covers them whole; it is ended a while after.
const SECONDS: u32 = 120;
/// The last of the old pods is gone.
const GONE_DEADLINE: Duration = Duration::from_secs(60);

/// What is restarted, in which namespace, and who asks whom meanwhile.
const RESTARTS: &[(&str, &str, &str, &str)] = &[
    ("deployment/server", "rolling", "rolling/client", "server.rolling.svc.cluster.local:80"),
    ("daemonset/ztunnel", NAMESPACE, "rolling/client", "server.rolling.svc.cluster.local:80"),
    ("daemonset/istio-cni-node", NAMESPACE, "rolling/client", "server.rolling.svc.cluster.local:80"),
    ("deployment/istiod", NAMESPACE, "rolling/client", "server.rolling.svc.cluster.local:80"),
    ("deployment/waypoint", "mall", waypoint::CLIENT, "store.mall.svc.cluster.local:80"),
];

/// Runs the scenario.
pub fn run(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    waypoint::open(stage)?;
    stage.apply(include_str!("rolling.yaml"))?;
    stage.ready(&["rolling/client"])?;
    stage.enrolled(&["rolling/client"], true)?;
    super::served(stage, "rolling", &["rolling/client"])?;
    for (what, namespace, client, target) in RESTARTS {
        let done = Stage::fresh_path();
        let rate = [RATE, SECONDS].map(|number| number.to_string());
        let load = stage.app(client, &["load", target, "--rate", &rate[0], "--seconds", &rate[1], "--until", &done])?;
        stage.cluster().kubectl(&["rollout", "restart", what, "--namespace", namespace])?;
        let began = std::time::Instant::now();
        stage.cluster().kubectl(&["rollout", "status", what, "--namespace", namespace, "--timeout=100s"])?;
        stage.wait("the old ones are gone", GONE_DEADLINE, |stage| {
            let ends = "jsonpath={.items[*].metadata.deletionTimestamp}";
            Ok(stage.cluster().kubectl(&["get", "pods", "--namespace", namespace, "-o", ends])?.trim().is_empty())
        })?;
        let took = began.elapsed();
        ensure!(took.as_secs() < u64::from(SECONDS), "{what} took {took:?}: longer than the load");
        stage.exec(client, &["sh", "-c", &format!("echo done > {done}")])?.ok()?;
        let report: load::Report = load.report()?;
        ensure!(report.failures() == 0, "{what} restarted, and requests failed: {report:?}");
        let secs = took.as_secs_f64();
        seen.push(format!("{what}: restarted in {secs:.0} s, {} requests, p99 {:.0} ms", report.ok, report.p99_ms));
    }
    Ok(())
}
