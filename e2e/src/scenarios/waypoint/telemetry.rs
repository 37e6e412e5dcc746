//! What a waypoint tells: the series that Istio's dashboards ask for, in a real Prometheus, and its log.

use super::{CLIENT, ask, dashboards, waypoints};
use crate::{apps::requests, scenarios::metrics, stage::Stage};
use anyhow::{Context, Result, ensure};
use std::time::Duration;

/// A port that is not read as HTTP, so that there are connections to tell of.
const STREAM: &str = "
apiVersion: v1
kind: Service
metadata: { name: stream, namespace: mall }
spec: { selector: { app: store }, ports: [{ name: tcp, port: 9000, targetPort: 8080 }] }
";

/// Runs the scenario.
pub fn run(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    super::open(stage)?;
    let pod = waypoints(stage)?.pop().context("the mall has a waypoint")?;
    stage.apply(STREAM)?;
    stage.wait("connections pass", super::RULES_DEADLINE, |stage| Ok(stage.answers(CLIENT, "stream.mall:9000")))?;
    let load =
        ["requests", "http://store.mall/", "--rate", "50", "--seconds", "60", "--method", "POST", "--body", "500"];
    let load = stage.app(CLIENT, &load)?;
    let streams = stage.load(CLIENT, "stream.mall:9000", 20, 60)?;
    metrics::promtool(&stage.metrics(&pod, 15020)?).context("metrics of the waypoint")?;
    seen.push("promtool is content with the waypoint's metrics".into());
    let address =
        stage.pod_addresses(&pod)?.into_iter().find(std::net::IpAddr::is_ipv4).context("it has an address")?;
    let server = metrics::server(stage, &[("waypoint", format!("{address}:15020"))])?;
    let queries = dashboards::queries();
    for query in &queries {
        stage.wait(&format!("{query} returns a series"), Duration::from_secs(20), |stage| {
            let value = metrics::query(stage, query).ok().and_then(|value| value.parse::<f64>().ok());
            Ok(value.is_some_and(|value| value.is_finite() && value > 0.0))
        })?;
    }
    server.stop()?;
    streams.stop()?;
    stage.delete(STREAM)?;
    let report: requests::Report = load.report()?;
    ensure!(report.status(200) == report.due, "{report:?}");
    seen.push(format!("a real Prometheus: all {} queries of Istio's dashboards return series", queries.len()));

    let path = "/find-me-in-the-log?x=1";
    let trace = "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let answer = ask(stage, CLIENT, &format!("http://store.mall{path}"), &["-H", trace])?;
    let arrived = answer.arrived()?;
    ensure!(arrived.header("x-request-id").len() == 36, "x-request-id is {}", arrived.header("x-request-id"));
    let parent = arrived.header("traceparent");
    ensure!(parent.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-"), "traceparent is {parent}");
    stage.wait("the request is in the log", Duration::from_secs(10), |stage| {
        let log = stage.logs(&pod)?;
        Ok(log.lines().any(|line| line.contains(&format!("\"GET {path} HTTP/1.1\" 200"))))
    })?;
    seen.push("one line of the log in Istio's format, a request id, and the caller's trace goes on".into());
    said_by_users(stage, seen, &pod)?;
    silenced(stage, seen, &pod)?;
    marked(stage, seen, &pod)
}

/// Whether the log of the waypoint has a request.
fn logged(stage: &Stage, pod: &str, path: &str) -> Result<bool> {
    Ok(stage.logs(pod)?.lines().any(|line| line.contains(&format!("\"GET {path} HTTP/1.1\""))))
}

/// A Telemetry; without a service it is for its whole namespace.
fn of(namespace: &str, name: &str, service: Option<&str>, said: &str) -> String {
    let target = service.map(|name| format!("  targetRefs: [{{ group: '', kind: Service, name: {name} }}]\n"));
    format!(
        "apiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {{ name: {name}, namespace: {namespace} }}\nspec:\n\
         {}  {said}\n---\n",
        target.unwrap_or_default()
    )
}

/// The configuration of the mesh.
fn mesh(said: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{ name: istio, namespace: istio-system }}\ndata:\n  mesh: |\n    {said}\n"
    )
}

/// The log can be silent for a namespace, for the mesh, and by the mesh's configuration; a nearer place has the last word.
fn silenced(stage: &mut Stage, seen: &mut Vec<String>, pod: &str) -> Result<()> {
    let silent = "accessLogging: [{ disabled: true }]";
    let loud = of("mall", "loud", Some("store-v2"), "accessLogging: [{ disabled: false }]");
    let providers = "extensionProviders: [{ name: file, envoyFileAccessLog: { path: /dev/stdout } }, { name: numbers, prometheus: {} }]";
    let by_provider = of("mall", "loud", Some("store-v2"), "accessLogging: [{ providers: [{ name: file }] }]");
    let rows = [
        ("the namespace", of("mall", "silent", None, silent) + &loud, true),
        ("the mesh", of("istio-system", "silent", None, silent) + &loud, true),
        ("accessLogFile", mesh(&format!("accessLogFile: ''\n    {providers}")) + "---\n" + &by_provider, true),
        (
            "defaultProviders",
            mesh(&format!(
                "accessLogFile: ''\n    {providers}\n    defaultProviders: {{ accessLogging: [file], metrics: [numbers] }}"
            )),
            false,
        ),
    ];
    let mut n = 0;
    for (what, objects, quiet) in &rows {
        stage.apply(objects)?;
        let mut settle = |stage: &mut Stage, quiet: bool| {
            stage.wait(&format!("{what}: the log is silent: {quiet}"), Duration::from_secs(20), |stage| {
                n += 1;
                ask(stage, CLIENT, &format!("http://store.mall/quiet-{n}"), &[])?;
                ask(stage, CLIENT, &format!("http://store-v2.mall/loud-{n}"), &[])?;
                // Lines are written in order: where the later one is, the earlier one is not to come.
                let came = stage
                    .wait("the other is", Duration::from_secs(2), |stage| logged(stage, pod, &format!("/loud-{n}")));
                Ok(came.is_ok() && logged(stage, pod, &format!("/quiet-{n}"))? != quiet)
            })
        };
        settle(stage, *quiet)?;
        stage.delete(objects)?;
        settle(stage, false)?;
    }
    seen.push(format!("access log: {} ways to silence it, and who says otherwise nearer by", rows.len()));
    Ok(())
}

/// A metric by its own name; and what is said of callers' side concerns nobody here.
fn marked(stage: &mut Stage, seen: &mut Vec<String>, pod: &str) -> Result<()> {
    let said = of(
        "mall",
        "marked",
        Some("store"),
        "accessLogging: [{ match: { mode: CLIENT }, disabled: true }]\n  metrics: [{ overrides: [{ match: { customMetric: \
         istio_requests_total }, tagOverrides: { mark: { value: \"'on'\" } } }] }]",
    );
    stage.apply(&said)?;
    stage.wait("a metric is marked by its name", Duration::from_secs(20), |stage| {
        ask(stage, CLIENT, "http://store.mall/", &[])?;
        let text = stage.metrics(pod, 15020)?;
        Ok(text.lines().any(|line| line.starts_with("istio_requests_total{") && line.contains("mark=\"on\"")))
    })?;
    ask(stage, CLIENT, "http://store.mall/of-both-sides", &[])?;
    stage.wait("mode CLIENT silences no waypoint", Duration::from_secs(10), |stage| {
        logged(stage, pod, "/of-both-sides")
    })?;
    stage.delete(&said)?;
    seen.push("Telemetry: a metric by its own name is marked, and mode CLIENT concerns no waypoint".into());
    Ok(())
}

/// What users say of log and metrics holds.
fn said_by_users(stage: &mut Stage, seen: &mut Vec<String>, pod: &str) -> Result<()> {
    let telemetry = |said: &str| {
        format!(
            "apiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {{ name: said, namespace: mall }}\nspec:\n  \
             targetRefs: [{{ group: '', kind: Service, name: store }}]\n  {said}\n"
        )
    };
    let get = |stage: &Stage, path: &str| ask(stage, CLIENT, &format!("http://store.mall{path}"), &[]);
    stage.apply(&telemetry("accessLogging: [{ filter: { expression: 'response.code >= 400' } }]"))?;
    let mut n = 0;
    stage.wait("good requests are not logged", Duration::from_secs(20), |stage| {
        n += 1;
        get(stage, &format!("/good-{n}"))?;
        get(stage, &format!("/status/404?n={n}"))?;
        // Lines are written in order: where the later one is, the earlier one is not to come.
        stage
            .wait("the other is", Duration::from_secs(5), |stage| logged(stage, pod, &format!("/status/404?n={n}")))?;
        Ok(!logged(stage, pod, &format!("/good-{n}"))?)
    })?;
    stage.apply(&telemetry(
        "metrics: [{ overrides: [{ match: { metric: REQUEST_COUNT }, tagOverrides: { kind: { value: \"request.headers['x-kind']\" }, \
         response_flags: { operation: REMOVE } } }, { match: { metric: REQUEST_SIZE }, disabled: true }] }]",
    ))?;
    stage.wait("a label of the user's stands, and another does not", Duration::from_secs(20), |stage| {
        ask(stage, CLIENT, "http://store.mall/labelled", &["-H", "x-kind: cake"])?;
        let text = stage.metrics(pod, 15020)?;
        let mut lines = text.lines().filter(|line| line.starts_with("istio_requests_total{"));
        Ok(lines.any(|line| line.contains("kind=\"cake\"") && !line.contains("response_flags=")))
    })?;
    stage.delete(&telemetry(""))?;
    seen.push("Telemetry: a filter of the log, a label that is added and one that is taken away".into());
    Ok(())
}
