//! What one answer does not show: copies of requests, and requests that stay together.

use super::{Answer, CLIENT, ask, counts};
use crate::{apps::requests, stage::Stage};
use anyhow::{Result, ensure};
use std::collections::BTreeSet;

const V1: &str = "mall/store-v1";
const V2: &str = "mall/store-v2";
/// Requests that are sent of a kind.
const REQUESTS: u64 = 400;

fn route(rule: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{ name: copies, namespace: mall }}\n\
         spec:\n  parentRefs: [{{ group: '', kind: Service, name: store, port: 80 }}]\n  rules:\n    - {rule}\n"
    )
}

/// Runs the scenario.
pub fn run(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    super::open(stage)?;
    let quarter = (REQUESTS / 8, REQUESTS * 3 / 8);
    for (what, objects, (fewest, most)) in [
        ("100 %", filters(&[copy("percent: 100")]), (REQUESTS, REQUESTS)),
        ("25 %", filters(&[copy("percent: 25")]), quarter),
        ("1 of 4", filters(&[copy("fraction: { numerator: 1, denominator: 4 }")]), quarter),
        (
            "100 % and 50 %",
            filters(&[copy("percent: 100"), copy("percent: 50")]),
            (REQUESTS + REQUESTS / 3, REQUESTS + REQUESTS * 2 / 3),
        ),
        (
            "25 % of a VirtualService",
            virtual_service("mirror: { host: store-v2 }, mirrorPercentage: { value: 25 }"),
            quarter,
        ),
        (
            "100 % and 25 % of a VirtualService",
            virtual_service(
                "mirrors: [{ destination: { host: store-v2 } }, { destination: { host: store-v2 }, percentage: { value: 25 } }]",
            ),
            (REQUESTS + quarter.0, REQUESTS + quarter.1),
        ),
        ("25 % of a GRPCRoute", filters(&[copy("percent: 25")]).replace("kind: HTTPRoute", "kind: GRPCRoute"), quarter),
    ] {
        mirror(stage, seen, what, &objects, fewest, most)?;
    }
    sessions(stage, seen)?;
    ages(stage, seen)?;
    hashes(stage, seen)
}

/// A GRPCRoute of the same service and port with this rule.
fn grpc_route(rule: &str) -> String {
    route(rule).replace("kind: HTTPRoute", "kind: GRPCRoute")
}

/// A filter that copies a share of requests to the other version.
fn copy(share: &str) -> String {
    format!("{{ type: RequestMirror, requestMirror: {{ backendRef: {{ name: store-v2, port: 80 }}, {share} }} }}")
}

/// A route with filters. What is answered by it is marked.
fn filters(all: &[String]) -> String {
    route(&format!(
        "filters: [{}, {{ type: ResponseHeaderModifier, responseHeaderModifier: {{ set: [{{ name: x-copied, value:          'yes' }}] }} }}]\n      backendRefs: [{{ name: store-v1, port: 80 }}]",
        all.join(", ")
    ))
}

/// A VirtualService with a mirror. What is answered by it is marked.
fn virtual_service(mirror: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{ name: copies, namespace: mall }}\n\
         spec:\n  hosts: [store]\n  http: [{{ route: [{{ destination: {{ host: store-v1 }} }}], headers: {{ response: \
         {{ set: {{ x-copied: 'yes' }} }} }}, {mirror} }}]\n"
    )
}

/// The other version gets a copy; its answers are thrown away, also when they are errors.
fn mirror(stage: &mut Stage, seen: &mut Vec<String>, what: &str, objects: &str, fewest: u64, most: u64) -> Result<()> {
    stage.apply(objects)?;
    stage.wait("the mirror is in force", super::RULES_DEADLINE, |stage| {
        Ok(get(stage, &[])?.header("x-copied") == "yes")
    })?;
    super::set_mode(stage, V2, "status=500")?;
    counts(stage, V1)?;
    counts(stage, V2)?;
    let load =
        ["requests", "http://store.mall/", "--rate", "200", "--seconds", "2", "--method", "POST", "--body", "3000"];
    let report: requests::Report = stage.app(CLIENT, &load)?.report()?;
    ensure!(report.status(200) == REQUESTS, "the caller sees nothing of the mirror: {report:?}");
    ensure!(counts(stage, V1)?.total == REQUESTS, "each request goes to its backend once");
    let mut copies = 0;
    stage.wait(&format!("{fewest} to {most} copies arrive"), super::RULES_DEADLINE, |stage| {
        copies += counts(stage, V2)?.total;
        Ok(copies >= fewest)
    })?;
    ensure!(copies <= most, "{what}: {copies} copies of {REQUESTS} requests");
    super::set_mode(stage, V2, "good")?;
    stage.delete(objects)?;
    stage.wait("the mirror is gone", super::RULES_DEADLINE, |stage| Ok(get(stage, &[])?.header("x-copied") == "-"))?;
    seen.push(format!("a mirror of {what}: {copies} copies of {REQUESTS} requests; the caller sees nothing of it"));
    Ok(())
}

fn get(stage: &Stage, options: &[&str]) -> Result<Answer> {
    ask(stage, CLIENT, "http://store.mall/", options)
}

/// Who answers so many requests with these options.
fn answering(stage: &Stage, options: &[&str]) -> Result<BTreeSet<String>> {
    (0..12).map(|_| Ok(get(stage, options)?.header("x-backend").to_owned())).collect()
}

/// A session is a header, or a cookie, that the first answer gives.
fn sessions(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    for (of, kind, name) in [
        (route as fn(&str) -> String, "Header", "x-session"),
        (route, "Cookie", "session"),
        (grpc_route, "Header", "x-session"),
        (grpc_route, "Cookie", "session"),
    ] {
        let rule = of(&format!(
            "sessionPersistence: {{ type: {kind}, sessionName: {name} }}\n      backendRefs: [{{ name: store, port: 80 }}]"
        ));
        stage.apply(&rule)?;
        let mut token = String::new();
        stage.wait("a session begins", super::RULES_DEADLINE, |stage| {
            let answer = get(stage, &[])?;
            token = match kind {
                "Header" => format!("{name}: {}", answer.header(name)),
                _ => format!("cookie: {}", answer.header("set-cookie").split(';').next().unwrap_or("-")),
            };
            Ok(!token.ends_with('-'))
        })?;
        let kept = answering(stage, &["-H", &token])?;
        ensure!(kept.len() == 1, "a session ({kind}) went to {kept:?}");
        // The faster of two is preferred, and one may be the faster for a while.
        stage.wait("requests without one go to both", super::RULES_DEADLINE, |stage| {
            Ok(answering(stage, &[])?.len() == 2)
        })?;
        stage.delete(&rule)?;
    }
    seen.push(
        "sessions of HTTPRoutes and GRPCRoutes: requests with the header or cookie go to one endpoint, others to both"
            .into(),
    );
    Ok(())
}

/// A session ends at its time, and a cookie that outlives the browser says when.
fn ages(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    let session = |rest: &str| {
        route(&format!("sessionPersistence: {{ {rest} }}\n      backendRefs: [{{ name: store, port: 80 }}]"))
    };
    let short = session("type: Header, sessionName: x-short, absoluteTimeout: 2s");
    stage.apply(&short)?;
    let mut value = String::new();
    stage.wait("a session begins", super::RULES_DEADLINE, |stage| {
        value = get(stage, &[])?.header("x-short").to_owned();
        Ok(value != "-")
    })?;
    let began = std::time::Instant::now();
    let option = format!("x-short: {value}");
    ensure!(get(stage, &["-H", &option])?.header("x-short") == "-", "it goes on for now");
    stage.wait("it ends, and another one begins", super::RULES_DEADLINE, |stage| {
        let next = get(stage, &["-H", &option])?.header("x-short").to_owned();
        Ok(next != "-" && next != value)
    })?;
    let lived = began.elapsed();
    ensure!((1.0..4.0).contains(&lived.as_secs_f64()), "a session of 2 s lived {lived:?}");
    stage.apply(&session(
        "type: Cookie, sessionName: long, absoluteTimeout: 1h, cookieConfig: { lifetimeType: Permanent }",
    ))?;
    stage.wait("a permanent cookie says how long it lives", super::RULES_DEADLINE, |stage| {
        let cookie = get(stage, &[])?.header("set-cookie").to_owned();
        Ok(cookie.starts_with("long=") && cookie.contains("; Max-Age=3600"))
    })?;
    stage.apply(&session("type: Cookie"))?;
    stage.wait(
        "a session without a name has one, and its cookie goes with the browser",
        super::RULES_DEADLINE,
        |stage| {
            let cookie = get(stage, &[])?.header("set-cookie").to_owned();
            Ok(cookie.starts_with("session-mall-copies-") && !cookie.contains("Max-Age"))
        },
    )?;
    stage.delete(&short)?;
    seen.push(format!(
        "sessions: one of 2 s ended after {:.1} s; cookies say Max-Age, or nothing",
        lived.as_secs_f64()
    ));
    Ok(())
}

/// Requests of one key go to one endpoint, by ring and by Maglev.
fn hashes(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    for (algorithm, key, option) in [
        ("ringHash: { minimumRingSize: 512 }", "httpHeaderName: x-user", "x-user: "),
        ("maglev: { tableSize: 1021 }", "httpHeaderName: x-user", "x-user: "),
        ("ringHash: {}", "httpCookie: { name: who, ttl: 0s }", "cookie: who="),
    ] {
        let rule = format!(
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{ name: hash, namespace: mall }}\n\
             spec: {{ host: store, trafficPolicy: {{ loadBalancer: {{ consistentHash: {{ {algorithm}, {key} }} }} }} }}\n"
        );
        stage.apply(&rule)?;
        stage.wait("one key has one endpoint", super::RULES_DEADLINE, |stage| {
            Ok(answering(stage, &["-H", &format!("{option}ann")])?.len() == 1)
        })?;
        let mut all = BTreeSet::new();
        for user in 0..16 {
            let mine = answering(stage, &["-H", &format!("{option}user-{user}")])?;
            ensure!(mine.len() == 1, "{algorithm}, {key}: one key went to {mine:?}");
            all.extend(mine);
        }
        ensure!(all.len() == 2, "{algorithm}, {key}: 16 keys all went to {all:?}");
        stage.delete(&rule)?;
    }
    seen.push("consistent hashing: ring and Maglev, by header and cookie: one endpoint a key, both used".into());
    Ok(())
}
