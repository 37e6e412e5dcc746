//! A namespace is put into the mesh while its pods work, and taken out again: nobody who uses them notices.

use crate::{
    apps::{load, requests},
    stage::{Going, Stage},
};
use anyhow::{Result, ensure};
use meshctl::lab::control::protocol::PodReport;
use std::time::{Duration, Instant};

/// A pod is in the mesh this soon after its namespace was labelled.
const ENROLLED_MAX: Duration = Duration::from_secs(2);
/// Where it will be seen if it takes longer.
const ENROLLED_DEADLINE: Duration = Duration::from_secs(30);
/// Who uses it: a pod of the namespace, and one outside of the mesh.
const CLIENTS: [&str; 2] = ["herd/client", "onlookers/client"];
/// Requests a second of each load.
const RATE: u32 = 50;
/// Connections of each that are kept.
const KEPT: u64 = 8;
/// How long the loads last: the label and what comes of it happens in their midst.
const SECONDS: u32 = 12;

/// Runs the scenario.
pub fn run(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    stage.apply(include_str!("enrol.yaml"))?;
    stage.ready(&CLIENTS)?;
    super::served(stage, "herd", &CLIENTS)?;
    for (what, label, inside) in
        [("labelled", "istio.io/dataplane-mode=ambient", true), ("unlabelled", "istio.io/dataplane-mode-", false)]
    {
        let before = pods(stage)?;
        let loads = start(stage)?;
        let began = Instant::now();
        stage.cluster().kubectl(&["label", "namespace", "herd", label])?;
        let wanted = inside.then_some("enabled");
        stage.wait(&format!("every pod has redirection {wanted:?}"), ENROLLED_DEADLINE, |stage| {
            Ok(pods(stage)?.iter().all(|pod| pod.redirection.as_deref() == wanted))
        })?;
        let took = began.elapsed();
        let sum = end(loads)?;
        for (was, is) in before.iter().zip(&pods(stage)?) {
            ensure!((&was.name, was.restarts) == (&is.name, is.restarts), "{was:?} became {is:?}");
        }
        ensure!(took <= ENROLLED_MAX, "{what}: the last pod was there only after {:.1} s", took.as_secs_f64());
        let count = before.len();
        seen.push(format!("{what}: {count} pods after {:.1} s, {sum} requests, none failed", took.as_secs_f64()));
        carried(stage, inside)?;
    }
    Ok(())
}

fn pods(stage: &Stage) -> Result<Vec<PodReport>> {
    stage.pods_of("herd")
}

/// New connections and kept ones, from a pod of the namespace and from one outside.
fn start(stage: &mut Stage) -> Result<Vec<(bool, Going)>> {
    let (rate, seconds, connections) = (RATE.to_string(), SECONDS.to_string(), KEPT.to_string());
    let (mut loads, mut files) = (Vec::new(), Vec::new());
    for client in CLIENTS {
        let [file, other] = [Stage::fresh_path(), Stage::fresh_path()];
        let both = ["--rate", &rate, "--seconds", &seconds, "--ready-file"];
        let new = [&["load", "server.herd.svc.cluster.local:80"], &both[..], &[&file]].concat();
        loads.push((true, stage.app(client, &new)?));
        let kept = [&["requests", "http://server.herd/", "--connections", &connections], &both[..], &[&other]].concat();
        loads.push((false, stage.app(client, &kept)?));
        files.extend([(client, file), (client, other)]);
    }
    for (client, file) in files {
        stage.written(client, &file)?;
    }
    Ok(loads)
}

/// Waits for the end of all loads; how many requests were made, none of which failed.
fn end(loads: Vec<(bool, Going)>) -> Result<u64> {
    let mut sum = 0;
    for (new, going) in loads {
        if new {
            let report: load::Report = going.report()?;
            ensure!(report.failures() == 0, "new connections failed: {report:?}");
            sum += report.ok;
        } else {
            let report: requests::Report = going.report()?;
            ensure!(report.failures() == 0 && report.status(200) == report.due, "on kept connections: {report:?}");
            ensure!(report.connections == KEPT, "kept connections were broken off: {report:?}");
            sum += report.due;
        }
    }
    Ok(sum)
}

/// Whether a call between nodes is carried by the proxies is what their log says.
fn carried(stage: &mut Stage, inside: bool) -> Result<()> {
    let word = Stage::fresh_path().replace('/', "-");
    let ip = stage.pod_addresses("herd/client")?[0].to_string();
    let count = |stage: &Stage| -> Result<usize> {
        let pods = stage.status()?.pods.into_iter().filter(|pod| pod.name.starts_with("ztunnel"));
        let mut lines = 0;
        for pod in pods {
            let log = stage.logs(&format!("istio-system/{}", pod.name))?;
            lines += log.lines().filter(|line| line.contains(&ip) && line.contains("outbound")).count();
        }
        Ok(lines)
    };
    // What the loads had kept is logged when it has ended.
    let mut before = count(stage)?;
    stage.wait("ztunnel has logged the loads", Duration::from_secs(10), |stage| {
        let last = std::mem::replace(&mut before, count(stage)?);
        Ok(last == before)
    })?;
    stage.exec("herd/client", &["curl", "-sS", "-f", &format!("http://server.herd/?{word}")])?.ok()?;
    if inside {
        stage.wait("ztunnel logs the call", Duration::from_secs(5), |stage| Ok(count(stage)? > before))?;
    } else {
        ensure!(count(stage)? == before, "a pod outside the mesh is carried by ztunnel");
    }
    Ok(())
}
