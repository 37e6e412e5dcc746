use super::*;
use std::path::Path;

fn object(yaml: &str) -> Object {
    let (mut objects, problems) = chassis::objects::parse(Path::new("review"), yaml);
    assert!(problems.is_empty(), "{problems:?}");
    objects.pop().expect("an object")
}

fn of(header: &str, rest: &str) -> Object {
    let (api_version, kind) = header.split_once(' ').expect("version and kind");
    object(&format!("apiVersion: {api_version}\nkind: {kind}\nmetadata: {{name: x, namespace: shop}}\n{rest}"))
}

const POLICY: &str = "security.istio.io/v1 AuthorizationPolicy";
const ROUTE: &str = "gateway.networking.k8s.io/v1 HTTPRoute";

#[test]
fn what_cannot_work_is_refused_with_its_place() {
    for (header, rest, field) in [
        (
            POLICY,
            "spec: {rules: [{from: [{source: {ipBlocks: [10.0.0.0/99]}}]}]}",
            "spec.rules[0].from[0].source.ipBlocks[0]: ",
        ),
        (POLICY, "spec: {rulez: []}", "spec[\"rulez\"]: "),
        (POLICY, "spec: {action: PERHAPS}", "spec.action: "),
        (POLICY, "spec: {action: CUSTOM, provider: {name: x}, rules: [{}]}", "spec.action: CUSTOM"),
        (
            POLICY,
            "spec: {selector: {matchLabels: {a: b}}, targetRefs: [{kind: Service, group: '', name: web}]}",
            "spec.selector: ",
        ),
        ("security.istio.io/v1 PeerAuthentication", "spec: {mtls: {mode: SOMETIMES}}", "spec.mtls.mode: "),
        ("security.istio.io/v1 PeerAuthentication", "specc: {}", "specc: "),
        (
            "networking.istio.io/v1 VirtualService",
            "spec: {hosts: [web], http: [{match: [{uri: {regex: '('}}], route: [{destination: {host: web}}]}]}",
            "spec.http[0]",
        ),
        (
            "networking.istio.io/v1 ServiceEntry",
            "spec: {hosts: [a.example], addresses: [10.0.0.0/99], ports: [{number: 80, name: http}], resolution: STATIC}",
            "spec.addresses[0]: ",
        ),
        (
            ROUTE,
            "spec: {parentRefs: [{kind: Service, group: '', name: web}], rules: [{matches: [{path: {type: RegularExpression, value: '('}}]}]}",
            "spec.rules[0]",
        ),
    ] {
        let verdict = judge(&of(header, rest), None);
        assert!(verdict.refused.iter().any(|reason| reason.starts_with(field)), "{header} {rest}: {verdict:?}");
        assert!(!verdict.refused.iter().any(|reason| reason.contains("last good version")), "{verdict:?}");
    }
}

#[test]
fn what_works_is_let_through() {
    for (header, rest) in [
        (POLICY, "spec: {rules: [{from: [{source: {ipBlocks: [10.0.0.0/9]}}]}]}"),
        ("security.istio.io/v1 PeerAuthentication", "spec: {mtls: {mode: STRICT}}"),
        ("telemetry.istio.io/v1 Telemetry", "spec: {accessLogging: [{disabled: true}]}"),
        (
            ROUTE,
            "spec: {parentRefs: [{kind: Service, group: '', name: web}], rules: [{backendRefs: [{name: web, port: 80}]}]}",
        ),
    ] {
        assert_eq!(judge(&of(header, rest), None), Verdict::default(), "{header} {rest}");
    }
}

#[test]
fn what_works_otherwise_is_warned_of() {
    let verdict = judge(&of(POLICY, "spec: {rules: [{to: [{operation: {paths: [/a]}}]}]}"), None);
    assert_eq!(verdict.refused, Vec::<String>::new());
    assert!(verdict.warnings[0].contains("node proxies cannot decide paths"), "{verdict:?}");
}

#[test]
fn what_is_not_ours_is_not_judged() {
    for (header, rest) in [
        (
            ROUTE,
            "spec: {parentRefs: [{name: edge}], rules: [{matches: [{path: {type: RegularExpression, value: '('}}]}]}",
        ),
        ("networking.istio.io/v1 EnvoyFilter", "spec: {anything: true}"),
        ("example.com/v1 Thing", "spec: {}"),
        ("v1 ConfigMap", "data: {a: b}"),
    ] {
        assert_eq!(judge(&of(header, rest), None), Verdict::default(), "{header} {rest}");
    }
}

#[test]
fn what_was_stored_before_can_be_let_go() {
    let broken = of(POLICY, "spec: {rules: [{from: [{source: {ipBlocks: [x]}}]}]}");
    let same = judge(&broken, Some(&broken.value));
    assert!(same.refused.is_empty() && same.warnings[0].starts_with("spec.rules[0]"), "{same:?}");
    let other = of(POLICY, "spec: {rules: []}");
    assert!(!judge(&broken, Some(&other.value)).refused.is_empty(), "it became broken");
    let mut going = broken;
    going.value["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    assert!(judge(&going, Some(&other.value)).refused.is_empty());
}
