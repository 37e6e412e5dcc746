//! A control plane of two, of which one is killed; and an API server that does not answer.

use crate::{
    apps::load,
    kind::install::{self, NAMESPACE},
    stage::Stage,
};
use anyhow::{Context, Result, ensure};
use std::time::{Duration, Instant};

/// A decision follows the objects this soon after a replica was killed.
const DECIDED_MAX: Duration = Duration::from_secs(5);
/// How long the API server does not answer.
const AWAY: u32 = 60;

/// A policy that forbids what the client does.
const DENY: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: not-the-client, namespace: rolling }
spec:
  action: DENY
  rules: [{ from: [{ source: { principals: [cluster.local/ns/rolling/sa/client] } }] }]
";

/// Runs the scenario.
pub fn run(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    install::install(stage.cluster(), &["istiod.autoscaleEnabled=false", "istiod.replicaCount=2"])?;
    let end = both(stage, seen);
    install::install(stage.cluster(), &[])?;
    end
}

fn both(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    stage.apply(include_str!("rolling.yaml"))?;
    stage.ready(&["rolling/client"])?;
    stage.enrolled(&["rolling/client"], true)?;
    super::served(stage, "rolling", &["rolling/client"])?;
    killed(stage, seen)?;
    away(stage, seen)
}

/// Each replica is killed once, and a policy is changed at that moment.
fn killed(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    let pods = stage.pods_of(NAMESPACE)?.into_iter();
    let replicas: Vec<String> = pods.filter(|pod| pod.name.starts_with("istiod")).map(|pod| pod.name).collect();
    ensure!(replicas.len() == 2, "there are these replicas: {replicas:?}");
    for (n, replica) in replicas.iter().enumerate() {
        stage.cluster().kubectl(&["delete", "pod", replica, "--namespace", NAMESPACE, "--force", "--wait=false"])?;
        let refused = changed(stage, n == 0)?;
        let began = Instant::now();
        stage.wait("the change is in force", Duration::from_secs(30), |stage| {
            Ok(stage.answers("rolling/client", "server.rolling") == (n == 1))
        })?;
        let took = began.elapsed();
        ensure!(took <= DECIDED_MAX, "after {replica} was killed, a change took {:.1} s", took.as_secs_f64());
        seen.push(format!(
            "{replica} killed: a policy changed at that moment was in force after {:.1} s{refused}",
            took.as_secs_f64()
        ));
        stage.cluster().kubectl(&[
            "rollout",
            "status",
            "deployment/istiod",
            "--namespace",
            NAMESPACE,
            "--timeout=100s",
        ])?;
    }
    Ok(())
}

/// Makes or deletes the policy. The API server asks the validation webhook, and the connection that it has to the replica
/// that vanished is silent: it refuses the change until it has noticed. What is said of that.
fn changed(stage: &mut Stage, deny: bool) -> Result<String> {
    let began = Instant::now();
    let mut refused = 0;
    stage.wait("the API server takes the change", Duration::from_secs(60), |stage| {
        let change = if deny { stage.apply(DENY) } else { stage.delete(DENY) };
        match change {
            Err(error) if format!("{error:#}").contains("failed calling webhook") => refused += 1,
            change => return change.map(|()| true),
        }
        Ok(false)
    })?;
    Ok(match refused {
        0 => String::new(),
        n => format!(", once the API server took it: {n} refused in {:.0} s", began.elapsed().as_secs_f64()),
    })
}

/// The API server is stopped, as by a machine that hangs: connections to it stay and are silent.
fn away(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    let node = stage.cluster().control_plane();
    let signal = |stage: &Stage, signal: &str| {
        stage.cluster().docker(&["exec", &node, "pkill", signal, "-f", "^kube-apiserver|/kube-apiserver "])
    };
    // Its report is left in the pod: nothing that kubectl has begun outlives the API server's silence.
    let seconds = (AWAY + 5).to_string();
    let load = format!(
        "e2e app load server.rolling.svc.cluster.local:80 --rate 100 --seconds {seconds} > /tmp/load.part 2>/tmp/load.err; \
         cat /tmp/load.part > /tmp/load.json"
    );
    stage
        .exec(
            "rolling/client",
            &["sh", "-c", &format!("rm -f /tmp/load.json; ({load}) > /dev/null 2>&1 < /dev/null &")],
        )?
        .ok()?;
    signal(stage, "-STOP")?;
    let began = Instant::now();
    let silent = stage.wait("the API server stays away", Duration::from_secs(u64::from(AWAY) * 2), |_| {
        Ok(began.elapsed() > Duration::from_secs(u64::from(AWAY)))
    });
    signal(stage, "-CONT")?;
    silent?;
    stage.wait("the API server is back", Duration::from_secs(60), |stage| Ok(stage.healthy().is_ok()))?;
    stage.written("rolling/client", "/tmp/load.json")?;
    let report: load::Report =
        serde_json::from_slice(&stage.fetch("rolling/client", "/tmp/load.json")?).context("a load's report")?;
    ensure!(report.failures() == 0, "without the API server requests failed: {report:?}");
    seen.push(format!("the API server silent for {AWAY} s: {} requests, none failed", report.ok));

    stage.apply(DENY)?;
    stage.wait("changes are followed again", Duration::from_secs(30), |stage| {
        Ok(!stage.answers("rolling/client", "server.rolling"))
    })?;
    stage.delete(DENY)?;
    seen.push("and changes are followed again".into());
    Ok(())
}
