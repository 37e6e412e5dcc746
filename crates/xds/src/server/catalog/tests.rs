//! The catalog encodes once, logs once, and forgets what everybody knows.

mod audiences;

use super::*;
use mesh::{Policy, Workload, policy::PolicyScope};

fn workload(uid: &str, node: &str) -> Change {
    Change::Workload(Arc::new(Workload { node: node.into(), ..Workload::named(uid) }))
}

fn policy(name: &str, action: Action) -> Change {
    Change::Policy(Arc::new(Policy {
        name: name.into(),
        namespace: "ns".into(),
        scope: PolicyScope::Global,
        action,
        rules: vec![],
        dry_run: false,
    }))
}

fn since(catalog: &Catalog, place: u64) -> Vec<String> {
    let contents = catalog.contents();
    let show = |item: Item<'_>| format!("{}{}", if item.bytes.is_some() { '+' } else { '-' }, item.name);
    contents.since(Kind::Address, place, &Scope::NodeProxy).map(show).collect()
}

#[test]
fn a_session_reads_each_name_once_whatever_happened_to_it() {
    let (mut publisher, catalog) = catalog();
    let now = Instant::now();
    publisher.apply([workload("a", "1"), workload("b", "1"), workload("c", "1")], now);
    publisher.apply([workload("a", "2"), workload("a", "3"), Change::RemoveAddress("b".into())], now);
    assert_eq!(since(&catalog, 0), ["+c", "+a"], "a newcomer never heard of b");
    assert_eq!(since(&catalog, 3), ["+a", "-b"]);
    assert_eq!(since(&catalog, 6), [""; 0]);
}

#[test]
fn what_came_and_went_between_two_looks_was_never_there() {
    let (mut publisher, catalog) = catalog();
    let now = Instant::now();
    publisher.apply([workload("old", "1")], now);
    publisher.apply([workload("new", "1"), Change::RemoveAddress("new".into())], now);
    assert_eq!(since(&catalog, 1), [""; 0]);
    // But what was there before, went, came and went again must be told as gone.
    publisher.apply([Change::RemoveAddress("old".into())], now);
    publisher.apply([workload("old", "2"), Change::RemoveAddress("old".into())], now);
    assert_eq!(since(&catalog, 1), ["-old"]);
}

#[test]
fn the_same_again_is_no_change() {
    let (mut publisher, catalog) = catalog();
    let now = Instant::now();
    assert_eq!(publisher.apply([workload("a", "1"), policy("p", Action::Allow)], now), 2);
    let head = *catalog.head().borrow();
    assert_eq!(publisher.apply([workload("a", "1"), policy("p", Action::Allow)], now), 0);
    assert_eq!(publisher.apply([Change::RemoveAddress("unknown".into())], now), 0);
    assert_eq!(*catalog.head().borrow(), head);
}

#[test]
fn what_may_restrict_is_urgent_and_nothing_else_is() {
    let (mut publisher, catalog) = catalog();
    for (what, change, urgent) in [
        ("a workload", workload("a", "1"), false),
        ("an allowance", policy("allow", Action::Allow), false),
        ("a denial", policy("deny", Action::Deny), true),
        ("a workload that goes", Change::RemoveAddress("a".into()), false),
        ("a removed policy", Change::RemovePolicy("ns/allow".into()), true),
    ] {
        let kind = resource::of_change(&change).0;
        publisher.apply([change], Instant::now());
        let end = catalog.head().borrow().of(kind);
        assert_eq!(end.urgent == end.place, urgent, "{what}");
    }
}

#[test]
fn removed_names_are_forgotten_in_the_end() {
    let (mut publisher, catalog) = catalog();
    publisher.set_tombstones_max(10);
    let now = Instant::now();
    publisher.apply([workload("stays", "1")], now);
    for n in 0..1000 {
        let name = format!("w{n}");
        publisher.apply([workload(&name, "1")], now);
        publisher.apply([Change::RemoveAddress(name.into())], now);
    }
    let contents = catalog.contents();
    assert!(contents.shelves[0].entries.len() <= 12, "{} names are held", contents.shelves[0].entries.len());
    assert_eq!(contents.shelves[0].entries.len(), contents.shelves[0].log.len());
    assert_eq!(contents.count(Kind::Address), 1);
    assert!(!contents.reaches(5), "who is so far behind must ask anew");
    assert!(contents.reaches(contents.place()));
}

#[test]
fn a_change_costs_what_changed_and_not_what_is_there() {
    let (mut publisher, catalog) = catalog();
    let now = Instant::now();
    publisher.apply((0..50_000).map(|n| workload(&format!("w{n}"), "1")), now);
    let (encodes, place) = (catalog.contents().encodes(), catalog.contents().place());
    publisher.apply([workload("w7", "2")], now);
    assert_eq!(catalog.contents().encodes(), encodes + 1);
    for _ in 0..1000 {
        assert_eq!(since(&catalog, place), ["+w7"], "each of a thousand sessions reads one entry");
    }
    assert_eq!(catalog.contents().encodes(), encodes + 1, "and encodes nothing");
}
