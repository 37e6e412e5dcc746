//! The agent as it is on a node of a cluster: its plugin, its configuration, and pods that it has
//! to find itself.

use std::fs;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use ztunnel::agent::config::Host;
use ztunnel::agent::install::Settings;
use ztunnel::agent::install::conf::Plugin;
use ztunnel::agent::install::plan::Manner;
use ztunnel::net::netns::Netns;
use ztunnel::net::redirect::Standing;

use super::mesh::{ENABLED, Mesh, until};
use super::touched;
use crate::Case;
use crate::world::{pod_v4, pod_v6};

pub(crate) const CASES: &[Case] = &[
    ("node: the plugin lets a pod start when the agent has taken it in", plugin_adds),
    ("node: the plugin waits for an agent that is being exchanged", plugin_waits),
    ("node: the plugin's configuration is put back whatever others do", restored),
    ("node: pods that run already are found by their processes", found),
];

pub(crate) const PROVIDER: &str = r#"{"cniVersion":"0.3.1","name":"kindnet","plugins":[{"type":"ptp","mtu":1500},{"type":"portmap","capabilities":{"portMappings":true}}]}"#;

/// A path to a namespace that lasts as long as that is held.
fn path_of(netns: &Netns) -> PathBuf {
    format!("/proc/self/fd/{}", netns.as_fd().as_raw_fd()).into()
}

/// A mesh whose host has an empty `/proc` with only the first process, and its pods in
/// `/var/run/netns`.
pub(crate) fn on_host(pods: usize) -> Mesh {
    let mut mesh = Mesh::stopped(pods);
    let mounts = mesh.place("host");
    process(&mesh, 1, "0::/init.scope", 1, &mesh.world.node);
    let netns = mesh.place("host/var/run/netns");
    for (number, pod) in mesh.world.pods.iter().enumerate() {
        symlink(path_of(pod), netns.join(format!("pod-{number}"))).unwrap();
    }
    mesh.install = Some(Settings {
        conf_dir: mesh.place("host/etc/cni/net.d"),
        bin_dir: mesh.place("host/opt/cni/bin"),
        program: env!("CARGO_BIN_EXE_ztunnel").into(),
        manner: Manner {
            conf_name: None,
            owns: false,
            owned: "02-istio-cni.conflist".into(),
            plugin: Plugin {
                run_dir: mesh.place("").to_string_lossy().into_owned(),
                excluded_namespaces: vec!["kube-system".into()],
                agent_namespace: "istio-system".into(),
                agent_pods: "istio-cni-node-".into(),
            },
        },
    });
    mesh.host = Some(Host { mounts, switch: false });
    mesh
}

/// A process of the host, as its `/proc` shows it.
pub(crate) fn process(mesh: &Mesh, number: u32, cgroup: &str, started: u64, netns: &Netns) {
    let dir = mesh.place(&format!("host/proc/{number}/ns")).parent().unwrap().to_owned();
    fs::write(dir.join("cgroup"), format!("{cgroup}\n")).unwrap();
    fs::write(dir.join("stat"), format!("{number} (pause) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 {started} 0 0\n"))
        .unwrap();
    let link = dir.join("ns/net");
    let _was_none = fs::remove_file(&link);
    symlink(path_of(netns), link).unwrap();
}

pub(crate) fn uid(number: usize) -> String {
    format!("1d2c3b4a-0000-4000-8000-{number:012x}")
}

fn conf(mesh: &Mesh, name: &str) -> PathBuf {
    mesh.place("host/etc/cni/net.d").join(name)
}

fn types(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let value: Value = serde_json::from_str(&text).unwrap_or_default();
    let plugins = value["plugins"].as_array().cloned().unwrap_or_default();
    plugins.iter().filter_map(|plugin| plugin["type"].as_str()).collect::<Vec<_>>().join(" ")
}

const CHAINED: &str = "ptp portmap istio-cni";

/// What the plugins before ours made of a pod.
fn result(number: usize) -> Value {
    json!({
        "cniVersion": "0.3.1",
        "interfaces": [{"name": "eth0", "sandbox": format!("/var/run/netns/pod-{number}")}],
        "ips": [
            {"version": "4", "interface": 0, "address": format!("{}/32", pod_v4(number)), "gateway": "10.0.0.1"},
            {"version": "6", "interface": 0, "address": format!("{}/128", pod_v6(number))},
        ],
        "dns": {},
    })
}

/// Runs the program that was installed, as a runtime does, with the configuration that was installed.
fn plugin(mesh: &Mesh, command: &str, namespace: &str, number: usize, more: &[(&str, &str)]) -> Child {
    let list: Value = serde_json::from_str(&fs::read_to_string(conf(mesh, "10-kindnet.conflist")).unwrap()).unwrap();
    let mut ours = list["plugins"].as_array().unwrap().last().unwrap().clone();
    ours["cniVersion"] = list["cniVersion"].clone();
    ours["name"] = list["name"].clone();
    ours["prevResult"] = result(number);
    let args =
        format!("IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME=pod-{number};K8S_POD_UID={}", uid(number));
    let mut child = Command::new(mesh.place("host/opt/cni/bin").join("istio-cni"))
        .env_clear()
        .env("CNI_COMMAND", command)
        .env("CNI_CONTAINERID", "c1")
        .env("CNI_IFNAME", "eth0")
        .env("CNI_NETNS", format!("/var/run/netns/pod-{number}"))
        .env("CNI_ARGS", args)
        .envs(more.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(ours.to_string().as_bytes()).unwrap();
    child
}

/// Whether it said yes, and what else.
fn said(child: Child) -> (bool, String) {
    let output = child.wait_with_output().unwrap();
    (output.status.success(), String::from_utf8(output.stdout).unwrap())
}

/// The object of a pod that is about to start.
fn object(mesh: &Mesh, number: usize, labels: &str) {
    mesh.write(
        &format!("pod-{number}.yaml"),
        &format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: pod-{number}, namespace: shop, uid: {}, labels: {{{labels}}}}}\nspec: {{nodeName: n1}}\n",
            uid(number)
        ),
    );
}

fn plugin_adds() {
    let mut mesh = on_host(2);
    fs::write(conf(&mesh, "10-kindnet.conflist"), PROVIDER).unwrap();
    mesh.start();
    let proxy = mesh.proxy();
    mesh.namespace("ambient");
    object(&mesh, 0, "");
    object(&mesh, 1, "istio.io/dataplane-mode: none");
    until("installed", || types(&conf(&mesh, "10-kindnet.conflist")) == CHAINED);

    let (yes, text) = said(plugin(&mesh, "ADD", "shop", 0, &[]));
    assert!(yes, "{text}");
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), result(0), "what came before is passed on");
    assert_eq!(mesh.rules(0), Standing::InPlace);
    assert_eq!(proxy.netns_of(&uid(0)), Some(mesh.world.pods[0].id()));
    assert_eq!(mesh.told(0).as_deref(), Some(ENABLED));

    let (yes, text) = said(plugin(&mesh, "ADD", "shop", 1, &[]));
    assert!(yes && serde_json::from_str::<Value>(&text).unwrap() == result(1), "it is outside: {text}");
    assert_eq!(mesh.rules(1), Standing::Absent);

    for (command, more, part) in [
        // The object of the pod that has its name by now has not come yet.
        ("ADD", ("CNI_ARGS", "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=pod-1;K8S_POD_UID=next"), "is not known here yet"),
        ("ADD", ("CNI_NETNS", "/elsewhere/pod-1"), "is not below /var/run/netns"),
        ("ADD", ("CNI_NETNS", ""), "CNI_NETNS is not set"),
        ("UPDATE", ("X", "y"), "is not known"),
    ] {
        let (yes, text) = said(plugin(&mesh, command, "shop", 1, &[more]));
        assert!(!yes && text.contains(part) && text.contains("\"code\":"), "{command} {more:?}: {text}");
    }
    for command in ["DEL", "CHECK", "STATUS", "GC"] {
        assert_eq!(said(plugin(&mesh, command, "shop", 0, &[])), (true, String::new()), "{command}");
    }
    assert!(said(plugin(&mesh, "VERSION", "shop", 0, &[])).1.contains("\"supportedVersions\""));
    assert_eq!(mesh.rules(0), Standing::InPlace, "its rules end with its namespace");
}

fn plugin_waits() {
    let mut mesh = on_host(1);
    fs::write(conf(&mesh, "10-kindnet.conflist"), PROVIDER).unwrap();
    mesh.start();
    mesh.namespace("ambient");
    object(&mesh, 0, "");
    until("installed", || types(&conf(&mesh, "10-kindnet.conflist")) == CHAINED);
    mesh.stop();
    assert_eq!(types(&conf(&mesh, "10-kindnet.conflist")), CHAINED, "it stays while an agent is exchanged");
    assert!(said(plugin(&mesh, "ADD", "kube-system", 0, &[])).0, "what the node needs starts all the same");
    let mut waiting = plugin(&mesh, "ADD", "shop", 0, &[]);
    assert!(waiting.try_wait().unwrap().is_none());
    mesh.start();
    let _proxy = mesh.proxy();
    let (yes, text) = said(waiting);
    assert!(yes, "{text}");
    assert_eq!(mesh.rules(0), Standing::InPlace);
}

fn restored() {
    let mut mesh = on_host(0);
    let (kindnet, program) = (conf(&mesh, "10-kindnet.conflist"), mesh.place("host/opt/cni/bin").join("istio-cni"));
    mesh.start();
    assert!(!program.with_extension("x").exists());
    // A network provider that comes after us.
    fs::write(&kindnet, PROVIDER).unwrap();
    until("it is followed", || types(&kindnet) == CHAINED);
    for _ in 0..20 {
        fs::write(&kindnet, PROVIDER).unwrap();
        until("what is written over is put back", || types(&kindnet) == CHAINED);
    }
    // In two steps, as some do.
    fs::write(&kindnet, &PROVIDER[..40]).unwrap();
    fs::write(&kindnet, PROVIDER).unwrap();
    until("a file in the making is not the end", || types(&kindnet) == CHAINED);
    fs::remove_file(&kindnet).unwrap();
    fs::write(conf(&mesh, "05-other.conf"), r#"{"cniVersion":"1.0.0","name":"o","type":"bridge"}"#).unwrap();
    let other = conf(&mesh, "05-other.conflist");
    until("another one is followed", || types(&other) == "bridge istio-cni" && !conf(&mesh, "05-other.conf").exists());
    fs::remove_file(&program).unwrap();
    until("the program is put back", || {
        fs::read(&program).is_ok_and(|now| now == fs::read(env!("CARGO_BIN_EXE_ztunnel")).unwrap())
    });
    mesh.stop();
    // The next agent has a file of its own.
    mesh.install.as_mut().unwrap().manner.owns = true;
    mesh.start();
    let owned = conf(&mesh, "02-istio-cni.conflist");
    until("the file of our own is there", || types(&owned) == "bridge istio-cni" && types(&other) == "bridge");
    fs::write(&other, PROVIDER).unwrap();
    until("it says what the provider says", || types(&owned) == CHAINED);
    fs::remove_file(&owned).unwrap();
    until("it comes back", || types(&owned) == CHAINED);
    assert_eq!(types(&other), "ptp portmap", "the provider's file is the provider's");
}

/// A pod that runs, and says nothing of where.
fn running(mesh: &Mesh, number: usize, labels: &str) {
    mesh.write(
        &format!("pod-{number}.yaml"),
        &format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: pod-{number}, namespace: shop, uid: {}, labels: {{{labels}}}}}\nspec: {{nodeName: n1}}\nstatus: {{phase: Running, podIPs: [{{ip: {}}}, {{ip: \"{}\"}}]}}\n",
            uid(number), pod_v4(number), pod_v6(number)
        ),
    );
}

pub(crate) fn cgroup(number: usize) -> String {
    let slice = uid(number).replace('-', "_");
    format!("0::/../../kubelet-kubepods-besteffort-pod{slice}.slice/cri-containerd-0123.scope")
}

fn found() {
    let mut mesh = on_host(3);
    mesh.install = None;
    mesh.namespace("ambient");
    (0..3).for_each(|number| running(&mesh, number, ""));
    // The one that holds the pod's namespace, and one that has made its own since.
    process(&mesh, 100, &cgroup(0), 50, &mesh.world.pods[0]);
    let nested = Netns::new().unwrap();
    process(&mesh, 99, &cgroup(0), 60, &nested);
    // Somebody on the host's network is in the group of a pod.
    process(&mesh, 102, &cgroup(2), 1, &mesh.world.node);
    mesh.start();
    let proxy = mesh.proxy();
    until("found", || {
        proxy.netns_of(&uid(0)) == Some(mesh.world.pods[0].id()) && mesh.told(0).as_deref() == Some(ENABLED)
    });
    assert!(!proxy.has(&uid(1)) && !proxy.has(&uid(2)), "nobody knows where they are");
    process(&mesh, 101, &cgroup(1), 70, &mesh.world.pods[1]);
    until("found later", || proxy.has(&uid(1)) && mesh.told(1).as_deref() == Some(ENABLED));
    assert!(!proxy.has(&uid(2)), "the host's namespace is no pod's");

    let netns = mesh.world.pods[0].try_clone().unwrap();
    let felt = touched(&netns, || {
        mesh.stop();
        // While nobody looks, one asks to be out.
        running(&mesh, 1, "istio.io/dataplane-mode: none");
        mesh.start();
        let proxy = mesh.proxy();
        assert_eq!(proxy.snapshots.lock().unwrap()[0], [format!("add {}", uid(0))], "at once, with its namespace");
        until("out", || mesh.told(1).is_none());
    });
    assert!(!felt, "a restart is not felt");
    until("its rules are gone", || mesh.rules(1) == Standing::Absent);
    assert_eq!(mesh.rules(0), Standing::InPlace);
}
