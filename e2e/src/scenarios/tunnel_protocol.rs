//! HTTP/2 as the port for tunnels speaks it, judged by h2spec, through mutual TLS.

use super::attacks::{authority, state, uid};
use crate::stage::{Output, Stage};
use anyhow::{Context, Result, ensure};
use std::collections::BTreeSet;
use testkit::tokens::{Holder, Signer, claims};

/// Where h2spec speaks in plaintext.
const DOOR: &str = "127.0.0.1:15009";
/// Who knocks.
const CLIENT: &str = "outside/client";
/// Cases that want what a port for tunnels has not: it answers to CONNECT only, so that requests of h2spec are refused at
/// once, without a body, and their streams are over, of which the last of these may or may not take notice; and it takes
/// frames of a megabyte.
const OF_OTHER_SERVERS: [&str; 4] = [
    "Sends a WINDOW_UPDATE frame on half-closed (remote) stream",
    "Sends a PRIORITY frame on half-closed (remote) stream",
    "Sends a large size HEADERS frame that exceeds the SETTINGS_MAX_FRAME_SIZE",
    "Sends HEADERS frames that causes their advertised concurrent stream limit to be exceeded",
];
/// Cases of h2spec.
const CASES: usize = 145;

/// Runs the scenario.
pub fn run(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    stage.apply(super::traffic::MANIFESTS)?;
    stage.ready(&[CLIENT, "shop/web-far"])?;
    stage.enrolled(&["shop/web-far"], true)?;
    let (namespace, pod) = CLIENT.split_once('/').context("a namespace and a name")?;
    let uid = uid(stage, namespace, pod)?;
    let holder = Holder { namespace, pod, uid: &uid, account: "default", node: "node1", neighbour: None };
    let token = Signer::new(&state(stage, "token-key.pem")?).sign(&claims(&holder));
    let proxy = format!("{}:15008", stage.pod_addresses("shop/web-far")?[0]);
    let (authority, roots, ready) = (authority(stage)?, state(stage, "root-cert.pem")?, Stage::fresh_path());
    let door = [
        &["forward", DOOR, &proxy, "--token", &token, "--authority", &authority, "--roots", &roots][..],
        &["--identity", "spiffe://cluster.local/ns/outside/sa/default", "--ready-file", &ready],
        &["--expect", "spiffe://cluster.local/ns/shop/sa/server"],
    ];
    let door = stage.app(CLIENT, &door.concat())?;
    stage.written(CLIENT, &ready)?;
    let (host, port) = DOOR.split_once(':').context("a host and a port")?;
    let (out, summary) = h2spec(stage, CLIENT, host, port)?;
    door.stop()?;
    let failed: BTreeSet<&str> = failures(&out.stdout).collect();
    ensure!(summary.starts_with(&format!("{CASES} tests")), "h2spec: {summary}: {}", out.stdout);
    ensure!(failed.is_subset(&BTreeSet::from(OF_OTHER_SERVERS)), "h2spec: {summary}: {failed:#?}: {}", out.stdout);
    seen.push(format!("h2spec on 15008: {summary}; those that failed ask for what no tunnel is"));
    Ok(())
}

/// Has h2spec judge a server from a pod; what it said, and the line that sums it up.
pub(super) fn h2spec(stage: &Stage, pod: &str, host: &str, port: &str) -> Result<(Output, String)> {
    let out = stage.exec(pod, &["h2spec", "-h", host, "-p", port, "-o", "3"])?;
    let summary = out.stdout.lines().rev().find(|line| line.contains("tests,")).unwrap_or("no summary").to_owned();
    Ok((out, summary))
}

/// What h2spec says that failed: `× 2: Sends…`.
fn failures(output: &str) -> impl Iterator<Item = &str> {
    let failed = output.lines().filter_map(|line| line.trim().strip_prefix("× "));
    failed.filter_map(|case| Some(case.split_once(": ")?.1))
}
