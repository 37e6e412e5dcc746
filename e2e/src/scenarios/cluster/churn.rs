//! Hundreds of pods that come and go, without a kubelet: objects in the API server, which is all that the control plane
//! sees of pods. In the end it is as it was.

use crate::{kind::install::NAMESPACE, stage::Stage};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::time::Duration;

/// Pods at once.
const PODS: usize = 500;
/// How often all of them come and go.
const ROUNDS: usize = 3;
/// The control plane has heard of everything.
const SETTLED: Duration = Duration::from_secs(120);
/// How much larger it may be after all rounds than after the first, which has filled what it keeps.
const GROWTH_MAX: f64 = 1.10;
/// Nothing happens any more, and it knows: seconds of a core that it uses in ten.
const IDLE_MAX: f64 = 1.0;

/// Runs the scenario.
pub fn run(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    // A node that is not there: its pods are nobody's to start.
    stage.apply(&ghost())?;
    let end = rounds(stage, seen);
    stage.cluster().kubectl(&["delete", "node", "ghost", "--ignore-not-found"])?;
    end
}

fn rounds(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    stage.apply(
        "apiVersion: v1\nkind: Namespace\nmetadata: { name: crowd, labels: { istio.io/dataplane-mode: ambient } }\n",
    )?;
    let before = workloads(stage)?;
    let mut sizes = Vec::new();
    for round in 0..ROUNDS {
        let objects: Vec<Value> = (0..PODS).map(|n| pod(round, n)).collect();
        let list = crate::kind::list(&objects);
        stage.cluster().kubectl_with(&["create", "-f", "-"], &list)?;
        stage
            .cluster()
            .kubectl_with(&["apply", "--server-side", "--force-conflicts", "--subresource=status", "-f", "-"], &list)?;
        stage.wait("the control plane knows all pods", SETTLED, |stage| Ok(workloads(stage)? >= before + PODS))?;
        let delete = ["delete", "pods", "--all", "--namespace", "crowd", "--force", "--grace-period=0", "--wait=false"];
        stage.cluster().kubectl(&delete)?;
        stage.wait("the control plane has forgotten all pods", SETTLED, |stage| Ok(workloads(stage)? == before))?;
        sizes.push(metric(stage, "process_resident_memory_bytes")?);
    }
    let (first, last) = (sizes[0], sizes[ROUNDS - 1]);
    ensure!(last <= first * GROWTH_MAX, "istiod-lite grew: after each round it had {sizes:?} bytes");
    let megabytes: Vec<String> = sizes.iter().map(|bytes| format!("{:.0}", bytes / 1e6)).collect();
    seen.push(format!("{ROUNDS} times {PODS} pods came and went: {} MB after each round", megabytes.join(", ")));

    let busy = metric(stage, "process_cpu_seconds_total")?;
    let began = std::time::Instant::now();
    stage.wait("ten seconds pass", Duration::from_secs(30), |_| Ok(began.elapsed() > Duration::from_secs(10)))?;
    let used = metric(stage, "process_cpu_seconds_total")? - busy;
    ensure!(used <= IDLE_MAX, "with nothing to do istiod-lite uses {used:.2} s of a core in 10 s");
    seen.push(format!("and then {used:.2} s of a core in 10 s"));
    Ok(())
}

fn ghost() -> String {
    "apiVersion: v1\nkind: Node\nmetadata: { name: ghost }\nspec: { unschedulable: true }\n".into()
}

fn pod(round: usize, n: usize) -> Value {
    let address = format!("10.99.{}.{}", n / 250, n % 250 + 1);
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": format!("walker-{round}-{n}"), "namespace": "crowd", "labels": { "app": "walker" } },
        "spec": {
            "nodeName": "ghost", "terminationGracePeriodSeconds": 0,
            "tolerations": [{ "operator": "Exists" }],
            "containers": [{ "name": "none", "image": "localhost/none" }]
        },
        "status": {
            "phase": "Running", "podIP": address, "podIPs": [{ "ip": address }], "hostIP": "10.99.255.1",
            "conditions": [{ "type": "Ready", "status": "True" }]
        }
    })
}

/// How many workloads the control plane would tell a proxy of.
fn workloads(stage: &Stage) -> Result<usize> {
    let pods = stage.status()?.pods.into_iter();
    let mut proxies = pods.filter(|pod| pod.namespace == NAMESPACE && pod.name.starts_with("ztunnel") && pod.is_ready);
    let proxy = proxies.next().context("no ztunnel is ready")?;
    let dump = stage.config_dump(&format!("{NAMESPACE}/{}", proxy.name))?;
    Ok(dump["workloads"].as_array().map_or(0, Vec::len))
}

fn metric(stage: &Stage, name: &str) -> Result<f64> {
    let pods = stage.status()?.pods.into_iter();
    let mut plane = pods.filter(|pod| pod.namespace == NAMESPACE && pod.name.starts_with("istiod") && pod.is_ready);
    let pod = plane.next().context("no istiod is ready")?;
    let text = stage.metrics(&format!("{NAMESPACE}/{}", pod.name), 15014)?;
    let line = text.lines().find(|line| line.starts_with(name)).with_context(|| format!("istiod shows no {name}"))?;
    line.rsplit(' ').next().unwrap_or_default().parse().with_context(|| format!("{line:?} has no value"))
}
