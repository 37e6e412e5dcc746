//! What a chart's `values.yaml` says: each value with its default, the comment above it, and what
//! the comment says of its form.
//!
//! A comment line that begins with `@` is about the form: `@enum: a b ""`, `@type: string number`,
//! `@map: string` (an object from any name to such values), `@items: string`, `@open` (an object
//! that has a default, of which nothing more is said), `@min: 1`.

use crate::parsed;
use serde_json::Value;

/// One chart.
pub(crate) struct Chart {
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) version: String,
    pub(crate) app_version: String,
    pub(crate) entries: Vec<Entry>,
}

/// One value, or a branch of them.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    /// The comment, without what is about the form.
    pub(crate) about: String,
    /// What is said of the form: word and arguments.
    pub(crate) form: Vec<(String, Vec<String>)>,
    pub(crate) default: Value,
    /// What is in it, if it is a branch.
    pub(crate) children: Vec<Self>,
}

impl Entry {
    /// The arguments of a word about the form.
    pub(crate) fn form(&self, word: &str) -> Option<&[String]> {
        self.form.iter().find(|(found, _)| found == word).map(|(_, arguments)| &arguments[..])
    }
}

impl Chart {
    pub(crate) fn parse(name: &str, chart: &str, values: &str) -> Self {
        let about = parsed(&format!("charts/{name}/Chart.yaml"), chart);
        let text = |key: &str| about[key].as_str().unwrap_or_default().to_owned();
        assert_eq!(text("name"), name, "name in charts/{name}/Chart.yaml");
        let path = format!("charts/{name}/values.yaml");
        let lines: Vec<&str> = values.lines().collect();
        let (entries, read) = branch(&path, &lines, 0, 0, &parsed(&path, values));
        assert_eq!(read, lines.len(), "{path}:{}: not understood", read + 1);
        Self {
            name: name.into(),
            description: text("description"),
            version: text("version"),
            app_version: text("appVersion"),
            entries,
        }
    }

    /// Every value that is no branch, by its path.
    pub(crate) fn leaves(&self) -> Vec<(String, &Entry)> {
        leaves(&self.entries)
    }

    /// What is in a branch at the top.
    pub(crate) fn children(&self, key: &str) -> Vec<Entry> {
        self.entries.iter().filter(|entry| entry.key == key).flat_map(|entry| entry.children.clone()).collect()
    }
}

/// Every value below these that is no branch, by its path.
pub(crate) fn leaves(entries: &[Entry]) -> Vec<(String, &Entry)> {
    let mut found = Vec::new();
    for entry in entries {
        if entry.children.is_empty() {
            found.push((entry.key.clone(), entry));
        } else {
            found.extend(
                leaves(&entry.children).into_iter().map(|(path, leaf)| (format!("{}.{path}", entry.key), leaf)),
            );
        }
    }
    found
}

/// Adds what is not there yet.
pub(crate) fn merge(all: &mut Vec<Entry>, more: &[Entry]) {
    for entry in more {
        match all.iter_mut().find(|there| there.key == entry.key) {
            Some(there) => merge(&mut there.children, &entry.children),
            None => all.push(entry.clone()),
        }
    }
}

/// Reads the entries of one indentation from a line on; also says where they end.
fn branch(path: &str, lines: &[&str], from: usize, indentation: usize, values: &Value) -> (Vec<Entry>, usize) {
    let (mut entries, mut at, mut comment) = (Vec::new(), from, Vec::new());
    while let Some(line) = lines.get(at) {
        let text = line.trim_start();
        if text.is_empty() {
            comment.clear();
            at += 1;
            continue;
        }
        if line.len() - text.len() < indentation {
            break;
        }
        assert_eq!(line.len() - text.len(), indentation, "{path}:{}: indentation", at + 1);
        if let Some(said) = text.strip_prefix('#') {
            comment.push(said.trim());
            at += 1;
            continue;
        }
        let (key, rest) = text.split_once(':').unwrap_or_else(|| panic!("{path}:{}: no key", at + 1));
        let (about, form) = told(&comment);
        comment.clear();
        let mut entry = Entry { key: key.into(), about, form, default: values[key].clone(), children: Vec::new() };
        at += 1;
        let opaque = entry.default.is_array() || entry.form("open").is_some();
        if opaque {
            at += lines[at..].iter().take_while(|line| belongs(line, indentation)).count();
        } else if rest.trim().is_empty() && entry.default.is_object() {
            (entry.children, at) = branch(path, lines, at, indentation + 2, &values[key]);
        }
        entries.push(entry);
    }
    (entries, at)
}

/// Whether a line is part of a value that began above, at this indentation.
fn belongs(line: &str, indentation: usize) -> bool {
    let text = line.trim_start();
    let deeper = line.len() - text.len() > indentation;
    !text.is_empty() && (deeper || (line.len() - text.len() == indentation && text.starts_with('-')))
}

fn told(comment: &[&str]) -> (String, Vec<(String, Vec<String>)>) {
    let (form, about): (Vec<&str>, Vec<&str>) = comment.iter().partition(|line| line.starts_with('@'));
    let form = form.iter().map(|line| {
        let (word, arguments) = line[1..].split_once(':').unwrap_or_else(|| (&line[1..], ""));
        (word.to_owned(), arguments.split_whitespace().map(|word| word.trim_matches('"').to_owned()).collect())
    });
    (about.join(" "), form.collect())
}

#[test]
fn values_are_read_with_their_comments() {
    let text = "# One.\n# @min: 1\na: 1\nb:\n  # Two,\n  # long.\n  c: \"\"\n# Three.\nd:\n- e: 1\n  f: 2\n# Four.\n# @open\ng:\n  h: 1\ni: {}\n";
    let chart = Chart::parse("x", "name: x\nversion: 1\n", text);
    let said: Vec<_> = chart.leaves().into_iter().map(|(path, entry)| (path, entry.about.clone())).collect();
    let said: Vec<_> = said.iter().map(|(path, about)| (&**path, &**about)).collect();
    assert_eq!(said, [("a", "One."), ("b.c", "Two, long."), ("d", "Three."), ("g", "Four."), ("i", "")]);
    assert_eq!(chart.entries[0].form("min"), Some(&["1".to_owned()][..]));
}
