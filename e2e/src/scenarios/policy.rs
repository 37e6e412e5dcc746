//! A policy that starts to forbid a connection closes it, and only it.

use crate::{apps::hold, stage::Stage};
use anyhow::{Context, Result, ensure};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A forbidden connection is closed this soon after the command began.
const CLOSED_MS_MAX: u128 = 1000;

/// Runs the scenario.
pub fn live(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    stage.apply(super::traffic::MANIFESTS)?;
    stage.ready(&["shop/client", "shop/web-far", "shop/web-near", "outside/client"])?;
    stage.enrolled(&["shop/client", "shop/web-far", "shop/web-near"], true)?;
    for (way, server) in [("between nodes", "web-far"), ("on one node", "web-near")] {
        let mut connections = Vec::new();
        for (n, client) in ["shop/client", "outside/client"].into_iter().enumerate() {
            let file = Stage::fresh_path();
            let target = format!("{server}.shop.svc.cluster.local:7777");
            let seconds = if n == 0 { "10" } else { "3" };
            connections.push(stage.app(client, &["hold", &target, "--seconds", seconds, "--ready-file", &file])?);
            stage.written(client, &file)?;
        }
        let deny = format!(
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
             metadata: {{ name: not-the-client, namespace: shop }}\n\
             spec:\n  action: DENY\n  selector: {{ matchLabels: {{ app: {server} }} }}\n\
             \x20 rules: [{{ from: [{{ source: {{ principals: [cluster.local/ns/shop/sa/client] }} }}] }}]\n"
        );
        let began = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
        stage.apply(&deny)?;
        let other = connections.pop().context("two were opened")?;
        let forbidden: hold::Report = connections.pop().context("two were opened")?.report()?;
        let allowed: hold::Report = other.report()?;
        ensure!(forbidden.end == "reset" || forbidden.end == "closed", "{way}: the forbidden one: {forbidden:?}");
        let after = forbidden.ended_at_ms.saturating_sub(began);
        ensure!(after <= CLOSED_MS_MAX, "{way}: closed only after {after} ms");
        ensure!(allowed.end == "time", "{way}: a connection that the policy does not name ended: {allowed:?}");
        ensure!(!stage.answers("shop/client", &format!("{server}.shop:81")), "{way}: a new call still passes");
        stage.delete(&deny)?;
        stage.wait("it passes again", Duration::from_secs(5), |s| {
            Ok(s.answers("shop/client", &format!("{server}.shop:81")))
        })?;
        seen.push(format!("{way}: closed ({}) {after} ms after the command began; others untouched", forbidden.end));
    }
    Ok(())
}
