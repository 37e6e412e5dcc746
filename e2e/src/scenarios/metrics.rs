//! What Prometheus makes of the mesh: its own checker is content, and a real server scrapes every program.

use crate::stage::Stage;
use anyhow::{Context, Result, ensure};
use std::{
    io::Write as _,
    process::{Command, Stdio},
    time::Duration,
};

/// Program, pod, port.
const PROGRAMS: [(&str, &str, u16); 5] = [
    ("ztunnel", "istio-system/ztunnel-node1", 15020),
    ("ztunnel", "istio-system/ztunnel-node2", 15020),
    ("istiod-lite", "istio-system/istiod-0", 15014),
    ("agent", "kube-system/node1", 15014),
    ("agent", "kube-system/node2", 15014),
];

/// Runs the scenario.
pub fn run(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    stage.apply(super::traffic::MANIFESTS)?;
    stage.ready(&["shop/client", "shop/web-far"])?;
    ensure!(stage.answers("shop/client", "web-far.shop:81"), "a call to count");
    let mut targets = Vec::new();
    for (program, pod, port) in PROGRAMS {
        let text = stage.metrics(pod, port)?;
        promtool(&text).with_context(|| format!("metrics of {program} in {pod}"))?;
        let address = stage.pod_addresses(pod)?.into_iter().find(std::net::IpAddr::is_ipv4);
        targets.push((program, format!("{}:{port}", address.with_context(|| format!("{pod} has no IPv4 address"))?)));
        seen.push(format!("promtool is content with {program} of {pod}: {} lines", text.lines().count()));
    }
    prometheus(stage, seen, &targets)
}

fn promtool(text: &str) -> Result<()> {
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("promtool does not start")?;
    child.stdin.take().context("promtool has a stdin")?.write_all(text.as_bytes())?;
    let out = child.wait_with_output()?;
    let said = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    ensure!(out.status.success() && said.trim().is_empty(), "promtool check metrics: {said}");
    Ok(())
}

fn prometheus(stage: &mut Stage, seen: &mut Vec<String>, targets: &[(&str, String)]) -> Result<()> {
    let folder =
        tempfile::tempdir_in(std::path::Path::new(&Stage::e2e()?).parent().context("a program is in a folder")?)?;
    let mut config = String::from("global: { scrape_interval: 1s }\nscrape_configs:\n");
    for (n, (program, target)) in targets.iter().enumerate() {
        config.push_str(&format!("  - job_name: {program}-{n}\n    static_configs: [{{ targets: [\"{target}\"] }}]\n"));
    }
    let file = folder.path().join("prometheus.yml");
    // Pods see this machine's files but for /tmp, so the file lies beside this program.
    std::fs::write(&file, config)?;
    let file = file.to_str().context("a temporary path is UTF-8")?;
    let data = Stage::fresh_path();
    let server = stage.spawn(
        "kube-system/node1",
        &["prometheus", "--config.file", file, "--storage.tsdb.path", &data, "--web.listen-address", "127.0.0.1:9090"],
    )?;
    let wanted = targets.len().to_string();
    stage.wait("Prometheus scrapes every program", Duration::from_secs(60), |s| {
        Ok(query(s, "count(up == 1)").is_ok_and(|v| v == wanted))
    })?;
    stage.wait("the call is counted", Duration::from_secs(30), |s| {
        let both = "count(sum by (reporter) (istio_tcp_connections_opened_total{\
                    destination_service=\"web-far.shop.svc.cluster.local\",connection_security_policy=\"mutual_tls\"}))";
        Ok(query(s, both).is_ok_and(|v| v == "2"))
    })?;
    server.stop()?;
    seen.push(format!("a real Prometheus scrapes {wanted} targets and counts the call at source and destination"));
    Ok(())
}

/// The single value of an instant query.
fn query(stage: &Stage, expression: &str) -> Result<String> {
    let argument = format!("query={expression}");
    let url = "http://127.0.0.1:9090/api/v1/query";
    let out = stage.exec("kube-system/node1", &["curl", "-sS", "-f", "--data-urlencode", &argument, url])?.ok()?;
    let answer: serde_json::Value = serde_json::from_str(&out)?;
    let value = answer["data"]["result"][0]["value"][1].as_str();
    Ok(value.with_context(|| format!("no value for {expression}"))?.into())
}
