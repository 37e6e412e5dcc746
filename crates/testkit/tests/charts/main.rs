//! The Helm charts, as far as they can be judged without Helm: every value is described, the pages
//! and schemas are what the values say, the definitions of kinds are there, what was rendered is
//! safe and says nothing to a program that it does not read, and no role has more than is used.
//!
//! `charts/check` does what needs Helm. Files that are printed from others are compared here; when
//! one differs, what it should be stands below the target folder, to be copied.

mod kinds;
mod page;
mod rendered;
mod roles;
mod schema;
mod values;

use std::{
    fs,
    path::{Path, PathBuf},
};
use values::{Chart, Entry};

/// The charts that have values of their own, in the order of installation.
const CHARTS: [&str; 4] = ["base", "istiod-lite", "cni", "ztunnel"];
/// The one that installs them together.
const UMBRELLA: &str = "ambient";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("this crate is two levels below the root").into()
}

/// A file of the repository.
fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path} cannot be read: {error}"))
}

/// The names in a directory of the repository, sorted.
fn listed(path: &str) -> Vec<String> {
    let entries = fs::read_dir(root().join(path)).unwrap_or_else(|error| panic!("{path} cannot be read: {error}"));
    let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn parsed(path: &str, text: &str) -> serde_json::Value {
    serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn chart(name: &str) -> Chart {
    Chart::parse(name, &read(&format!("charts/{name}/Chart.yaml")), &read(&format!("charts/{name}/values.yaml")))
}

fn charts() -> Vec<Chart> {
    CHARTS.iter().map(|name| chart(name)).collect()
}

/// Every value under `global` of any chart: Helm shows them to all.
fn globals(charts: &[Chart]) -> Vec<Entry> {
    let mut all = Vec::new();
    for chart in charts {
        values::merge(&mut all, &chart.children("global"));
    }
    all
}

/// Compares files with what they should be, all of them before failing.
fn compare(files: Vec<(String, String)>) {
    let mut different = Vec::new();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("charts");
    for (path, wanted) in files {
        if fs::read_to_string(root().join(&path)).unwrap_or_default() != wanted {
            let printed = folder.join(path.trim_start_matches("charts/"));
            fs::create_dir_all(printed.parent().expect("a file is in a folder")).expect("the target folder is ours");
            fs::write(&printed, wanted).expect("the target folder is ours");
            different.push(path);
        }
    }
    let copy = format!("cp -r {}/. charts/", folder.display());
    assert!(different.is_empty(), "not what their sources say: {}; to mend it: {copy}", different.join(", "));
}

#[test]
fn every_value_is_described() {
    for chart in charts().iter().chain([&chart(UMBRELLA)]) {
        let silent: Vec<_> = chart.leaves().into_iter().filter(|(_, entry)| entry.about.is_empty()).collect();
        let paths: Vec<_> = silent.into_iter().map(|(path, _)| path).collect();
        assert!(paths.is_empty(), "charts/{}/values.yaml: no comment above {}", chart.name, paths.join(", "));
    }
}

#[test]
fn a_global_value_has_one_default() {
    let charts = charts();
    let mut seen = std::collections::BTreeMap::new();
    for chart in &charts {
        for (path, entry) in chart.leaves().into_iter().filter(|(path, _)| path.starts_with("global.")) {
            let (first, default) = seen.entry(path.clone()).or_insert_with(|| (&chart.name, entry.default.clone()));
            assert_eq!(*default, entry.default, "{path} of {first} and of {}", chart.name);
        }
    }
}

/// A value that no template looks at would be believed and do nothing.
#[test]
fn every_value_is_used_by_a_template() {
    let mut unused = Vec::new();
    for chart in charts() {
        let folder = format!("charts/{}/templates", chart.name);
        let text: String = listed(&folder).iter().map(|name| read(&format!("{folder}/{name}"))).collect();
        for (path, _) in chart.leaves() {
            // A template may take a whole branch of values at once.
            let used = path.match_indices('.').map(|(at, _)| &path[..at]).chain([&*path]).any(|part| {
                part != "global"
                    && text.match_indices(&format!("Values.{part}")).any(|(at, found)| ends(&text, at + found.len()))
            });
            if !used {
                unused.push(format!("charts/{}: {path}", chart.name));
            }
        }
    }
    assert!(unused.is_empty(), "no template uses {}", unused.join(", "));
}

/// Whether a path ends here, so that `global` is not taken for the use of `global.hub`.
fn ends(text: &str, at: usize) -> bool {
    !text[at..].starts_with(|c: char| c.is_alphanumeric() || c == '.' || c == '_')
}

#[test]
fn pages_and_schemas_are_what_the_values_say() {
    let charts = charts();
    let globals = globals(&charts);
    let mut files = Vec::new();
    for chart in &charts {
        files.push((format!("charts/{}/README.md", chart.name), page::of_chart(chart)));
        files.push((format!("charts/{}/values.schema.json", chart.name), schema::of_chart(chart, &globals)));
    }
    let umbrella = chart(UMBRELLA);
    files.push((format!("charts/{UMBRELLA}/README.md"), page::of_umbrella(&umbrella, &globals)));
    files.push((format!("charts/{UMBRELLA}/values.schema.json"), schema::of_chart(&umbrella, &globals)));
    compare(files);
}

#[test]
fn charts_have_the_version_of_the_workspace() {
    for chart in charts().iter().chain([&chart(UMBRELLA)]) {
        assert_eq!(chart.version, env!("CARGO_PKG_VERSION"), "version of charts/{}/Chart.yaml", chart.name);
        assert_eq!(chart.app_version, env!("CARGO_PKG_VERSION"), "appVersion of charts/{}/Chart.yaml", chart.name);
    }
}

/// The pages tell people to set values; each is one that a chart has.
#[test]
fn values_that_pages_name_are_there() {
    let charts = charts();
    let part = |name: &str| if name == "istiod-lite" { "istiod".to_owned() } else { name.to_owned() };
    let mut known: Vec<String> = Vec::new();
    for chart in &charts {
        let paths = chart.leaves().into_iter().map(|(path, _)| path);
        known.extend(
            paths.map(|path| if path.starts_with("global.") { path } else { format!("{}.{path}", part(&chart.name)) }),
        );
    }
    let mut seen = 0;
    for page in ["README.md", "docs/kubernetes.md", "docs/quickstart-kind.md", "docs/troubleshooting.md"] {
        let text = read(page);
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || "._-*/".contains(c)));
        let named = words.map(|word| word.trim_end_matches('.')).filter(|word| !word.contains(['-', '/']));
        for word in named
            .filter(|word| ["global.", "istiod.", "cni.", "ztunnel.", "base."].iter().any(|of| word.starts_with(of)))
        {
            seen += 1;
            let branch = format!("{}.", word.trim_end_matches(".*"));
            let found = known.iter().any(|path| path == word || path.starts_with(&branch));
            assert!(found, "{page}: no chart has the value {word}");
        }
    }
    assert!(seen > 10, "only {seen} values were found in the pages");
}
