//! Rate limits: three replicas, a limit for each caller, ten callers.

use super::life::scale;
use crate::{apps::requests, stage::Stage};
use anyhow::{Context, Result, ensure};
use std::fmt::Write as _;

const CALLERS: usize = 10;
/// Requests a second that each caller may send.
const LIMIT: u64 = 100;
/// Half as much there: what the callers send at once must be less than two cores can carry beside three nodes.
const LIMIT_ON_CLUSTER: u64 = 50;
const SECONDS: u64 = 8;
/// What each may send at once after a silence.
const BURST: u64 = 10;

/// One measurement.
struct Round {
    scope: &'static str,
    replicas: u32,
    /// Requests a second of each caller that may pass, as the policy says.
    limit: u64,
    /// Requests a second that each caller sends.
    rate: u64,
    /// How many of each caller's may pass in all, by the documentation.
    bound: std::ops::RangeInclusive<f64>,
}

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

fn policy(scope: &str, limit: u64) -> String {
    format!(
        "apiVersion: istiod-lite.io/v1alpha1\nkind: TrafficPolicy\nmetadata: {{ name: fair, namespace: mall }}\n\
         spec:\n  targetRefs: [{{ group: '', kind: Service, name: store }}]\n  rateLimit:\n\
         \x20   - {{ requests: {limit}, per: 1s, burst: {BURST}, keys: [{{ type: CallerIdentity }}], scope: {scope} }}\n"
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

    let allowed = if stage.is_cluster() { LIMIT_ON_CLUSTER } else { LIMIT };
    let offered = allowed * 3 / 2;
    let near = |bound: f64| {
        let wanted = (allowed * SECONDS) as f64;
        wanted * (1.0 - bound)..=wanted * (1.0 + bound)
    };
    // One replica that counts for itself: exactly the limit and its burst.
    round(
        stage,
        seen,
        &pods,
        &Round { scope: "Local", replicas: 1, limit: allowed, rate: offered, bound: near(0.05) },
    )?;
    // Three that count each for itself: at least the limit, and at most the limit and the burst of each of them.
    let limit = allowed / 5;
    let (least, most) = (limit * SECONDS, 3 * (limit * SECONDS + BURST));
    let bound = least as f64 * 0.95..=most as f64 * 1.05;
    round(stage, seen, &pods, &Round { scope: "Local", replicas: 3, limit, rate: offered * 3 / 5, bound })?;
    // Three replicas that count together: the documented overshoot.
    round(
        stage,
        seen,
        &pods,
        &Round { scope: "Shared", replicas: 3, limit: allowed, rate: offered, bound: near(0.15) },
    )?;
    stage.delete(&policy("Shared", allowed))?;
    stage.delete(&callers)?;
    scale(stage, 1)
}

fn round(stage: &mut Stage, seen: &mut Vec<String>, pods: &[String], round: &Round) -> Result<()> {
    let Round { scope, replicas, limit, rate, bound } = round;
    scale(stage, *replicas)?;
    stage.apply(&policy(scope, *limit))?;
    let (seconds, rate) = (SECONDS.to_string(), rate.to_string());
    stage.wait("the limit is in force", super::RULES_DEADLINE, |stage| {
        let load = ["requests", "http://store.mall/", "--rate", "400", "--seconds", "1", "--connections", "9"];
        let report: requests::Report = stage.app(&pods[0], &load)?.report()?;
        Ok(report.status(429) > 0)
    })?;
    told(stage, &pods[0], *limit)?;
    let load = ["requests", "http://store.mall/", "--rate", &rate, "--connections", "9", "--seconds", &seconds];
    let going: Vec<_> = pods.iter().map(|pod| stage.app(pod, &load)).collect::<Result<_>>()?;
    let mut passed = Vec::new();
    for (caller, going) in pods.iter().zip(going) {
        let report: requests::Report = going.report()?;
        ensure!(report.failures() == 0, "{caller}: {report:?}");
        ensure!(report.status(200) + report.status(429) == report.due, "{caller}: {report:?}");
        passed.push(report.status(200) as f64);
    }
    let fewest = passed.iter().copied().reduce(f64::min).context("there are callers")?;
    let most = passed.iter().copied().reduce(f64::max).context("there are callers")?;
    ensure!(bound.contains(&fewest) && bound.contains(&most), "{replicas}, {scope}: {passed:?}, not within {bound:?}");
    seen.push(format!(
        "{replicas} replica(s), scope {scope}, {limit}/s: {CALLERS} callers at {rate}/s for {SECONDS} s, {fewest} to {most} \
         passed each, of {:.0} to {:.0}",
        bound.start(),
        bound.end()
    ));
    Ok(())
}

/// Callers are told of the limit, and refused ones when to come again.
fn told(stage: &mut Stage, pod: &str, limit: u64) -> Result<()> {
    stage.wait("a caller is told of the limit", super::RULES_DEADLINE, |stage| {
        let answer = super::ask(stage, pod, "http://store.mall/", &[])?;
        let policy = answer.header("ratelimit-policy");
        let told = policy.contains(&format!("q={limit}")) && policy.contains("w=1");
        Ok(told && answer.header("ratelimit").contains("r=") && answer.status == 200)
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
