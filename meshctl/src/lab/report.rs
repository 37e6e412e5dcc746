//! How everything is, for people and for scenarios.

use std::collections::BTreeMap;

use super::control::protocol::{NodeReport, PodReport, Problem, ServiceReport, StatusReport};
use super::plan::services::Slice;
use super::plan::{Plan, PodPlan, ledger};
use super::pod::state::{Phase, PodState};
use super::rundir::RunDir;
use super::site::Site;
use super::world;

/// What the node agents say of pods: (namespace, name) → `enabled` or
/// `pending`.
pub(crate) fn redirection(run_dir: &RunDir) -> BTreeMap<(String, String), String> {
    let mut found = BTreeMap::new();
    let status = run_dir.config().join("status");
    for dir in std::fs::read_dir(status).into_iter().flatten().flatten() {
        if !dir.file_name().to_string_lossy().starts_with("agent-") {
            continue;
        }
        for file in std::fs::read_dir(dir.path()).into_iter().flatten().flatten() {
            let Ok(text) = std::fs::read_to_string(file.path()) else { continue };
            for object in chassis::objects::parse(&file.path(), &text).0 {
                let said = object.value.pointer("/metadata/annotations/ambient.istio.io~1redirection");
                if let Some(said) = said.and_then(|said| said.as_str()) {
                    found.insert((object.namespace.clone(), object.name.clone()), said.to_owned());
                }
            }
        }
    }
    found
}

/// The state of a lab, from what its supervisor holds. Pods are given with
/// their state and whether they are ending.
pub(crate) fn status<'a>(
    site: &Site,
    plan: &Plan,
    slices: &[Slice],
    pods: impl Iterator<Item = (&'a PodPlan, &'a PodState, bool)>,
    redirection: &BTreeMap<(String, String), String>,
    problems: Vec<Problem>,
) -> StatusReport {
    let nodes = plan
        .nodes
        .iter()
        .map(|node| NodeReport {
            name: node.name.clone(),
            addresses: ledger::node_addresses(node.number).iter().map(ToString::to_string).collect(),
            netns: site.world.node_path(&node.name).display().to_string(),
            uplink: world::fabric_interface(node.number),
        })
        .collect();
    let pods: Vec<_> = pods.map(|(pod, state, leaving)| pod_report(pod, state, leaving, redirection)).collect();
    let services = plan
        .services
        .values()
        .map(|service| {
            let mine = || slices.iter().filter(|slice| slice.service == service.key && slice.v6 == service.families[0]);
            let count = |ready: bool| {
                let all = mine().flat_map(|slice| &slice.endpoints).filter(|endpoint| endpoint.ready || !ready);
                u32::try_from(all.count()).unwrap_or(u32::MAX)
            };
            ServiceReport {
                namespace: service.key.namespace.clone(),
                name: service.key.name.clone(),
                cluster_ips: service.addresses.iter().map(ToString::to_string).collect(),
                ports: service
                    .ports
                    .iter()
                    .map(|port| format!("{}/{}", port.number, format!("{:?}", port.protocol).to_uppercase()))
                    .collect(),
                endpoints: (count(true), count(false)),
            }
        })
        .collect();
    let missing =
        plan.pods.keys().any(|key| !pods.iter().any(|pod| pod.name == key.name && pod.namespace == key.namespace));
    StatusReport {
        name: site.run_dir.name().to_owned(),
        ready: !missing && pods.iter().all(|pod| pod.is_ready),
        nodes,
        pods,
        services,
        problems,
    }
}

fn pod_report(
    pod: &PodPlan,
    state: &PodState,
    leaving: bool,
    redirection: &BTreeMap<(String, String), String>,
) -> PodReport {
    let policy = pod.spec.restart_policy;
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let phase = state.phase(policy);
    PodReport {
        namespace: pod.key.namespace.clone(),
        name: pod.key.name.clone(),
        node: pod.node.clone(),
        addresses: pod.addresses.iter().map(ToString::to_string).collect(),
        phase: phase.name().to_owned(),
        status: if leaving { "Terminating".to_owned() } else { state.summary(policy) },
        ready: count(state.containers.iter().filter(|container| container.ready).count()),
        containers: count(state.containers.len()),
        restarts: state.containers.iter().map(|container| container.restarts).sum(),
        is_ready: !leaving && (phase == Phase::Succeeded || state.is_ready()),
        redirection: redirection.get(&(pod.key.namespace.clone(), pod.key.name.clone())).cloned(),
    }
}
