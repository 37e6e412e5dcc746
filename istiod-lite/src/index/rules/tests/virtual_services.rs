//! VirtualServices: which services they are for, and what comes of them.

use super::{shop, show, tell};

fn virtual_service(name: &str, spec: &str) -> String {
    named("shop", name, "", spec)
}

fn named(namespace: &str, name: &str, created: &str, spec: &str) -> String {
    let created = if created.is_empty() { String::new() } else { format!(", creationTimestamp: '{created}'") };
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}, namespace: \
         {namespace}{created}}}\nspec: {{{spec}}}\n"
    )
}

const TO_API: &str = "http: [{route: [{destination: {host: api}}]}]";

#[test]
fn hosts_say_which_services_a_route_is_for() {
    for (hosts, expected) in [
        ("[web]", vec!["shop/web.shop to shop/wp"]),
        ("[web.shop.svc.cluster.local]", vec!["shop/web.shop to shop/wp"]),
        ("[web.shop]", vec![]),
        ("[api.example]", vec!["shop/api.example to shop/wp"]),
        ("['*.shop.svc.cluster.local']", vec!["shop/api.shop to shop/wp", "shop/web.shop to shop/wp"]),
        ("['*']", vec!["shop/api.example to shop/wp", "shop/api.shop to shop/wp", "shop/web.shop to shop/wp"]),
    ] {
        let index = shop(&virtual_service("a", &format!("hosts: {hosts}, {TO_API}")));
        let found: Vec<String> = show::rules(&index).into_iter().filter(|line| !line.starts_with(' ')).collect();
        assert_eq!(found, expected, "{hosts}");
    }
}

#[test]
fn a_destination_without_a_port_is_the_port_that_was_asked_for() {
    let index = shop(&virtual_service("a", "hosts: [web], http: [{route: [{destination: {host: web}}]}]"));
    let expected = ["any → shop/web.shop:80×100", "any → shop/web.shop:81×100", "any → shop/web.shop:82×100"];
    assert_eq!(show::http(&index), expected);
    let index = shop(&virtual_service("a", &format!("hosts: [web], {TO_API}")));
    assert_eq!(show::http(&index), ["any → shop/api.shop:8080×100"], "of one with a single port it is that");
    let index = shop(&virtual_service("a", "hosts: [api], http: [{route: [{destination: {host: web}}]}]"));
    assert!(show::unmet(&index)[0].contains("ResolvedRefs/BackendNotFound"), "{:?}", show::unmet(&index));
}

#[test]
fn the_oldest_comes_first_and_gateway_api_before_all() {
    let text = [
        named(
            "shop",
            "a",
            "2024-02-01T00:00:00Z",
            "hosts: [web], http: [{name: young, directResponse: {status: 201}}]",
        ),
        named("shop", "b", "2024-01-01T00:00:00Z", "hosts: [web], http: [{name: old, directResponse: {status: 202}}]"),
    ];
    let mut index = shop(&text.concat());
    assert_eq!(show::http(&index), ["any → respond 202", "any → respond 201"]);
    assert!(show::unmet(&index).is_empty(), "{:?}", show::unmet(&index));
    let route = super::route("HTTPRoute", "r", "parentRefs: [{group: '', kind: Service, name: web}]");
    tell(&mut index, &route);
    let unmet = show::unmet(&index);
    let first = "VirtualService/shop/a web.shop.svc.cluster.local: !Accepted/Overridden: HTTPRoute/shop/r is attached";
    assert!(unmet.iter().any(|line| line.starts_with(first)), "{unmet:?}");
}

#[test]
fn it_counts_in_the_services_namespace_and_the_waypoints() {
    let spec = "hosts: [web.shop.svc.cluster.local], http: [{directResponse: {status: 201}}]";
    assert!(show::http(&shop(&named("other", "a", "", spec))).is_empty(), "a third namespace has no say");
    for (more, counts) in [
        ("", 1),
        (", exportTo: ['.']", 1),
        (", exportTo: [other]", 0),
        (", exportTo: ['~']", 0),
        (", gateways: [edge]", 0),
        (", gateways: [edge, mesh]", 1),
    ] {
        let index = shop(&virtual_service("a", &format!("{spec}{more}")));
        assert_eq!(show::http(&index).len(), counts, "{more}");
    }
}

#[test]
fn the_rest_may_be_said_by_another() {
    let root = virtual_service(
        "root",
        "hosts: [api], http: [{name: r, match: [{uri: {prefix: /a}}], delegate: {name: leaf}, timeout: 1s}, \
         {name: other, directResponse: {status: 204}}]",
    );
    let leaf = "http: [{name: x, match: [{uri: {prefix: /a/b}}], directResponse: {status: 201}}, {name: other, match: \
         [{uri: {prefix: /b}}], directResponse: {status: 202}}, {name: z, directResponse: {status: 203}}]";
    let mut index = shop(&root);
    assert_eq!(show::http(&index), ["any → respond 204"]);
    assert!(show::unmet(&index)[0].contains("ResolvedRefs/DelegateNotFound"), "{:?}", show::unmet(&index));
    tell(&mut index, &virtual_service("leaf", leaf));
    let expected = ["/a/b*; timeout 1s → respond 201", "/a*; timeout 1s → respond 203", "any → respond 204"];
    assert_eq!(show::http(&index), expected);
    let unmet = show::unmet(&index);
    assert!(unmet.len() == 1 && unmet[0].contains("DelegateConflict: http r: other of"), "{unmet:?}");
}

#[test]
fn what_does_not_work_is_told_and_the_rest_goes_on() {
    for (spec, expected) in [
        ("hosts: [gone]", "VirtualService/shop/a gone: !Accepted/TargetNotFound: there is no service gone.shop.svc"),
        (
            "hosts: [bare.other.svc.cluster.local, web], http: [{route: [{destination: {host: gone}}]}]",
            "VirtualService/shop/a: !ResolvedRefs/BackendNotFound: there is no Service shop/gone",
        ),
        (
            "hosts: [web], http: [{match: [{sourceLabels: {a: b}}], route: [{destination: {host: api}}]}]",
            "VirtualService/shop/a: !istiod-lite.io/FieldsHonoured/UnsupportedField: spec.http[0].match[0].sourceLabels",
        ),
    ] {
        let unmet = show::unmet(&shop(&virtual_service("a", spec)));
        assert!(unmet.iter().any(|line| line.starts_with(expected)), "{unmet:#?} has no {expected}");
    }
}

#[test]
fn one_that_cannot_be_read_leaves_its_last_good_version_and_the_others() {
    let good = virtual_service("a", "hosts: [web], http: [{directResponse: {status: 201}}]");
    let other = virtual_service("b", "hosts: [api], http: [{directResponse: {status: 202}}]");
    let mut index = shop(&(good + &other));
    let before = show::rules(&index);
    tell(&mut index, &virtual_service("a", "hosts: [web], http: [{directRespons: {status: 203}}]"));
    assert_eq!(show::rules(&index), before);
    let unmet = show::unmet(&index);
    assert!(unmet.iter().any(|line| line.contains("!Accepted/Invalid: spec.http[0]")), "{unmet:?}");
    tell(&mut index, &virtual_service("a", "hosts: [web], http: [{directResponse: {status: 203}}]"));
    assert!(show::unmet(&index).is_empty() && show::rules(&index) != before);
}

#[test]
fn connections_are_routed_too() {
    let index = shop(&virtual_service(
        "a",
        "hosts: [web], tcp: [{match: [{port: 82}], route: [{destination: {host: web}}]}], tls: [{match: [{port: 81, \
         sniHosts: [a.example]}], route: [{destination: {host: api.example}}]}]",
    ));
    let lines = show::rules(&index);
    assert!(lines.contains(&"  tcp VirtualService/shop/a ports [82] → shop/web.shop:82×100".to_owned()), "{lines:#?}");
    let tls = "  tls VirtualService/shop/a ports [81] for a.example → shop/api.example:443×100".to_owned();
    assert!(lines.contains(&tls), "{lines:#?}");
}
