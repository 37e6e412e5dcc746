//! Who may do what in the cluster. Above every rule of a role stands the source that needs it, and a
//! rule whose source is gone goes with it.

use crate::{CHARTS, listed, read, rendered, root};
use serde_json::Value;

/// The rules of a template: line, the comment above, the text.
fn rules(text: &str) -> Vec<(usize, String)> {
    let lines: Vec<&str> = text.lines().collect();
    let begins = |line: &str| {
        line.trim_start().starts_with("- apiGroups:") || line.trim_start().starts_with("- nonResourceURLs:")
    };
    let comment = |at: usize| {
        let above = lines[..at].iter().rev().take_while(|line| line.trim_start().starts_with('#'));
        let mut words: Vec<&str> = above.map(|line| line.trim_start().trim_start_matches('#').trim()).collect();
        words.reverse();
        words.join(" ")
    };
    (0..lines.len()).filter(|at| begins(lines[*at])).map(|at| (at + 1, comment(at))).collect()
}

#[test]
fn every_rule_names_the_source_that_needs_it() {
    let mut seen = 0;
    for chart in CHARTS {
        let folder = format!("charts/{chart}/templates");
        for file in listed(&folder) {
            let path = format!("{folder}/{file}");
            let text = read(&path);
            if !text.contains("kind: ClusterRole\n") && !text.contains("kind: Role\n") {
                continue;
            }
            for (line, comment) in rules(&text) {
                seen += 1;
                let sources: Vec<_> =
                    comment.split([' ', ',', '(', ')']).filter(|word| word.contains("/src")).collect();
                assert!(!sources.is_empty(), "{path}:{line}: no source is named in the comment above the rule");
                for source in sources {
                    let source = source.trim_end_matches(['.', ':', ';']);
                    assert!(root().join(source).exists(), "{path}:{line}: there is no {source}");
                }
            }
        }
    }
    assert!(seen > 5, "the rules were not found");
}

#[test]
fn no_rule_is_for_everything() {
    for (path, role) in rendered::objects().into_iter().filter(|(_, object)| object["rules"].is_array()) {
        let name = &role["metadata"]["name"];
        if role["kind"] != "Role" && role["kind"] != "ClusterRole" {
            continue;
        }
        for rule in role["rules"].as_array().into_iter().flatten() {
            for field in ["apiGroups", "resources", "verbs"] {
                let all = rule[field].as_array().into_iter().flatten().any(|word| word == "*");
                assert!(!all, "{path}: {name}: a rule has * in {field}: {rule}");
            }
            let secrets = rule["resources"].as_array().into_iter().flatten().any(|word| word == "secrets");
            let everywhere = role["kind"] == "ClusterRole";
            assert!(!(secrets && everywhere), "{path}: {name}: may see the Secrets of every namespace: {rule}");
        }
    }
}

/// A binding to an account or a role that is not there binds nothing.
#[test]
fn bindings_bind_what_is_there() {
    let objects = rendered::objects();
    let there = |path: &str, kind: &Value, name: &Value| {
        objects.iter().any(|(p, object)| p == path && object["kind"] == *kind && object["metadata"]["name"] == *name)
    };
    let bindings =
        objects.iter().filter(|(_, object)| object["kind"].as_str().is_some_and(|kind| kind.ends_with("RoleBinding")));
    let mut seen = 0;
    for (path, binding) in bindings {
        seen += 1;
        let name = &binding["metadata"]["name"];
        let role = &binding["roleRef"];
        assert!(there(path, &role["kind"], &role["name"]), "{path}: {name}: no {role}");
        for subject in binding["subjects"].as_array().into_iter().flatten() {
            assert!(there(path, &subject["kind"], &subject["name"]), "{path}: {name}: no {subject}");
        }
    }
    assert!(seen > 2, "the bindings were not found");
}
