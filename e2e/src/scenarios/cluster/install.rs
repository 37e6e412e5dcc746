//! The charts as their users meet them: installed into an empty cluster, and taken away without a trace.

use crate::{
    kind::{Cluster, install},
    stage::Stage,
};
use anyhow::{Context, Result, ensure};
use std::{collections::BTreeSet, time::Duration};

/// The mesh is ready this soon.
const READY_MAX: Duration = Duration::from_secs(60);
/// Kubernetes collects what the mesh's objects owned, and stops its pods.
const GONE_DEADLINE: Duration = Duration::from_secs(60);
/// Kinds whose objects come and go by themselves; Kubernetes makes an `apiservice` for each group of definitions.
const RESTLESS: &[&str] =
    &["events", "leases", "pods", "endpointslices", "endpoints", "controllerrevisions", "csr", "apiservices"];

/// Runs the scenario.
pub fn run(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    if install::installed(stage.cluster())? {
        away(stage)?;
    }
    let before = objects(stage.cluster())?;
    let nodes = nodes(stage.cluster())?;

    let took = install::install(stage.cluster(), &[])?;
    ready(stage)?;
    ensure!(took <= READY_MAX, "the mesh was ready only after {:.0} s", took.as_secs_f64());
    seen.push(format!("helm install: ready after {:.1} s", took.as_secs_f64()));

    away(stage)?;
    stage
        .wait("nothing but definitions is left", GONE_DEADLINE, |stage| {
            Ok(left(&before, &objects(stage.cluster())?).is_empty())
        })
        .with_context(|| {
            format!("left: {}", left(&before, &objects(stage.cluster()).unwrap_or_default()).join(", "))
        })?;
    let after = self::nodes(stage.cluster())?;
    ensure!(after == nodes, "the nodes have changed: before\n{}\nafter\n{}", nodes.join("\n"), after.join("\n"));
    seen.push("helm uninstall: no object but definitions, and the nodes as they were".into());

    install::install(stage.cluster(), &[])?;
    ready(stage)?;
    seen.push("and installed again".into());
    Ok(())
}

/// Takes the mesh away, with its namespace, as the docs say.
fn away(stage: &Stage) -> Result<()> {
    install::uninstall(stage.cluster())?;
    stage.cluster().kubectl(&["delete", "namespace", install::NAMESPACE, "--ignore-not-found", "--timeout=60s"])?;
    Ok(())
}

/// Every pod of the mesh is ready, none was restarted, and the class of waypoints is accepted.
fn ready(stage: &Stage) -> Result<()> {
    let pods: Vec<_> = stage.status()?.pods.into_iter().filter(|pod| pod.namespace == install::NAMESPACE).collect();
    ensure!(!pods.is_empty(), "helm installed no pod");
    for pod in &pods {
        ensure!(pod.is_ready, "{} is not ready though helm has waited", pod.name);
        ensure!(pod.restarts == 0, "{} was restarted {} times", pod.name, pod.restarts);
    }
    for (program, count) in [("istiod", 1), ("ztunnel", 3), ("istio-cni-node", 3)] {
        let found = pods.iter().filter(|pod| pod.name.starts_with(program)).count();
        ensure!(found >= count, "there are {found} pods of {program}, not {count}");
    }
    stage.cluster().kubectl(&["wait", "--for=condition=Accepted", "gatewayclass/istio-waypoint", "--timeout=30s"])?;
    Ok(())
}

/// Every object in the cluster, but definitions and those that come and go by themselves.
fn objects(cluster: &Cluster) -> Result<BTreeSet<String>> {
    let kinds = cluster.kubectl(&["api-resources", "--verbs=list", "-o", "name"])?;
    let lasting = |kind: &&str| {
        let short = kind.split('.').next().unwrap_or(kind);
        !RESTLESS.contains(&short) && short != "customresourcedefinitions" && !kind.ends_with("metrics.k8s.io")
    };
    let kinds: Vec<&str> = kinds.lines().filter(lasting).collect();
    let columns = "custom-columns=G:.apiVersion,K:.kind,S:.metadata.namespace,N:.metadata.name";
    let list = cluster.kubectl(&["get", &kinds.join(","), "--all-namespaces", "--no-headers", "-o", columns])?;
    Ok(list.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect())
}

fn left(before: &BTreeSet<String>, after: &BTreeSet<String>) -> Vec<String> {
    after.difference(before).cloned().collect()
}

/// What an installed mesh has on the nodes: CNI configuration and plugin, rules, taints.
fn nodes(cluster: &Cluster) -> Result<Vec<String>> {
    let look = "ls /opt/cni/bin /var/run/ztunnel /var/run/istio-cni 2>/dev/null; cat /etc/cni/net.d/*; \
                nft list tables 2>/dev/null | grep -v -e ' filter$' -e ' nat$' -e ' mangle$' -e kube; ip rule";
    let mut found = Vec::new();
    for node in [cluster.control_plane()].into_iter().chain(cluster.workers()) {
        found.push(format!("{node}:\n{}", cluster.docker(&["exec", &node, "sh", "-c", look])?));
    }
    let taints = "jsonpath={range .items[*]}{.metadata.name}{.spec.taints}{\"\\n\"}{end}";
    found.push(cluster.kubectl(&["get", "nodes", "-o", taints])?);
    Ok(found)
}
