//! Who takes how much: a newcomer, and endpoints that are near or far.

use super::super::{CLIENT, set_mode};
use super::rule;
use crate::{apps::requests, stage::Stage};
use anyhow::{Context, Result, ensure};

/// A third version of the store.
const NEWCOMER: &str = "
apiVersion: v1
kind: Pod
metadata: { name: store-v3, namespace: mall, labels: { app: store, version: v3 } }
spec:
  nodeName: node2
  serviceAccountName: store
  containers: [{ name: backend, command: [E2E, app, backend, --name, v3] }]
";

fn share(stage: &Stage, backend: &str) -> Result<f64> {
    let load = ["requests", "http://store.mall/", "--rate", "200", "--seconds", "2"];
    let report: requests::Report = stage.app(CLIENT, &load)?.report()?;
    ensure!(report.status(200) == report.due, "{report:?}");
    Ok(report.share(backend))
}

/// A newcomer gets its share little by little.
pub(super) fn newcomer(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    for balancing in [
        "simple: ROUND_ROBIN, warmup: { duration: 120s, minimumPercent: 10 }",
        "simple: RANDOM, warmupDurationSecs: 120s",
    ] {
        let object = rule("store", &format!("loadBalancer: {{ {balancing} }}"));
        stage.apply(&object)?;
        // The destination has to be known before, or all of its endpoints came with it.
        share(stage, "v1")?;
        stage.apply(NEWCOMER)?;
        stage.ready(&["mall/store-v3"])?;
        let mut cold = 0.0;
        stage.wait("the newcomer is asked", super::super::RULES_DEADLINE, |stage| {
            cold = share(stage, "v3")?;
            Ok(cold > 0.0)
        })?;
        ensure!(cold < 0.2, "{balancing}: a newcomer gets {cold} at once");
        stage.apply(&rule("store", "loadBalancer: { simple: ROUND_ROBIN }"))?;
        let mut warm = 0.0;
        let waited = stage.wait("without warmup it gets its share", super::super::RULES_DEADLINE, |stage| {
            warm = share(stage, "v3")?;
            Ok((0.3..0.37).contains(&warm))
        });
        waited.with_context(|| format!("{balancing}: {warm}"))?;
        stage.delete(NEWCOMER)?;
        stage.delete(&object)?;
        seen.push(format!("{balancing}: a newcomer got {:.0} %, without it {:.0} %", cold * 100.0, warm * 100.0));
    }
    Ok(())
}

/// Where endpoints are, against where the waypoint is.
pub(super) fn places(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    let node = |name: &str, region: &str| {
        format!(
            "apiVersion: v1\nkind: Node\nmetadata: {{ name: {name}, labels: {{ kubernetes.io/hostname: {name}, \
             topology.kubernetes.io/region: {region}, topology.kubernetes.io/zone: one }} }}\n---\n"
        )
    };
    let waypoint = super::super::waypoints(stage)?.pop().context("the mall has a waypoint")?;
    let (near, far) = match stage.pod(&waypoint)?.node.as_str() {
        "node1" => ("v1", "v2"),
        _ => ("v2", "v1"),
    };
    let region = |backend: &str| if backend == near { "here" } else { "there" };
    let nodes = node("node1", region("v1")) + &node("node2", region("v2"));
    stage.apply(&nodes)?;
    let outlier =
        "outlierDetection: { consecutive5xxErrors: 3, interval: 500ms, baseEjectionTime: 3s, maxEjectionPercent: 50 }";
    for (setting, least, most) in [
        ("enabled: false", 0.45, 0.55),
        ("distribute: [{ from: here/*, to: { here/one/*: 80, there/*: 20 } }]", 0.7, 0.9),
        ("distribute: [{ from: here/one, to: { there/*: 100 } }]", 0.0, 0.0),
        ("failover: [{ from: here, to: there }]", 1.0, 1.0),
        ("failoverPriority: [topology.kubernetes.io/region]", 1.0, 1.0),
    ] {
        let object = rule(
            "store",
            &format!("loadBalancer: {{ simple: ROUND_ROBIN, localityLbSetting: {{ {setting} }} }}, {outlier}"),
        );
        stage.apply(&object)?;
        let mut last = 0.0;
        let waited = stage.wait("places count", super::super::RULES_DEADLINE * 2, |stage| {
            last = share(stage, near)?;
            Ok((least..=most).contains(&last))
        });
        waited.with_context(|| format!("{setting}: the near one answered {last}"))?;
        seen.push(format!("localityLbSetting {setting}: the near one answered {:.0} %", last * 100.0));
        if setting.starts_with("failover:") {
            let pod = format!("mall/store-{near}");
            set_mode(stage, &pod, "status=500")?;
            let over = stage.wait("the far one takes over", super::super::RULES_DEADLINE * 2, |stage| {
                let load = ["requests", "http://store.mall/", "--rate", "200", "--seconds", "1"];
                let report: requests::Report = stage.app(CLIENT, &load)?.report()?;
                Ok(report.status(200) == report.due && report.share(far) > 0.99)
            });
            set_mode(stage, &pod, "good")?;
            over?;
            seen.push("localityLbSetting failover: the near one failed, the far one took all".into());
        }
        stage.delete(&object)?;
    }
    stage.delete(&nodes)
}
