//! What the workspace has agreed on and no compiler checks: who may depend on whom, where wire
//! types, unsafe code and waiting may appear, and that files can be read.
//!
//! It reads the sources as text. A rule that gets in the way is changed here, with its reason.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Crate → which of ours it may depend on, beside in its tests.
const ARROWS: &[(&str, &[&str])] = &[
    ("proto", &[]),
    ("mesh", &[]),
    ("chassis", &[]),
    ("cluster", &["chassis"]),
    ("pki", &["mesh", "proto"]),
    ("xds", &["mesh", "proto"]),
    ("hbone", &["mesh", "pki"]),
    // `proto` only for the ZDS codec; see `WIRE_TYPES`.
    ("ztunnel", &["chassis", "cluster", "hbone", "xds", "pki", "mesh", "proto"]),
    // `proto` only to speak with external authorizers and rate limit services.
    ("waypoint", &["chassis", "hbone", "xds", "pki", "mesh", "proto"]),
    ("istiod-lite", &["chassis", "cluster", "xds", "pki", "mesh"]),
    ("meshctl", &["ztunnel", "waypoint", "istiod-lite", "chassis", "mesh"]),
    ("testkit", &["hbone", "xds", "pki", "mesh"]),
    // The scenarios speak of the mesh in its own words.
    ("e2e", &["ztunnel", "waypoint", "istiod-lite", "meshctl", "testkit", "mesh", "hbone", "xds"]),
    // `fuzz/targets`: what parsers must survive, wherever they are.
    ("targets", &["ztunnel", "waypoint", "istiod-lite", "chassis", "hbone", "xds", "pki", "mesh"]),
];

/// Where wire types may be named.
const WIRE_TYPES: &[&str] =
    &["proto/", "crates/pki/", "crates/xds/", "ztunnel/src/pods/protocol", "waypoint/src/external/"];

/// Where code may be unsafe.
const UNSAFE: &[&str] = &["ztunnel/src/net/", "ztunnel/src/net.rs"];

/// Rooms that decide: nothing in them waits.
const PURE: &[&str] = &[
    "crates/hbone/src/engine/arrivals",
    "crates/hbone/src/engine/batch",
    "crates/hbone/src/engine/commands",
    "crates/hbone/src/engine/core",
    "crates/hbone/src/engine/credit",
    "crates/hbone/src/engine/frame",
    "crates/hbone/src/engine/heads",
    "crates/hbone/src/engine/hpack/",
    "crates/hbone/src/engine/message",
    "crates/hbone/src/engine/pieces",
    "crates/hbone/src/engine/receive",
    "crates/hbone/src/engine/settings",
    "crates/hbone/src/engine/stream",
    "crates/hbone/src/engine/transmit",
    "crates/mesh/",
    "crates/pki/src/schedule",
    "crates/xds/src/client/state",
    "crates/xds/src/server/state",
    "istiod-lite/src/facts",
    "istiod-lite/src/files/",
    "istiod-lite/src/index/",
    "ztunnel/src/agent/book",
    "ztunnel/src/agent/install/conf",
    "ztunnel/src/agent/install/plan",
    "ztunnel/src/agent/steps",
    "ztunnel/src/cni_plugin/call",
    "ztunnel/src/outbound/plan",
    "ztunnel/src/inbound/plan",
    "waypoint/src/adaptive",
    "waypoint/src/authn/schedule",
    "waypoint/src/authn/token",
    "waypoint/src/budget",
    "waypoint/src/limit/bucket",
    "waypoint/src/limit/lease",
    "waypoint/src/outlier",
    "waypoint/src/trace/context",
    "waypoint/src/trace/span",
];

/// A file tells one story.
const LINES_MAX: usize = 400;
/// Files of tests may tell a few more.
const TEST_LINES_MAX: usize = 600;
/// Files that are longer, with what they are allowed: to be cut, not to grow.
const LONG_FILES: &[(&str, usize)] =
    &[("ztunnel/src/agent/pod.rs", 430), ("ztunnel/src/net/links.rs", 430), ("ztunnel/src/net/nft.rs", 430)];

/// Words that say nothing of the thing they are in the name of.
const EMPTY_WORDS: &[&str] =
    &["manager", "factory", "helper", "helpers", "util", "utils", "info", "data", "wrapper", "inputs", "common"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("this crate is two levels below the root").into()
}

/// Every Rust file of ours: path below the root → text.
fn sources() -> BTreeMap<String, String> {
    let (root, mut found) = (root(), BTreeMap::new());
    let mut directories: Vec<PathBuf> = crates().into_values().collect();
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).expect("a directory of the workspace can be read").flatten() {
            let path = entry.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                directories.push(path);
            } else if name.ends_with(".rs") {
                let below = path.strip_prefix(&root).expect("it is below the root").display().to_string();
                found.insert(below, fs::read_to_string(&path).expect("a source can be read"));
            }
        }
    }
    assert!(found.len() > 50, "the sources were not found");
    found
}

/// The members of the workspace: name → directory.
fn crates() -> BTreeMap<String, PathBuf> {
    let text = fs::read_to_string(root().join("Cargo.toml")).expect("the workspace has a manifest");
    let members = text.split("members = [").nth(1).and_then(|rest| rest.split(']').next()).expect("it has members");
    let paths = members.split('"').skip(1).step_by(2);
    paths.map(|path| (path.rsplit('/').next().unwrap_or(path).to_owned(), root().join(path))).collect()
}

/// Whether a line has a word as code: not in a comment, and not as part of a longer word.
fn names(line: &str, word: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    code.match_indices(word).any(|(at, _)| {
        let inside = |c: char| c.is_alphanumeric() || c == '_';
        let end = at + word.len();
        let begins = !code[..at].ends_with(|c: char| inside(c) || c == '"' || c == '/');
        begins && (word.ends_with(':') || !code[end..].starts_with(inside))
    })
}

/// Every line of every source that breaks a rule.
fn breaking(rule: impl Fn(&str, &str) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    // These rules quote what they forbid.
    for (path, text) in sources().into_iter().filter(|(path, _)| path != "crates/testkit/tests/tidy.rs") {
        let lines = text.lines().enumerate().filter(|(_, line)| rule(&path, line));
        found.extend(lines.map(|(at, line)| format!("{path}:{}: {}", at + 1, line.trim())));
    }
    found
}

fn is_in(path: &str, places: &[&str]) -> bool {
    places.iter().any(|place| path.starts_with(place))
}

fn is_test(path: &str) -> bool {
    path.contains("/tests/") || path.ends_with("/tests.rs") || path.contains("/benches/") || path.contains("/examples/")
}

/// The dependencies that a manifest names in a section and are crates of ours.
fn dependencies(manifest: &str, section: &str) -> Vec<String> {
    let own = crates();
    let mut inside = false;
    let mut found = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line.trim() == section;
        } else if inside {
            let name = line.split(['.', '=', ' ']).next().unwrap_or_default();
            found.extend(own.contains_key(name).then(|| name.to_owned()));
        }
    }
    found
}

#[test]
fn crates_depend_on_each_other_only_along_the_agreed_arrows() {
    for (name, directory) in crates() {
        let manifest = fs::read_to_string(directory.join("Cargo.toml")).expect("a member has a manifest");
        let row = ARROWS.iter().find(|(row, _)| *row == name);
        let (_, allowed) = row.unwrap_or_else(|| panic!("{name} has no row among the arrows"));
        for section in ["[dependencies]", "[build-dependencies]"] {
            for dependency in dependencies(&manifest, section) {
                assert!(allowed.contains(&&*dependency), "{name} must not depend on {dependency}");
            }
        }
        for dependency in dependencies(&manifest, "[dev-dependencies]") {
            let good = dependency == "testkit" || allowed.contains(&&*dependency);
            assert!(good, "the tests of {name} must not depend on {dependency}");
        }
    }
}

#[test]
fn wire_types_stay_in_the_codecs() {
    let found = breaking(|path, line| !is_in(path, WIRE_TYPES) && (names(line, "proto::") || names(line, "use proto")));
    assert!(found.is_empty(), "proto is named outside of {WIRE_TYPES:?}:\n{}", found.join("\n"));
}

#[test]
fn only_one_room_is_unsafe() {
    let allowed = ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern", "unsafe trait"];
    let found = breaking(|path, line| !is_in(path, UNSAFE) && allowed.iter().any(|form| names(line, form)));
    assert!(found.is_empty(), "unsafe outside of {UNSAFE:?}:\n{}", found.join("\n"));
}

#[test]
fn rooms_that_decide_do_not_wait() {
    let waits = ["async fn", "async move", ".await", "Instant::now", "SystemTime::now", "std::env::"];
    let found = breaking(|path, line| {
        let example = path.starts_with("crates/mesh/examples/");
        is_in(path, PURE) && !is_test(path) && !example && waits.iter().any(|form| names(line, form))
    });
    assert!(found.is_empty(), "waiting, or a clock, in a room that decides:\n{}", found.join("\n"));
}

#[test]
fn every_module_says_what_it_is_for() {
    let documented =
        |text: &str| text.lines().find(|line| !line.trim().is_empty()).is_some_and(|l| l.starts_with("//!"));
    let silent: Vec<_> =
        sources().into_iter().filter(|(path, text)| !path.ends_with("/tests.rs") && !documented(text)).collect();
    let paths: Vec<_> = silent.into_iter().map(|(path, _)| path).collect();
    assert!(paths.is_empty(), "without a module documentation on top:\n{}", paths.join("\n"));
}

#[test]
fn files_can_be_read_in_one_go() {
    let limit = |path: &str| {
        let listed = LONG_FILES.iter().find(|(long, _)| *long == path).map(|(_, lines)| *lines);
        listed.unwrap_or_else(|| if is_test(path) { TEST_LINES_MAX } else { LINES_MAX })
    };
    let all = sources();
    let long = all.iter().map(|(path, text)| (path, text.lines().count())).filter(|(path, lines)| *lines > limit(path));
    let long: Vec<_> = long.map(|(path, lines)| format!("{path}: {lines} lines, at most {}", limit(path))).collect();
    assert!(long.is_empty(), "too long:\n{}", long.join("\n"));
}

#[test]
fn names_say_something() {
    let found = breaking(|path, line| {
        let code = line.split("//").next().unwrap_or_default().trim_start();
        // Modules of `proto` are packages, and packages of others are named by them.
        let package = path == "proto/src/lib.rs";
        let code = code.strip_prefix("pub(crate) ").or_else(|| code.strip_prefix("pub(super) ")).unwrap_or(code);
        let code = code.strip_prefix("pub ").unwrap_or(code);
        let defined = ["struct ", "enum ", "trait ", "type ", "mod "].iter().find_map(|kind| code.strip_prefix(kind));
        let name: String =
            defined.unwrap_or_default().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let getter = code.strip_prefix("fn get_").or_else(|| code.strip_prefix("async fn get_")).is_some();
        // `http_body::Body` calls what it yields so.
        let of_a_trait = code.starts_with("type Data = Bytes;");
        getter || !package && !of_a_trait && words(&name).iter().any(|word| EMPTY_WORDS.contains(&&**word))
    });
    assert!(found.is_empty(), "names with a word that says nothing:\n{}", found.join("\n"));
    for path in sources().into_keys() {
        let empty = path.split(['/', '.', '-', '_']).find(|part| EMPTY_WORDS.contains(part));
        assert!(empty.is_none(), "{path}: a file whose name says nothing");
    }
}

/// `LocalAddress` and `local_address` are `local` and `address`.
fn words(name: &str) -> Vec<String> {
    let mut words: Vec<String> = vec![String::new()];
    for c in name.chars() {
        if c.is_uppercase() || c == '_' {
            words.push(String::new());
        }
        if let (Some(word), true) = (words.last_mut(), c != '_') {
            word.extend(c.to_lowercase());
        }
    }
    words
}

#[test]
fn the_rules_see_what_they_should() {
    assert!(names("let x = proto::A;", "proto::") && names("use proto::b;", "proto::"));
    assert!(!names("hickory_proto::A", "proto::") && !names("// proto::A", "proto::"));
    assert!(names("    unsafe { x }", "unsafe {") && !names("an unsafety {", "unsafe {"));
    assert_eq!(words("LocalAddress"), ["", "local", "address"]);
    assert_eq!(words("net_util"), ["net", "util"]);
}
