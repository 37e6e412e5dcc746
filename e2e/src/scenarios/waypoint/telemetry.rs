//! What a waypoint tells: the series that Istio's dashboards ask for, in a real Prometheus, and its log.

use super::{CLIENT, ask, waypoints};
use crate::{apps::requests, scenarios::metrics, stage::Stage};
use anyhow::{Context, Result, ensure};
use std::time::Duration;

/// The queries of Istio's service and workload dashboards that concern waypoints, with what the
/// dashboards' variables are set to.
const QUERIES: &[&str] = &[
    "sum(irate(istio_requests_total{reporter=\"waypoint\",destination_service=~\"store.mall.svc.cluster.local\"}[1m]))",
    "sum(irate(istio_requests_total{reporter=\"waypoint\",destination_service=~\"store.mall.svc.cluster.local\",\
     response_code!~\"5.*\"}[1m])) / sum(irate(istio_requests_total{reporter=\"waypoint\",\
     destination_service=~\"store.mall.svc.cluster.local\"}[1m]))",
    "histogram_quantile(0.99, sum(irate(istio_request_duration_milliseconds_bucket{reporter=\"waypoint\",\
     destination_service=~\"store.mall.svc.cluster.local\"}[1m])) by (le))",
    "sum(irate(istio_requests_total{connection_security_policy=\"mutual_tls\",reporter=\"waypoint\",\
     destination_service=~\"store.mall.svc.cluster.local\",source_workload=~\"client\",\
     source_workload_namespace=~\"mall\"}[1m])) by (source_workload, source_workload_namespace, response_code)",
    "sum(irate(istio_requests_total{reporter=\"waypoint\",destination_service=~\"store.mall.svc.cluster.local\",\
     destination_workload=~\"store-v1\",destination_workload_namespace=~\"mall\"}[1m])) by (destination_workload, \
     destination_workload_namespace, response_code)",
    "histogram_quantile(0.50, sum(irate(istio_request_bytes_bucket{reporter=\"waypoint\",\
     destination_service=~\"store.mall.svc.cluster.local\"}[1m])) by (source_workload, source_workload_namespace, le))",
    "histogram_quantile(0.50, sum(irate(istio_response_bytes_bucket{reporter=\"waypoint\",\
     destination_service=~\"store.mall.svc.cluster.local\"}[1m])) by (source_workload, source_workload_namespace, le))",
    "sum by (source_principal) (istio_requests_total{source_principal=\"spiffe://cluster.local/ns/mall/sa/client\",\
     destination_principal=\"spiffe://cluster.local/ns/mall/sa/store\",request_protocol=\"http\"})",
];

/// Runs the scenario.
pub fn run(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    super::open(stage)?;
    let pod = waypoints(stage)?.pop().context("the mall has a waypoint")?;
    let load = stage.app(CLIENT, &["requests", "http://store.mall/", "--rate", "50", "--seconds", "30"])?;
    metrics::promtool(&stage.metrics(&pod, 15020)?).context("metrics of the waypoint")?;
    seen.push("promtool is content with the waypoint's metrics".into());
    let address =
        stage.pod_addresses(&pod)?.into_iter().find(std::net::IpAddr::is_ipv4).context("it has an address")?;
    let server = metrics::server(stage, &[("waypoint", format!("{address}:15020"))])?;
    for query in QUERIES {
        stage.wait(&format!("{query} returns a series"), Duration::from_secs(60), |stage| {
            Ok(metrics::query(stage, query).is_ok_and(|value| value != "NaN"))
        })?;
    }
    server.stop()?;
    let report: requests::Report = load.report()?;
    ensure!(report.status(200) == report.due, "{report:?}");
    seen.push(format!("a real Prometheus: {} queries of Istio's dashboards return series", QUERIES.len()));

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
    Ok(())
}
