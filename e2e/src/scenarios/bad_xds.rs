//! Nonsense from a control plane: a node proxy of our own hears it from a false one, refuses by name what is broken,
//! takes what is good beside it, and keeps what it had.

use crate::{
    apps::mislead::{Known, Report},
    stage::Stage,
};
use anyhow::{Result, ensure};
use std::path::Path;

/// How the NACK of the workloads must begin to say it of each.
const WORKLOADS: [(&str, &str); 5] = [
    ("kept", "cannot be parsed"),
    ("truncated", "cannot be parsed"),
    ("unknown", "workload_type has the unknown value 99"),
    ("address", "addresses has 5 bytes; an address has 4 or 16"),
    ("large", "has 11534"),
];
/// And that of the policies.
const POLICIES: [(&str, &str); 3] = [
    ("kept-policy", "cannot be parsed"),
    ("cut", "cannot be parsed"),
    ("range", "source_ips has the prefix length 99, longer than its address"),
];

/// Runs this part of the scenario.
pub fn run(stage: &Stage, seen: &mut Vec<String>) -> Result<()> {
    // The program that the lab's own proxies are is beside this one.
    let meshctl = Path::new(&Stage::e2e()?).with_file_name("meshctl").display().to_string();
    let report: Report = stage.app("outside/client", &["mislead", &meshctl])?.report()?;
    for (nack, expected) in [(&report.refusals[0], &WORKLOADS[..]), (&report.refusals[1], &POLICIES[..])] {
        for (name, reason) in expected {
            ensure!(nack.contains(&format!("/{name}: {reason}")), "{name} is not refused as {reason:?}: {nack}");
        }
        ensure!(!nack.contains("beside"), "what is good is refused too: {nack}");
    }
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let of = |workloads, policies| Known { workloads: names(workloads), policies: names(policies) };
    let good = of(&["kept", "beside"], &["kept-policy", "beside-policy"]);
    ensure!(report.before == of(&["kept"], &["kept-policy"]), "at first it knew {:?}", report.before);
    ensure!(report.beside == good, "beside nonsense it knew {:?}", report.beside);
    ensure!(report.cut == good, "after a response that was cut it knew {:?}", report.cut);
    let resumed = report.resumed.iter().filter(|uid| ["kept", "beside"].iter().any(|name| is(uid, name))).count();
    ensure!(resumed == 2, "after a response that was cut it says it has {:?}", report.resumed);
    let all = of(
        &["kept", "beside", "truncated", "unknown", "address", "large"],
        &["kept-policy", "beside-policy", "cut", "range"],
    );
    ensure!(report.after == all, "after a good response it knew {:?}", report.after);
    ensure!(!report.said.contains("panicked"), "{}", report.said);
    seen.push(format!(
        "{} broken resources of a false control plane: each NACKed by name with its reason, good ones beside them \
         applied; a response cut short: a new stream, and all is right",
        WORKLOADS.len() + POLICIES.len()
    ));
    Ok(())
}

/// Whether a resource's name, which has more in front, is of this one.
fn is(full: &str, name: &str) -> bool {
    full.rsplit('/').next() == Some(name)
}
