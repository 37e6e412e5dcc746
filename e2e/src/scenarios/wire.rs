//! What an eavesdropper between the nodes sees, and what a caller without an identity may do.

use crate::{capture, stage::Stage};
use anyhow::{Result, ensure};
use std::{collections::BTreeSet, time::Duration};

/// Runs the scenario.
pub fn run(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    stage.apply(super::traffic::MANIFESTS)?;
    stage.ready(&["shop/client", "shop/web-far", "outside/client", "outside/web-far"])?;
    eavesdrop(stage, seen)?;
    strict(stage, seen)
}

fn eavesdrop(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    let (tcpdump, file) = stage.capture()?;

    let secret = format!("attack-at-dawn-{}", std::process::id());
    let open = format!("read-me-freely-{}", std::process::id());
    for (client, server, word) in
        [("shop/client", "shop/web-far", &secret), ("outside/client", "outside/web-far", &open)]
    {
        for address in stage.pod_addresses(server)? {
            let url = format!("http://{}/who?{word}", std::net::SocketAddr::new(address, 8080));
            let header = format!("X-Word: {word}");
            stage.exec(client, &["curl", "-sS", "-f", "--max-time", "5", "-H", &header, &url])?.ok()?;
        }
    }
    // The capture is complete when the plain word is in it: both calls are over by then.
    stage.wait("the capture holds the plain call", Duration::from_secs(10), |s| {
        Ok(capture::occurrences(&capture::read(&s.fetch(super::ON_NODE1, &file)?)?, &open) >= 4)
    })?;
    tcpdump.stop()?;
    let segments = capture::read(&stage.fetch(super::ON_NODE1, &file)?)?;
    ensure!(capture::occurrences(&segments, &secret) == 0, "the payload of a meshed call is readable on the wire");
    let mut ports = BTreeSet::new();
    for a in stage.pod_addresses("shop/client")? {
        for b in stage.pod_addresses("shop/web-far")? {
            ports.extend(capture::ports_between(&segments, a, b));
        }
    }
    ensure!(ports == BTreeSet::from([15008]), "meshed pods used the ports {ports:?} between the nodes");
    seen.push(format!(
        "{} TCP segments between the nodes: meshed pair only on 15008, payload unreadable",
        segments.len()
    ));
    Ok(())
}

fn strict(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    let address = stage.pod_addresses("shop/web-far")?[0];
    let url = format!("http://{address}:8080/who");
    let call = |stage: &Stage, client: &str| -> Result<i32> {
        Ok(stage.exec(client, &["curl", "-sS", "-f", "--max-time", "2", &url])?.code)
    };
    ensure!(call(stage, "outside/client")? == 0, "PERMISSIVE by default: plaintext from outside is accepted");
    stage.apply(&peer_authentication("STRICT"))?;
    stage.wait("plaintext is refused under STRICT", Duration::from_secs(5), |s| Ok(call(s, "outside/client")? != 0))?;
    ensure!(call(stage, "shop/client")? == 0, "a meshed caller passes under STRICT");
    stage.apply(&peer_authentication("PERMISSIVE"))?;
    stage.wait("plaintext is accepted under PERMISSIVE", Duration::from_secs(5), |s| {
        Ok(call(s, "outside/client")? == 0)
    })?;
    stage.delete(&peer_authentication("PERMISSIVE"))?;
    seen.push("STRICT refuses plaintext from outside and takes mTLS; PERMISSIVE takes both".into());
    Ok(())
}

fn peer_authentication(mode: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n\
         metadata: {{ name: default, namespace: shop }}\nspec: {{ mtls: {{ mode: {mode} }} }}\n"
    )
}
