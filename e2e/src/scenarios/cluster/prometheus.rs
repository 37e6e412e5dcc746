//! A Prometheus in the cluster, set up as its users do: it finds every program, and the dashboards' queries have
//! answers with the right labels.

use crate::{
    scenarios::{ON_NODE1, waypoint},
    stage::Stage,
};
use anyhow::{Context, Result, ensure};
use std::{net::SocketAddr, time::Duration};

const MANIFESTS: &str = include_str!("prometheus.yaml");
/// It looks for pods at once, and scrapes them every 2 s.
const SCRAPED_DEADLINE: Duration = Duration::from_secs(60);

/// Job, start of the pods' names, how many.
const TARGETS: &[(&str, &str, usize)] = &[
    ("annotations", "istiod", 1),
    ("annotations", "ztunnel", 3),
    ("annotations", "istio-cni-node", 3),
    ("annotations", "waypoint", 1),
    ("podmonitor", "ztunnel", 3),
    ("podmonitor", "waypoint", 1),
];

/// What dashboards ask, and what must answer.
const GOLDEN: &[&str] = &[
    "sum(istio_tcp_connections_opened_total{reporter=\"source\",connection_security_policy=\"mutual_tls\",\
     source_principal=\"spiffe://cluster.local/ns/mall/sa/client\",source_workload=\"client\",source_workload_namespace=\"mall\"})",
    "sum(rate(istio_requests_total{reporter=\"waypoint\",response_code=\"200\",request_protocol=\"http\",\
     source_principal=\"spiffe://cluster.local/ns/mall/sa/client\",\
     destination_service=\"store.mall.svc.cluster.local\",destination_service_name=\"store\",\
     destination_service_namespace=\"mall\"}[1m]))",
    "histogram_quantile(0.99, sum by (le) (rate(istio_request_duration_milliseconds_bucket{reporter=\"waypoint\",\
     destination_service=\"store.mall.svc.cluster.local\"}[1m])))",
    "sum by (tag) (istio_build{component=\"ztunnel\"})",
    "sum(pilot_xds)",
    "sum(pilot_services)",
    "sum(workload_manager_active_proxy_count)",
    "citadel_server_root_cert_expiry_timestamp > 0",
];

/// Runs the scenario.
pub fn run(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    waypoint::open(stage)?;
    stage.apply(MANIFESTS)?;
    stage.ready(&["monitoring/prometheus"])?;
    for (job, program, count) in TARGETS {
        let up = format!("count(up{{job=\"{job}\",pod=~\"{program}.*\"}} == 1) or vector(0)");
        let what = format!("{job} finds {count} pods of {program}");
        stage.wait(&what, SCRAPED_DEADLINE, |stage| Ok(query(stage, &up)?.as_deref() == Some(&count.to_string())))?;
    }
    let down = query(stage, "count(up == 0)")?;
    ensure!(down.is_none(), "{down:?} targets that were found cannot be scraped");
    seen.push("every program is found and scraped, by annotations and by what a PodMonitor becomes".into());

    let load = ["requests", "http://store.mall/", "--rate", "50", "--seconds", "8"];
    stage.app(waypoint::CLIENT, &load)?.end()?.ok()?;
    for expression in GOLDEN {
        stage.wait(&format!("an answer above 0 to {expression}"), SCRAPED_DEADLINE, |stage| {
            let value = query(stage, expression)?.and_then(|value| value.parse::<f64>().ok());
            Ok(value.is_some_and(|value| value > 0.0))
        })?;
    }
    seen.push(format!("{} queries of dashboards have answers with the labels they ask for", GOLDEN.len()));
    Ok(())
}

/// The first value that an instant query gives.
fn query(stage: &Stage, expression: &str) -> Result<Option<String>> {
    let address = SocketAddr::new(stage.pod_addresses("monitoring/prometheus")?[0], 9090);
    let (argument, url) = (format!("query={expression}"), format!("http://{address}/api/v1/query"));
    let out = stage.exec(ON_NODE1, &["curl", "-sS", "--max-time", "10", "--data-urlencode", &argument, &url])?.ok()?;
    let answer: serde_json::Value = serde_json::from_str(&out).context("Prometheus answers in JSON")?;
    ensure!(answer["status"] == "success", "Prometheus refuses {expression}: {answer}");
    Ok(answer["data"]["result"][0]["value"][1].as_str().map(str::to_owned))
}
