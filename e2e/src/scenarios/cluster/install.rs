//! The charts as their users meet them: installed into an empty cluster, taken away without a trace, and upgraded.

use crate::{
    kind::{
        Cluster,
        cluster::{HUB, TAG, repository},
        install,
    },
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

    let (charts, from) = earlier()?;
    let chart = charts.path().join("charts/ambient").display().to_string();
    tagged_as(stage, EARLIER)?;
    install::install_from(stage.cluster(), &chart, EARLIER, &[])?;
    ready(stage)?;
    let took = install::install(stage.cluster(), &[])?;
    // Helm waits until each node has a new pod; then the last old one is still ending.
    stage.wait("no pod of before is left", GONE_DEADLINE, |stage| {
        let images =
            ["get", "pods", "--namespace", install::NAMESPACE, "-o", "jsonpath={.items[*].spec.containers[*].image}"];
        Ok(!stage.cluster().kubectl(&images)?.contains(EARLIER)
            && stage.pods_of(install::NAMESPACE)?.iter().all(|pod| pod.is_ready))
    })?;
    ready(stage)?;
    seen.push(format!("installed by {from} and upgraded to those of now, all images new: {:.1} s", took.as_secs_f64()));
    Ok(())
}

/// The tag of the images that an upgrade replaces.
const EARLIER: &str = "e2e-earlier";

/// The charts as they were before they changed last, and what to call them.
fn earlier() -> Result<(tempfile::TempDir, String)> {
    let folder = tempfile::tempdir()?;
    let git = |arguments: &[&str]| std::process::Command::new("git").current_dir(repository()).args(arguments).output();
    let commits = git(&["rev-list", "--max-count=2", "HEAD", "--", "charts"]).ok().filter(|out| out.status.success());
    let commits = commits.map(|out| String::from_utf8_lossy(&out.stdout).into_owned()).unwrap_or_default();
    let Some(commit) = commits.lines().nth(1) else {
        // A source tree without its history: an upgrade all the same, of everything but the charts.
        let copy = ["-r", "charts", &folder.path().display().to_string()];
        let done = std::process::Command::new("cp").current_dir(repository()).args(copy).status()?;
        ensure!(done.success(), "the charts cannot be copied");
        return Ok((folder, "the same charts, for there is no history here,".into()));
    };
    let archive = git(&["archive", "--format=tar", commit, "charts"])?;
    ensure!(archive.status.success(), "git archive: {}", String::from_utf8_lossy(&archive.stderr).trim());
    let file = folder.path().join("charts.tar");
    std::fs::write(&file, archive.stdout)?;
    let done = std::process::Command::new("tar").arg("-xf").arg(&file).arg("-C").arg(folder.path()).status()?;
    ensure!(done.success(), "the charts of {commit} cannot be unpacked");
    Ok((folder, format!("the charts of {}", &commit[..commit.len().min(10)])))
}

/// Gives the mesh's images another tag too, on each node.
fn tagged_as(stage: &Stage, tag: &str) -> Result<()> {
    let cluster = stage.cluster();
    for node in [cluster.control_plane()].into_iter().chain(cluster.workers()) {
        for program in ["istiod-lite", "ztunnel", "waypoint"] {
            let (of, to) = (format!("{HUB}/{program}:{TAG}"), format!("{HUB}/{program}:{tag}"));
            cluster.docker(&["exec", &node, "ctr", "--namespace", "k8s.io", "images", "tag", "--force", &of, &to])?;
        }
    }
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
    let pods = stage.pods_of(install::NAMESPACE)?;
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
    // Empty folders that the kubelet has made for a pod's mounts are left by it.
    let look = "find /opt/cni/bin /var/run/ztunnel /var/run/istio-cni ! -type d 2>/dev/null; cat /etc/cni/net.d/*; \
                nft list tables 2>/dev/null | grep -v -e ' filter$' -e ' nat$' -e ' mangle$' -e kube; ip rule";
    let mut found = Vec::new();
    for node in [cluster.control_plane()].into_iter().chain(cluster.workers()) {
        found.push(format!("{node}:\n{}", cluster.docker(&["exec", &node, "sh", "-c", look])?));
    }
    let taints = "jsonpath={range .items[*]}{.metadata.name}{.spec.taints}{\"\\n\"}{end}";
    found.push(cluster.kubectl(&["get", "nodes", "-o", taints])?);
    Ok(found)
}
