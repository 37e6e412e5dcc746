//! A waypoint on demand: applied, it is there; deleted, its services are closed; no longer asked for, L4 is back.

use crate::{
    scenarios::waypoint::{CLIENT, MALL, ask, waypoints},
    stage::Stage,
};
use anyhow::{Context, Result, ensure};
use std::time::{Duration, Instant};

/// A Gateway is programmed this soon after it was applied.
const PROGRAMMED_MAX: Duration = Duration::from_secs(10);
/// A change of what a namespace asks for is in the proxies.
const CHANGED_DEADLINE: Duration = Duration::from_secs(15);
/// What a Gateway owns is collected by Kubernetes.
const COLLECTED_DEADLINE: Duration = Duration::from_secs(60);

/// A Gateway by itself, as a user applies it.
const GATEWAY: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: { name: waypoint, namespace: mall }
spec:
  gatewayClassName: istio-waypoint
  listeners: [{ name: mesh, port: 15008, protocol: HBONE }]
";

/// Runs the scenario.
pub fn run(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    stage.apply("apiVersion: v1\nkind: Namespace\nmetadata: { name: mall }\n")?;
    let began = Instant::now();
    stage.apply(GATEWAY)?;
    let wait = ["wait", "--for=condition=Programmed", "gateway/waypoint", "--namespace", "mall", "--timeout=60s"];
    stage.cluster().kubectl(&wait)?;
    let took = began.elapsed();
    ensure!(took <= PROGRAMMED_MAX, "the Gateway was programmed only after {:.1} s", took.as_secs_f64());
    let gateway = stage.cluster().get(&["gateway", "waypoint", "--namespace", "mall"])?;
    let address = gateway["status"]["addresses"][0]["value"].as_str().context("a programmed Gateway has an address")?;
    seen.push(format!("programmed after {:.1} s, at {address}", took.as_secs_f64()));

    stage.apply(MALL)?;
    stage.ready(&[CLIENT, "mall/store-v1", "mall/store-v2"])?;
    stage.enrolled(&[CLIENT, "mall/store-v1", "mall/store-v2"], true)?;
    through(stage, true)?;
    seen.push("requests go through it".into());

    stage.cluster().kubectl(&["delete", "gateway", "waypoint", "--namespace", "mall"])?;
    stage.wait("the store is closed without its waypoint", CHANGED_DEADLINE, |stage| {
        Ok(ask(stage, CLIENT, "http://store.mall/", &["--max-time", "2"]).is_err())
    })?;
    stage.wait("what the Gateway owned is gone", COLLECTED_DEADLINE, |stage| {
        let kinds = "deployments,services,serviceaccounts,horizontalpodautoscalers,poddisruptionbudgets,pods";
        let label = "gateway.networking.k8s.io/gateway-name=waypoint";
        let left =
            stage.cluster().kubectl(&["get", kinds, "--namespace", "mall", "--selector", label, "-o", "name"])?;
        Ok(left.trim().is_empty())
    })?;
    seen.push("deleted: its services are closed, and nothing of it is left".into());

    stage.cluster().kubectl(&["label", "namespace", "mall", "istio.io/use-waypoint-"])?;
    through(stage, false)?;
    seen.push("no longer asked for: the services answer again, at L4".into());
    Ok(())
}

/// The store answers, through the waypoint or not.
fn through(stage: &mut Stage, waypoint: bool) -> Result<()> {
    stage.wait(&format!("the store answers; through the waypoint: {waypoint}"), CHANGED_DEADLINE, |stage| {
        Ok(ask(stage, CLIENT, "http://store.mall/", &[]).is_ok_and(|answer| {
            // Only a waypoint says how long the store took.
            answer.status == 200 && answer.headers.contains_key("x-envoy-upstream-service-time") == waypoint
        }))
    })?;
    ensure!(waypoints(stage)?.is_empty() != waypoint, "there are pods of the waypoint exactly if it is there");
    Ok(())
}
