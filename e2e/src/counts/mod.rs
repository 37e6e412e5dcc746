//! How many instructions the hot functions take, kept as a ratchet.
//!
//! ```text
//! cargo run --release -p e2e -- counts            # compare with what is kept
//! cargo run --release -p e2e -- counts --write    # keep what is counted now
//! ```
//!
//! Times on a shared machine say little, and a test that asserts them fails when it should not. Instructions are the
//! same however busy the machine is: valgrind's callgrind counts those of one function ([`work::measured`]) in this very
//! program. A change that makes a path dearer has to say so, by writing the new number down.

mod work;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

/// How far a count may be from what is kept: C libraries differ in how they copy.
const OFF_MAX: f64 = 0.03;
/// And in any case so many instructions: tables are seeded anew in each process, so that a key may stand at a worse place.
const OFF_LEAST: u64 = 100;

/// What is counted, and what is done with it.
#[derive(Debug, Args)]
pub struct Options {
    /// Only this piece of work; may be given several times.
    #[arg(long)]
    only: Vec<String>,
    /// Keep what is counted now.
    #[arg(long)]
    write: bool,
    /// What is kept.
    #[arg(long, default_value = "e2e/instructions.json")]
    kept: PathBuf,
}

/// Piece of work → instructions of one time.
type Counts = BTreeMap<String, u64>;

/// Counts and compares. Whether all is as it is kept.
pub fn run(options: &Options) -> Result<bool> {
    let wanted = wanted(&options.only)?;
    let mut kept: Counts = match std::fs::read_to_string(&options.kept) {
        Ok(text) => serde_json::from_str(&text).with_context(|| format!("{}", options.kept.display()))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && options.write => Counts::new(),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", options.kept.display())),
    };
    let program = std::env::current_exe()?;
    let mut good = true;
    println!("{:<16} {:>12} {:>12}", "", "kept", "now");
    for work in wanted {
        let now = count(&program, work)?;
        let before = kept.get(work.name).copied();
        let verdict = verdict(before, now);
        let shown = before.map_or_else(|| "-".to_owned(), |before| before.to_string());
        good &= options.write || verdict.is_none();
        println!("{:<16} {shown:>12} {now:>12}  {}", work.name, verdict.as_deref().unwrap_or(work.about));
        if options.write {
            kept.insert(work.name.to_owned(), now);
        }
    }
    if options.write {
        std::fs::write(&options.kept, serde_json::to_string_pretty(&kept)? + "\n")?;
    } else {
        let unknown: Vec<_> = kept.keys().filter(|name| work::ALL.iter().all(|work| work.name != **name)).collect();
        ensure!(unknown.is_empty(), "{} keeps what nobody counts: {unknown:?}", options.kept.display());
    }
    Ok(good)
}

/// Does one piece of work, for callgrind to count.
pub fn counted(name: &str) -> Result<bool> {
    let work = work::ALL.iter().find(|work| work.name == name).with_context(|| format!("no work is named {name:?}"))?;
    let mut act = (work.prepare)();
    // What is made at the first time only is no part of it.
    act();
    work::measured(&mut *act, work.times);
    Ok(true)
}

fn wanted(only: &[String]) -> Result<Vec<&'static work::Work>> {
    for name in only {
        let known: Vec<&str> = work::ALL.iter().map(|work| work.name).collect();
        ensure!(known.contains(&&**name), "no work is named {name:?}: {}", known.join(", "));
    }
    Ok(work::ALL.iter().filter(|work| only.is_empty() || only.iter().any(|name| name == work.name)).collect())
}

/// Instructions of one time.
fn count(program: &Path, work: &work::Work) -> Result<u64> {
    let out = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--toggle-collect=*counts*work*measured*"])
        .arg(program)
        .args(["counted", work.name])
        .output()
        .context("valgrind does not start; install the package valgrind")?;
    let said = String::from_utf8_lossy(&out.stderr);
    ensure!(out.status.success(), "{} ended with {}: {said}", work.name, out.status);
    let all = collected(&said).with_context(|| format!("valgrind said no number: {said}"))?;
    if all == 0 {
        bail!("nothing of {} was counted: the program has no symbol of what is measured", work.name);
    }
    Ok(all / u64::from(work.times))
}

/// What callgrind says at its end: `==42== Collected : 123`.
fn collected(said: &str) -> Option<u64> {
    let line = said.lines().rev().find_map(|line| line.split_once("Collected :"))?;
    line.1.trim().parse().ok()
}

/// What is wrong with a count, if something is.
fn verdict(kept: Option<u64>, now: u64) -> Option<String> {
    let Some(kept) = kept else { return Some("NEW: keep it with --write".into()) };
    let off = now as f64 / kept as f64 - 1.0;
    if now.abs_diff(kept) <= OFF_LEAST || off.abs() <= OFF_MAX {
        None
    } else if off > 0.0 {
        Some(format!("DEARER by {:.1} %", off * 100.0))
    } else {
        Some(format!("CHEAPER by {:.1} %: keep it with --write", -off * 100.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_compared_with_what_is_kept() {
        for (kept, now, want) in [
            (Some(10_000), 10_000, None),
            (Some(10_000), 10_290, None),
            (Some(10_000), 9710, None),
            (Some(10_000), 10_400, Some("DEARER by 4.0 %")),
            (Some(10_000), 9000, Some("CHEAPER by 10.0 %: keep it with --write")),
            (Some(800), 899, None),
            (Some(800), 1000, Some("DEARER by 25.0 %")),
            (None, 900, Some("NEW: keep it with --write")),
        ] {
            assert_eq!(verdict(kept, now).as_deref(), want, "{kept:?} {now}");
        }
    }

    #[test]
    fn the_number_of_callgrind_is_read() {
        let said = "==7== Callgrind\n==7== \n==7== Events    : Ir\n==7== Collected : 123456\n==7== \n";
        assert_eq!(collected(said), Some(123_456));
        assert_eq!(collected("==7== Callgrind\n"), None);
    }

    #[test]
    fn what_is_kept_is_what_is_counted() {
        let kept: Counts = serde_json::from_str(include_str!("../../instructions.json")).unwrap();
        let counted: Vec<&str> = work::ALL.iter().map(|work| work.name).collect();
        let mut sorted = counted.clone();
        sorted.sort_unstable();
        assert_eq!(kept.keys().map(String::as_str).collect::<Vec<_>>(), sorted);
    }

    #[test]
    fn every_piece_of_work_can_be_done() {
        for work in work::ALL {
            (work.prepare)()();
        }
    }
}
