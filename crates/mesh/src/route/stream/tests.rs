//! Which way a connection takes.

use super::*;

fn route(name: &str, ports: &[u16], callers: Option<&str>, names: &[&str]) -> StreamRoute {
    let to = |name: &str| Destination::Invalid { reason: name.into() };
    StreamRoute {
        name: name.into(),
        ports: ports.to_vec(),
        callers: callers.map(Into::into),
        server_names: names.iter().map(|name| (*name).into()).collect(),
        backends: vec![(to("none"), 0), (to("first"), 1), (to("second"), 3)],
    }
}

#[test]
fn the_first_that_agrees_takes_the_connection_the_callers_own_before_others() {
    let routes = [
        route("https", &[443], None, &["a.example", "*.b.example"]),
        route("mine", &[443], Some("shop"), &["x.b.example"]),
        route("any", &[443, 8443], None, &[]),
    ];
    for (port, caller, name, expected) in [
        (443, None, Some("a.example"), Some("https")),
        (443, None, Some("A.Example."), Some("https")),
        (443, None, Some("x.b.example"), Some("https")),
        (443, Some("shop"), Some("x.b.example"), Some("mine")),
        (443, Some("else"), Some("x.b.example"), Some("https")),
        (443, None, Some("b.example"), Some("any")),
        (443, None, Some(".b.example"), Some("any")),
        (443, None, Some("xb.example"), Some("any")),
        (443, None, None, Some("any")),
        (8443, Some("shop"), Some("a.example"), Some("any")),
        (80, None, Some("a.example"), None),
    ] {
        let found = select(&routes, port, caller, name).map(|route| &*route.name);
        assert_eq!(found, expected, "{port} {caller:?} {name:?}");
    }
}

#[test]
fn a_connection_goes_by_weight() {
    let route = route("a", &[], None, &[]);
    let to = |throw| match route.destination(throw) {
        Some(Destination::Invalid { reason }) => reason.to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        (to(0), to(u64::MAX / 8), to(u64::MAX / 2), to(u64::MAX)),
        ("first".into(), "first".into(), "second".into(), "second".into())
    );
    assert!(StreamRoute { backends: Vec::new(), ..route }.destination(0).is_none());
}
