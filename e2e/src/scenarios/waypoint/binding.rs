//! What is behind which waypoint: by service and by pod, opted out, of another namespace, and around it.
//!
//! What went through a waypoint has an `x-request-id`; the callers here send none.

use super::{CLIENT, GUEST, ask, mistakes::wait_until_told};
use crate::stage::Stage;
use anyhow::{Context, Result, ensure};

/// A waypoint starts, gets its certificate and is told to node proxies.
const STARTED: std::time::Duration = std::time::Duration::from_secs(60);

/// A backend of its own, with what its service and its pod are labelled with.
fn solo(service: &str, pod: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{ name: solo, namespace: mall, labels: {{ app: solo{pod} }} }}\nspec:\n  \
         nodeName: node2\n  containers: [{{ name: backend, command: [E2E, app, backend, --name, solo] }}]\n---\n\
         apiVersion: v1\nkind: Service\nmetadata: {{ name: solo, namespace: mall{service} }}\nspec: {{ selector: {{ app: solo }}, \
         ports: [{{ name: http, port: 80, targetPort: 8080 }}] }}\n"
    )
}

/// A waypoint for whom and from where, in a namespace of its own.
fn gate(namespace: &str, labels: &str, from: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Namespace\nmetadata: {{ name: {namespace}, labels: {{ istio.io/dataplane-mode: ambient }} }}\n---\n\
         apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{ name: gate, namespace: {namespace}, labels: {{ \
         {labels} }} }}\nspec:\n  gatewayClassName: istio-waypoint\n  listeners: [{{ name: mesh, port: 15008, protocol: HBONE, \
         allowedRoutes: {{ namespaces: {{ from: {from} }} }} }}]\n"
    )
}

/// How a request to a URL ended.
#[derive(Debug, PartialEq, Eq)]
enum Way {
    Through,
    Around,
    Refused,
}

fn way(stage: &Stage, pod: &str, url: &str) -> Result<Way> {
    Ok(match ask(stage, pod, url, &["--max-time", "3"]) {
        Err(_) => Way::Refused,
        Ok(answer) if answer.status != 200 => Way::Refused,
        Ok(answer) if answer.arrived()?.header("x-request-id") == "-" => Way::Around,
        Ok(_) => Way::Through,
    })
}

fn goes(stage: &mut Stage, what: &str, pod: &str, url: &str, wanted: Way) -> Result<()> {
    let mut last = None;
    let waited = stage.wait(what, STARTED, |stage| {
        last = Some(way(stage, pod, url)?);
        Ok(last.as_ref() == Some(&wanted))
    });
    waited.map(drop).with_context(|| format!("{pod} → {url}: {last:?}, not {wanted:?}"))
}

/// Runs the scenario.
pub fn run(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    super::open(stage)?;
    stage.apply(&solo("", ""))?;
    stage.ready(&["mall/solo"])?;
    services(stage, seen)?;
    pods(stage, seen)?;
    stage.delete(&solo("", ""))?;
    namespaces(stage, seen)
}

fn services(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    let address = std::net::SocketAddr::new(stage.pod_addresses("mall/solo")?[0], 8080);
    let direct = format!("http://{address}/");
    let url = "http://solo.mall/";
    goes(stage, "as its namespace says", CLIENT, url, Way::Through)?;
    goes(stage, "its pod is closed to others", CLIENT, &direct, Way::Refused)?;
    stage.apply(&solo(", annotations: { istiod-lite.io/allow-around-waypoint: 'true' }", ""))?;
    goes(stage, "its pod is open where that is allowed", CLIENT, &direct, Way::Around)?;
    goes(stage, "and its service goes through", CLIENT, url, Way::Through)?;
    stage.apply(&solo(", labels: { istio.io/use-waypoint: none }", ""))?;
    goes(stage, "a service that opts out", CLIENT, url, Way::Around)?;
    stage.apply(&solo(", labels: { istio.io/use-waypoint: missing }", ""))?;
    goes(stage, "a waypoint that is missing", CLIENT, url, Way::Refused)?;
    let reason = wait_until_told(stage, "a waypoint that is missing", "solo", &["missing"])?;
    ensure!(reason == "WaypointIsNotReady", "the reason is {reason}");
    stage.apply(&solo("", ""))?;
    goes(stage, "as its namespace says again", CLIENT, url, Way::Through)?;
    seen.push(
        "a service: through its namespace's waypoint, opted out, allowed around, closed where it is missing".into(),
    );
    Ok(())
}

fn pods(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    let gateway = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: { name: for-pods, namespace: mall, labels: { istio.io/waypoint-for: workload } }
spec:
  gatewayClassName: istio-waypoint
  listeners: [{ name: mesh, port: 15008, protocol: HBONE }]
";
    let direct = format!("http://{}/", std::net::SocketAddr::new(stage.pod_addresses("mall/solo")?[0], 8080));
    stage.apply(gateway)?;
    let around = ", annotations: { istiod-lite.io/allow-around-waypoint: 'true' }";
    stage.apply(&solo(around, ", istio.io/use-waypoint: for-pods"))?;
    goes(stage, "a pod behind a waypoint for workloads", CLIENT, &direct, Way::Through)?;
    stage.apply(&solo(", labels: { istio.io/use-waypoint: for-pods }", ""))?;
    goes(stage, "a service is not for it", CLIENT, "http://solo.mall/", Way::Around)?;
    let reason = wait_until_told(stage, "not for services", "solo", &["waypoint-for"])?;
    ensure!(reason == "UnsupportedTrafficType", "the reason is {reason}");
    stage.delete(gateway)?;
    stage.apply(&solo("", ""))?;
    goes(stage, "as before", CLIENT, "http://solo.mall/", Way::Through)?;
    seen.push("a pod goes through a waypoint for workloads, and a service does not".into());
    Ok(())
}

fn namespaces(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    let shop = "
apiVersion: v1
kind: Pod
metadata: { name: shop, namespace: visitors, labels: { app: shop } }
spec:
  nodeName: node1
  containers: [{ name: backend, command: [E2E, app, backend, --name, shop] }]
---
apiVersion: v1
kind: Service
metadata: { name: shop, namespace: visitors, labels: { istio.io/use-waypoint: gate, istio.io/use-waypoint-namespace: gates } }
spec: { selector: { app: shop }, ports: [{ name: http, port: 80, targetPort: 8080 }] }
";
    let url = "http://shop.visitors/";
    stage.apply(&gate("gates", "", "All"))?;
    stage.apply(shop)?;
    stage.ready(&["visitors/shop"])?;
    goes(stage, "a waypoint of another namespace that admits all", GUEST, url, Way::Through)?;
    stage.apply(&gate("gates", "", "Same"))?;
    goes(stage, "one that admits only its own", GUEST, url, Way::Refused)?;
    let reason = wait_until_told(stage, "not admitted", "shop", &["gate"])?;
    ensure!(reason == "AttachmentDenied", "the reason is {reason}");
    stage.apply(&gate(
        "gates",
        "",
        "Selector, selector: { matchLabels: { kubernetes.io/metadata.name: visitors } }",
    ))?;
    goes(stage, "one that admits by label", GUEST, url, Way::Through)?;
    stage.apply(&gate("gates", "istio.io/waypoint-for: none", "All"))?;
    goes(stage, "one that is for nothing", GUEST, url, Way::Around)?;
    stage.delete(shop)?;
    stage.delete(&gate("gates", "", "All"))?;
    seen.push(
        "another namespace's waypoint: admitted by All and by label, refused by Same; for none it is left out".into(),
    );
    Ok(())
}
