//! What a run shows: a line as each scenario ends, a summary, and JUnit for machines.

use crate::scenarios::On;
use std::{fmt::Write as _, path::Path, time::Duration};

/// How one scenario ended.
#[derive(Debug)]
pub struct Ended {
    /// Its name.
    pub name: &'static str,
    /// What it shows.
    pub about: &'static str,
    /// What was seen, in the scenario's own words.
    pub seen: Vec<String>,
    /// Why it failed, if it did.
    pub failure: Option<String>,
    /// How long it took.
    pub took: Duration,
}

/// Prints one scenario's end.
pub fn print(ended: &Ended) {
    let verdict = if ended.failure.is_none() { "ok  " } else { "FAIL" };
    println!("{verdict} {:<28} {:>6.1} s  {}", ended.name, ended.took.as_secs_f64(), ended.about);
    for line in &ended.seen {
        println!("       {line}");
    }
    if let Some(failure) = &ended.failure {
        println!("       failed: {}", failure.replace('\n', "\n       "));
    }
}

/// Prints the last line, in the form that machines count.
pub fn summarise(all: &[Ended]) -> bool {
    let failed = all.iter().filter(|e| e.failure.is_some()).count();
    println!("\n{} passed, {failed} failed", all.len() - failed);
    failed == 0
}

/// Writes the run as JUnit XML.
pub fn junit(on: On, all: &[Ended], path: &Path) -> std::io::Result<()> {
    let failed = all.iter().filter(|e| e.failure.is_some()).count();
    let mut xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuite name=\"e2e\" tests=\"{}\" failures=\"{failed}\">\n",
        all.len()
    );
    for ended in all {
        let _ = writeln!(
            xml,
            "  <testcase classname=\"{}\" name=\"{}\" time=\"{:.3}\">",
            format!("{on:?}").to_lowercase(),
            escape(ended.name),
            ended.took.as_secs_f64()
        );
        if let Some(failure) = &ended.failure {
            let _ = writeln!(xml, "    <failure>{}</failure>", escape(failure));
        }
        let _ = writeln!(xml, "    <system-out>{}</system-out>\n  </testcase>", escape(&ended.seen.join("\n")));
    }
    xml.push_str("</testsuite>\n");
    std::fs::write(path, xml)
}

fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '&' => safe.push_str("&amp;"),
            '"' => safe.push_str("&quot;"),
            c if c.is_control() && c != '\n' => safe.push('?'),
            c => safe.push(c),
        }
    }
    safe
}
