//! The quickstart, as its reader does it: each command of the page, in order, compared with what the page shows.

use crate::stage::Stage;
use anyhow::{Context, Result, ensure};
use std::time::{Duration, Instant};

/// The page.
const PAGE: &str = include_str!("../../../../docs/quickstart-kind.md");
/// So many commands it is from nothing to an L7 policy.
const COMMANDS: usize = 10;
/// The longest of them waits for 3 minutes.
const COMMAND_DEADLINE: Duration = Duration::from_secs(240);

/// A command of the page, and what it prints where the page shows it.
#[derive(Debug, PartialEq, Eq)]
struct Step<'a> {
    command: &'a str,
    shown: Option<&'a str>,
}

/// Runs the scenario.
pub fn run(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    let steps = steps(PAGE);
    ensure!(steps.len() == COMMANDS, "the page has {} commands, not {COMMANDS}", steps.len());
    for (n, step) in steps.iter().enumerate() {
        let began = Instant::now();
        let printed = stage
            .cluster()
            .shell(step.command, COMMAND_DEADLINE)
            .with_context(|| format!("command {} of the page: {}", n + 1, step.command))?;
        if step.command.starts_with("kubectl apply") {
            // So that it is removed with what other scenarios make.
            stage.cluster().kubectl(&["label", "namespace", "shop", "e2e=scenario", "--overwrite"])?;
        }
        if let Some(shown) = step.shown {
            ensure!(
                is_as_shown(&printed, shown),
                "command {} of the page: {}\nprinted\n{printed}\nand the page shows\n{shown}",
                n + 1,
                step.command
            );
        }
        let words: Vec<&str> = step.command.split_whitespace().take(4).collect();
        let as_shown = if step.shown.is_some() { ", printed what the page shows" } else { "" };
        seen.push(format!("{}. {}…: {:.1} s{as_shown}", n + 1, words.join(" "), began.elapsed().as_secs_f64()));
    }
    Ok(())
}

/// The commands of a page: its blocks of `sh`, each with the block of `text` that follows it before the next.
fn steps(page: &str) -> Vec<Step<'_>> {
    let mut steps = Vec::new();
    let mut rest = page;
    while let Some((_, after)) = rest.split_once("\n```") {
        let Some((language, after)) = after.split_once('\n') else { break };
        let Some((text, after)) = after.split_once("\n```") else { break };
        match language.split(' ').next() {
            Some("sh") => steps.push(Step { command: text, shown: None }),
            Some("text") => {
                if let Some(step) = steps.last_mut() {
                    step.shown = Some(text);
                }
            }
            _ => {}
        }
        rest = after;
    }
    steps
}

/// Whether a program printed what a page shows, where `...` stands for anything.
fn is_as_shown(printed: &str, shown: &str) -> bool {
    let mut rest = printed.trim();
    let parts: Vec<&str> = shown.trim().split("...").collect();
    let (Some((first, more)), Some(last)) = (parts.split_first(), parts.last()) else { return false };
    let Some(after) = rest.strip_prefix(first) else { return false };
    rest = after;
    for part in more {
        let Some((_, after)) = rest.split_once(part) else { return false };
        rest = after;
    }
    more.is_empty() && rest.is_empty() || !more.is_empty() && printed.trim().ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read_as_commands_and_what_they_print() {
        let page = "# A\n\n```sh\na \\\n  b\n```\n\n```sh\nc\n```\nand\n```text\n1\n```\n```yaml\nx: 1\n```\n";
        assert_eq!(steps(page), [Step { command: "a \\\n  b", shown: None }, Step { command: "c", shown: Some("1") }]);
    }

    #[test]
    fn dots_stand_for_anything() {
        for (printed, shown, same) in [
            ("200\n302\n403\n", "200\n302\n403", true),
            ("200\n302\n", "200\n302\n403", false),
            ("200\n302\n4033\n", "200\n302\n403", false),
            ("{ \"name\": \"details-v1\" }", "...\"name\": \"details-v1\"...", true),
            ("{ \"name\": \"details-v2\" }", "...\"name\": \"details-v1\"...", false),
            ("a b c", "a...c", true),
            ("a b d", "a...c", false),
        ] {
            assert_eq!(is_as_shown(printed, shown), same, "{printed:?} {shown:?}");
        }
    }

    #[test]
    fn the_quickstart_is_ten_commands_of_which_two_are_shown_in_full() {
        let steps = steps(PAGE);
        assert_eq!(steps.len(), COMMANDS);
        assert_eq!(steps.iter().filter(|step| step.shown.is_some()).count(), 2);
    }
}
