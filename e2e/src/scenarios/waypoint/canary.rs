//! A canary: weights that change under load, without a failed request.

use super::{CLIENT, ask};
use crate::{apps::requests, stage::Stage};
use anyhow::{Result, ensure};
use std::time::Duration;

/// Requests a second.
const RATE: u32 = 1000;
/// How long each pair of weights is measured.
const SECONDS: u32 = 10;
/// How far a share may be from its weight.
const POINTS_MAX: f64 = 0.02;

fn route(v1: u32, v2: u32) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\n\
         metadata: {{ name: canary, namespace: mall }}\n\
         spec:\n  parentRefs: [{{ group: '', kind: Service, name: store, port: 80 }}]\n  rules:\n\
         \x20   - backendRefs:\n\
         \x20       - {{ name: store-v1, port: 80, weight: {v1} }}\n\
         \x20       - {{ name: store-v2, port: 80, weight: {v2} }}\n"
    )
}

/// Runs the scenario.
pub fn run(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    super::open(stage)?;
    stage.apply(&route(100, 0))?;
    stage.wait("only v1 answers", super::RULES_DEADLINE, |stage| {
        let mut all = true;
        for _ in 0..8 {
            all &= ask(stage, CLIENT, "http://store.mall/", &[])?.header("x-backend") == "v1";
        }
        Ok(all)
    })?;
    // It goes on through every change; each change's own loads are measured apart.
    let total = (3 * SECONDS + 6).to_string();
    let whole = load(stage, &total, 100)?;
    for (v1, v2) in [(90, 10), (50, 50), (0, 100)] {
        stage.apply(&route(v1, v2))?;
        stage.wait("the weights are in force", Duration::from_secs(5), |stage| {
            let wanted = if v1 == 0 { "v2" } else { "any" };
            let answer = ask(stage, CLIENT, "http://store.mall/", &[])?;
            Ok(wanted == "any" || answer.header("x-backend") == wanted)
        })?;
        let report: requests::Report = load(stage, &SECONDS.to_string(), RATE)?.report()?;
        judge(&report)?;
        let wanted = f64::from(v2) / 100.0;
        let share = report.share("v2");
        ensure!((share - wanted).abs() <= POINTS_MAX, "{v1}/{v2}: v2 answered {share:.4} of {report:?}");
        seen.push(format!(
            "{v1}/{v2}: {} requests, none failed, v2 answered {:.1} %, p50 {:.1} ms, p99 {:.1} ms",
            report.due,
            share * 100.0,
            report.p50_ms,
            report.p99_ms
        ));
    }
    let report: requests::Report = whole.report()?;
    judge(&report)?;
    seen.push(format!("a load of 100/s through all the changes: {} requests, none failed", report.due));
    stage.delete(&route(0, 100))
}

fn load(stage: &Stage, seconds: &str, rate: u32) -> Result<crate::stage::Going> {
    let rate = rate.to_string();
    stage.app(CLIENT, &["requests", "http://store.mall/", "--rate", &rate, "--seconds", seconds])
}

fn judge(report: &requests::Report) -> Result<()> {
    ensure!(report.failures() == 0, "requests failed: {report:?}");
    ensure!(report.status(200) == report.due, "not every answer is 200: {report:?}");
    Ok(())
}
