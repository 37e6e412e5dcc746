//! Each field that `docs/traffic.md` calls honoured is in a request of a scenario: the page and the list below have the same
//! rows and the same words, and each of these words has a piece of a scenario in which it is used.

mod gateway_api;
mod security;
mod traffic;

use std::{collections::BTreeSet, fs, path::Path};

/// A row of the page.
#[derive(Clone, Copy)]
struct Row {
    kind: &'static str,
    field: &'static str,
    /// (what is honoured, a text of a scenario that uses it). What the row says in words of the page stands first,
    /// and then what it covers without naming it.
    shown: &'static [(&'static str, &'static str)],
    /// Words of the row that are not honoured, or are no fields.
    aside: &'static [&'static str],
}

/// The rows of the page: kind, field, and all words in backticks.
fn page() -> Vec<(String, String, BTreeSet<String>)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/traffic.md");
    let text = fs::read_to_string(path).expect("the page is there");
    let (_, rest) = text.split_once("## Which fields are honoured").expect("the page has the table");
    let (mut rows, mut kind) = (Vec::new(), String::new());
    let table =
        rest.lines().skip_while(|line| !line.starts_with("|---")).skip(1).take_while(|line| line.starts_with('|'));
    for line in table {
        let cells: Vec<&str> = line.trim_matches('|').splitn(3, " | ").map(str::trim).collect();
        let [first, field, honoured] = cells[..] else { panic!("{line:?} is no row of three cells") };
        let first = first.trim_start_matches(['|', ' ']);
        if !first.is_empty() {
            kind = first.to_owned();
        }
        let quoted = format!("{field} {honoured}");
        let words = quoted.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        rows.push((kind.clone(), field.to_owned(), words));
    }
    rows
}

/// Everything that the scenarios of the waypoint say, as it is written there and with line breaks as what they are.
fn scenarios() -> String {
    fn collect(folder: &Path, text: &mut String) {
        for entry in fs::read_dir(folder).expect("a folder of scenarios") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                collect(&path, text);
            } else if path.extension().is_some_and(|end| end == "rs") {
                text.push_str(&fs::read_to_string(&path).expect("a scenario"));
            }
        }
    }
    let mut text = String::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/scenarios/waypoint"), &mut text);
    text
}

#[test]
fn each_field_that_is_honoured_is_in_a_request() {
    let rows = [gateway_api::ROWS, traffic::ROWS, security::ROWS].concat();
    let (page, scenarios, mut wrong) = (page(), scenarios(), Vec::new());
    for (kind, field, words) in &page {
        let Some(row) = rows.iter().find(|row| row.kind == kind && row.field == field) else {
            wrong.push(format!("{kind}, {field}: the page has it, and the list of requests does not"));
            continue;
        };
        for word in words {
            let known = row.shown.iter().any(|(shown, _)| shown == word) || row.aside.contains(&word.as_str());
            if !known {
                wrong
                    .push(format!("{kind}, {field}: {word} is neither shown by a request nor said not to be honoured"));
            }
        }
        for word in row.aside.iter().filter(|word| !words.contains(**word)) {
            wrong.push(format!("{kind}, {field}: the page does not speak of {word}"));
        }
    }
    for row in &rows {
        if !page.iter().any(|(kind, field, _)| row.kind == kind && row.field == field) {
            wrong.push(format!("{}, {}: the page has no such row", row.kind, row.field));
        }
        for (what, text) in row.shown.iter().filter(|(_, text)| !scenarios.contains(*text)) {
            wrong.push(format!("{}, {}: {what}: no scenario has {text:?}", row.kind, row.field));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let shown: usize = rows.iter().map(|row| row.shown.len()).sum();
    assert!(shown > 200, "{shown} requests");
}
