//! Certificates when things go wrong: the CA away for longer than half a certificate's life, and for longer than all of it.

use crate::{apps::load, stage::Stage};
use anyhow::{Context, Result, ensure};
use std::time::Duration;

/// SIGSTOP and SIGCONT: the control plane is there and says nothing.
const STOP: i32 = 19;
const CONTINUE: i32 = 18;
/// Life of a certificate in this scenario, in seconds; it is renewed at half of it.
const LIFE: u64 = 20;
/// What tells the node proxies to ask for it.
pub const SHORT_LIVES: &[(&str, &str, &str)] = &[("ztunnel", "SECRET_TTL", "20s")];

/// Runs the scenario.
pub fn ca_away(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    stage.apply(super::traffic::MANIFESTS)?;
    stage.ready(&["shop/client", "shop/web-far"])?;
    stage.enrolled(&["shop/client", "shop/web-far"], true)?;
    let target = "web-far.shop.svc.cluster.local:81";

    // Away from just after a renewal until three quarters of the life are over.
    let first = expiry(stage)?;
    stage.wait("a renewal", Duration::from_secs(LIFE), |s| Ok(expiry(s)? != first))?;
    stage.lab().kill_component("istiod", "", STOP)?;
    let load = stage.load("shop/client", target, 50, (LIFE * 3 / 4) as u32)?;
    let report: load::Report = load.report()?;
    ensure!(report.failures() == 0, "the CA away for {} s: {:?}", LIFE * 3 / 4, report.failed);
    let kept = expiry(stage)?;
    stage.lab().kill_component("istiod", "", CONTINUE)?;
    let renewed = stage.wait("renewed after the CA is back", Duration::from_secs(30), |s| Ok(expiry(s)? != kept))?;
    seen.push(format!(
        "CA silent for {} s of {LIFE} s of life: {} connections, none failed; renewed {:.1} s after it was back",
        LIFE * 3 / 4,
        report.ok,
        renewed.as_secs_f64()
    ));

    // Away for longer than the whole life: closed, not plaintext, and it heals.
    stage.lab().kill_component("istiod", "", STOP)?;
    stage.wait("refused when the certificate is over", Duration::from_secs(LIFE * 2), |s| {
        Ok(!s.answers("shop/client", target))
    })?;
    let address = stage.pod_addresses("shop/web-far")?[0];
    ensure!(!stage.answers("shop/client", &format!("{address}:8081")), "without a certificate a call went through");
    stage.lab().kill_component("istiod", "", CONTINUE)?;
    let healed = stage.wait("it works again", Duration::from_secs(30), |s| Ok(s.answers("shop/client", target)))?;
    seen.push(format!(
        "silent for longer than the life: refused; works {:.1} s after the CA is back",
        healed.as_secs_f64()
    ));
    Ok(())
}

/// When the client's certificate ends, as its node proxy says.
fn expiry(stage: &Stage) -> Result<String> {
    held(stage, "ns/shop/sa/client", "expirationTime")
}

/// What the first node's proxy says of the certificate that it holds for an account (`ns/…/sa/…`).
pub(super) fn held(stage: &Stage, account: &str, field: &str) -> Result<String> {
    let dump = stage.config_dump("istio-system/ztunnel-node1")?;
    let mut certificates = dump["certificates"].as_array().into_iter().flatten();
    let ends = format!("/{account}");
    let found = certificates.find(|held| held["identity"].as_str().is_some_and(|id| id.ends_with(&ends)));
    let said = found.and_then(|held| held["certChain"][0][field].as_str());
    Ok(said.with_context(|| format!("the config dump has no {field} of a certificate of {account}"))?.into())
}
