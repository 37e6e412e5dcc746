//! What processes of the lab use: seconds of a processor, and memory.

use anyhow::{Context, Result, ensure};
use std::{collections::BTreeMap, fs};

/// Clock ticks a second in `/proc`: the same on every Linux that we run on.
const TICKS: f64 = 100.0;

/// A process, by its number as this program sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process(u32);

/// What was used so far, or within a while.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Seconds of one core.
    pub seconds: f64,
    /// Resident bytes.
    pub resident: f64,
    /// Those of them that are no file's: a program and its libraries are files, and shared.
    pub own: f64,
}

/// The processes below one process that have some words among those of their command line. What starts a container
/// has the container's command in a file.
pub fn below(root: u32, words: &[&str]) -> Result<Vec<Process>> {
    let parents = parents()?;
    let is_below = |pid: u32| std::iter::successors(parents.get(&pid), |pid| parents.get(*pid)).any(|pid| *pid == root);
    let named = |pid: u32| has_words(&fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default(), words);
    Ok(parents.keys().copied().filter(|pid| is_below(*pid) && named(*pid)).map(Process).collect())
}

/// Process → its parent, of all that there are.
fn parents() -> Result<BTreeMap<u32, u32>> {
    let mut parents = BTreeMap::new();
    for entry in fs::read_dir("/proc").context("cannot list processes")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // One that ended meanwhile is none of those that are looked for.
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        if let Some(parent) = field(&stat, 4).and_then(|text| text.parse::<u32>().ok()) {
            parents.insert(pid, parent);
        }
    }
    Ok(parents)
}

/// Some programs write what they are over their command line, as one text with spaces.
fn has_words(line: &[u8], words: &[&str]) -> bool {
    let line = String::from_utf8_lossy(line);
    words.iter().all(|word| line.split(['\0', ' ']).any(|part| part == *word))
}

impl Process {
    /// It, and those that it has started.
    pub fn with_children(self) -> Result<Vec<Self>> {
        let children = parents()?.into_iter().filter(|(_, parent)| *parent == self.0);
        Ok([self].into_iter().chain(children.map(|(child, _)| Self(child))).collect())
    }

    /// What it has used so far.
    pub fn usage(self) -> Result<Usage> {
        let gone = || format!("process {} has ended", self.0);
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0)).with_context(gone)?;
        let ticks = |n| field(&stat, n).and_then(|text| text.parse::<f64>().ok());
        let (user, system) = ticks(14).zip(ticks(15)).with_context(gone)?;
        let status = fs::read_to_string(format!("/proc/{}/status", self.0)).with_context(gone)?;
        let resident = memory(&status, "VmRSS:").with_context(gone)?;
        let own = memory(&status, "RssAnon:").with_context(gone)?;
        Ok(Usage { seconds: (user + system) / TICKS, resident, own })
    }
}

/// What several have used together.
pub fn total(processes: &[Process]) -> Result<Usage> {
    let mut total = Usage::default();
    for process in processes {
        let usage = process.usage()?;
        total.seconds += usage.seconds;
        total.resident += usage.resident;
        total.own += usage.own;
    }
    Ok(total)
}

/// Fails unless there are just so many.
pub fn exactly(processes: Vec<Process>, wanted: usize, what: &str) -> Result<Vec<Process>> {
    ensure!(processes.len() == wanted, "{} processes of {what}, not {wanted}", processes.len());
    Ok(processes)
}

/// A field of `/proc/PID/stat`, counted from 1. The second is a name that may have spaces and brackets in it.
fn field(stat: &str, number: usize) -> Option<&str> {
    let after_name = stat.rfind(')')? + 1;
    stat[after_name..].split_whitespace().nth(number.checked_sub(3)?)
}

fn memory(status: &str, label: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(label))?;
    line.split_whitespace().next()?.parse::<f64>().ok().map(|kib| kib * 1024.0)
}

/// Seconds of all cores that anybody has used since the machine started.
pub fn busy() -> Result<f64> {
    let stat = fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
    busy_in(&stat).context("/proc/stat has no line of all cores")
}

fn busy_in(stat: &str) -> Option<f64> {
    let line = stat.lines().find(|line| line.starts_with("cpu "))?;
    let ticks: Vec<f64> = line.split_whitespace().skip(1).filter_map(|text| text.parse().ok()).collect();
    // user, nice, system, idle, iowait, irq, softirq, steal; what guests use is in the first two already.
    let busy = [0, 1, 2, 5, 6, 7].iter().map(|at| ticks.get(*at).copied().unwrap_or(0.0)).sum::<f64>();
    Some(busy / TICKS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_behind_the_name() {
        let stat = "42 (a (b) c) S 7 42 42 0 -1 4194560 1 2 3 4 150 50 0 0 20";
        for (number, want) in [(3, Some("S")), (4, Some("7")), (14, Some("150")), (15, Some("50")), (2, None)] {
            assert_eq!(field(stat, number), want, "{number}");
        }
        assert_eq!(field("42 no name", 3), None);
    }

    #[test]
    fn words_are_whole_ones() {
        for (line, want) in [
            (&b"nginx\0-c\0/a/b.conf\0"[..], true),
            (b"nginx: master process nginx -c /a/b.conf\0", true),
            (b"nginx: worker process\0", false),
            (b"nginx\0-c\0/a/b.conf.old\0", false),
        ] {
            assert_eq!(has_words(line, &["nginx", "-c", "/a/b.conf"]), want, "{line:?}");
        }
    }

    #[test]
    fn memory_is_in_bytes() {
        let status = "Name:\tx\nVmRSS:\t    8 kB\nRssAnon:\t       2 kB\n";
        assert_eq!((memory(status, "VmRSS:"), memory(status, "RssAnon:")), (Some(8192.0), Some(2048.0)));
        assert_eq!(memory("Name:\tx\n", "VmRSS:"), None);
    }

    #[test]
    fn idle_cores_are_not_busy() {
        assert_eq!(busy_in("cpu  100 10 50 900 30 1 2 7 0 0\ncpu0 1 1 1 1\n"), Some(1.7));
        assert_eq!(busy_in("intr 1\n"), None);
    }
}
