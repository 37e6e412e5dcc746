//! Real programs talk through the mesh: every way in and out of it, and every kind of byte stream.

use crate::{
    apps::{crowd, load},
    stage::{Output, Stage},
};
use anyhow::{Context, Result, ensure};

/// Where a call comes from.
const CALLERS: [(&str, &str); 2] = [("in the mesh", "shop/client"), ("outside the mesh", "outside/client")];
/// What is called: name, pod, service name.
const SERVERS: [(&str, &str, &str); 4] = [
    ("in the mesh, other node", "shop/web-far", "web-far.shop.svc.cluster.local"),
    ("in the mesh, same node", "shop/web-near", "web-near.shop.svc.cluster.local"),
    ("outside the mesh, other node", "outside/web-far", "web-far.outside.svc.cluster.local"),
    ("outside the mesh, same node", "outside/web-near", "web-near.outside.svc.cluster.local"),
];

/// Runs the scenario.
pub fn run(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    stage.apply(MANIFESTS)?;
    stage.ready(&["shop/client", "shop/web-far", "shop/web-near", "shop/tools", "outside/client"])?;
    stage.ready(&["outside/web-far", "outside/web-near"])?;
    every_way(stage, seen)?;
    bulk(stage, seen)?;
    tls(stage, seen)?;
    server_first(stage, seen)?;
    large_file(stage, seen)?;
    many(stage, seen)?;
    at_once(stage, seen)
}

fn every_way(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    let mut calls = 0;
    for (whence, client) in CALLERS {
        for (whither, pod, host) in SERVERS {
            let addresses = stage.pod_addresses(pod)?;
            let vips = stage.cluster_ips(host)?;
            ensure!(addresses.len() >= 2, "{pod} has no second address family: {addresses:?}");
            ensure!(!vips.is_empty(), "{host} has no ClusterIP");
            let mut targets: Vec<String> = Vec::new();
            targets.extend(addresses.iter().map(|ip| std::net::SocketAddr::new(*ip, 8080).to_string()));
            targets.extend(vips.iter().map(|ip| std::net::SocketAddr::new(*ip, 80).to_string()));
            targets.push(format!("{host}:80"));
            for target in targets {
                let url = format!("http://{target}/who");
                let body = stage
                    .exec(client, &["curl", "-sS", "--max-time", "5", "--retry", "0", "-f", &url])?
                    .ok()
                    .with_context(|| format!("{whence} → {whither}: {url}"))?;
                ensure!(body.trim() == pod, "{url} was answered by {body:?}, not by {pod}");
                calls += 1;
            }
        }
    }
    seen.push(format!("{calls} ways: 2 callers × 4 servers × (pod IPv4, pod IPv6, ClusterIP, DNS name)"));
    Ok(())
}

fn bulk(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    let out = stage.exec("shop/client", &["iperf3", "-c", "tools.shop", "-t", "2", "-P", "2", "-J"])?.ok()?;
    let report: serde_json::Value = serde_json::from_str(&out).context("iperf3 prints JSON")?;
    let bits = report["end"]["sum_received"]["bits_per_second"].as_f64().unwrap_or(0.0);
    ensure!(bits > 1e8, "iperf3 moved only {bits} bit/s: {}", report["error"]);
    seen.push(format!("iperf3, two streams for 2 s: {:.1} Gbit/s", bits / 1e9));
    Ok(())
}

fn tls(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    let args = ["curl", "-sS", "-k", "--max-time", "5", "-o", "/dev/null", "-w", "%{http_code} %{ssl_verify_result}"];
    let out = stage.exec("shop/client", &[&args[..], &["https://tools.shop:8443/"]].concat())?.ok()?;
    ensure!(out.starts_with("200"), "the TLS server said {out:?}");
    seen.push("a TLS server of openssl, end to end inside the tunnel".into());
    Ok(())
}

fn server_first(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    // The client says nothing until it has the banner: a proxy that waits for the client's bytes would hang here.
    let script = "import socket\n\
                  s=socket.create_connection(('tools.shop',2525),5)\n\
                  b=s.recv(100)\n\
                  assert b==b'220 ready\\r\\n',b\n\
                  s.sendall(b'QUIT\\r\\n'); s.shutdown(socket.SHUT_WR)\n\
                  b=s.recv(100)\n\
                  assert b==b'221 bye QUIT\\r\\n',b\n\
                  assert s.recv(1)==b''\n\
                  print('ok')";
    let out = stage.exec("shop/client", &["python3", "-c", script])?.ok()?;
    ensure!(out.trim() == "ok", "the server-first program was answered {out:?}");
    seen.push("a server-first program, with half close both ways".into());
    Ok(())
}

fn large_file(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    // Bytes that no run repeats by chance, and a sum that the receiver computes by itself.
    let command = "curl -sS --max-time 120 http://web-far.shop/gigabyte | sha256sum";
    let out = stage.exec("shop/client", &["sh", "-c", command])?.ok()?;
    let expected = stage.exec("shop/client", &["curl", "-sS", "-f", "http://web-far.shop/gigabyte.sha256"])?.ok()?;
    ensure!(
        out.split_whitespace().next() == expected.split_whitespace().next(),
        "1 GiB arrived with sum {out:?}, was sent with {expected:?}"
    );
    seen.push(format!("1 GiB, sha256 {}…", &expected[..16.min(expected.len())]));
    Ok(())
}

fn many(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    let command = "seq 1000 | xargs -P 100 -n 10 sh -c 'for i; do curl -sS -f --max-time 20 -o /dev/null http://web-far.shop/who || echo failed; done' sh";
    let Output { stdout, stderr, .. } = stage.exec("shop/client", &["sh", "-c", command])?;
    let failed = stdout.lines().filter(|l| *l == "failed").count();
    ensure!(
        failed == 0,
        "{failed} of 1,000 calls of curl failed: {}",
        stderr.lines().take(3).collect::<Vec<_>>().join("; ")
    );
    let report: load::Report = stage.load("shop/client", "web-far.shop.svc.cluster.local:81", 1000, 1)?.report()?;
    ensure!(report.failures() == 0, "of 1,000 connections in one second failed: {:?}", report.failed);
    seen.push(format!("1,000 calls of curl, 100 at a time; 1,000 connections in 1 s, p99 {:.1} ms", report.p99_ms));
    Ok(())
}

/// How many connections are open at the same moment.
const CROWD: u64 = 1000;

fn at_once(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    for (whither, host) in [("between nodes", "web-far"), ("on one node", "web-near")] {
        let target = format!("{host}.shop.svc.cluster.local:81");
        let crowd = stage.app("shop/client", &["crowd", &target, "--connections", &CROWD.to_string()])?;
        let report: crowd::Report = crowd.report()?;
        ensure!(report.ok == CROWD && report.failed.is_empty(), "{whither}: {} ok, {:?}", report.ok, report.failed);
        seen.push(format!(
            "{CROWD} connections open at once {whither}, each answered while all were: gathered in {:.0} ms",
            report.gathered_ms
        ));
    }
    Ok(())
}

/// Two namespaces, one in the mesh, with servers near and far.
pub const MANIFESTS: &str = include_str!("traffic.yaml");
