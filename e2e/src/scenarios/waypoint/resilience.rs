//! Retries, time-outs and faults: the counts are the ones the policy says.

use super::{Answer, CLIENT, ask, counts, set_mode};
use crate::{apps::requests, stage::Stage};
use anyhow::{Result, ensure};
use std::time::{Duration, Instant};

const V1: &str = "mall/store-v1";

/// A policy of ours for the service `store-v1`.
fn traffic_policy(spec: &str) -> String {
    format!(
        "apiVersion: istiod-lite.io/v1alpha1\nkind: TrafficPolicy\nmetadata: {{ name: resilience, namespace: mall }}\n\
         spec:\n  targetRefs: [{{ group: '', kind: Service, name: store-v1 }}]\n{spec}"
    )
}

/// A route of the service `store-v1` to itself, with what a rule may say beside.
fn route(rule: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{ name: resilience, namespace: mall }}\n\
         spec:\n  parentRefs: [{{ group: '', kind: Service, name: store-v1, port: 80 }}]\n  rules:\n\
         \x20   - backendRefs: [{{ name: store-v1, port: 80 }}]\n{rule}"
    )
}

/// Applies rules and waits until they decide: each ends with a response header of its own.
fn apply(stage: &mut Stage, rule: &str) -> Result<()> {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let mark = NEXT.fetch_add(1, Ordering::Relaxed).to_string();
    let filter = format!(
        "      filters: [{{ type: ResponseHeaderModifier, responseHeaderModifier: {{ set: [{{ name: x-rules, value: \
         '{mark}' }}] }} }}]\n"
    );
    stage.apply(&route(&format!("{rule}{filter}")))?;
    stage.wait("the new rules are in force", super::RULES_DEADLINE, |stage| {
        Ok(get(stage, &[])?.header("x-rules") == mark)
    })?;
    counts(stage, V1)?;
    Ok(())
}

fn get(stage: &Stage, options: &[&str]) -> Result<Answer> {
    ask(stage, CLIENT, "http://store-v1.mall/", options)
}

/// Runs the scenario.
pub fn run(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    super::open(stage)?;
    retries(stage, seen)?;
    posts(stage, seen)?;
    timeouts(stage, seen)?;
    refused(stage, seen)?;
    faults(stage, seen)?;
    stage.delete(&route(""))?;
    virtual_service(stage, seen)?;
    Ok(())
}

fn retries(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    apply(stage, "      retry: { codes: [503], attempts: 2, backoff: 10ms }\n")?;
    for (fails, status, tries) in [(0, 200, 1), (1, 200, 2), (2, 200, 3), (3, 503, 3)] {
        set_mode(stage, V1, &format!("fail_first={fails}"))?;
        let answer = get(stage, &[])?;
        let asked = counts(stage, V1)?.total;
        set_mode(stage, V1, "good")?;
        ensure!((answer.status, asked) == (status, tries), "{fails} failures: {} after {asked} tries", answer.status);
    }
    // A GET does no harm twice, so a connection that breaks is a reason to try again.
    set_mode(stage, V1, "drop")?;
    let answer = get(stage, &[])?;
    let asked = counts(stage, V1)?.total;
    set_mode(stage, V1, "good")?;
    ensure!((answer.status, asked) == (503, 3), "dropped connections: {} after {asked} tries", answer.status);
    seen.push(
        "retries: with 0, 1, 2, 3 answers of 503 and 2 retries: 1, 2, 3, 3 tries; 200, 200, 200, 503; reset: 3".into(),
    );
    Ok(())
}

/// A POST is never repeated once a byte of it may have been processed.
fn posts(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    apply(stage, "      retry: { codes: [500, 502, 503, 504], attempts: 3, backoff: 1ms }\n")?;
    let mut sent = 0;
    for mode in ["good", "delay_ms=20", "status=503", "drop", "fail_first=50", "refuse_ms=500"] {
        set_mode(stage, V1, mode)?;
        let args = ["requests", "http://store-v1.mall/", "--method", "POST", "--body", "2000", "--rate", "100"];
        let call = format!("{}-", mode.split('=').next().unwrap_or(mode));
        let report: requests::Report =
            stage.app(CLIENT, &[&args[..], &["--seconds", "2", "--call", &call]].concat())?.report()?;
        let counts = counts(stage, V1)?;
        let repeated = counts.calls.values().filter(|times| **times > 1).count();
        ensure!(repeated == 0, "{mode}: {repeated} POSTs were sent more than once: {report:?}");
        ensure!(counts.total <= report.due, "{mode}: {} arrived of {}", counts.total, report.due);
        sent += report.due;
    }
    set_mode(stage, V1, "good")?;
    seen.push(format!(
        "POST: {sent} to a backend that was good, slow, answered 503, dropped connections, refused them: none arrived twice"
    ));
    Ok(())
}

fn timeouts(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    apply(stage, "      timeouts: { request: 500ms }\n")?;
    set_mode(stage, V1, "delay_ms=3000")?;
    let start = Instant::now();
    let answer = get(stage, &[])?;
    let took = start.elapsed();
    set_mode(stage, V1, "good")?;
    ensure!(answer.status == 504, "a request that takes too long is answered with {}", answer.status);
    ensure!(took >= Duration::from_millis(500) && took < Duration::from_millis(2500), "it took {took:?}");
    apply(
        stage,
        "      timeouts: { request: 3s, backendRequest: 300ms }\n      retry: { codes: [504], attempts: 2, backoff: 1ms }\n",
    )?;
    set_mode(stage, V1, "delay_ms=1500")?;
    let answer = get(stage, &[])?;
    let tries = counts(stage, V1)?.total;
    set_mode(stage, V1, "good")?;
    ensure!((answer.status, tries) == (504, 3), "per-try: {} after {tries} tries", answer.status);
    seen.push(format!("time-outs: 500 ms gave 504 after {} ms; 300 ms a try gave 3 tries and 504", took.as_millis()));
    Ok(())
}

/// Nobody listens for a while: connect failures are tried again without being asked for.
fn refused(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    apply(stage, "")?;
    set_mode(stage, V1, "refuse_ms=1000")?;
    let answer = get(stage, &[])?;
    ensure!(answer.status == 503, "a backend that refuses gives {}", answer.status);
    stage.wait("it answers again", Duration::from_secs(5), |stage| Ok(get(stage, &[])?.status == 200))?;
    // Where another endpoint is there, the caller does not notice.
    set_mode(stage, V1, "refuse_ms=2000")?;
    let load = ["requests", "http://store.mall/", "--rate", "200", "--seconds", "2"];
    let report: requests::Report = stage.app(CLIENT, &load)?.report()?;
    ensure!(report.status(200) == report.due, "one of two endpoints refuses: {report:?}");
    stage.wait("it answers again", Duration::from_secs(5), |stage| Ok(get(stage, &[])?.status == 200))?;
    seen.push(format!("refused: alone 503; with another endpoint {} requests, all 200", report.due));
    Ok(())
}

fn faults(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    let policy = traffic_policy(
        "  fault:\n    - matches: [{ headers: [{ name: x-fault, value: abort }] }]\n\
         \x20     abort: { httpStatus: 418, percent: 50 }\n\
         \x20   - matches: [{ headers: [{ name: x-fault, value: delay }] }]\n\
         \x20     delay: { duration: 300ms, percent: 100 }\n",
    );
    stage.apply(&policy)?;
    stage.wait("the fault is in force", super::RULES_DEADLINE, |stage| {
        let mut hit = false;
        for _ in 0..10 {
            hit |= get(stage, &["-H", "x-fault: abort"])?.status == 418;
        }
        Ok(hit)
    })?;
    let load = ["requests", "http://store-v1.mall/", "--rate", "500", "--seconds", "4", "-H", "x-fault: abort"];
    counts(stage, V1)?;
    let report: requests::Report = stage.app(CLIENT, &load)?.report()?;
    let arrived = counts(stage, V1)?.total;
    let share = report.status(418) as f64 / report.due as f64;
    ensure!((share - 0.5).abs() < 0.05, "half of the requests should be aborted: {report:?}");
    ensure!(arrived == report.status(200), "{arrived} arrived: {report:?}");
    let start = Instant::now();
    ensure!(get(stage, &["-H", "x-fault: delay"])?.status == 200, "a delayed request is answered");
    let took = start.elapsed();
    ensure!(took >= Duration::from_millis(300), "a delay of 300 ms took {took:?}");
    ensure!(get(stage, &[])?.status == 200, "a request without the header is left alone");
    stage.delete(&policy)?;
    seen.push(format!(
        "faults: 50 % aborted: {:.1} % of {}; a delay of 300 ms: {} ms",
        share * 100.0,
        report.due,
        took.as_millis()
    ));
    Ok(())
}

/// The same, as a VirtualService says it.
fn virtual_service(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    let rule = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: resilience, namespace: mall }
spec:
  hosts: [store-v1]
  http:
    - match: [{ uri: { prefix: /tries } }]
      retries: { attempts: 2, perTryTimeout: 300ms, retryOn: '5xx,reset,connect-failure', backoff: 5ms }
      route: [{ destination: { host: store-v1 } }]
    - match: [{ uri: { prefix: /once } }]
      retries: { attempts: 0 }
      route: [{ destination: { host: store-v1 } }]
    - match: [{ uri: { prefix: /codes } }]
      retries: { attempts: 2, retryOn: '503', backoff: 5ms }
      route: [{ destination: { host: store-v1 } }]
    - match: [{ uri: { prefix: /gateway } }]
      retries: { attempts: 2, retryOn: gateway-error, backoff: 5ms }
      route: [{ destination: { host: store-v1 } }]
    - match: [{ uri: { prefix: /status } }]
      retries: { attempts: 2, retryOn: retriable-4xx, backoff: 5ms }
      route: [{ destination: { host: store-v1 } }]
    - match: [{ uri: { prefix: /late } }]
      fault: { delay: { fixedDelay: 400ms, percentage: { value: 100 } } }
      route: [{ destination: { host: store-v1 } }]
    - match: [{ uri: { prefix: /half } }]
      fault: { abort: { httpStatus: 418, percentage: { value: 50 } } }
      route: [{ destination: { host: store-v1 } }]
";
    stage.apply(rule)?;
    stage.wait("the VirtualService is in force", super::RULES_DEADLINE, |stage| Ok(get(stage, &[])?.status == 404))?;
    for (path, mode, status, tries) in [
        ("tries", "fail_first=2", 200, 3),
        ("tries", "fail_first=3", 503, 3),
        ("tries", "delay_ms=900", 504, 3),
        ("tries", "drop", 503, 3),
        ("once", "fail_first=1", 503, 1),
        ("codes", "fail_first=2", 200, 3),
        ("codes", "status=500", 500, 1),
        ("gateway", "fail_first=2", 200, 3),
        ("gateway", "status=500", 500, 1),
        ("status/409", "good", 409, 3),
        ("status/404", "good", 404, 1),
    ] {
        set_mode(stage, V1, mode)?;
        counts(stage, V1)?;
        let answer = ask(stage, CLIENT, &format!("http://store-v1.mall/{path}"), &[])?;
        let asked = counts(stage, V1)?.total;
        set_mode(stage, V1, "good")?;
        ensure!((answer.status, asked) == (status, tries), "{path}, {mode}: {} after {asked} tries", answer.status);
    }
    let start = Instant::now();
    ensure!(ask(stage, CLIENT, "http://store-v1.mall/late", &[])?.status == 200, "a delayed request is answered");
    let took = start.elapsed();
    ensure!(took >= Duration::from_millis(400), "a delay of 400 ms took {took:?}");
    let load = ["requests", "http://store-v1.mall/half", "--rate", "500", "--seconds", "2"];
    let report: requests::Report = stage.app(CLIENT, &load)?.report()?;
    let share = report.status(418) as f64 / report.due as f64;
    ensure!((share - 0.5).abs() < 0.06, "half of the requests should be aborted: {report:?}");
    stage.delete(rule)?;
    seen.push(format!(
        "VirtualService: retries by count, code and time a try; a delay; aborted {:.1} %",
        share * 100.0
    ));
    Ok(())
}
