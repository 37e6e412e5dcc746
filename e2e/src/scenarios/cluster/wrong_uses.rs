//! Every wrong use that the docs warn of is made here, and says what the docs show.
//!
//! The pages are read: a message in one of their tables that nobody provokes fails the scenario, and so does one that
//! is provoked and is in no page.

mod charts;
mod connections;
mod node;
mod objects;

use crate::stage::Stage;
use anyhow::{Context, Result, ensure};

const TROUBLESHOOTING: &str = include_str!("../../../../docs/troubleshooting.md");
const VALIDATION: &str = include_str!("../../../../docs/validation.md");
/// What a table of messages has above its first column.
const HEADERS: [&str; 2] = ["| `error` begins with |", "| message |"];

/// Messages that a cluster gives in the moment of a race only, or a mesh of several networks, and the tests that show them.
const ELSEWHERE: [(&str, &str); 3] = [
    ("workload … is on network …, which cannot be reached from here", "ztunnel/src/outbound/plan/tests.rs"),
    ("the pod that sends is not known to the control plane", "ztunnel/src/outbound/plan/tests.rs"),
    ("the tunnel asks for …, but it ended at …", "ztunnel/src/inbound/plan/tests.rs"),
];

/// The namespace where it all happens, with a caller and a server that does well.
const MANIFESTS: &str = include_str!("wrong_uses.yaml");
/// Who calls.
const CLIENT: &str = "wrong/client";

/// What was provoked: the words of a page, and what was said.
#[derive(Debug)]
struct Told {
    page: &'static str,
    said: String,
}

/// What was said has the words of the page in it.
fn told(page: &'static str, said: impl Into<String>) -> Result<Told> {
    let said = said.into();
    ensure!(is_as_written(&said, page), "the page says {page:?}, and this was said: {said}");
    Ok(Told { page, said })
}

/// Runs the scenario.
pub fn run(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    stage.apply(MANIFESTS)?;
    stage.ready(&[CLIENT, "wrong/server"])?;
    stage.enrolled(&[CLIENT, "wrong/server"], true)?;
    let mut all = charts::run(stage).context("charts")?;
    seen.push(format!("{} installations that are refused", all.len()));
    for (what, part) in [
        ("objects", objects::run as fn(&mut Stage) -> Result<Vec<Told>>),
        ("connections", connections::run),
        ("pods that do not start, and agents that are not ready", node::run),
    ] {
        let more = part(stage).context(what)?;
        seen.push(format!("{} {what}", more.len()));
        all.extend(more);
    }
    let missing: Vec<&str> = messages(TROUBLESHOOTING)
        .into_iter()
        .filter(|message| !all.iter().any(|told| told.page == *message))
        .filter(|message| !ELSEWHERE.iter().any(|(elsewhere, _)| elsewhere == message))
        .collect();
    ensure!(missing.is_empty(), "the page shows messages that nobody has provoked: {missing:?}");
    let pages = [TROUBLESHOOTING, VALIDATION].concat();
    for Told { page, said } in &all {
        ensure!(pages.contains(page), "{said:?} was provoked, and no page shows {page:?}");
    }
    seen.push(format!("{} messages, each as the pages show it", all.len()));
    Ok(())
}

/// The messages in the first columns of a page's tables.
fn messages(page: &str) -> Vec<&str> {
    let mut messages = Vec::new();
    let mut inside = false;
    for line in page.lines() {
        if HEADERS.iter().any(|header| line.starts_with(header)) {
            inside = true;
        } else if !line.starts_with('|') {
            inside = false;
        } else if inside && !line.starts_with("|---") {
            messages.extend(line.split('`').nth(1));
        }
    }
    messages
}

/// Whether something was said as it is written, where `…` and `...` stand for anything; words may come before and after.
fn is_as_written(said: &str, written: &str) -> bool {
    let mut rest = said;
    written.split('…').flat_map(|part| part.split("...")).map(str::trim).filter(|part| !part.is_empty()).all(|part| {
        let after = rest.split_once(part).map(|(_, after)| after);
        rest = after.unwrap_or_default();
        after.is_some()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_columns_of_tables_are_read() {
        let page =
            "| message | meaning |\n|---|---|\n| `a … b` | `c` |\n| `d` | |\n\n| other | |\n|---|---|\n| `e` | |\n";
        assert_eq!(messages(page), ["a … b", "d"]);
        assert!(messages(TROUBLESHOOTING).len() >= 18, "{:?}", messages(TROUBLESHOOTING));
    }

    #[test]
    fn what_is_shown_elsewhere_is_on_the_page() {
        for (message, test) in ELSEWHERE {
            assert!(messages(TROUBLESHOOTING).contains(&message), "{message}");
            assert!(crate::kind::repository().join(test).exists(), "{test}");
        }
    }

    #[test]
    fn dots_stand_for_anything() {
        assert!(is_as_written("error=\"no way to a of b\"", "no way to … of …"));
        assert!(!is_as_written("no way to a", "no way to … of"));
        assert!(is_as_written("x~missing", "…~missing"));
    }
}
