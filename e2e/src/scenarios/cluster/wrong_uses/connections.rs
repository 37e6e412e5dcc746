//! Connections that are refused, as ztunnel's log has them.

use super::{CLIENT, Told, is_as_written, told};
use crate::stage::Stage;
use anyhow::{Context, Result};
use std::time::Duration;

/// What is configured is in the proxies, and a line is in the log.
const LOGGED: Duration = Duration::from_secs(20);

/// What keeps the server closed, by a name that the line has too.
fn policy(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{ name: {name}, namespace: wrong }}\n\
         spec: {{ selector: {{ matchLabels: {{ app: server }} }}, {spec} }}\n"
    )
}

/// Words of the page, what is called, and what more the line has to say.
const CALLS: &[(&str, &str, &str)] = &[
    ("no usable endpoint of waypoint …~missing", "http://lost.wrong/", "nowhere.wrong.svc.cluster.local~missing"),
    ("…~not-ready", "http://patient.wrong/", "late.wrong.svc.cluster.local~not-ready"),
    ("…~not-admitted", "http://guest.wrong/", "gate.gated.svc.cluster.local~not-admitted"),
    ("no healthy endpoint of …", "http://empty.wrong/", "empty.wrong.svc.cluster.local"),
    ("no healthy endpoint of …", "http://240.240.0.9/", "wrong/afar.example"),
];

/// Makes each of them.
pub(super) fn run(stage: &mut Stage) -> Result<Vec<Told>> {
    let mut all = Vec::new();
    for (page, url, more) in CALLS {
        all.push(refused(stage, page, url, more)?);
    }
    let denied = "connection closed due to policy rejection";
    for (name, spec, more) in [
        ("nobody-enters", "action: DENY, rules: [{}]", "nobody-enters"),
        ("only-others", "action: ALLOW, rules: [{ from: [{ source: { namespaces: [others] } }] }]", "none allowed"),
    ] {
        let policy = policy(name, spec);
        stage.apply(&policy)?;
        all.push(refused(stage, denied, "http://server.wrong/", more)?);
        stage.delete(&policy)?;
    }
    described(stage)?;
    Ok(all)
}

/// A call that fails, and the line that says why.
fn refused(stage: &mut Stage, page: &'static str, url: &str, more: &str) -> Result<Told> {
    let mut last = None;
    let waited = stage.wait(&format!("{url} is refused with {page:?} and {more:?}"), LOGGED, |stage| {
        let call = ["curl", "-sS", "-o", "/dev/null", "--max-time", "3", url];
        if stage.exec(CLIENT, &call)?.code == 0 {
            return Ok(false);
        }
        for proxy in stage.proxies()? {
            let log = stage.logs(&proxy)?;
            let mut errors = log.lines().filter(|line| line.contains("error="));
            last = errors.clone().next_back().map(str::to_owned).or_else(|| last.take());
            if let Some(line) = errors.rfind(|line| is_as_written(line, page) && line.contains(more)) {
                last = Some(line.to_owned());
                return Ok(true);
            }
        }
        Ok(false)
    });
    waited.with_context(|| format!("the last line with an error: {last:?}"))?;
    told(page, last.context("a line was found")?)
}

/// Where the page sends its reader: the conditions of the waypoint, and those of what names it.
fn described(stage: &mut Stage) -> Result<()> {
    for (object, words) in [
        ("gateway/late", "none of its pods is ready"),
        ("service/lost", "there is no waypoint"),
        ("service/guest", "does not admit namespace wrong"),
    ] {
        stage.wait(&format!("{object} says {words:?}"), LOGGED, |stage| {
            let said = stage.cluster().get(&[object, "--namespace", "wrong"])?["status"]["conditions"].to_string();
            Ok(said.contains(words))
        })?;
    }
    Ok(())
}
