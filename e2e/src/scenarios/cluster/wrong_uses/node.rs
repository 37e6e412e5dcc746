//! Nodes where no pod starts, and agents that are not ready.

use super::{Told, told};
use crate::{kind::install::NAMESPACE, stage::Stage};
use anyhow::{Context, Result};
use std::time::Duration;

/// The plugin waits 20 s for an agent, and the kubelet tries again.
const EVENT_DEADLINE: Duration = Duration::from_secs(90);
/// An agent looks at its directory whenever something in it changes.
const LOOKED: Duration = Duration::from_secs(30);
/// A node's configurations, and where they are put aside.
const NET_D: &str = "/etc/cni/net.d";
const ASIDE: &str = "/etc/cni/aside";

/// A pod on the node where nothing is as it should be.
const POD: &str = "
apiVersion: v1
kind: Pod
metadata: { name: stranded, namespace: wrong }
spec:
  nodeName: node2
  containers: [{ name: sleep, command: [sleep, infinity] }]
";

/// Makes each of them, and puts everything right again.
pub(super) fn run(stage: &mut Stage) -> Result<Vec<Told>> {
    let node = stage.cluster().workers()[1].clone();
    let mut all = Vec::new();
    let shell = |stage: &Stage, script: &str| stage.cluster().docker(&["exec", &node, "sh", "-c", script]);

    // An agent that hangs. The pattern does not match the shell that says it.
    shell(stage, "pkill -STOP -f '[i]nstall-cni'")?;
    let mute = not_started(stage, "istio-cni: the node agent does not answer, the pod may not start yet");
    shell(stage, "pkill -CONT -f '[i]nstall-cni'")?;
    all.push(mute?);
    stage.ready(&["wrong/stranded"])?;
    stage.delete(POD)?;

    // A node that the agent is kept away from.
    let patch = |stage: &Stage, term: &str| {
        let patch = format!("{{\"spec\":{{\"template\":{{\"spec\":{{\"affinity\":{term}}}}}}}}}");
        stage.cluster().kubectl(&["patch", "daemonset", "istio-cni-node", "--namespace", NAMESPACE, "--patch", &patch])
    };
    let elsewhere = format!(
        "{{\"nodeAffinity\":{{\"requiredDuringSchedulingIgnoredDuringExecution\":{{\"nodeSelectorTerms\":[{{\
         \"matchExpressions\":[{{\"key\":\"kubernetes.io/hostname\",\"operator\":\"NotIn\",\"values\":[\"{node}\"]}}]}}]}}}}}}"
    );
    patch(stage, &elsewhere)?;
    let absent = stage
        .wait("the agent is gone from its node", EVENT_DEADLINE, |stage| Ok(agent(stage)?.is_none()))
        .and_then(|_| not_started(stage, "istio-cni: there is no node agent, and without it no pod may start"));
    patch(stage, "null")?;
    all.push(absent?);
    stage.ready(&["wrong/stranded"])?;
    stage.delete(POD)?;
    rolled(stage)?;

    // Configurations that cannot be followed. What is put aside comes back in any case.
    let first = format!("cd {NET_D} && cp $(ls | grep -v istio | grep conflist | head -1) 00-first.conflist");
    shell(stage, &first)?;
    let before = said(stage, "the CNI configuration … comes before …");
    shell(stage, &format!("rm {NET_D}/00-first.conflist"))?;
    all.push(before?);
    // The provider's first: an agent that saw it without its own file would write that again.
    shell(stage, &format!("mkdir -p {ASIDE} && cd {NET_D} && mv $(ls | grep -v istio | grep conflist) {ASIDE}/"))?;
    shell(stage, &format!("mv {NET_D}/*.conflist {ASIDE}/"))?;
    let nothing = said(stage, "no CNI configuration is there yet");
    shell(stage, &format!("echo '{{\"name\":\"old\",\"type\":\"bridge\"}}' > {NET_D}/10-old.conf"))?;
    let unusable = said(stage, "the CNI configuration … cannot be followed");
    // Copied: containerd 1.6 does not read a directory again because a file was moved into it.
    shell(stage, &format!("rm {NET_D}/10-old.conf; cp -p {ASIDE}/*.conflist {NET_D}/ && rm -r {ASIDE}"))?;
    all.extend([nothing?, unusable?]);

    stage.apply(POD)?;
    stage.ready(&["wrong/stranded"])?;
    stage.enrolled(&["wrong/stranded"], true)?;
    Ok(all)
}

/// A pod that does not start, and the event that says why.
fn not_started(stage: &mut Stage, page: &'static str) -> Result<Told> {
    stage.apply(POD)?;
    let selector = "involvedObject.name=stranded,reason=FailedCreatePodSandBox";
    let mut found = String::new();
    let waited = stage.wait(&format!("an event says {page:?}"), EVENT_DEADLINE, |stage| {
        let events = ["events", "--namespace", "wrong", "--field-selector", selector];
        let events = stage.cluster().get(&events)?;
        for event in events["items"].as_array().into_iter().flatten() {
            found = event["message"].as_str().unwrap_or_default().to_owned();
            if super::is_as_written(&found, page) {
                return Ok(true);
            }
        }
        Ok(false)
    });
    waited.with_context(|| format!("the last event: {found:?}"))?;
    told(page, found)
}

/// The agent of the node.
fn agent(stage: &Stage) -> Result<Option<String>> {
    let pods = stage.status()?.pods.into_iter();
    let mut agents =
        pods.filter(|pod| pod.namespace == NAMESPACE && pod.name.starts_with("istio-cni-node") && pod.node == "node2");
    Ok(agents.next().map(|pod| pod.name))
}

/// Waits until all agents are as their DaemonSet says.
fn rolled(stage: &Stage) -> Result<()> {
    let status = ["rollout", "status", "daemonset/istio-cni-node", "--namespace", NAMESPACE, "--timeout=100s"];
    stage.cluster().kubectl(&status).map(drop)
}

/// What the log of the node's agent says, and that it is not ready meanwhile.
fn said(stage: &mut Stage, page: &'static str) -> Result<Told> {
    let mut last = String::new();
    let waited = stage.wait(&format!("the agent is not ready, and its log says {page:?}"), LOOKED, |stage| {
        let name = format!("{NAMESPACE}/{}", agent(stage)?.context("there is an agent")?);
        let log = stage.logs(&name)?;
        last = log.lines().rfind(|line| super::is_as_written(line, page)).unwrap_or_default().to_owned();
        Ok(!last.is_empty() && !stage.pod(&name)?.is_ready)
    });
    waited.with_context(|| format!("the last such line: {last:?}"))?;
    told(page, last)
}
