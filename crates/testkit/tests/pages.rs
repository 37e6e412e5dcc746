//! The pages for people: what they link to is there.

use std::{
    fs,
    path::{Path, PathBuf},
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("this crate is two levels below the root").into()
}

/// Every page: those at the root, below `docs`, and of the charts.
fn pages() -> Vec<PathBuf> {
    let mut directories = vec![root().join("docs"), root().join("charts")];
    let mut found: Vec<PathBuf> =
        fs::read_dir(root()).expect("the root can be read").flatten().map(|e| e.path()).collect();
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).expect("a directory of the repository can be read").flatten() {
            let path = entry.path();
            if path.is_symlink() {
                continue;
            }
            if path.is_dir() { directories.push(path) } else { found.push(path) }
        }
    }
    found.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    assert!(found.len() > 10, "the pages were not found");
    found
}

/// The targets of the links in a page.
fn links(text: &str) -> Vec<&str> {
    text.split("](").skip(1).filter_map(|rest| rest.split(')').next()).collect()
}

/// What a heading is called in links: as the pages are shown where they are read.
fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase();
    kept.chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

fn anchors(text: &str) -> Vec<String> {
    text.lines().filter_map(|line| Some(anchor(line.strip_prefix('#')?.trim_start_matches('#').trim()))).collect()
}

#[test]
fn links_lead_somewhere() {
    let mut broken = Vec::new();
    for page in pages() {
        let text = fs::read_to_string(&page).expect("a page can be read");
        for link in links(&text).into_iter().filter(|link| !link.contains("://")) {
            let (file, place) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { page.clone() } else { page.with_file_name(file) };
            let there = target.exists()
                && (place.is_empty()
                    || fs::read_to_string(&target).is_ok_and(|text| anchors(&text).iter().any(|a| a == place)));
            if !there {
                broken.push(format!("{}: {link}", page.strip_prefix(root()).unwrap_or(&page).display()));
            }
        }
    }
    assert!(broken.is_empty(), "links that lead nowhere:\n{}", broken.join("\n"));
}

#[test]
fn headings_are_linked_to_as_they_are_shown() {
    assert_eq!(anchor("Take workloads in, and out"), "take-workloads-in-and-out");
    assert_eq!(anchor("Values under `global`"), "values-under-global");
}
