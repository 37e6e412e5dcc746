//! Every kind of workload that Kubernetes knows, in a namespace where nothing takes plaintext: an answer is the proof
//! that the mesh has carried the call.

use crate::stage::Stage;
use anyhow::{Context, Result, ensure};
use std::{net::IpAddr, time::Duration};

const MANIFESTS: &str = include_str!("village.yaml");
const CLIENT: &str = "village/client";
const STRANGER: &str = "abroad/client";
/// A change is in the proxies.
const CHANGED_DEADLINE: Duration = Duration::from_secs(20);
/// How long probes are watched: many times what the kubelet takes to give a pod up.
const WATCHED: Duration = Duration::from_secs(12);

/// Settles the village, and waits until it refuses strangers.
fn settle(stage: &mut Stage) -> Result<()> {
    stage.apply(MANIFESTS)?;
    stage.ready(&[CLIENT, "village/server", STRANGER])?;
    stage.enrolled(&[CLIENT, "village/server"], true)?;
    stage.wait("the village answers its own and no stranger", CHANGED_DEADLINE, |stage| {
        Ok(call(stage, CLIENT, "server.village").is_ok() && call(stage, STRANGER, "server.village").is_err())
    })?;
    Ok(())
}

/// Who answered.
fn call(stage: &Stage, client: &str, host: &str) -> Result<String> {
    let url = format!("http://{host}/");
    let body = stage.exec(client, &["curl", "-sS", "-f", "-g", "--max-time", "3", &url])?.ok()?;
    Ok(body.split_whitespace().next().unwrap_or_default().to_owned())
}

/// Waits until somebody of this name answers.
fn answered(stage: &mut Stage, client: &str, host: &str, name: &str) -> Result<()> {
    stage
        .wait(&format!("{host} answers {client} as {name}"), CHANGED_DEADLINE, |stage| {
            Ok(call(stage, client, host).is_ok_and(|who| who == name))
        })
        .with_context(|| format!("the last answer: {:?}", call(stage, client, host)))?;
    Ok(())
}

/// A pod of the village with a server in it; more of its spec and of its container's may be said.
fn server(name: &str, spec: &str, container: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{ name: {name}, namespace: village, labels: {{ app: {name} }} }}\nspec:\n\
         \x20 nodeName: node2\n{spec}\x20 containers:\n\
         \x20   - name: serve\n      command: [E2E, app, serve, --name, {name}]\n{container}"
    )
}

/// A service of the village.
fn service(name: &str, more: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{ name: {name}, namespace: village }}\nspec:\n\
         \x20 selector: {{ app: {name} }}\n  ports: [{{ name: http, port: 80, targetPort: 8081 }}]\n{more}"
    )
}

/// The kubelet's probes reach pods that take no plaintext.
pub fn probes(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    settle(stage)?;
    let probe = |what: &str| {
        format!(
            "      readinessProbe: {{ {what}, periodSeconds: 1 }}\n\
             \x20     livenessProbe: {{ {what}, periodSeconds: 1, failureThreshold: 2 }}\n"
        )
    };
    let kinds = [
        ("http", probe("httpGet: { path: /, port: 8081 }")),
        ("tcp", probe("tcpSocket: { port: 7777 }")),
        ("exec", probe("exec: { command: [curl, -sSf, 'http://127.0.0.1:8081/'] }")),
    ];
    for (name, probes) in &kinds {
        stage.apply(&server(&format!("probed-{name}"), "", probes))?;
    }
    let pods = kinds.each_ref().map(|(name, _)| format!("village/probed-{name}"));
    for pod in &pods {
        stage.ready(&[pod])?;
        stage.enrolled(&[pod], true)?;
        let address = std::net::SocketAddr::new(stage.pod_addresses(pod)?[0], 8081).to_string();
        ensure!(call(stage, STRANGER, &address).is_err(), "{pod} takes plaintext of a stranger");
    }
    let began = std::time::Instant::now();
    stage.wait("probes go on", WATCHED * 3, |stage| {
        for pod in &pods {
            let state = stage.pod(pod)?;
            ensure!(state.is_ready && state.restarts == 0, "{pod} failed its probes: {state:?}");
        }
        Ok(began.elapsed() > WATCHED)
    })?;
    seen.push(format!("http, tcp and exec probes under STRICT for {} s: ready, none restarted", WATCHED.as_secs()));
    Ok(())
}

/// A headless service's name stands for its pods.
pub fn headless(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    settle(stage)?;
    stage.apply(&service("peers", "  clusterIP: None\n"))?;
    stage.apply(&server("peers", "", ""))?;
    stage.ready(&["village/peers"])?;
    stage.enrolled(&["village/peers"], true)?;
    // Nothing translates the port of a headless service.
    answered(stage, CLIENT, "peers.village:8081", "peers")?;
    let address = stage.pod_addresses("village/peers")?[0];
    ensure!(
        resolved(stage, "peers.village.svc.cluster.local")?.contains(&address),
        "its name is not its pod's address"
    );
    seen.push(format!("its name stands for {address}, which answers through the mesh"));
    Ok(())
}

fn resolved(stage: &Stage, host: &str) -> Result<Vec<IpAddr>> {
    let out = stage.exec(
        CLIENT,
        &[
            "python3",
            "-c",
            &format!(
                "import socket\nfor a in socket.getaddrinfo('{host}', 80, type=socket.SOCK_STREAM): print(a[4][0])"
            ),
        ],
    )?;
    out.ok()?.lines().map(|line| line.trim().parse().with_context(|| format!("{line:?} is no address"))).collect()
}

/// Each pod of a StatefulSet has a name of its own.
pub fn stateful(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    settle(stage)?;
    stage.apply(&service("db", "  clusterIP: None\n"))?;
    stage.apply(
        "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: { name: db, namespace: village }\nspec:\n  replicas: 2\n\
         \x20 serviceName: db\n  selector: { matchLabels: { app: db } }\n  template:\n    metadata: { labels: { app: db } }\n\
         \x20   spec:\n      containers:\n        - name: serve\n\
         \x20         command: [E2E, app, serve, --name, $(POD)]\n\
         \x20         env: [{ name: POD, valueFrom: { fieldRef: { fieldPath: metadata.name } } }]\n",
    )?;
    for pod in ["db-0", "db-1"] {
        let id = format!("village/{pod}");
        stage.wait(&format!("{id} is made"), CHANGED_DEADLINE, |stage| Ok(stage.pod(&id).is_ok()))?;
        stage.ready(&[&id])?;
        stage.enrolled(&[&id], true)?;
        answered(stage, CLIENT, &format!("{pod}.db.village.svc.cluster.local:8081"), pod)?;
    }
    seen.push("db-0 and db-1 answer under their own names".into());
    Ok(())
}

/// Pods that share their node's network are not in the mesh; the mesh speaks with them in plaintext.
pub fn host_network(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    settle(stage)?;
    // Without the policy it would ask its node's DNS, which knows no services.
    let spec = "  hostNetwork: true\n  dnsPolicy: ClusterFirstWithHostNet\n";
    let host = |name: &str, node: &str| {
        server(name, spec, "")
            .replace(&format!("{name}]"), &format!("{name}, --http, '28081', --echo, '27777']"))
            .replace("nodeName: node2", &format!("nodeName: {node}"))
    };
    stage.apply(&[host("host", "node1"), host("neighbour", "node2")].join("\n---\n"))?;
    stage.apply(&service("host", "").replace("8081", "28081"))?;
    stage.ready(&["village/host", "village/neighbour"])?;
    answered(stage, CLIENT, "host.village", "host")?;
    answered(stage, STRANGER, "host.village", "host")?;
    ensure!(stage.pod("village/host")?.redirection.is_none(), "a pod with its node's network was enrolled");
    let address = std::net::SocketAddr::new(stage.pod_addresses("village/server")?[0], 8081).to_string();
    for target in ["server.village", &address] {
        let refused = format!("{:?}", call(stage, "village/host", target).err());
        // Reset before curl has looked whether it is connected, or after, or ended without an answer.
        let ended = ["curl: (7)", "curl: (56)", "curl: (52)"].iter().any(|code| refused.contains(code));
        ensure!(ended, "STRICT and plaintext of a pod on another node's network: {refused}");
    }
    // Nothing tells it from the kubelet, whose probes have to pass.
    answered(stage, "village/neighbour", &address, "server")?;
    stage.delete(
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: { name: default, namespace: village }\n",
    )?;
    answered(stage, "village/host", "server.village", "server")?;
    seen.push("reached in plaintext, never enrolled; refused as a caller under STRICT, taken under PERMISSIVE".into());
    seen.push("on the node of whom it calls it passes as the kubelet does, as docs/kubernetes.md says".into());
    Ok(())
}

/// A Job calls, ends, and is gone.
pub fn jobs(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    settle(stage)?;
    stage.apply(
        "apiVersion: batch/v1\nkind: Job\nmetadata: { name: caller, namespace: village }\nspec:\n  completions: 3\n\
         \x20 backoffLimit: 0\n  template:\n    spec:\n      restartPolicy: Never\n      containers:\n\
         \x20       - { name: call, command: [curl, -sS, -f, --max-time, '5', 'http://server.village/'] }\n",
    )?;
    stage.cluster().kubectl(&[
        "wait",
        "--for=condition=Complete",
        "job/caller",
        "--namespace",
        "village",
        "--timeout=90s",
    ])?;
    seen.push("3 of 3 pods of a Job have called at once, without a retry, and are done".into());
    Ok(())
}

/// The first thing that a pod does may be a call.
pub fn init_containers(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    settle(stage)?;
    let init = "  restartPolicy: Never\n  initContainers:\n\
                \x20   - { name: call, command: [curl, -sS, -f, --max-time, '5', 'http://server.village/'] }\n";
    stage.apply(&server("late", init, ""))?;
    stage.ready(&["village/late"]).with_context(|| format!("its log: {:?}", stage.logs("village/late")))?;
    seen.push("an init container's only try is answered under STRICT: the pod was in the mesh before it ran".into());
    Ok(())
}

/// A service that asks for it has addresses of pods that are not ready; no other has.
pub fn not_ready(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    settle(stage)?;
    stage.apply(&server("early", "", "      readinessProbe: { exec: { command: ['false'] }, periodSeconds: 1 }\n"))?;
    stage.apply(&service("early", "  publishNotReadyAddresses: true\n"))?;
    stage.apply(&service("patient", "").replace("app: patient", "app: early"))?;
    stage.enrolled(&["village/early"], true)?;
    answered(stage, CLIENT, "early.village", "early")?;
    ensure!(!stage.pod("village/early")?.is_ready, "the pod is never ready");
    ensure!(call(stage, CLIENT, "patient.village").is_err(), "a service sends to a pod that is not ready");
    seen.push("publishNotReadyAddresses is answered by a pod that is not ready, any other service is not".into());
    Ok(())
}

/// A service that is but another name.
pub fn external_name(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    settle(stage)?;
    stage.apply(
        "apiVersion: v1\nkind: Service\nmetadata: { name: alias, namespace: village }\n\
         spec: { type: ExternalName, externalName: server.village.svc.cluster.local }\n",
    )?;
    answered(stage, CLIENT, "alias.village", "server")?;
    seen.push("the alias is answered by whom it names, under STRICT".into());
    Ok(())
}

/// Both families of addresses, where the cluster has two.
pub fn dual_stack(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    settle(stage)?;
    stage.apply(&service("both", "  ipFamilyPolicy: PreferDualStack\n").replace("app: both", "app: server"))?;
    let pods = stage.pod_addresses("village/server")?;
    let services = stage.cluster_ips("both.village.svc.cluster.local")?;
    ensure!(pods.len() == services.len(), "pods have {pods:?}, services {services:?}");
    for (pod, service) in pods.iter().zip(&services) {
        answered(stage, CLIENT, &std::net::SocketAddr::new(*pod, 8081).to_string(), "server")?;
        answered(stage, CLIENT, &std::net::SocketAddr::new(*service, 80).to_string(), "server")?;
    }
    seen.push(format!("pod at {pods:?} and service at {services:?}: all answer"));
    Ok(())
}
