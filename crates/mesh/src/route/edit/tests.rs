//! Removed, then set, then added.

use super::*;

#[test]
fn headers_are_removed_then_set_then_added() {
    let pair = |(name, value): &(&str, &str)| ((*name).into(), (*value).into());
    let edit = |remove: &[&str], set: &[(&str, &str)], add: &[(&str, &str)]| HeaderEdit {
        remove: remove.iter().map(|name| (*name).into()).collect(),
        set: set.iter().map(pair).collect(),
        add: add.iter().map(pair).collect(),
    };
    for (edit, expected) in [
        (edit(&[], &[], &[]), "a: 1 | a: 2 | b: 3"),
        (edit(&["a", "z"], &[], &[]), "b: 3"),
        (edit(&[], &[("a", "9"), ("c", "8")], &[]), "a: 9 | b: 3 | c: 8"),
        (edit(&[], &[], &[("b", "4"), ("c", "5")]), "a: 1 | a: 2 | b: 3 | b: 4 | c: 5"),
        (edit(&["a"], &[("a", "7")], &[("a", "8")]), "a: 7 | a: 8 | b: 3"),
        (edit(&["host"], &[("host", "evil"), (":authority", "evil")], &[("host", "evil")]), "a: 1 | a: 2 | b: 3"),
    ] {
        let mut headers = HeaderMap::new();
        for (name, value) in [("a", "1"), ("a", "2"), ("b", "3")] {
            headers.append(name, HeaderValue::from_static(value));
        }
        edit.apply(&mut headers);
        let line = |(name, value): (&HeaderName, &HeaderValue)| format!("{name}: {}", value.to_str().expect("a text"));
        let mut lines: Vec<_> = headers.iter().map(line).collect();
        lines.sort();
        assert_eq!(lines.join(" | "), expected, "{edit:?}");
    }
}
