//! Nodes that are emptied, and nodes that reboot: what runs on them is never heard in plaintext, and comes back into the
//! mesh.

use crate::{capture, scenarios::ON_NODE1, stage::Stage};
use anyhow::{Result, ensure};
use meshctl::lab::control::protocol::PodReport;
use std::time::{Duration, Instant};

/// What the pods say each time they call; nobody else may read it.
const WORD: &str = "traveller-secret-word";
/// A node is a container with systemd and a kubelet in it.
const BACK_DEADLINE: Duration = Duration::from_secs(180);

/// Runs the scenario.
pub fn run(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    let [_, far] = stage.cluster().workers();
    stage.apply(&include_str!("nodes.yaml").replace("FAR", &far))?;
    stage.ready(&["travellers/home", "outside/client", "outside/web-far"])?;
    talking(stage, Some("node2"))?;
    let (tcpdump, file) = stage.capture()?;

    let began = Instant::now();
    let drain = ["drain", &far, "--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=90s"];
    stage.cluster().kubectl(&drain)?;
    talking(stage, Some("node1"))?;
    seen.push(format!(
        "drained: its pods are in the mesh on another node after {:.0} s",
        began.elapsed().as_secs_f64()
    ));
    stage.cluster().kubectl(&["uncordon", &far])?;
    stage.cluster().kubectl(&["rollout", "restart", "deployment/chatter", "--namespace", "travellers"])?;
    stage.cluster().kubectl(&[
        "rollout",
        "status",
        "deployment/chatter",
        "--namespace",
        "travellers",
        "--timeout=100s",
    ])?;
    talking(stage, Some("node2"))?;

    let began = Instant::now();
    stage.cluster().docker(&["restart", "--time", "5", &far])?;
    stage.wait("the node is back", BACK_DEADLINE, |stage| {
        // Ready is said of the node from before, too, until somebody notices.
        Ok(began.elapsed() > Duration::from_secs(20) && stage.healthy().is_ok())
    })?;
    talking(stage, None)?;
    seen.push(format!("rebooted: its pods are in the mesh again after {:.0} s", began.elapsed().as_secs_f64()));

    tcpdump.stop()?;
    let segments = capture::read(&stage.fetch(ON_NODE1, &file)?)?;
    ensure!(segments.len() > 100, "the capture holds only {} segments", segments.len());
    let heard = capture::occurrences(&segments, WORD);
    ensure!(heard == 0, "what the pods said was heard in plaintext {heard} times");
    seen.push(format!("{} TCP segments between the nodes meanwhile: nothing of it in plaintext", segments.len()));
    Ok(())
}

/// Waits until all pods that talk are in the mesh and answered, on this node if one is named.
fn talking(stage: &mut Stage, node: Option<&str>) -> Result<()> {
    stage.wait(&format!("all talk from {node:?}"), BACK_DEADLINE, |stage| {
        let pods = stage.status()?.pods.into_iter();
        let ours: Vec<PodReport> =
            pods.filter(|pod| pod.name.starts_with("chatter") && pod.status != "Terminating").collect();
        let well = |pod: &PodReport| {
            pod.is_ready && pod.redirection.as_deref() == Some("enabled") && node.is_none_or(|node| pod.node == node)
        };
        Ok(ours.len() == 2 && ours.iter().all(well))
    })?;
    Ok(())
}
