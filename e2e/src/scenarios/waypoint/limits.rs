//! Rate limits: three replicas, a limit for each caller, ten callers.

use super::life::scale;
use crate::{apps::requests, stage::Stage};
use anyhow::{Context, Result, ensure};
use std::fmt::Write as _;

const CALLERS: usize = 10;
/// Requests a second that each caller may send.
const LIMIT: u64 = 100;
const SECONDS: u64 = 10;

fn callers() -> String {
    let mut text = String::new();
    for n in 0..CALLERS {
        let node = 1 + n % 2;
        let _ = write!(
            text,
            "apiVersion: v1\nkind: ServiceAccount\nmetadata: {{ name: caller-{n}, namespace: visitors }}\n---\n\
             apiVersion: v1\nkind: Pod\nmetadata: {{ name: caller-{n}, namespace: visitors }}\nspec: {{ nodeName: \
             node{node}, serviceAccountName: caller-{n}, containers: [{{ name: sleep, command: [sleep, infinity] }}] }}\n---\n"
        );
    }
    text
}

fn policy(scope: &str) -> String {
    format!(
        "apiVersion: istiod-lite.io/v1alpha1\nkind: TrafficPolicy\nmetadata: {{ name: fair, namespace: mall }}\n\
         spec:\n  targetRefs: [{{ group: '', kind: Service, name: store }}]\n  rateLimit:\n\
         \x20   - {{ requests: {LIMIT}, per: 1s, burst: 10, keys: [{{ type: CallerIdentity }}], scope: {scope} }}\n"
    )
}

/// Runs the scenario.
pub fn run(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    super::open(stage)?;
    let callers = callers();
    stage.apply(&callers)?;
    let pods: Vec<String> = (0..CALLERS).map(|n| format!("visitors/caller-{n}")).collect();
    let names: Vec<&str> = pods.iter().map(String::as_str).collect();
    stage.ready(&names)?;
    stage.enrolled(&names, true)?;

    // One replica that counts for itself: exactly the limit and its burst.
    round(stage, seen, &pods, "Local", 1, 0.05)?;
    // Three replicas that count together: the documented overshoot.
    round(stage, seen, &pods, "Shared", 3, 0.15)?;
    stage.delete(&policy("Shared"))?;
    stage.delete(&callers)?;
    scale(stage, 1)
}

fn round(
    stage: &mut Stage,
    seen: &mut Vec<String>,
    pods: &[String],
    scope: &str,
    replicas: u32,
    bound: f64,
) -> Result<()> {
    scale(stage, replicas)?;
    stage.apply(&policy(scope))?;
    let seconds = SECONDS.to_string();
    stage.wait("the limit is in force", super::RULES_DEADLINE, |stage| {
        let load = ["requests", "http://store.mall/", "--rate", "400", "--seconds", "1", "--connections", "9"];
        let report: requests::Report = stage.app(&pods[0], &load)?.report()?;
        Ok(report.status(429) > 0)
    })?;
    told(stage, &pods[0])?;
    let load = ["requests", "http://store.mall/", "--rate", "150", "--connections", "9", "--seconds", &seconds];
    let going: Vec<_> = pods.iter().map(|pod| stage.app(pod, &load)).collect::<Result<_>>()?;
    let wanted = (LIMIT * SECONDS) as f64;
    let mut passed = Vec::new();
    for (caller, going) in pods.iter().zip(going) {
        let report: requests::Report = going.report()?;
        ensure!(report.failures() == 0, "{caller}: {report:?}");
        ensure!(report.status(200) + report.status(429) == report.due, "{caller}: {report:?}");
        passed.push(report.status(200) as f64);
    }
    let fewest = passed.iter().copied().reduce(f64::min).context("there are callers")?;
    let most = passed.iter().copied().reduce(f64::max).context("there are callers")?;
    ensure!(fewest >= wanted * (1.0 - bound) && most <= wanted * (1.0 + bound), "{scope}: {passed:?} of {wanted} each");
    seen.push(format!(
        "{replicas} replica(s), scope {scope}: {CALLERS} callers at 150/s, {fewest} to {most} of {wanted} passed each"
    ));
    Ok(())
}

/// Callers are told of the limit, and refused ones when to come again.
fn told(stage: &mut Stage, pod: &str) -> Result<()> {
    stage.wait("a caller is told of the limit", super::RULES_DEADLINE, |stage| {
        let answer = super::ask(stage, pod, "http://store.mall/", &[])?;
        let policy = answer.header("ratelimit-policy");
        ensure!(policy.contains(&format!("q={LIMIT}")) && policy.contains("w=1"), "the policy: {policy}");
        ensure!(answer.header("ratelimit").contains("r="), "what is left: {answer:?}");
        Ok(answer.status == 200)
    })?;
    // In one process, so that more come than may pass.
    let burst = "for n in $(seq 400); do echo url=http://store.mall/; echo output=/dev/null; done | curl -sS -K - --parallel \
                 --parallel-max 40 -w '%{http_code} %header{retry-after}\\n'";
    let out = stage.exec(pod, &["sh", "-c", burst])?.ok()?;
    let refused: Vec<&str> = out.lines().filter_map(|line| line.strip_prefix("429 ")).collect();
    ensure!(!refused.is_empty(), "nobody was refused: {out}");
    ensure!(refused.iter().all(|after| after.parse::<u64>().is_ok()), "Retry-After: {refused:?}");
    Ok(())
}
