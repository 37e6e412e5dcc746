//! Who is told of what, when audiences change.

use super::*;
use crate::server::audience::Audience;
use mesh::{
    Str,
    route::{Compiled, ServiceRules, Telemetry, telemetry::AccessLog},
};
use std::{collections::BTreeSet, sync::Arc};

fn waypoints(names: &[&str]) -> Audience {
    Audience::Waypoints(Arc::new(names.iter().map(|name| Str::from(*name)).collect::<BTreeSet<_>>()))
}

/// Rules of `shop/web` that say `text`, for these waypoints.
fn rules(text: &str, audience: &[&str]) -> Publication {
    let log = AccessLog { disabled: false, filter: Some(format!("\"{text}\" == \"\"").into()) };
    let telemetry = Telemetry { access_log: Some(log), ..Telemetry::default() };
    let rules = ServiceRules { telemetry, ..ServiceRules::of("shop/web".parse().expect("a key")) };
    let change = Change::ServiceRules(Arc::new(Compiled::new(rules).expect("good rules")));
    Publication { change, audience: waypoints(audience) }
}

fn gone() -> Publication {
    Change::RemoveServiceRules("shop/web".into()).into()
}

/// What a waypoint that stands at `place` is told: `+` the rules, `-` their end.
fn told(catalog: &Catalog, waypoint: &str, place: u64) -> String {
    let contents = catalog.contents();
    let scope = Scope::Waypoint(waypoint.into());
    contents.since(Kind::ServiceRules, place, &scope).map(|item| if item.bytes.is_some() { '+' } else { '-' }).collect()
}

/// After each publication what each of `a/1` and `a/2` is told of it, and at the end what they are
/// told who have heard nothing since the beginning.
fn check(publications: Vec<Publication>, expected: [&str; 2]) {
    let (mut publisher, catalog) = catalog();
    let mut heard = [String::new(), String::new()];
    for publication in publications {
        let place = catalog.contents().place();
        publisher.apply([publication], Instant::now());
        for (heard, waypoint) in heard.iter_mut().zip(["a/1", "a/2"]) {
            let news = told(&catalog, waypoint, place);
            heard.push_str(if news.is_empty() { "." } else { &news });
        }
    }
    assert_eq!(heard, expected);
    let nobody = catalog.contents().since(Kind::ServiceRules, 0, &Scope::NodeProxy).count();
    assert_eq!(nobody, 0, "rules are for waypoints");
}

#[test]
fn who_comes_in_is_told_and_who_leaves_is_told_and_nobody_else() {
    check(vec![rules("1", &["a/1"]), rules("1", &["a/1", "a/2"]), rules("1", &["a/2"])], ["+.-", ".+."]);
    check(vec![rules("1", &["a/1", "a/2"]), rules("2", &["a/1"]), rules("3", &["a/1"])], ["+++", "+-."]);
    check(vec![rules("1", &["a/1"]), rules("1", &[]), rules("1", &["a/1"]), gone()], ["+-+-", "...."]);
    check(vec![rules("1", &["a/1"]), gone(), rules("1", &["a/2"]), gone()], ["+--.", "..+-"]);
    check(vec![rules("1", &["a/1"]), rules("1", &["a/1"])], ["+.", ".."]);
}

#[test]
fn who_was_away_is_told_how_it_stands_now() {
    let (mut publisher, catalog) = catalog();
    let now = Instant::now();
    publisher.apply([rules("1", &["a/1"])], now);
    let away = catalog.contents().place();
    for (publication, told_now) in [
        (rules("1", &[]), "-"),
        (rules("1", &["a/1"]), "+"),
        (gone(), "-"),
        (rules("2", &["a/2"]), "-"),
        (rules("2", &["a/1", "a/2"]), "+"),
        (rules("2", &["a/2"]), "-"),
    ] {
        publisher.apply([publication], now);
        assert_eq!(told(&catalog, "a/1", away), told_now);
    }
    assert_eq!(told(&catalog, "a/2", away), "+");
    assert_eq!(told(&catalog, "a/1", 0), "", "a newcomer was never told of what is not for it");
}

#[test]
fn what_is_taken_from_everyone_stays_with_its_audience() {
    let (mut publisher, catalog) = catalog();
    let now = Instant::now();
    publisher.apply([Publication { audience: Audience::Everyone, ..rules("1", &[]) }], now);
    let before = catalog.contents().place();
    publisher.apply([rules("1", &["a/1"])], now);
    assert_eq!(told(&catalog, "a/1", before), "");
    assert_eq!(told(&catalog, "a/2", before), "-");
    publisher.apply([Publication { audience: Audience::Everyone, ..rules("1", &[]) }], now);
    assert_eq!(told(&catalog, "a/2", before), "+");
    publisher.apply([gone()], now);
    assert_eq!(told(&catalog, "a/1", before), "-", "who saw it before everyone did hears of its end");
}

#[test]
fn losses_are_forgotten_in_the_end() {
    let (mut publisher, catalog) = catalog();
    publisher.set_tombstones_max(10);
    for n in 0..1000 {
        publisher.apply([rules("1", &[&format!("a/{n}")])], Instant::now());
    }
    let contents = catalog.contents();
    assert_eq!(contents.count(Kind::ServiceRules), 1);
    let shelf = &contents.shelves[Kind::ServiceRules.index()];
    assert!(shelf.tombstones() <= 11, "{} losses are held", shelf.tombstones());
    assert!(shelf.log.len() <= 12, "{} places are held", shelf.log.len());
    assert!(!contents.reaches(5), "who is so far behind must ask anew");
}

#[test]
fn rules_that_guard_are_urgent_and_wake_nobody_else() {
    let (mut publisher, catalog) = catalog();
    let end = |kind| catalog.head().borrow().of(kind);
    publisher.apply([rules("1", &["a/1"])], Instant::now());
    assert_eq!((end(Kind::ServiceRules).place, end(Kind::ServiceRules).urgent), (1, 0));
    assert_eq!(end(Kind::Address).place, 0);
    let mut guarded = ServiceRules::of("shop/web".parse().expect("a key"));
    guarded.guards.authentications.push(mesh::route::guard::Authentication { name: "a".into(), issuers: vec![] });
    let change = Change::ServiceRules(Arc::new(Compiled::new(guarded).expect("good rules")));
    publisher.apply([Publication { change, audience: waypoints(&["a/1"]) }], Instant::now());
    assert_eq!((end(Kind::ServiceRules).place, end(Kind::ServiceRules).urgent), (2, 2));
}
