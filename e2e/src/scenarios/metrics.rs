//! What Prometheus makes of the mesh: its own checker is content, and a real server scrapes every program.

use crate::stage::{Going, Stage};
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

/// Debian's checker is content with a program's metrics.
pub(crate) fn promtool(text: &str) -> Result<()> {
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
    // This one has the name that Istio gave it, and every dashboard asks for it by that.
    let named_by_istio = |line: &&str| !line.starts_with("istio_request_duration_milliseconds use base unit");
    let said: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).filter(named_by_istio).collect();
    ensure!(out.status.success() || out.status.code() == Some(3), "promtool check metrics: {}", out.status);
    ensure!(said.is_empty(), "promtool check metrics: {said:?}");
    Ok(())
}

/// Starts a Prometheus on `node1` that scrapes targets (name, address) every second.
pub(crate) fn server(stage: &mut Stage, targets: &[(&str, String)]) -> Result<Going> {
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
    Ok(server)
}

fn prometheus(stage: &mut Stage, seen: &mut Vec<String>, targets: &[(&str, String)]) -> Result<()> {
    let server = server(stage, targets)?;
    let wanted = targets.len();
    stage.wait("the call is counted", Duration::from_secs(30), |s| {
        let both = "count(sum by (reporter) (istio_tcp_connections_opened_total{\
                    destination_service=\"web-far.shop.svc.cluster.local\",connection_security_policy=\"mutual_tls\"}))";
        Ok(query(s, both).is_ok_and(|v| v == "2"))
    })?;
    server.stop()?;
    seen.push(format!("a real Prometheus scrapes {wanted} targets and counts the call at source and destination"));
    Ok(())
}

/// The single value of an instant query, or its first.
pub(crate) fn query(stage: &Stage, expression: &str) -> Result<String> {
    let argument = format!("query={expression}");
    let url = "http://127.0.0.1:9090/api/v1/query";
    let out = stage.exec("kube-system/node1", &["curl", "-sS", "-f", "--data-urlencode", &argument, url])?.ok()?;
    let answer: serde_json::Value = serde_json::from_str(&out)?;
    let value = answer["data"]["result"][0]["value"][1].as_str();
    Ok(value.with_context(|| format!("no value for {expression}"))?.into())
}
