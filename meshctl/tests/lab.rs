//! Labs of this machine, started and looked at as scenarios do. They need
//! user namespaces or root, and fail where they have neither.

use std::time::{Duration, Instant};

use meshctl::lab::client::{Lab, LabError, StartOptions};

const PODS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: server, labels: {app: server}}
spec:
  nodeName: node2
  containers:
    - name: c
      command: [meshctl, app, http, --port, '8080', --name, server]
      readinessProbe: {tcpSocket: {port: 8080}}
---
apiVersion: v1
kind: Service
metadata: {name: server}
spec: {selector: {app: server}, ipFamilyPolicy: RequireDualStack, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: client}
spec:
  nodeName: node1
  containers: [{name: c, command: [meshctl, app, pause], env: [{name: GREETING, value: hello}]}]
";

/// A lab of its own for a test: tests run at once.
fn start(name: &str, mesh: bool) -> Lab {
    let mut options = StartOptions::new(env!("CARGO_BIN_EXE_meshctl"), &format!("{name}-{}", std::process::id()));
    options.yaml = PODS.to_owned();
    options.mesh = mesh;
    Lab::start(options).expect("the lab starts")
}

/// Waits for a condition, for a limited time.
fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::yield_now();
    }
}

fn get(lab: &Lab, url: &str) -> i32 {
    lab.exec("client", &["meshctl", "app", "get", "-m", "3", url]).expect("the lab answers").code
}

#[test]
fn pods_reach_one_another_by_address_service_and_name() {
    let lab = start("reach", false);
    let status = lab.status().unwrap();
    let server = status.pods.iter().find(|pod| pod.name == "server").unwrap();
    let service = status.services.iter().find(|service| service.name == "server").unwrap();
    let url = |address: &String, port| match address.contains(':') {
        true => format!("http://[{address}]:{port}/"),
        false => format!("http://{address}:{port}/"),
    };
    let mut urls: Vec<_> = server.addresses.iter().map(|address| url(address, 8080)).collect();
    urls.extend(service.cluster_ips.iter().map(|address| url(address, 80)));
    urls.extend(["server", "server.default", "server.default.svc.cluster.local"].map(|name| format!("http://{name}/")));
    assert_eq!(urls.len(), 7);
    for url in urls {
        assert_eq!(get(&lab, &url), 0, "{url}");
    }
    assert_ne!(get(&lab, "http://nobody/"), 0);
    lab.down().unwrap();
}

#[test]
fn a_command_has_its_streams_its_environment_and_its_exit_code() {
    let lab = start("exec", false);
    let output =
        lab.exec_with_input("default/client", &["sh", "-c", "cat; echo $GREETING >&2; exit 7"], b"in").unwrap();
    assert_eq!((output.code, output.text().as_str(), output.error_text().as_str()), (7, "in", "hello\n"));
    assert_eq!(lab.exec("client", &["no-such-command"]).unwrap().code, 127);
    assert!(matches!(lab.exec("nobody", &["true"]), Err(LabError::Refused(_))));
    let mut endless = lab.spawn("client", &["sleep", "1000"]).unwrap();
    endless.kill();
    assert_eq!(endless.wait().unwrap().code, 137);
    // Both can be told to end: nothing is blocked for them.
    let blocked = "grep -h SigBlk /proc/2/status /proc/self/status";
    let output = lab.exec("client", &["sh", "-c", blocked]).unwrap();
    assert_eq!(output.text(), "SigBlk:\t0000000000000000\n".repeat(2));
    // What a pod writes is its own, and other pods' files are not seen.
    assert_eq!(lab.exec("client", &["sh", "-c", "echo x > /tmp/meshctl-lab-test"]).unwrap().code, 0);
    assert_ne!(lab.exec("server", &["cat", "/tmp/meshctl-lab-test"]).unwrap().code, 0);
    assert!(!std::path::Path::new("/tmp/meshctl-lab-test").exists());
    let state = lab.run_dir().join("state").display().to_string();
    assert_ne!(lab.exec("client", &["ls", &state]).unwrap().code, 0);
    lab.down().unwrap();
}

#[test]
fn objects_come_and_go_and_what_cannot_be_taken_is_named() {
    let lab = start("apply", false);
    let more = PODS.replace("name: server, labels", "name: second, labels");
    let bad = "---\napiVersion: v1\nkind: Frob\nmetadata: {name: x}\n";
    let problems = lab.apply(&(more + bad)).unwrap();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].line > 20 && problems[0].reason.contains("Frob"), "{problems:?}");
    let endpoints = |lab: &Lab| {
        lab.status().unwrap().services.iter().find(|service| service.name == "server").map(|service| service.endpoints)
    };
    wait_for("two endpoints", || endpoints(&lab) == Some((2, 2)));
    lab.delete("{apiVersion: v1, kind: Pod, metadata: {name: second}}").unwrap();
    wait_for("one endpoint", || endpoints(&lab) == Some((1, 1)));
    wait_for("the pod to be gone", || lab.status().unwrap().pods.iter().all(|pod| pod.name != "second"));
    lab.down().unwrap();
}

#[test]
fn nothing_is_left_of_a_lab_that_has_ended() {
    let lab = start("gone", false);
    let dir = lab.run_dir().to_owned();
    let name = lab.name().to_owned();
    assert!(matches!(
        Lab::start(StartOptions::new(env!("CARGO_BIN_EXE_meshctl"), &name)),
        Err(LabError::EndedEarly { .. })
    ));
    lab.status().unwrap();
    lab.down().unwrap();
    assert!(!dir.exists());
    let mine = |entry: std::io::Result<std::fs::DirEntry>| {
        let command = std::fs::read(entry.ok()?.path().join("cmdline")).ok()?;
        let text = String::from_utf8_lossy(&command).into_owned();
        text.contains(&*dir.to_string_lossy()).then_some(text)
    };
    let left: Vec<_> = std::fs::read_dir("/proc").unwrap().filter_map(mine).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn programs_of_the_mesh_come_back_after_a_crash_and_a_proxy_can_be_replaced() {
    let lab = start("mesh", true);
    let proxy = |lab: &Lab| {
        let pods = lab.status().unwrap().pods;
        pods.into_iter().find(|pod| pod.node == "node1" && pod.name.starts_with("ztunnel-")).unwrap()
    };
    lab.kill_component("ztunnel", "node1", 9).unwrap();
    wait_for("the proxy to be started again", || {
        let proxy = proxy(&lab);
        proxy.restarts == 1 && proxy.is_ready
    });
    let before = proxy(&lab).name;
    let begun = Instant::now();
    lab.replace_component("ztunnel", "node1").unwrap();
    assert!(begun.elapsed() < Duration::from_secs(20), "the old proxy did not drain, it was ended by force");
    assert_ne!(proxy(&lab).name, before);
    assert_eq!(get(&lab, "http://server/"), 0);
    lab.down().unwrap();
}

#[test]
fn a_label_on_a_namespace_takes_its_pods_in_and_out_while_they_run() {
    let lab = start("label", true);
    let server = |lab: &Lab| lab.status().unwrap().pods.into_iter().find(|pod| pod.name == "server").unwrap();
    let label = |mode: &str| {
        let labels =
            if mode.is_empty() { String::new() } else { format!(", labels: {{istio.io/dataplane-mode: {mode}}}") };
        lab.apply(&format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: default{labels}}}}}")).unwrap();
    };
    assert_eq!(server(&lab).redirection, None);
    label("ambient");
    wait_for("the pod to be in", || server(&lab).redirection.as_deref() == Some("enabled"));
    // Calls go on as they were until the caller's pod and its proxy have heard of it too.
    wait_for("a call in the mesh", || {
        let called = get(&lab, "http://server/") == 0;
        let log = lab.logs("istio-system/ztunnel-node2").unwrap();
        called && log.contains("src.identity=\"spiffe://cluster.local/ns/default/sa/default\"")
    });
    label("");
    wait_for("the pod to be out", || server(&lab).redirection.is_none());
    wait_for("a call beside the mesh", || get(&lab, "http://server/") == 0);
    assert_eq!(server(&lab).restarts, 0);
    lab.down().unwrap();
}

#[test]
fn the_small_tcp_programs_do_what_they_say() {
    let lab = start("tcp", false);
    let pods: Vec<_> = ["echo", "server-first", "sink"]
        .iter()
        .map(|manner| {
            format!(
                "---\n{{apiVersion: v1, kind: Pod, metadata: {{name: {manner}}}, spec: {{containers: [{{name: c, \
                 command: [meshctl, app, tcp, --manner, {manner}], \
                 readinessProbe: {{tcpSocket: {{port: 9000}}}}}}]}}}}\n"
            )
        })
        .collect();
    assert_eq!(lab.apply(&pods.concat()).unwrap(), []);
    let status = lab.wait_ready(Duration::from_secs(20)).unwrap();
    let address = |name: &str| status.pods.iter().find(|pod| pod.name == name).unwrap().addresses[0].clone();
    let talk = |to: &str, say: &str| {
        let target = format!("{}:9000", address(to));
        lab.exec("client", &["meshctl", "app", "talk", &target, "--say", say]).unwrap().text()
    };
    assert_eq!(talk("echo", "ping"), "ping");
    assert_eq!(talk("server-first", "ping"), format!("hello {}\nping", address("client")));
    assert_eq!(talk("sink", "ping"), "4\n");
    assert_eq!(
        lab.exec("client", &["meshctl", "app", "load", "-n", "50", "-c", "5", "http://server/"]).unwrap().code,
        0
    );
    assert_ne!(lab.exec("client", &["meshctl", "app", "load", "-n", "2", "http://nobody/"]).unwrap().code, 0);
    lab.down().unwrap();
}
