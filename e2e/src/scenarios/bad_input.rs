//! Nonsense from every side: an error that names where and why, the last good state kept, everything else applied.

use crate::stage::Stage;
use anyhow::{Context, Result, ensure};
use std::{path::PathBuf, time::Duration};

/// A problem is known this soon after the file is there.
const NOTICED: Duration = Duration::from_secs(10);

/// Runs the scenario.
pub fn run(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    stage.apply(super::traffic::MANIFESTS)?;
    stage.ready(&["shop/client", "shop/web-far", "outside/client"])?;
    let before = restarts(stage)?;
    files(stage, seen)?;
    last_good(stage, seen)?;
    sockets(stage, seen)?;
    super::bad_zds::run(stage, seen, "shop/client", "web-far.shop:81")?;
    super::bad_xds::run(stage, seen)?;
    ensure!(restarts(stage)? == before, "a program of the mesh was restarted");
    seen.push("no program of the mesh was restarted".into());
    Ok(())
}

/// Restarts of every program of the mesh.
fn restarts(stage: &Stage) -> Result<Vec<(String, u32)>> {
    let pods = stage.status()?.pods;
    Ok(pods.into_iter().filter(|p| p.namespace == "istio-system").map(|p| (p.name, p.restarts)).collect())
}

/// A file of the directory that the control plane reads, written behind the lab's back as an editor would.
fn file(stage: &Stage, name: &str) -> PathBuf {
    stage.lab().run_dir().join("config/manifests").join(name)
}

/// What the control plane complains about.
fn problems(stage: &Stage) -> Result<String> {
    stage.told("problems")
}

fn files(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    let policy = |spec: &str| {
        format!(
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
             metadata: {{ name: broken, namespace: shop }}\n\
             spec: {{ selector: {{ matchLabels: {{ app: web-near }} }}, {spec} }}\n"
        )
    };
    let cases: [(&str, String, &[&str]); 5] = [
        ("unreadable.yaml", "kind: [unclosed\n  a: b: c\n".into(), &["unreadable.yaml", "line"]),
        (
            "cidr.yaml",
            policy("rules: [{ from: [{ source: { ipBlocks: [10.0.0.0/99] } }] }]"),
            &["cidr.yaml", "ipBlocks", "10.0.0.0/99"],
        ),
        ("action.yaml", policy("action: PERHAPS, rules: [{}]"), &["action.yaml", "PERHAPS"]),
        (
            "port.yaml",
            policy("rules: [{ to: [{ operation: { ports: [\"99999\"] } }] }]"),
            &["port.yaml", "ports[0]", "1 to 65535"],
        ),
        (
            "large.yaml",
            policy(&format!("rules: [{{ from: [{{ source: {{ principals: [{}] }} }}] }}]", "x".repeat(10 << 20))),
            &["large.yaml"],
        ),
    ];
    for (name, text, named) in &cases {
        let path = file(stage, name);
        std::fs::write(&path, text)?;
        let noticed = stage.wait(&format!("the problem of {name} is named with {named:?}"), NOTICED, |s| {
            let all = problems(s)?;
            Ok(named.iter().all(|word| all.contains(word)))
        });
        noticed.with_context(|| format!("known problems: {}", problems(stage).unwrap_or_default()))?;
        ensure!(stage.answers("shop/client", "web-far.shop:81"), "{name} disturbed pods it is not for");
        // Nobody knows what it would have allowed, so it allows nothing: a mistake never opens a door.
        let closed = text.contains("web-near");
        stage.wait(&format!("{name} closes what it is for: {closed}"), NOTICED, |s| {
            Ok(s.answers("shop/client", "web-near.shop:81") != closed)
        })?;
        std::fs::remove_file(&path)?;
    }
    let unknown = file(stage, "unknown.yaml");
    std::fs::write(&unknown, "apiVersion: example.org/v1\nkind: Riddle\nmetadata: { name: x, namespace: shop }\n")?;
    stage.wait("problems go when their files go", NOTICED, |s| {
        let all = problems(s)?;
        Ok(cases.iter().all(|(name, ..)| !all.contains(name)))
    })?;
    std::fs::remove_file(&unknown)?;
    seen.push(format!("{} kinds of broken YAML: each named with file and reason, traffic undisturbed", cases.len()));
    Ok(())
}

fn last_good(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    let deny = |cidr: &str| {
        format!(
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
             metadata: {{ name: no-far, namespace: shop }}\nspec:\n  action: DENY\n\
             \x20 selector: {{ matchLabels: {{ app: web-far }} }}\n\
             \x20 rules: [{{ from: [{{ source: {{ ipBlocks: [\"{cidr}\"] }} }}] }}]\n"
        )
    };
    let path = file(stage, "no-far.yaml");
    std::fs::write(&path, deny("0.0.0.0/0"))?;
    stage.wait("the policy refuses", NOTICED, |s| Ok(!s.answers("shop/client", "web-far.shop:81")))?;
    std::fs::write(&path, deny("nonsense"))?;
    stage.wait("the mistake is named", NOTICED, |s| Ok(problems(s)?.contains("nonsense")))?;
    // Another change is applied meanwhile, so the broken one had its chance.
    let other = "apiVersion: v1\nkind: Service\nmetadata: { name: other, namespace: shop }\n\
                 spec: { selector: { app: web-near }, ports: [{ port: 81, targetPort: 8081 }] }\n";
    stage.apply(other)?;
    stage.wait("another change is applied", NOTICED, |s| Ok(s.answers("shop/client", "other.shop:81")))?;
    ensure!(!stage.answers("shop/client", "web-far.shop:81"), "a mistake in a DENY policy opened the door");
    std::fs::remove_file(&path)?;
    stage.wait("without the policy it passes", NOTICED, |s| Ok(s.answers("shop/client", "web-far.shop:81")))?;
    stage.delete(other)?;
    seen.push("a DENY policy broken by an edit stays as it last was; other changes apply meanwhile".into());
    Ok(())
}

fn sockets(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    // Bytes that are no TLS, no HTTP/2, no HTTP, to every port of the mesh that a pod can reach.
    let script = "import socket,os,sys\n\
        for host,ports in [(sys.argv[1],(15012,15014,8080)),(sys.argv[2],(15008,15006,15001)),(sys.argv[3],(15020,15021))]:\n\
        \x20 for port in ports:\n\
        \x20  for junk in (b'', b'\\x16\\x03\\x01\\xff\\xff', b'PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n'+b'\\xff'*64, os.urandom(4096), b'GET '+b'A'*200000):\n\
        \x20   try:\n\
        \x20    s=socket.create_connection((host,port),1); s.settimeout(0.3); s.sendall(junk)\n\
        \x20    try: s.recv(100)\n\
        \x20    except OSError: pass\n\
        \x20    s.close()\n\
        \x20   except OSError: pass\n\
        print('done')";
    let [istiod, server, ztunnel] = ["istio-system/istiod-0", "shop/web-far", "istio-system/ztunnel-node2"]
        .map(|pod| stage.pod_addresses(pod).map(|ips| ips[0].to_string()));
    let out = stage.exec("outside/client", &["python3", "-c", script, &istiod?, &server?, &ztunnel?])?.ok()?;
    ensure!(out.trim() == "done", "the attacker ended early: {out:?}");
    ensure!(stage.answers("shop/client", "web-far.shop:81"), "junk on the ports disturbed the traffic");
    seen.push("junk to every port of the mesh that a pod can reach: nothing happened".into());
    Ok(())
}
