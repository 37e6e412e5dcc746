//! How long a change takes until the first connection is decided by it.
//!
//! A probe in the client pod opens a connection every 2 ms. The time of a change is taken before the
//! command that makes it starts, so the figure includes the command itself: it is an upper bound.
//!
//! A new pod takes its own time to start, which is nobody's to promise. Its change begins when its
//! service is said to have it as a ready endpoint: when the file of the EndpointSlice is written.

use crate::{apps::probe, stage::Stage};
use anyhow::{Context, Result, ensure};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The promise, at the median.
const MEDIAN_MS_MAX: f64 = 100.0;
/// Changes of each kind, half there and half back.
const ROUNDS: usize = 10;
/// A question that takes as long as the probe's patience has hung: decided is it only if it is
/// answered, be it by a refusal.
const HUNG_MS: f64 = 1000.0;

/// Runs the scenario.
pub fn run(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    stage.apply(super::traffic::MANIFESTS)?;
    stage.ready(&["shop/client", "shop/web-far", "outside/client", "outside/web-near"])?;
    let vip = stage.cluster_ips("web-far.shop.svc.cluster.local")?[0];
    let target = format!("{vip}:81");
    let deny = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
                metadata: { name: nobody, namespace: shop }\n\
                spec: { action: DENY, selector: { matchLabels: { app: web-far } }, rules: [{}] }\n";
    measure(stage, seen, "policy", &target, deny, Way::PresenceRefuses)?;
    let hidden = SERVICE.replace("app: web-far", "app: nobody");
    measure(stage, seen, "endpoints", &target, &hidden, Way::ReplacedBy(SERVICE))?;
    workload(stage, seen)?;
    // Under STRICT an unmeshed caller is refused and a meshed one is not: enrolment decides.
    let strict = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n\
                  metadata: { name: default, namespace: shop }\nspec: { mtls: { mode: STRICT } }\n";
    stage.apply(strict)?;
    let enrolled = "apiVersion: v1\nkind: Namespace\n\
                    metadata: { name: outside, labels: { istio.io/dataplane-mode: ambient } }\n";
    let left = "apiVersion: v1\nkind: Namespace\nmetadata: { name: outside }\n";
    let address = stage.pod_addresses("shop/web-far")?[0];
    measure_from(
        stage,
        seen,
        "enrolment",
        "outside/client",
        &format!("{address}:8081"),
        left,
        Way::ReplacedBy(enrolled),
    )?;
    stage.apply(left)?;
    stage.delete(strict)
}

/// How the change and its opposite are made.
enum Way {
    /// Applying refuses, deleting allows again.
    PresenceRefuses,
    /// Applying the first refuses, applying this one allows again.
    ReplacedBy(&'static str),
}

fn measure(stage: &mut Stage, seen: &mut Vec<String>, what: &str, target: &str, refuse: &str, way: Way) -> Result<()> {
    measure_from(stage, seen, what, "shop/client", target, refuse, way)
}

fn measure_from(
    stage: &mut Stage,
    seen: &mut Vec<String>,
    what: &str,
    client: &str,
    target: &str,
    refuse: &str,
    way: Way,
) -> Result<()> {
    let mut times = Vec::new();
    let allow = |stage: &Stage| match way {
        Way::PresenceRefuses => stage.delete(refuse),
        Way::ReplacedBy(manifest) => stage.apply(manifest),
    };
    if matches!(way, Way::ReplacedBy(_)) {
        allow(stage)?;
        stage.wait("the target answers", Duration::from_secs(10), |s| Ok(s.answers(client, target)))?;
    }
    for round in 0..ROUNDS {
        let refusing = round % 2 == 0;
        let ready = Stage::fresh_path();
        let probe = stage.app(client, &["probe", target, "--seconds", "2", "--ready-file", &ready])?;
        stage.written(client, &ready)?;
        let changed_at = SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros() as u64;
        if refusing {
            stage.apply(refuse)?
        } else {
            allow(stage)?
        }
        let report: probe::Report = probe.report()?;
        let turn = report.turns.iter().find(|t| t.asked_at_us > changed_at && t.ok != refusing);
        let turn = turn.with_context(|| format!("{what}, round {round}: no change in {:?}", report.turns))?;
        let last = report.turns.last().is_some_and(|last| last.asked_at_us == turn.asked_at_us);
        ensure!(last, "{what}, round {round}: decided, and then otherwise: {:?}", report.turns);
        let taken = (turn.answered_at_us - turn.asked_at_us) as f64 / 1000.0;
        ensure!(taken < HUNG_MS, "{what}, round {round}: a connection hung: {:?}", report.turns);
        times.push((turn.answered_at_us - changed_at) as f64 / 1000.0);
    }
    judge(seen, what, times)
}

fn judge(seen: &mut Vec<String>, what: &str, mut times: Vec<f64>) -> Result<()> {
    times.sort_by(f64::total_cmp);
    let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
    seen.push(format!(
        "{what}: first changed decision after {median:.0} ms (median of {ROUNDS}), {worst:.0} ms at worst"
    ));
    ensure!(median < MEDIAN_MS_MAX, "{what}: {median:.0} ms at the median, {times:.0?}");
    Ok(())
}

/// New pods of a service that has none.
fn workload(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    stage.apply(LATE)?;
    let target = format!("{}:81", stage.cluster_ips("late.shop.svc.cluster.local")?[0]);
    let mut times = Vec::new();
    for round in 0..ROUNDS {
        let pod = LATE_POD.replace("NUMBER", &round.to_string());
        let ready = Stage::fresh_path();
        let probe = stage.app("shop/client", &["probe", &target, "--seconds", "4", "--ready-file", &ready])?;
        stage.written("shop/client", &ready)?;
        stage.apply(&pod)?;
        let report: probe::Report = probe.report()?;
        let turn = report.turns.iter().find(|turn| turn.ok);
        let turn = turn.with_context(|| format!("workload, round {round}: not reached in {:?}", report.turns))?;
        let told_at = told_ready(stage, &format!("late-{round}"))?;
        times.push(turn.answered_at_us.saturating_sub(told_at) as f64 / 1000.0);
        stage.delete(&pod)?;
        stage.wait("the pod is gone", Duration::from_secs(10), |s| Ok(!s.answers("shop/client", &target)))?;
    }
    stage.delete(LATE)?;
    judge(seen, "workload (a new pod, from being a ready endpoint)", times)
}

/// When the file was written that says the pod is a ready endpoint, in microseconds since the Unix epoch.
fn told_ready(stage: &Stage, pod: &str) -> Result<u64> {
    for entry in std::fs::read_dir(stage.lab().run_dir().join("config/manifests"))? {
        let entry = entry?;
        let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
        if text.contains("\"EndpointSlice\"") && text.contains(&format!("\"{pod}\"")) {
            ensure!(text.contains("\"ready\": true"), "{pod} is no ready endpoint: {text}");
            return Ok(entry.metadata()?.modified()?.duration_since(UNIX_EPOCH)?.as_micros() as u64);
        }
    }
    anyhow::bail!("no EndpointSlice names {pod}")
}

const LATE: &str = "apiVersion: v1\nkind: Service\nmetadata: { name: late, namespace: shop }\n\
                    spec: { selector: { app: late }, ports: [{ name: http, port: 81, targetPort: 8081 }] }\n";

/// Ready is it only when it listens, so that its own start is not counted.
const LATE_POD: &str = "apiVersion: v1\nkind: Pod\n\
                        metadata: { name: late-NUMBER, namespace: shop, labels: { app: late } }\n\
                        spec:\n  nodeName: node2\n  serviceAccountName: server\n  containers:\n\
                        \x20   - name: rust\n      command: [E2E, app, serve, --name, shop/late]\n\
                        \x20     readinessProbe: { httpGet: { path: /, port: 8081 }, periodSeconds: 1 }\n";

const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata: { name: web-far, namespace: shop }\n\
                       spec:\n  selector: { app: web-far }\n  ports:\n\
                       \x20   - { name: http, port: 80, targetPort: 8080 }\n\
                       \x20   - { name: http-rust, port: 81, targetPort: 8081 }\n\
                       \x20   - { name: echo, port: 7777 }\n";
