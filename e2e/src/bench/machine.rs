//! What was measured on and with: said in the page, so that others can do the same.

use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::{process::Command, time::Duration};

use super::{rig, usage};

/// Where it was measured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// How many cores.
    pub cores: usize,
    /// Memory, in GiB.
    pub memory: u64,
    /// The kernel's release, without what a distribution adds.
    pub kernel: String,
    /// Programs and their versions, as they say themselves.
    pub versions: Vec<String>,
}

/// Programs that are measured or measure, and how each is asked for its version.
const PROGRAMS: &[(&str, &str)] = &[
    ("envoy", "--version"),
    ("haproxy", "-v"),
    ("nginx", "-v"),
    ("iperf3", "--version"),
    ("wrk", "-v"),
    ("h2load", "--version"),
];

/// Looks around.
pub fn look() -> Result<Machine> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let memory = read("/proc/meminfo");
    let memory = memory.lines().find_map(|line| line.strip_prefix("MemTotal:")).unwrap_or_default();
    let kib: u64 = memory.split_whitespace().next().and_then(|text| text.parse().ok()).unwrap_or(0);
    Ok(Machine {
        cores: std::thread::available_parallelism()?.get(),
        memory: (kib + (1 << 19)) >> 20,
        kernel: plain_release(read("/proc/sys/kernel/osrelease").trim()).into(),
        versions: PROGRAMS.iter().filter_map(|(program, flag)| version(program, flag)).collect(),
    })
}

/// `6.18.4-some-distribution` is 6.18.4.
fn plain_release(release: &str) -> &str {
    release.split(|c: char| c != '.' && !c.is_ascii_digit()).next().unwrap_or_default()
}

fn version(program: &str, flag: &str) -> Option<String> {
    let out = Command::new(program).arg(flag).output().ok()?;
    let text = [out.stdout, out.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    number(&text).map(|number| format!("{program} {number}"))
}

/// The first thing that looks like a version: `1.22.1` in `nginx version: nginx/1.22.1`. The program's path may have others.
fn number(text: &str) -> Option<&str> {
    let words = text.split_whitespace().filter(|word| !word.starts_with('/'));
    let mut parts = words.flat_map(|word| word.split(|c: char| c != '.' && !c.is_ascii_digit()));
    parts.find_map(|part| Some(part.trim_matches('.')).filter(|part| part.contains('.')))
}

/// How many cores others keep busy, looked at for a moment in which we do nothing.
pub fn others() -> Result<f64> {
    const MOMENT: Duration = Duration::from_millis(500);
    let before = usage::busy()?;
    rig::pause(MOMENT);
    Ok((usage::busy()? - before) / MOMENT.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_programs_say() {
        for (text, want) in [
            ("nginx version: nginx/1.22.1\n", Some("1.22.1")),
            ("iperf 3.12 (cJSON 1.7.15)", Some("3.12")),
            ("HAProxy version 2.6.12-1+deb12u4 2026/01/01 - https://haproxy.org/", Some("2.6.12")),
            ("/opt/python/3.11.7/bin/envoy  version: 9e5580933/1.40.0/Clean/RELEASE/BoringSSL", Some("1.40.0")),
            ("none", None),
        ] {
            assert_eq!(number(text), want, "{text}");
        }
        assert_eq!(plain_release("6.18.4-a-b7"), "6.18.4");
    }
}
