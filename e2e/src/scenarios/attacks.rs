//! Certificates for those they are not due to: asked for at the running control plane, by everybody, with
//! every token that does not hold. And what a node proxy does whose token is over.

use crate::{
    apps::attack::{Claimant, Plan, Report},
    stage::Stage,
};
use anyhow::{Context, Result, ensure};
use std::time::Duration;
use testkit::tokens::{Flaw, Holder, Signer, claims};

/// A call works or does not work any more this soon after its cause.
const NOTICED: Duration = Duration::from_secs(20);
/// Requests of the matrix; fewer would mean that a part of it was lost.
const REQUESTS_MIN: usize = 500;
/// Where a node proxy has its token.
const TOKEN: &str = "/var/run/secrets/tokens/istio-token";
/// Where the certificate RPC is.
const RPC: &str = "istio.v1.auth.IstioCertificateService/CreateCertificate";

/// Identities that are asked for, those of the first four with bad tokens too. Who is where is in `traffic.yaml`
/// and [`FAR_ONLY`].
const ASKED: [&str; 11] = [
    "spiffe://cluster.local/ns/shop/sa/client",
    "spiffe://cluster.local/ns/shop/sa/far",
    "spiffe://cluster.local/ns/istio-system/sa/ztunnel",
    "spiffe://cluster.local/ns/outside/sa/default",
    "spiffe://cluster.local/ns/shop/sa/server",
    "spiffe://cluster.local/ns/shop/sa/nobody",
    "spiffe://cluster.local/ns/nowhere/sa/client",
    "spiffe://cluster.local/ns/outside/sa/client",
    "spiffe://cluster.local/ns/istio-system/sa/istiod-of-another",
    "spiffe://cluster.local/ns/shop/sa/ztunnel",
    "spiffe://evil.local/ns/shop/sa/client",
];

/// Who asks: namespace, pod, service account, and which of the identities above are its to ask for.
const CALLERS: [(&str, &str, &str, &[usize]); 5] = [
    ("istio-system", "ztunnel-node1", "ztunnel", &[0, 2, 3, 4]),
    ("istio-system", "ztunnel-node2", "ztunnel", &[1, 2, 3, 4]),
    ("shop", "client", "client", &[]),
    ("shop", "web-far", "server", &[]),
    ("outside", "client", "default", &[]),
];

/// Runs the scenario.
pub fn run(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    stage.apply(super::traffic::MANIFESTS)?;
    stage.apply(FAR_ONLY)?;
    stage.ready(&["shop/client", "shop/web-far", "shop/web-near", "outside/client", "outside/web-far", "shop/far"])?;
    stage.enrolled(&["shop/client", "shop/web-far", "shop/web-near", "shop/far"], true)?;
    matrix(stage, seen)?;
    malformed(stage, seen)?;
    rotation(stage, seen)?;
    stage.delete(FAR_ONLY)
}

fn matrix(stage: &Stage, seen: &mut Vec<String>) -> Result<()> {
    let caller = |(namespace, pod, account, may): &(&str, &str, &str, &[usize])| {
        let neighbour = CALLERS.iter().find(|other| other.0 == *namespace && other.2 != *account).map(|other| other.1);
        let neighbour = neighbour.map(|pod| Ok::<_, anyhow::Error>((pod.to_owned(), uid(stage, namespace, pod)?)));
        Ok(Claimant {
            namespace: (*namespace).into(),
            pod: (*pod).into(),
            uid: uid(stage, namespace, pod)?,
            account: (*account).into(),
            neighbour: neighbour.transpose()?,
            may: may.iter().map(|number| ASKED[*number].to_owned()).collect(),
        })
    };
    let plan = Plan {
        callers: CALLERS.iter().map(caller).collect::<Result<_>>()?,
        identities: ASKED.map(str::to_owned).to_vec(),
    };
    let (address, plan) = (authority(stage)?, serde_json::to_string(&plan)?);
    let (roots, key) = (state(stage, "root-cert.pem")?, state(stage, "token-key.pem")?);
    let argv = ["attack", &address, "--roots", &roots, "--key", &key, "--plan", &plan];
    let report: Report = stage.app("outside/client", &argv)?.report()?;
    ensure!(report.wrong.is_empty(), "{} of {}: {}", report.wrong.len(), report.asked, report.wrong.join("\n"));
    ensure!(report.asked >= REQUESTS_MIN, "only {} requests", report.asked);
    let due = 3 * CALLERS.iter().map(|(.., may)| may.len() + 1).sum::<usize>();
    ensure!(report.granted == due, "{} certificates, {due} were due", report.granted);
    seen.push(format!(
        "{} requests of {} callers: {} certificates, all due; every refusal with its code and message",
        report.asked,
        CALLERS.len(),
        report.granted
    ));
    Ok(())
}

/// What is no identity at all: our own client cannot even ask for it.
fn malformed(stage: &Stage, seen: &mut Vec<String>) -> Result<()> {
    let names =
        ["", "spiffe://", "client", "spiffe://cluster.local/ns/shop", "spiffe://cluster.local/ns/shop/sa/client/x"];
    let token = token(stage, "ztunnel-node1")?;
    let (url, authorization) = (format!("{}/{RPC}", authority(stage)?), format!("authorization: Bearer {token}"));
    let requests = names.iter().map(|name| asking_for(name)).chain([vec![0, 0, 0, 0, 9, 0xff], vec![0xff; 40]]);
    let mut count = 0;
    for bytes in requests {
        let octal: String = bytes.iter().map(|byte| format!("\\{byte:03o}")).collect();
        let script = "printf \"$1\" | curl -sS -k --http2 --max-time 10 -D - -o /dev/null -H \"$2\" -H \"clusterid: Kubernetes\" \
                      -H 'content-type: application/grpc' -H 'te: trailers' --data-binary @- \"$3\"";
        let argv = ["sh", "-c", script, "sh", &octal, &authorization, &url];
        let head = stage.exec("outside/client", &argv)?.stdout;
        let status = head.lines().find_map(|line| line.strip_prefix("grpc-status: ")).map(str::trim);
        let refused = status.is_some_and(|status| ["3", "11", "13", "16"].contains(&status));
        ensure!(refused, "{bytes:?} was answered {head:?}");
        count += 1;
    }
    seen.push(format!("{count} requests that name no identity or are none: each refused with a code"));
    Ok(())
}

/// A certificate request in the name of what may be no identity, framed as gRPC does.
fn asking_for(name: &str) -> Vec<u8> {
    let field = |number: u8, content: &[u8]| [&[number << 3 | 2, content.len() as u8], content].concat();
    let entry = [field(1, b"ImpersonatedIdentity"), field(2, &field(3, name.as_bytes()))].concat();
    let message = [field(1, b"no request"), field(4, &field(1, &entry))].concat();
    [&[0, 0, 0, 0, message.len() as u8], &message[..]].concat()
}

/// A node proxy whose token is over gets nothing; with the next one it goes on, and nobody starts it again.
fn rotation(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    let restarts = stage.pod("istio-system/ztunnel-node1")?.restarts;
    let holder_uid = uid(stage, "istio-system", "ztunnel-node1")?;
    let signer = Signer::new(&state(stage, "token-key.pem")?);
    let (expired, _) = signer.flawed(Flaw::Expired, &holder(&holder_uid));
    put_token(stage, &expired)?;
    // An identity that the proxy has no certificate of yet.
    stage.apply(NEWCOMER)?;
    stage.ready(&["shop/newcomer"])?;
    let target = "web-far.shop.svc.cluster.local:81";
    stage.wait("the authority is asked in vain", NOTICED, |s| {
        Ok(!s.answers("shop/newcomer", target)
            && s.logs("istio-system/ztunnel-node1")?.contains("request authenticate failure"))
    })?;
    ensure!(stage.answers("shop/client", target), "who has a certificate is not concerned");
    put_token(stage, &token(stage, "ztunnel-node1")?)?;
    let after = stage.wait("it works with the next token", NOTICED, |s| Ok(s.answers("shop/newcomer", target)))?;
    ensure!(stage.pod("istio-system/ztunnel-node1")?.restarts == restarts, "the proxy was started again");
    stage.delete(NEWCOMER)?;
    seen.push(format!(
        "a node proxy with an expired token: refused, nothing in plaintext; {:.1} s after the token is new it works",
        after.as_secs_f64()
    ));
    Ok(())
}

fn holder(uid: &str) -> Holder<'_> {
    Holder { namespace: "istio-system", pod: "ztunnel-node1", uid, account: "ztunnel", node: "node1", neighbour: None }
}

/// A good token of a node proxy.
pub(super) fn token(stage: &Stage, pod: &str) -> Result<String> {
    let uid = uid(stage, "istio-system", pod)?;
    Ok(Signer::new(&state(stage, "token-key.pem")?).sign(&claims(&Holder { pod, ..holder(&uid) })))
}

/// Writes the token of the node proxy as kubelet does: whole or not at all.
fn put_token(stage: &Stage, token: &str) -> Result<()> {
    let script = format!("printf %s \"$1\" > {TOKEN}.new && mv {TOKEN}.new {TOKEN}");
    stage.exec("istio-system/ztunnel-node1", &["sh", "-c", &script, "sh", token])?.ok().map(|_| ())
}

/// The authority, as pods reach it.
pub(super) fn authority(stage: &Stage) -> Result<String> {
    let address = stage.pod_addresses("istio-system/istiod-0")?[0];
    Ok(format!("https://{}", std::net::SocketAddr::new(address, 15012)))
}

/// A file of the control plane's state.
pub(super) fn state(stage: &Stage, name: &str) -> Result<String> {
    let path = stage.lab().run_dir().join("state").join(name);
    std::fs::read_to_string(&path).with_context(|| path.display().to_string())
}

/// The uid of a pod, which only its object says.
pub(super) fn uid(stage: &Stage, namespace: &str, name: &str) -> Result<String> {
    for entry in std::fs::read_dir(stage.lab().run_dir().join("config/manifests"))? {
        let text = std::fs::read_to_string(entry?.path()).unwrap_or_default();
        let Ok(object) = serde_json::from_str::<serde_json::Value>(&text) else { continue };
        let metadata = &object["metadata"];
        if object["kind"] == "Pod" && metadata["namespace"] == namespace && metadata["name"] == name {
            return Ok(metadata["uid"].as_str().with_context(|| format!("{namespace}/{name} has no uid"))?.into());
        }
    }
    anyhow::bail!("the lab has no object of {namespace}/{name}")
}

/// A service account that is on the second node only.
const FAR_ONLY: &str = "apiVersion: v1\nkind: ServiceAccount\nmetadata: { name: far, namespace: shop }\n---\n\
    apiVersion: v1\nkind: Pod\nmetadata: { name: far, namespace: shop }\n\
    spec: { nodeName: node2, serviceAccountName: far, containers: [{ name: sleep, command: [sleep, infinity] }] }\n";

/// A pod with an account that was on no node before.
const NEWCOMER: &str = "apiVersion: v1\nkind: ServiceAccount\nmetadata: { name: newcomer, namespace: shop }\n---\n\
    apiVersion: v1\nkind: Pod\nmetadata: { name: newcomer, namespace: shop }\n\
    spec: { nodeName: node1, serviceAccountName: newcomer, containers: [{ name: sleep, command: [sleep, infinity] }] }\n";
