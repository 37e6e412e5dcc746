//! Objects that cannot work: refused by the webhook, warned of, or told in their conditions.

use super::{Told, told};
use crate::{
    kind::install::NAMESPACE,
    stage::{Output, Stage},
};
use anyhow::{Result, ensure};
use std::time::Duration;

/// A condition is written this soon.
const TOLD: Duration = Duration::from_secs(15);
/// The control plane is gone, or back.
const SCALED: Duration = Duration::from_secs(60);

/// How the API server says that the webhook has refused: the words of the page before ours.
const DENIED: &str = "admission webhook \"validation.istio.io\" denied the request: ";

/// (API version and kind, spec, how the reason begins).
const REFUSED: &[(&str, &str, &str)] = &[
    (
        "security.istio.io/v1 AuthorizationPolicy",
        "rules: [{ from: [{ source: { ipBlocks: [10.0.0.0/99] } }] }]",
        "spec.rules[0].from[0].source.ipBlocks[0]: \"10.0.0.0/99\" is not an IP address or range",
    ),
    (
        "security.istio.io/v1 AuthorizationPolicy",
        "selector: { matchLabels: { app: server } }, targetRefs: [{ group: '', kind: Service, name: server }]",
        "spec.selector: is there beside targetRefs",
    ),
    (
        "security.istio.io/v1 AuthorizationPolicy",
        "action: CUSTOM, provider: { name: x }, rules: [{}]",
        "spec.action: CUSTOM is done by waypoints only",
    ),
    (
        "security.istio.io/v1 AuthorizationPolicy",
        "rules: [{ to: [{ operation: { ports: ['70000'] } }] }]",
        "spec.rules[0].to[0].operation.ports[0]",
    ),
    ("security.istio.io/v1 AuthorizationPolicy", "rulez: []", "spec[\"rulez\"]"),
    ("security.istio.io/v1 PeerAuthentication", "mtls: { mode: SOMETIMES }", "spec.mtls.mode"),
    (
        "security.istio.io/v1 RequestAuthentication",
        "jwtRules: [{ issuer: a, jwksUri: 'no address' }]",
        "spec.jwtRules[0]",
    ),
    (
        "networking.istio.io/v1 VirtualService",
        "hosts: [server], http: [{ match: [{ uri: { regex: '(' } }], route: [{ destination: { host: server } }] }]",
        "spec: http, rule 0, match 0, path: ",
    ),
    (
        "networking.istio.io/v1 ServiceEntry",
        "hosts: [a.example], addresses: [10.0.0.0/99], ports: [{ number: 80, name: http }], resolution: STATIC",
        "spec.addresses[0]: ",
    ),
    (
        "gateway.networking.k8s.io/v1 HTTPRoute",
        "parentRefs: [{ kind: Service, group: '', name: server }], \
         rules: [{ matches: [{ path: { type: RegularExpression, value: '(' } }] }]",
        "spec.rules[0]: match 0, path: ",
    ),
];

fn object(header: &str, name: &str, spec: &str) -> String {
    let (version, kind) = header.split_once(' ').unwrap_or_default();
    format!("apiVersion: {version}\nkind: {kind}\nmetadata: {{ name: {name}, namespace: wrong }}\nspec: {{ {spec} }}\n")
}

/// Makes each of them.
pub(super) fn run(stage: &mut Stage) -> Result<Vec<Told>> {
    let apply = |stage: &Stage, yaml: &str| -> Result<Output> { stage.cluster().try_apply(yaml) };
    let mut all = Vec::new();
    for (header, spec, reason) in REFUSED {
        let said = apply(stage, &object(header, "mistake", spec))?;
        let whole = format!("{DENIED}{reason}");
        ensure!(said.code != 0 && said.stderr.contains(&whole), "{header} {spec}: not {whole:?}: {said:?}");
        // The page shows the first of them word by word.
        if all.is_empty() {
            all.push(told(
                "admission webhook \"validation.istio.io\" denied the request: spec.rules[0].from[0].source.ipBlocks[0]: \
                 \"10.0.0.0/99\" is not an IP address or range",
                said.stderr,
            )?);
        }
    }

    let attribute = "rules: [{ to: [{ operation: { paths: [/a] } }] }]";
    let said = apply(stage, &object("security.istio.io/v1 AuthorizationPolicy", "warned", attribute))?;
    let warned = said.code == 0 && said.stderr.contains("Warning:") && said.stderr.contains("paths");
    ensure!(warned, "an attribute of HTTP in a policy of node proxies is warned of: {said:?}");

    // Others' routes are not judged: there is no such Gateway of ours.
    let others =
        "parentRefs: [{ name: edge }], rules: [{ matches: [{ path: { type: RegularExpression, value: '(' } }] }]";
    let said = apply(stage, &object("gateway.networking.k8s.io/v1 HTTPRoute", "edge", others))?;
    ensure!(said.code == 0, "a route of others is judged: {said:?}");

    // A target that is not there may come later: a condition.
    let target = "targetRefs: [{ group: '', kind: Service, name: nobody }], rules: [{}]";
    let said = apply(stage, &object("security.istio.io/v1 AuthorizationPolicy", "early", target))?;
    ensure!(said.code == 0, "a target may come later: {said:?}");
    stage.wait("the condition says that there is no such target", TOLD, |stage| {
        let name = ["authorizationpolicies.security.istio.io", "early", "--namespace", "wrong"];
        let said = stage.cluster().get(&name)?["status"]["conditions"].to_string();
        Ok(said.contains("nobody") && said.contains("\"False\""))
    })?;
    all.push(nobody_to_ask(stage)?);
    // What was stored decides about the connections that come next.
    for name in ["warned", "early", "unseen"] {
        stage.delete(&object("security.istio.io/v1 AuthorizationPolicy", name, ""))?;
    }
    Ok(all)
}

/// Without a control plane nothing is stored unseen.
fn nobody_to_ask(stage: &mut Stage) -> Result<Told> {
    let scale = |stage: &mut Stage, replicas: &str| -> Result<()> {
        stage.cluster().kubectl(&["scale", "deployment/istiod", "--namespace", NAMESPACE, "--replicas", replicas])?;
        stage.wait(&format!("there are {replicas} replicas of istiod"), SCALED, |stage| {
            let pods = stage.status()?.pods;
            let ours = pods.iter().filter(|pod| pod.namespace == NAMESPACE && pod.name.starts_with("istiod"));
            Ok(ours.clone().count().to_string() == replicas && ours.clone().all(|pod| pod.is_ready))
        })?;
        Ok(())
    };
    scale(stage, "0")?;
    let policy = object("security.istio.io/v1 AuthorizationPolicy", "unseen", "rules: [{}]");
    let said = stage.cluster().try_apply(&policy);
    scale(stage, "1")?;
    let said = said?;
    ensure!(said.code != 0, "an object was stored though nobody could be asked: {said:?}");
    let told = told("failed calling webhook", said.stderr)?;
    stage.wait("objects are stored again", SCALED, |stage| Ok(stage.cluster().try_apply(&policy)?.code == 0))?;
    Ok(told)
}
