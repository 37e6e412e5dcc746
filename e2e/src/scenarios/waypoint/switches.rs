//! Connections that become something else: WebSocket over either version of HTTP, and CONNECT, to endpoints of
//! either; rules, policies and telemetry count for them as for any request.

use super::{CLIENT, ask, waypoints};
use crate::{
    apps::{backend, switch},
    stage::Stage,
};
use anyhow::{Context, Result, ensure};
use std::time::Duration;

/// What is tried: (URL, options, status).
const WAYS: [(&str, &[&str], u16); 8] = [
    ("http://store.mall/ws", &[], 101),
    ("http://store.mall/ws", &["--http2"], 200),
    ("http://store.mall:90/ws", &[], 101),
    ("http://store.mall:90/ws", &["--http2"], 200),
    ("http://store.mall/", &["--what", "connect"], 200),
    ("http://store.mall/", &["--what", "connect", "--http2"], 200),
    ("http://store.mall:90/", &["--what", "connect"], 200),
    ("http://store.mall:90/", &["--what", "connect", "--http2"], 200),
];

/// By the authority of a CONNECT one version or the other, a refusal or an answer of the waypoint's own.
const RULES: &str = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: switches, namespace: mall }
spec:
  hosts: [store]
  http:
    - match: [{ authority: { exact: 'one.example:443' } }]
      route: [{ destination: { host: store-v1 } }]
    - match: [{ authority: { exact: 'two.example:443' } }]
      route: [{ destination: { host: store-v2 } }]
    - match: [{ authority: { exact: 'own.example:443' } }]
      directResponse: { status: 200, body: { string: mine } }
    - match: [{ uri: { prefix: / }, authority: { prefix: store. } }]
      route: [{ destination: { host: store } }]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: switches, namespace: mall }
spec:
  targetRefs: [{ group: '', kind: Service, name: store }]
  action: DENY
  rules: [{ to: [{ operation: { methods: [CONNECT], hosts: ['denied.example'] } }] }]
";

fn asked(stage: &Stage, url: &str, options: &[&str]) -> Result<switch::Report> {
    stage.app(CLIENT, &[&["switch", url], options].concat())?.report()
}

/// Runs the scenario.
pub fn run(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    super::open(stage)?;
    for (url, options, status) in WAYS {
        let report = asked(stage, url, options).with_context(|| format!("{url} {options:?}"))?;
        let header = |name: &str| report.headers.get(name).map_or("-", String::as_str);
        ensure!((report.status, report.echoed) == (status, 5), "{url} {options:?}: {report:?}");
        ensure!(header("x-backend").starts_with('v'), "a backend agreed: {report:?}");
        ensure!(header("content-length") == "-" && header("transfer-encoding") == "-", "no length: {report:?}");
        let wanted = if status == 101 { backend::accept(switch::KEY.as_bytes()) } else { "-".into() };
        ensure!(header("sec-websocket-accept") == wanted, "the agreement: {report:?}");
    }
    seen.push(format!(
        "WebSocket and CONNECT, callers and endpoints of HTTP/1.1 and HTTP/2: {} ways, bytes came back in all",
        WAYS.len()
    ));
    curl(stage, seen)?;
    rules(stage, seen)?;
    told(stage, seen)
}

/// A client that everybody has, through a backend that really tunnels.
fn curl(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    for proxy in ["http://store.mall:80", "http://store.mall:90"] {
        let answer = ["curl", "-sS", "-f", "--max-time", "10", "-p", "-x", proxy, "http://localhost:8080/through"];
        let body = stage.exec(CLIENT, &answer)?.ok().with_context(|| proxy.to_owned())?;
        let arrived: super::Arrived = serde_json::from_str(&body).context("the backend describes the request")?;
        ensure!(arrived.path == "/through", "{arrived:?}");
        // Nobody reads what is in a tunnel.
        ensure!(arrived.header("x-request-id") == "-", "{arrived:?}");
    }
    let websocket = ["-H", "Connection: Upgrade", "-H", "Upgrade: websocket", "-H", "Sec-WebSocket-Version: 13"];
    let refused = ask(stage, CLIENT, "http://store.mall/status/404", &websocket)?;
    ensure!(refused.status == 404, "an endpoint that does not agree is heard: {refused:?}");
    seen.push("curl -p through CONNECT to two ports: its request arrives as it was sent".into());
    Ok(())
}

/// Rules go by the authority, and policies count.
fn rules(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    stage.apply(RULES)?;
    let rows = [
        ("one.example:443", 200, "v1"),
        ("two.example:443", 200, "v2"),
        ("denied.example:443", 403, "-"),
        // An answer of the waypoint's own is no agreement, whatever it says.
        ("own.example:443", 502, "-"),
        ("else.example:443", 404, "-"),
    ];
    for (authority, status, backend) in rows {
        for http in [&[][..], &["--http2"]] {
            let options = [&["--what", "connect", "--authority", authority], http].concat();
            let mut last = None;
            let waited = stage.wait("rules and policies count", super::RULES_DEADLINE, |stage| {
                let report = asked(stage, "http://store.mall/", &options)?;
                let by = report.headers.get("x-backend").map_or("-", String::as_str) == backend;
                let good = report.status == status && by;
                last = Some(report);
                Ok(good)
            });
            waited.with_context(|| format!("{authority} {http:?}: {last:?}, not {status} by {backend}"))?;
        }
    }
    for http in [&[][..], &["--http2"]] {
        let report = asked(stage, "http://store.mall/ws", http)?;
        ensure!(report.echoed == 5, "WebSocket goes by path: {report:?}");
    }
    stage.delete(RULES)?;
    seen.push(format!(
        "CONNECT by authority: {} authorities routed, refused, unknown, each over both versions",
        rows.len()
    ));
    Ok(())
}

/// The log and the metrics tell of it.
fn told(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    let waypoint = waypoints(stage)?.pop().context("the mall has a waypoint")?;
    for line in [
        "\"CONNECT / HTTP/1.1\" 200",
        "\"CONNECT / HTTP/2\" 200",
        "\"GET /ws HTTP/1.1\" 101",
        "\"CONNECT /ws HTTP/2\" 200",
    ] {
        stage.wait(&format!("{line} is in the log"), Duration::from_secs(10), |stage| {
            Ok(stage.logs(&waypoint)?.contains(line))
        })?;
    }
    let text = stage.metrics(&waypoint, 15020)?;
    let counted = |code: &str| {
        text.lines().any(|line| {
            line.starts_with("istio_requests_total{")
                && line.contains(&format!("response_code=\"{code}\""))
                && line.contains("destination_service_name=\"store\"")
        })
    };
    ensure!(counted("101") && counted("403") && counted("502"), "istio_requests_total has them");
    seen.push("log and istio_requests_total tell of WebSocket and CONNECT".into());
    Ok(())
}
