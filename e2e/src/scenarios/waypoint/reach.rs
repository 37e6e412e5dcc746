//! How a host is reached: what DestinationRule and TrafficPolicy each can say of
//! balancing, pools, breakers, budgets and ejection, and the counts that follow from it.

use super::{CLIENT, ask, counts, set_mode};
use crate::{apps::requests, stage::Stage};
use anyhow::{Context, Result, ensure};
use std::collections::BTreeSet;
use std::time::Duration;

const V1: &str = "mall/store-v1";
const V2: &str = "mall/store-v2";

/// A DestinationRule for a service.
fn rule(host: &str, policy: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{ name: reach, namespace: mall }}\n\
         spec: {{ host: {host}, trafficPolicy: {{ {policy} }} }}\n"
    )
}

/// A TrafficPolicy of ours for a service.
fn policy(service: &str, section: &str) -> String {
    format!(
        "apiVersion: istiod-lite.io/v1alpha1\nkind: TrafficPolicy\nmetadata: {{ name: reach, namespace: mall }}\n\
         spec: {{ targetRefs: [{{ group: '', kind: Service, name: {service} }}], {section} }}\n"
    )
}

/// A policy of Gateway API for a service, or for another kind of it.
fn backend_policy(group: &str, kind: &str, name: &str) -> String {
    format!(
        "apiVersion: gateway.networking.x-k8s.io/v1alpha1\nkind: XBackendTrafficPolicy\nmetadata: {{ name: reach, \
         namespace: mall }}\nspec:\n  targetRefs: [{{ group: '{group}', kind: {kind}, name: {name} }}]\n  \
         retryConstraint: {{ budget: {{ percent: 1 }}, minRetryRate: {{ count: 3 }} }}\n"
    )
}

/// A service of a ServiceEntry: the pod of `store-v1`, under an address of its own.
const OUTER: &str = outer!(8080, "app: store, version: v1");

/// A subset of `store-v1` that is all of it and has a breaker of its own, and the way there.
const SUBSET: &str = "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: reach, namespace: mall }
spec:
  host: store-v1
  trafficPolicy: { connectionPool: { http: { http2MaxRequests: 15 } } }
  subsets: [{ name: all, labels: { version: v1 }, trafficPolicy: { connectionPool: { http: { http2MaxRequests: 6 } } } }]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: reach, namespace: mall }
spec: { hosts: [store-v1], http: [{ route: [{ destination: { host: store-v1, subset: all } }] }] }
";

/// Runs the scenario.
pub fn run(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    super::open(stage)?;
    balancing(stage, seen)?;
    hashes(stage, seen)?;
    breakers(stage, seen)?;
    adaptive(stage, seen)?;
    connections(stage, seen)?;
    budgets(stage, seen)?;
    ejections(stage, seen)
}

fn load(stage: &Stage, url: &str, rate: &str, seconds: &str) -> Result<requests::Report> {
    stage.app(CLIENT, &["requests", url, "--rate", rate, "--seconds", seconds])?.report()
}

/// The share of v2 among the requests to `store`.
fn balancing(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    for (object, what, least, most) in [
        (rule("store", "loadBalancer: { simple: ROUND_ROBIN }"), "round robin", 0.48, 0.52),
        (policy("store", "loadBalancer: { simple: ROUND_ROBIN }"), "round robin of a TrafficPolicy", 0.48, 0.52),
        (rule("store", "loadBalancer: { simple: RANDOM }"), "random", 0.35, 0.65),
        (rule("store", "loadBalancer: { simple: PASSTHROUGH }"), "passthrough: by lot", 0.35, 0.65),
        (rule("store", "loadBalancer: { simple: LEAST_CONN }"), "LEAST_CONN, v1 slow", 0.7, 1.0),
        (rule("store", "loadBalancer: { simple: LEAST_REQUEST }"), "least request, v1 slow", 0.7, 1.0),
    ] {
        stage.apply(&object)?;
        let slow = what.contains("slow");
        set_mode(stage, V1, if slow { "delay_ms=200" } else { "good" })?;
        let mut last = String::new();
        let waited = stage.wait(what, super::RULES_DEADLINE, |stage| {
            let report = load(stage, "http://store.mall/", "200", "2")?;
            ensure!(report.status(200) == report.due, "{what}: {report:?}");
            last = format!("{what}: v2 answered {:.0} %", report.share("v2") * 100.0);
            Ok((least..=most).contains(&report.share("v2")))
        });
        set_mode(stage, V1, "good")?;
        waited.with_context(|| last.clone())?;
        stage.delete(&object)?;
        seen.push(last);
    }
    Ok(())
}

/// By the caller's address, and by a parameter of the query.
fn hashes(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    let answering = |stage: &Stage, query: &str| -> Result<BTreeSet<String>> {
        let url = format!("http://store.mall/{query}");
        (0..12).map(|_| Ok(ask(stage, CLIENT, &url, &[])?.header("x-backend").to_owned())).collect()
    };
    for (object, what) in [
        (rule("store", "loadBalancer: { consistentHash: { useSourceIp: true } }"), "source"),
        (rule("store", "loadBalancer: { consistentHash: { httpQueryParameterName: q } }"), "query"),
        (
            policy("store", "loadBalancer: { consistentHash: { httpQueryParameterName: q } }"),
            "query of a TrafficPolicy",
        ),
    ] {
        stage.apply(&object)?;
        stage.wait(&format!("{what}: one key has one endpoint"), super::RULES_DEADLINE, |stage| {
            Ok(answering(stage, "?q=ann")?.len() == 1)
        })?;
        let mut all = BTreeSet::new();
        for user in 0..12 {
            let mine = answering(stage, &format!("?q=user-{user}"))?;
            ensure!(mine.len() == 1, "{what}: one key went to {mine:?}");
            all.extend(mine);
        }
        let wanted = if what == "source" { 1 } else { 2 };
        ensure!(all.len() == wanted, "{what}: 12 keys went to {all:?}");
        stage.delete(&object)?;
    }
    seen.push("consistent hashing by the caller's address and by a parameter of the query".into());
    Ok(())
}

/// Twenty requests at once to a backend that takes half a second.
fn together(stage: &Stage) -> Result<requests::Report> {
    let load = ["requests", "http://store-v1.mall/", "--rate", "10000", "--seconds", "0.002", "--connections", "20"];
    stage.app(CLIENT, &load)?.report()
}

/// Applies an object, and sends twenty at once until some are refused; then takes it away, until none is.
fn squeezed(stage: &mut Stage, object: &str) -> Result<requests::Report> {
    // Connections that are kept from before would be used whatever their limit is now: it ends them all.
    set_mode(stage, V1, "refuse_ms=100")?;
    stage.wait("it answers again", super::RULES_DEADLINE, |stage| {
        Ok(ask(stage, CLIENT, "http://store-v1.mall/", &[])?.status == 200)
    })?;
    stage.apply(object)?;
    set_mode(stage, V1, "delay_ms=500")?;
    let mut last = requests::Report::default();
    let mut until = |stage: &mut Stage, what: &str, refused: bool| {
        let waited = stage.wait(what, super::RULES_DEADLINE, |stage| {
            last = together(stage)?;
            Ok((last.status(503) > 0) == refused)
        });
        waited.map(|_| std::mem::take(&mut last)).with_context(|| object.to_owned())
    };
    let report = until(stage, "some are refused", true);
    stage.delete(object)?;
    let after = until(stage, "none is refused without it", false);
    set_mode(stage, V1, "good")?;
    after.and(report)
}

fn breakers(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    let rows = [
        (policy("store-v1", "circuitBreaker: { maxRequests: 4 }"), 4),
        (rule("store-v1", "connectionPool: { http: { http2MaxRequests: 3 } }"), 3),
        (
            rule(
                "store-v1",
                "portLevelSettings: [{ port: { number: 80 }, connectionPool: { http: { http2MaxRequests: 2 } } }]",
            ),
            2,
        ),
        (SUBSET.to_owned(), 6),
        (policy("store-v1, sectionName: http", "circuitBreaker: { maxRequests: 7 }"), 7),
        (policy("store-v1", "circuitBreaker: { maxConnections: 4, maxPendingRequests: 1 }"), 5),
        (rule("store-v1", "connectionPool: { tcp: { maxConnections: 2 }, http: { http1MaxPendingRequests: 1 } }"), 3),
    ];
    for (object, wanted) in &rows {
        let report = squeezed(stage, object)?;
        let counted = (report.status(200), report.status(503));
        ensure!(counted == (*wanted, 20 - wanted), "{object}: {report:?}, not {wanted} passed");
    }
    seen.push(format!("breakers: {} ways to say it; of 20 at once exactly as many passed as each says", rows.len()));
    Ok(())
}

fn adaptive(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    let report = squeezed(stage, &policy("store-v1", "adaptiveConcurrency: { minRequests: 2, maxRequests: 6 }"))?;
    let passed = report.status(200);
    ensure!((2..=6).contains(&passed) && passed + report.status(503) == 20, "between 2 and 6 of 20: {report:?}");
    seen.push(format!("adaptive concurrency between 2 and 6: {passed} of 20 at once passed"));
    Ok(())
}

fn connections(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    let object = rule("store-v1", "connectionPool: { http: { maxRequestsPerConnection: 1 } }");
    stage.apply(&object)?;
    stage.wait("each request has a connection", super::RULES_DEADLINE, |stage| {
        counts(stage, V1)?;
        load(stage, "http://store-v1.mall/", "50", "1")?;
        let asked = counts(stage, V1)?;
        // One more: by which it is asked for its counts.
        Ok(asked.total == 50 && asked.connections >= 50)
    })?;
    stage.delete(&object)?;
    seen.push("maxRequestsPerConnection 1: 50 requests came over 50 connections".into());
    Ok(())
}

/// Fifty requests fail at once and want two further tries each, of which three may be under way.
fn budgets(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    let route = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: reach, namespace: mall }
spec:
  parentRefs:
    - { group: '', kind: Service, name: store-v1, port: 80 }
    - { group: networking.istio.io, kind: ServiceEntry, name: outer, port: 80 }
  rules:
    - retry: { codes: [503], attempts: 2, backoff: 1ms }
      backendRefs: [{ group: networking.istio.io, kind: Hostname, name: HOST, port: 80 }]
";
    let mut shown = Vec::new();
    let (service, outer) = (("store-v1.mall.svc.cluster.local", "store-v1.mall"), ("outer.example", "240.241.9.9"));
    for (object, (host, dialled)) in [
        (policy("store-v1", "retryBudget: { percent: 1, minRetries: 3 }"), service),
        (rule("store-v1", "retryBudget: { percent: 1, minRetryConcurrency: 3 }"), service),
        (rule("store-v1", "connectionPool: { http: { maxRetries: 3 } }"), service),
        (policy("store-v1", "circuitBreaker: { maxRetries: 3 }"), service),
        (backend_policy("", "Service", "store-v1"), service),
        (backend_policy("networking.istio.io", "ServiceEntry", "outer"), outer),
    ] {
        let (route, url) = (route.replace("HOST", host), format!("http://{dialled}/"));
        let objects = format!("{OUTER}{route}---\n{object}");
        stage.apply(&objects)?;
        shown.push(few_tries(stage, &url).with_context(|| object.clone())?.to_string());
        if object.contains("XBackendTrafficPolicy") {
            let words = ["spec.retryConstraint.minRetryRate.count"];
            stage.apply(&object.replace("count: 3", "count: some"))?;
            let reason = super::mistakes::wait_until_told(stage, "XBackendTrafficPolicy", "reach", &words)?;
            few_tries(stage, &url).context("the last good version of an XBackendTrafficPolicy is gone")?;
            seen.push(format!("XBackendTrafficPolicy: {reason}, {}; the last good version stays", words[0]));
        }
        stage.delete(&objects)?;
    }
    let ways = shown.len();
    seen.push(format!("retry budgets of 3, said in {ways} ways: of 50 requests that fail {} tries", shown.join(", ")));
    Ok(())
}

/// Waits until of fifty requests only a few are tried again: the three of each round, and the second round of those.
fn few_tries(stage: &mut Stage, url: &str) -> Result<u64> {
    set_mode(stage, V1, "status=503&delay_ms=400")?;
    let mut arrived = 0;
    let waited = stage.wait("few are tried again", super::RULES_DEADLINE, |stage| {
        counts(stage, V1)?;
        let load = ["requests", url, "--rate", "10000", "--seconds", "0.005", "--connections", "50"];
        let report: requests::Report = stage.app(CLIENT, &load)?.report()?;
        arrived = counts(stage, V1)?.total;
        Ok(report.status(503) == 50 && (53..=56).contains(&arrived))
    });
    set_mode(stage, V1, "good")?;
    waited.with_context(|| format!("{arrived} arrived"))?;
    Ok(arrived)
}

fn ejections(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    let often = "interval: 500ms, baseEjectionTime: 2s";
    let of_rule =
        |more: &str| rule("store", &format!("outlierDetection: {{ {often}, maxEjectionPercent: 50, {more} }}"));
    for (what, object, bad) in [
        (
            "TrafficPolicy",
            policy("store", &format!("outlierDetection: {{ {often}, maxEjectedPercent: 50, consecutiveErrors: 3 }}")),
            500,
        ),
        ("DestinationRule", of_rule("consecutive5xxErrors: 3"), 500),
        ("consecutiveGatewayErrors", of_rule("consecutive5xxErrors: 0, consecutiveGatewayErrors: 3"), 503),
        (
            "outlierDetectionHttpErrorCodes",
            of_rule("consecutive5xxErrors: 3, outlierDetectionHttpErrorCodes: [418]"),
            418,
        ),
    ] {
        stage.apply(&object)?;
        set_mode(stage, V1, &format!("status={bad}"))?;
        stage.wait("v1 is ejected", super::RULES_DEADLINE, |stage| {
            Ok(load(stage, "http://store.mall/", "100", "0.5")?.status(bad) == 0)
        })?;
        counts(stage, V1)?;
        let report = load(stage, "http://store.mall/", "100", "1")?;
        let asked = counts(stage, V1)?.total;
        // It comes back after its time, and is out again after three errors: of one look, or of the next.
        ensure!(asked <= 4 && report.status(200) >= report.due - 4, "{what}: v1 was asked {asked} times: {report:?}");
        set_mode(stage, V1, "good")?;
        stage.wait("v1 is back", Duration::from_secs(20), |stage| {
            let report = load(stage, "http://store.mall/", "100", "0.5")?;
            Ok(report.backends.get("v1").is_some_and(|answers| *answers > 5))
        })?;
        stage.delete(&object)?;
        let good = load(stage, "http://store.mall/", "100", "1")?;
        ensure!(good.status(200) == good.due && counts(stage, V2)?.total > 0, "both are good: {good:?}");
        seen.push(format!(
            "ejection ({what}): after 3 errors v1 was asked {asked} times of 100; it came back when good"
        ));
    }
    unheeded(stage, seen)?;
    refused(stage, seen)
}

/// Ejections are not heeded where too few would be left.
fn unheeded(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    let out = "consecutive5xxErrors: 3, interval: 500ms, baseEjectionTime: 2s, maxEjectionPercent: 50";
    let shares = "loadBalancer: { simple: ROUND_ROBIN }";
    let heeded = rule("store", &format!("{shares}, outlierDetection: {{ {out} }}"));
    stage.apply(&heeded)?;
    set_mode(stage, V1, "status=500")?;
    let until = |stage: &mut Stage, what: &str, least: u64, most: u64| {
        stage.wait(what, super::RULES_DEADLINE, |stage| {
            Ok((least..=most).contains(&load(stage, "http://store.mall/", "100", "1")?.status(500)))
        })
    };
    let ejected = until(stage, "v1 is ejected", 0, 4);
    stage.apply(&rule("store", &format!("{shares}, outlierDetection: {{ {out}, minHealthPercent: 60 }}")))?;
    let again = ejected.and_then(|_| until(stage, "one healthy of two is less than 60 %: v1 is asked", 45, 55));
    set_mode(stage, V1, "good")?;
    stage.delete(&heeded)?;
    again?;
    stage.wait("both are asked without the rule", super::RULES_DEADLINE, |stage| {
        Ok(load(stage, "http://store.mall/", "100", "0.5")?.backends.len() == 2)
    })?;
    seen.push("minHealthPercent 60: with one of two ejected both are asked again".into());
    Ok(())
}

/// Connections that fail are counted apart where that is wanted.
fn refused(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    let waypoint = super::waypoints(stage)?.pop().context("the mall has a waypoint")?;
    let left_out = |stage: &Stage| -> Result<usize> { Ok(stage.logs(&waypoint)?.matches("is left out for").count()) };
    let object = rule(
        "store",
        "outlierDetection: { splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailures: 3, \
         consecutive5xxErrors: 0, interval: 500ms, baseEjectionTime: 1s, maxEjectionPercent: 50 }",
    );
    stage.apply(&object)?;
    let before = left_out(stage)?;
    stage.wait("three connections that fail leave it out", super::RULES_DEADLINE * 2, |stage| {
        set_mode(stage, V1, "refuse_ms=1000")?;
        let report = load(stage, "http://store.mall/", "100", "1")?;
        ensure!(report.status(200) == report.due, "the other one answers: {report:?}");
        stage.wait("it listens again", super::RULES_DEADLINE, |stage| Ok(set_mode(stage, V1, "good").is_ok()))?;
        Ok(left_out(stage)? > before)
    })?;
    stage.delete(&object)?;
    stage.wait("v1 is back", super::RULES_DEADLINE, |stage| {
        Ok(load(stage, "http://store.mall/", "100", "0.5")?.backends.contains_key("v1"))
    })?;
    seen.push(
        "consecutiveLocalOriginFailures 3: connections that fail leave an endpoint out, and nobody notices".into(),
    );
    Ok(())
}
