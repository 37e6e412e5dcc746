//! BackendTLSPolicy and XBackendTrafficPolicy: whom it is for, whom it believes, and what of several holds.

use super::{shop, show, tell};
use crate::facts::{Fact, FactKey, Kind};

fn policy(name: &str, created: &str, target: &str, validation: &str) -> String {
    format!(
        "
---
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {{name: {name}, namespace: shop, creationTimestamp: '{created}'}}
spec:
  targetRefs: [{{{target}}}]
  validation: {{{validation}}}
"
    )
}

const WEB: &str = "group: '', kind: Service, name: web";
const SYSTEM: &str = "hostname: web.example, wellKnownCACertificates: System";

fn one(target: &str, validation: &str) -> String {
    policy("p", "2020-01-01T00:00:00Z", target, validation)
}

#[test]
fn a_policy_says_how_a_service_is_reached() {
    for (target, validation, expected) in [
        (WEB, SYSTEM, "traffic * BackendTLSPolicy/shop/p tls web.example by system"),
        (
            "group: '', kind: Service, name: web, sectionName: admin",
            SYSTEM,
            "traffic 81 BackendTLSPolicy/shop/p tls web.example by system",
        ),
        (
            "group: networking.istio.io, kind: ServiceEntry, name: ext",
            "hostname: api.example, wellKnownCACertificates: System, subjectAltNames: [{type: Hostname, hostname: '*.api.example'}, {type: URI, uri: 'spiffe://a/b'}]",
            "traffic * BackendTLSPolicy/shop/p tls api.example as *.api.example,spiffe://a/b by system",
        ),
    ] {
        let index = shop(&one(target, validation));
        assert_eq!(show::rules(&index)[1].trim(), expected);
        assert_eq!(show::unmet(&index), [""; 0]);
    }
}

#[test]
fn certificates_come_from_config_maps_as_they_come_and_go() {
    let pem = rcgen::generate_simple_self_signed(["web.example".to_owned()]).expect("a certificate").cert.pem();
    let map = |name: &str, pem: &str| {
        let lines: String = pem.lines().map(|line| format!("    {line}\n")).collect();
        format!(
            "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: shop}}\ndata:\n  ca.crt: |\n{lines}  other: x\n"
        )
    };
    let refs = "hostname: web.example, caCertificateRefs: [{group: '', kind: ConfigMap, name: a}, {group: '', kind: ConfigMap, name: b}]";
    let mut index = shop(&one(WEB, refs));
    let tls = |index: &crate::index::Index| show::rules(index)[1].split(" by ").nth(1).unwrap_or_default().to_owned();
    let count = |index: &crate::index::Index, reason: &str| {
        show::unmet(index).iter().filter(|line| line.contains(reason)).count()
    };
    assert_eq!(tls(&index), "nobody (there is no ConfigMap b)");
    assert_eq!((count(&index, "InvalidCACertificateRef"), count(&index, "NoValidCACertificate")), (1, 1));
    tell(&mut index, &map("a", &pem));
    assert_eq!(
        (tls(&index).as_str(), count(&index, "InvalidCACertificateRef"), count(&index, "NoValid")),
        ("1 certificates", 1, 0)
    );
    tell(&mut index, &map("b", &pem));
    assert_eq!((tls(&index), show::unmet(&index)), ("2 certificates".to_owned(), Vec::new()));
    tell(&mut index, &map("b", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----"));
    assert_eq!((tls(&index).as_str(), count(&index, "is not PEM")), ("1 certificates", 1));
    for name in ["a", "b"] {
        index.apply(Fact::Removed(FactKey { kind: Kind::ConfigMap, namespace: "shop".into(), name: name.into() }));
    }
    assert_eq!(tls(&index), "nobody (there is no ConfigMap b)");
}

#[test]
fn of_several_for_one_port_the_oldest_holds() {
    let web = |name: &str, created: &str, section: &str| policy(name, created, &format!("{WEB}{section}"), SYSTEM);
    let index = shop(&format!(
        "{}{}{}",
        web("a", "2022-01-01T00:00:00Z", ""),
        web("b", "2021-01-01T00:00:00Z", ""),
        web("c", "2023-01-01T00:00:00Z", ", sectionName: http"),
    ));
    assert_eq!(
        show::rules(&index)[1..],
        [
            "  traffic * BackendTLSPolicy/shop/b tls web.example by system",
            "  traffic 80 BackendTLSPolicy/shop/b tls web.example by system",
        ]
    );
    assert_eq!(
        show::unmet(&index),
        [
            "BackendTLSPolicy/shop/a Service/shop/web: !Accepted/Conflicted: BackendTLSPolicy/shop/b is older and is for Service/shop/web, too"
        ]
    );
}

#[test]
fn what_is_not_understood_lets_no_connection_come_about() {
    for (target, validation, expected) in [
        (WEB, "hostname: web.example", "spec.validation.wellKnownCACertificates: must be said"),
        (WEB, "wellKnownCACertificates: System", "spec.validation.hostname: is missing"),
        (
            WEB,
            "hostname: web.example, wellKnownCACertificates: System, x: 1",
            "spec.validation[\"x\"]: is not a field that we know",
        ),
        (
            WEB,
            "hostname: web.example, wellKnownCACertificates: System, subjectAltNames: [{type: Hostname, uri: 'a://b'}]",
            "spec.validation.subjectAltNames[0]",
        ),
    ] {
        let broken = one(target, validation);
        let index = shop(&broken);
        assert!(show::rules(&index)[1].contains(" by nobody ("), "{:?}", show::rules(&index));
        let told = show::unmet(&index);
        let start = format!("BackendTLSPolicy/shop/p Service/shop/web: !Accepted/Invalid: {expected}");
        assert!(told[0].starts_with(&start) && told[0].ends_with("no connection comes about"), "{told:?}");

        let mut index = shop(&one(WEB, SYSTEM));
        let good = show::rules(&index);
        tell(&mut index, &broken);
        assert_eq!(show::rules(&index), good, "{validation}");
        assert!(show::unmet(&index)[0].ends_with("; the last good version stays"));
    }
}

#[test]
fn what_is_not_there_or_not_known_is_told() {
    for (target, validation, expected) in [
        ("group: '', kind: Service, name: gone", SYSTEM, "!Accepted/TargetNotFound: there is no Service/shop/gone"),
        (
            "group: '', kind: Service, name: web, sectionName: x",
            SYSTEM,
            "!Accepted/TargetNotFound: Service/shop/web:x has no such port",
        ),
        (
            WEB,
            "hostname: web.example, wellKnownCACertificates: some.example/set",
            "!Accepted/Invalid: spec.validation.wellKnownCACertificates: some.example/set is not known",
        ),
        (
            WEB,
            "hostname: web.example, caCertificateRefs: [{group: '', kind: Secret, name: s}]",
            "!ResolvedRefs/InvalidKind: spec.validation.caCertificateRefs[0]: Secret holds no certificates",
        ),
    ] {
        let told = show::unmet(&shop(&one(target, validation)));
        assert!(told.iter().any(|line| line.contains(expected)), "{told:?}");
    }
}

fn tries(name: &str, created: &str, spec: &str) -> String {
    format!(
        "
---
apiVersion: gateway.networking.x-k8s.io/v1alpha1
kind: XBackendTrafficPolicy
metadata: {{name: {name}, namespace: shop, creationTimestamp: '{created}'}}
spec: {{targetRefs: [{{{WEB}}}], {spec}}}
"
    )
}

#[test]
fn a_policy_says_how_many_further_tries_there_may_be() {
    for (spec, expected, unmet) in [
        ("retryConstraint: {}", "tries 200000 at least 10", ""),
        ("retryConstraint: {budget: {percent: 5}, minRetryRate: {count: 3}}", "tries 50000 at least 3", ""),
        ("retryConstraint: {budget: {interval: 5s}}", "tries 200000 at least 10", "budget.interval: is not honoured"),
        (
            "retryConstraint: {}, sessionPersistence: {}",
            "tries 200000 at least 10",
            "spec.sessionPersistence: is honoured in",
        ),
        (
            "retryConstraint: {budget: {percent: 101}}",
            "",
            "!Accepted/Invalid: spec.retryConstraint.budget.percent: is not",
        ),
    ] {
        let index = shop(&tries("p", "2020-01-01T00:00:00Z", spec));
        let rules = show::rules(&index);
        let expected = if expected.is_empty() {
            String::new()
        } else {
            format!("  traffic * XBackendTrafficPolicy/shop/p {expected}")
        };
        assert_eq!(rules.get(1).cloned().unwrap_or_default(), expected, "{spec}");
        let told = show::unmet(&index);
        assert!(
            told.len() == usize::from(!unmet.is_empty()) && told.iter().all(|line| line.contains(unmet)),
            "{told:?}"
        );
    }
    let (old, new) = ("2020-01-01T00:00:00Z", "2021-01-01T00:00:00Z");
    let two = format!(
        "{}{}",
        tries("a", new, "retryConstraint: {}"),
        tries("b", old, "retryConstraint: {budget: {percent: 1}}")
    );
    let index = shop(&format!("{}{two}", one("group: '', kind: Service, name: web, sectionName: http", SYSTEM)));
    assert_eq!(
        show::rules(&index)[1..],
        [
            "  traffic * XBackendTrafficPolicy/shop/b tries 10000 at least 10",
            "  traffic 80 XBackendTrafficPolicy/shop/b tls web.example by system tries 10000 at least 10",
        ]
    );
    assert!(show::unmet(&index)[0].contains("XBackendTrafficPolicy/shop/a Service/shop/web: !Accepted/Conflicted"));
}
