//! What holds others up: ten thousand policies that must be looked through, and streams that nobody reads.

use super::{OURS, at_most};
use crate::{
    apps::{load, requests},
    bench::{
        figure::{Figure, Target, Unit, median},
        rig::{Meter, Rig},
    },
    stage::Going,
};
use anyhow::{Result, ensure};
use std::{fmt::Write as _, net::SocketAddr, time::Duration};

/// New connections a second, in each mesh: few enough that no queue builds up by itself.
const CONNECTIONS: f64 = 300.0;
/// They come for so long, for each second that a row may take: of 9,000, by default, 90 are above the p99.
const POLICIES_SECONDS: f64 = 10.0;
/// Requests a second on the one stream that is looked at.
const REQUESTS: f64 = 200.0;
/// Policies of the large mesh.
const POLICIES: usize = 10_000;
/// So many are given to the lab at once: it answers when it has read them.
const POLICIES_AT_ONCE: usize = 500;
/// A new policy is in all proxies within this, also where there are ten thousand.
const KNOWN_DEADLINE: Duration = Duration::from_secs(120);
/// Streams that nobody reads; all in one tunnel, of which there is room for a hundred.
const STALLED: usize = 64;
/// What those may take in a proxy, all together.
const STALLED_MAX: f64 = 64e6;
const WITHOUT: &str = "without";

/// Connections, timed from when they were due, in a mesh without policies and in one with many: in both at the same
/// time, for what else the machine does moves a p99 by more than what is looked for, and so it moves both.
pub(super) fn policies(rig: &mut Rig) -> Result<Vec<Figure>> {
    let mut large = rig.another()?;
    for first in (0..POLICIES).step_by(POLICIES_AT_ONCE) {
        large.stage.apply(&policies_text(first))?;
    }
    for node in ["node1", "node2"] {
        let proxy = format!("istio-system/ztunnel-{node}");
        large.stage.wait("the proxies know the policies", KNOWN_DEADLINE, |stage| {
            let dump = stage.config_dump(&proxy)?;
            Ok(dump["policies"].as_array().is_some_and(|known| known.len() >= POLICIES))
        })?;
    }
    let (few, many) = (rig.ztunnels()?, large.ztunnels()?);
    let mut p99 = Figure::new("p99 of a connection", Unit::Seconds, &[at_most(1.05, WITHOUT)]);
    let mut p50 = Figure::new("median of those", Unit::Seconds, &[]);
    let (rate, seconds) = (CONNECTIONS.to_string(), (rig.seconds * POLICIES_SECONDS).to_string());
    let begin = |rig: &Rig| -> Result<Going> {
        let target = format!("{}:8080", rig.address("meshed/server")?);
        rig.stage.app("meshed/client", &["load", &target, "--rate", &rate, "--seconds", &seconds])
    };
    for _ in 0..rig.rounds {
        let meters = [Meter::begin(&few)?, Meter::begin(&many)?];
        let both = [(WITHOUT, &few, begin(rig)?), (OURS, &many, begin(&large)?)];
        for ((who, proxies, going), meter) in both.into_iter().zip(meters) {
            let report: load::Report = going.report()?;
            ensure!(report.failures() == 0, "connections failed: {:?}", report.failed);
            p99.add(who, report.p99_ms / 1e3);
            p50.add(who, report.p50_ms / 1e3);
            if let Some(used) = meter.end()? {
                p99.cost(who, proxies.len(), used.cores, used.resident);
            }
        }
    }
    Ok(vec![p99, p50])
}

/// Policies for others of the server's namespace; the very first is for the server.
fn policies_text(first: usize) -> String {
    let mut text = String::new();
    for n in first..first + POLICIES_AT_ONCE {
        let app = if n == 0 { "server".to_owned() } else { format!("other-{n}") };
        let _ = writeln!(
            text,
            "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
             metadata: {{ name: policy-{n}, namespace: meshed }}\n\
             spec: {{ selector: {{ matchLabels: {{ app: {app} }} }}, action: ALLOW, rules: [{{ from: [{{ source: {{ \
             principals: [\"cluster.local/ns/meshed/sa/client\", \"cluster.local/ns/other/sa/caller-{n}\"] }} }}] }}] }}"
        );
    }
    text
}

/// One stream beside others of its pod's tunnels that are asked for much and read nothing.
pub(super) fn slow_readers(rig: &mut Rig) -> Result<Vec<Figure>> {
    let server: SocketAddr = (rig.address("meshed/server")?, 8080).into();
    let proxies = rig.ztunnels()?;
    let (url, rate, seconds) = (format!("http://{server}/"), REQUESTS.to_string(), rig.seconds.to_string());
    let probe = |rig: &Rig| -> Result<f64> {
        let argv = ["requests", &url, "--rate", &rate, "--seconds", &seconds, "--connections", "1"];
        let report: requests::Report = rig.stage.app("meshed/client", &argv)?.report()?;
        ensure!(report.failures() == 0, "requests failed: {:?}", report.failed);
        Ok(report.p99_ms / 1e3)
    };
    let mut slow = Figure::new("p99 of a request beside them", Unit::Seconds, &[at_most(2.0, WITHOUT)]);
    let (mut before, mut during) = (Vec::new(), Vec::new());
    let most = |values: Vec<f64>| values.into_iter().fold(f64::NAN, f64::max);
    for _ in 0..rig.rounds {
        before.push(most(rig.settled(&proxies)?));
        slow.add(WITHOUT, probe(rig)?);
        let stalled = rig.idle("meshed/client", server, STALLED, &["--path", "/big", "--unread"])?;
        during.push(most(rig.settled(&proxies)?));
        slow.add(OURS, probe(rig)?);
        stalled.stop()?;
    }
    // What an earlier round has left is no growth of a later one: the first look is the base.
    let base = before.first().copied().unwrap_or(f64::NAN);
    let grown = Figure::new("resident for them", Unit::Bytes, &[Target::NoMore(STALLED_MAX)]);
    let grown = grown.with(OURS, median(&during) - base);
    Ok(vec![slow, grown])
}
