//! Services that a waypoint asks over gRPC, written by others' library: an authorizer, a rate limit
//! service, and a collector of traces that reads the spans.

use super::{Answer, CLIENT, ask, tls::indented};
use crate::stage::Stage;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::time::Duration;

const OUTSIDE: &str = "mall/outside";
/// Spans are sent in batches, a second apart.
const TOLD: Duration = Duration::from_secs(20);

const MESH: &str = "
apiVersion: v1
kind: ConfigMap
metadata: { name: istio, namespace: istio-system }
data:
  mesh: |
    extensionProviders:
      - name: grpc-door
        envoyExtAuthzGrpc: { service: outside.mall.svc.cluster.local, port: 9000, timeout: 2s }
      - name: traces
        opentelemetry: { service: outside.mall.svc.cluster.local, port: 9000 }
";

const DOOR: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: grpc-door, namespace: mall }
spec:
  targetRefs: [{ group: '', kind: Service, name: store }]
  action: CUSTOM
  provider: { name: grpc-door }
  rules: [{ to: [{ operation: { paths: [/door/*] } }] }]
";

const LIMIT: &str = "
apiVersion: istiod-lite.io/v1alpha1
kind: TrafficPolicy
metadata: { name: outside, namespace: mall }
spec:
  targetRefs: [{ group: '', kind: Service, name: store }]
  rateLimit:
    - requests: 5
      per: 1m
      scope: Service
      keys: [{ type: Header, name: x-user }, { type: Path }]
      matches: [{ path: { type: PathPrefix, value: /limited } }]
      service: { host: outside.mall.svc.cluster.local, port: 9000, domain: mall, timeout: 2s }
";

const TRACES: &str = "
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: { name: traces, namespace: mall }
spec:
  tracing:
    - providers: [{ name: traces }]
      randomSamplingPercentage: 100
      customTags: { floor: { literal: { value: second } }, buyer: { header: { name: x-user, defaultValue: nobody } } }
";

fn server() -> String {
    let program = indented(include_str!("outside_server.py"));
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{ name: outside, namespace: mall, labels: {{ app: outside }} }}\nspec:\n  \
         nodeName: node2\n  containers:\n    - name: python\n      command: [/usr/bin/python3, -c]\n      args:\n        \
         - |\n{program}---\n\
         apiVersion: v1\nkind: Service\nmetadata: {{ name: outside, namespace: mall, labels: {{ istio.io/use-waypoint: none }} }}\n\
         spec: {{ selector: {{ app: outside }}, ports: [{{ name: grpc, port: 9000 }}] }}\n"
    )
}

/// Runs the scenario.
pub fn run(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    super::open(stage)?;
    stage.apply(&server())?;
    stage.ready(&[OUTSIDE])?;
    stage.apply(MESH)?;
    door(stage, seen)?;
    traces(stage, seen)?;
    limit(stage, seen)?;
    stage.delete(MESH)
}

fn get(stage: &Stage, path: &str, options: &[&str]) -> Result<Answer> {
    ask(stage, CLIENT, &format!("http://store.mall{path}"), options)
}

/// What the services were asked, of a kind.
fn asked(stage: &Stage, kind: &str) -> Result<Vec<Value>> {
    let log = stage.logs(OUTSIDE)?;
    let said = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    Ok(said.filter(|said| said["asked"] == kind).collect())
}

fn door(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    stage.apply(DOOR)?;
    stage.wait("the authorizer opens", TOLD, |stage| {
        let answer = get(stage, "/door/yes?x=1", &["-H", "x-user: ann"])?;
        Ok(answer.status == 200 && answer.arrived()?.header("x-door") == "open")
    })?;
    let told = asked(stage, "check")?.pop().context("it was asked")?;
    let as_it_is = |key: &str| told[key].as_str().unwrap_or_default().to_owned();
    ensure!(as_it_is("principal") == "spiffe://cluster.local/ns/mall/sa/client", "who calls: {told}");
    ensure!(
        (as_it_is("path"), as_it_is("user")) == ("/door/yes?x=1".into(), "ann".into()),
        "what is asked for: {told}"
    );
    let refused = get(stage, "/door/no", &[])?;
    ensure!((refused.status, refused.body.trim()) == (402, "pay first"), "refused in its own words: {refused:?}");
    ensure!(get(stage, "/else", &[])?.arrived()?.header("x-door") == "-", "nobody is asked about other paths");
    stage.apply(&MESH.replacen("port: 9000", "port: many", 1))?;
    let mistake = "data.mesh.extensionProviders[0].envoyExtAuthzGrpc.port";
    stage.wait("the mistake in the mesh's configuration is told", TOLD, |stage| {
        Ok(stage.told("problems")?.contains(mistake) || stage.told("status")?.contains(mistake))
    })?;
    let still = get(stage, "/door/yes", &[])?;
    ensure!(
        still.status == 200 && still.arrived()?.header("x-door") == "open",
        "the last good version stays: {still:?}"
    );
    stage.apply(MESH)?;
    seen.push(format!("ConfigMap istio: {mistake}; the last good version stays"));
    stage.delete(DOOR)?;
    seen.push(
        "an authorizer over gRPC is told caller, path and headers; its header is added, its refusal is told".into(),
    );
    Ok(())
}

fn traces(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    stage.apply(TRACES)?;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let parent = format!("traceparent: 00-{trace}-00f067aa0ba902b7-01");
    let b3 = "b3: 80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1";
    let mut found = Value::Null;
    stage.wait("the collector gets the span of a caller's trace", TOLD, |stage| {
        get(stage, "/traced", &["-H", &parent, "-H", "x-user: ann"])?;
        found = asked(stage, "export")?.into_iter().find(|span| span["trace"] == trace).unwrap_or_default();
        Ok(!found.is_null())
    })?;
    ensure!(found["parent"] == "00f067aa0ba902b7", "it is below the caller's span: {found}");
    let said = &found["attributes"];
    ensure!(said["floor"] == "second" && said["buyer"] == "ann", "tags of the user's: {found}");
    ensure!(found["nanoseconds"].as_u64().is_some_and(|time| time > 0), "it took time: {found}");
    ensure!(found["resource"]["service.name"].is_string(), "whose span it is: {found}");
    stage.wait("the collector gets the span of a trace in B3", TOLD, |stage| {
        let arrived = get(stage, "/traced", &["-H", b3])?.arrived()?;
        ensure!(arrived.header("b3").starts_with("80f198ee56343ba864fe8b2a57d3eff7-"), "B3 goes on: {arrived:?}");
        let spans = asked(stage, "export")?;
        Ok(spans.iter().any(|span| span["trace"] == "80f198ee56343ba864fe8b2a57d3eff7"))
    })?;
    let before = asked(stage, "export")?.len();
    stage.wait("each request without a trace begins one, at 100 %", TOLD, |stage| {
        get(stage, "/begun", &[])?;
        Ok(asked(stage, "export")?.len() > before + 3)
    })?;
    stage.delete(TRACES)?;
    by_default(stage)?;
    seen.push("spans by the mesh's own configuration, and none where a Telemetry wants none".into());
    seen.push("a collector gets spans over OTLP: W3C and B3 go on, tags, 100 % sampling".into());
    Ok(())
}

/// What the configuration of the mesh says of traces holds without a Telemetry, which may say otherwise.
fn by_default(stage: &mut Stage) -> Result<()> {
    let said = "    enableTracing: true\n    defaultProviders: { tracing: [traces] }\n    defaultConfig: { tracing: { sampling: 100 } }\n";
    stage.apply(&format!("{}{said}", MESH.trim_end_matches(' ')))?;
    let before = asked(stage, "export")?.len();
    stage.wait("each request begins a trace, at 100 %", TOLD, |stage| {
        get(stage, "/by-default", &[])?;
        Ok(asked(stage, "export")?.len() > before + 3)
    })?;
    let silent = "
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: { name: silent, namespace: mall }
spec:
  targetRefs: [{ group: '', kind: Service, name: store }]
  tracing: [{ disableSpanReporting: true }]
";
    stage.apply(silent)?;
    let mut n = 0;
    stage.wait("a service tells no spans", TOLD, |stage| {
        n += 1;
        let ids = [format!("{n:032x}"), format!("{:032x}", n + 1_000_000)];
        for (host, id) in ["store", "store-v1"].iter().zip(&ids) {
            let parent = format!("traceparent: 00-{id}-00f067aa0ba902b7-01");
            ask(stage, CLIENT, &format!("http://{host}.mall/silent"), &["-H", &parent])?;
        }
        let told = |stage: &Stage, id: &str| -> Result<bool> {
            Ok(asked(stage, "export")?.iter().any(|span| span["trace"] == id))
        };
        // Spans are sent in order: where the later one is, the earlier one is not to come.
        stage.wait("the other tells its own", TOLD, |stage| told(stage, &ids[1]))?;
        Ok(!told(stage, &ids[0])?)
    })?;
    stage.delete(silent)?;
    stage.apply(MESH)
}

fn limit(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    stage.apply(LIMIT)?;
    stage.wait("the service limits", TOLD, |stage| {
        Ok(get(stage, "/limited", &["-H", "x-user: greedy"])?.status == 429)
    })?;
    ensure!(get(stage, "/limited", &["-H", "x-user: modest"])?.status == 200, "others pass");
    let told = asked(stage, "limit")?.pop().context("it was asked")?;
    ensure!(told["domain"] == "mall", "the domain: {told}");
    ensure!(told["entries"][0]["x-user"] == "modest" && told["entries"][0]["path"] == "/limited", "the keys: {told}");
    ensure!(get(stage, "/free", &["-H", "x-user: greedy"])?.status == 200, "other paths are not counted");
    stage.delete(&server())?;
    stage.wait("without an answer nobody passes", TOLD, |stage| {
        Ok(get(stage, "/limited", &["-H", "x-user: modest"])?.status == 500)
    })?;
    ensure!(get(stage, "/free", &[])?.status == 200, "other paths go on");
    stage.delete(LIMIT)?;
    seen.push("a rate limit service over gRPC is told domain and keys, refuses, and closes when it is gone".into());
    Ok(())
}
