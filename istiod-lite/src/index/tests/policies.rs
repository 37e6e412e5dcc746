//! What policies become, and whom they are for.

use super::{facts, index, tell};
use crate::{
    facts::{Fact, PolicyAction, PolicyCondition},
    files,
    index::{Index, Mesh},
};
use mesh::{
    View,
    authz::{self, Attributes},
    policy::PolicyScope,
};
use std::path::Path;

const PODS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
status: {podIP: 10.0.0.1}
---
apiVersion: v1
kind: Pod
metadata: {name: db, namespace: shop, labels: {app: db}}
status: {podIP: 10.0.0.2}
---
apiVersion: v1
kind: Pod
metadata: {name: far, namespace: else, labels: {app: web}}
status: {podIP: 10.0.0.3}
";

fn authorization(namespace: &str, name: &str, spec: &str) -> String {
    let head = "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n";
    format!("{head}metadata: {{name: {name}, namespace: {namespace}}}\nspec: {{{spec}}}\n")
}

fn peer(namespace: &str, name: &str, spec: &str) -> String {
    authorization(namespace, name, spec).replace("AuthorizationPolicy", "PeerAuthentication")
}

fn named(view: &View, pod: &str) -> String {
    view.workload(&format!("Kubernetes//Pod/{pod}")).expect("the pod").authorization_policies.join(" ")
}

/// Whether `web`, `db` and `far` may be called on a port, by a mesh identity and by nobody.
fn open(view: &View, port: u16) -> String {
    let caller: mesh::Identity = "spiffe://cluster.local/ns/shop/sa/client".parse().expect("an identity");
    let mut shown = Vec::new();
    for pod in ["shop/web", "shop/db", "else/far"] {
        let destination = view.workload(&format!("Kubernetes//Pod/{pod}")).expect("the pod");
        for source in [Some(&caller), None] {
            let attributes = Attributes {
                source,
                source_ip: "10.0.0.9".parse().expect("an address"),
                destination_ip: destination.addresses[0],
                destination_port: port,
                server_name: None,
                request: None,
            };
            let verdict = authz::decide(view, destination, &attributes);
            assert!(verdict.missing.is_empty(), "{:?}", verdict.missing);
            shown.push(if verdict.allowed { "+" } else { "-" });
        }
    }
    shown.concat()
}

#[test]
fn scope_follows_namespace_and_selector() {
    for (namespace, selector, scope, web, far) in [
        ("shop", "", PolicyScope::Namespace, "", ""),
        ("istio-system", "", PolicyScope::Global, "", ""),
        ("shop", "selector: {matchLabels: {app: web}}", PolicyScope::WorkloadSelector, "shop/p", ""),
        ("shop", "selector: {matchLabels: {}}", PolicyScope::Namespace, "", ""),
        (
            "istio-system",
            "selector: {matchLabels: {app: web}}",
            PolicyScope::WorkloadSelector,
            "istio-system/p",
            "istio-system/p",
        ),
        ("shop", "selector: {matchLabels: {app: web, x: y}}", PolicyScope::WorkloadSelector, "", ""),
    ] {
        let (_, view) = index(&format!("{PODS}{}", authorization(namespace, "p", selector)));
        let policy = view.policies().next().expect("the policy");
        assert_eq!(policy.scope, scope, "{namespace} {selector}");
        assert_eq!((&*named(&view, "shop/web"), &*named(&view, "else/far")), (web, far), "{namespace} {selector}");
        assert_eq!(named(&view, "shop/db"), "");
    }
}

#[test]
fn what_node_proxies_cannot_decide_makes_a_policy_stricter() {
    let less = |name: &str| PolicyCondition::AllowsLess { attributes: [name.into()].into() };
    let more = |name: &str| PolicyCondition::DeniesMore { attributes: [name.into()].into() };
    let ports = "ports: ['80']";
    // Open on port 80 to (an identity, nobody), then on port 81.
    for (spec, condition, on_80, on_81) in [
        (format!("action: ALLOW, rules: [{{to: [{{operation: {{{ports}}}}}]}}]"), PolicyCondition::Accepted, "++", "--"),
        (format!("action: ALLOW, rules: [{{to: [{{operation: {{{ports}, paths: [/a]}}}}]}}]"), less("paths"), "--", "--"),
        (
            format!("action: ALLOW, rules: [{{to: [{{operation: {{paths: [/a]}}}}]}}, {{to: [{{operation: {{{ports}}}}}]}}]"),
            less("paths"),
            "++",
            "--",
        ),
        (format!("action: DENY, rules: [{{to: [{{operation: {{{ports}, paths: [/a]}}}}]}}]"), more("paths"), "--", "++"),
        ("action: DENY, rules: [{to: [{operation: {paths: [/a]}}]}]".into(), more("paths"), "--", "--"),
        (
            format!("action: DENY, rules: [{{to: [{{operation: {{{ports}}}}}, {{operation: {{methods: [GET]}}}}]}}]"),
            more("methods"),
            "--",
            "--",
        ),
        (
            format!("action: DENY, rules: [{{to: [{{operation: {{{ports}}}}}], from: [{{source: {{requestPrincipals: ['*']}}}}]}}]"),
            more("requestPrincipals"),
            "--",
            "++",
        ),
        (
            "action: DENY, rules: [{from: [{source: {notPrincipals: ['*']}}], when: [{key: 'request.auth.claims[a]', values: [b]}]}]".into(),
            more("request.auth.claims[a]"),
            "+-",
            "+-",
        ),
        ("action: DENY, rules: [{form: [{source: {principals: [x]}}]}]".into(), more("form"), "--", "--"),
        ("action: ALLOW, rules: [{form: [{source: {principals: [x]}}]}]".into(), less("form"), "--", "--"),
        ("action: AUDIT, rules: [{}]".into(), PolicyCondition::ActionNotServed(PolicyAction::Audit), "++", "++"),
        (
            "action: CUSTOM, provider: {name: x}, rules: [{}]".into(),
            PolicyCondition::ActionNotServed(PolicyAction::Custom),
            "++",
            "++",
        ),
        (
            "action: DENY, rules: [{}], targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: wp}]".into(),
            PolicyCondition::ForWaypoint,
            "++",
            "++",
        ),
    ] {
        let (index, view) = index(&format!("{PODS}{}", authorization("shop", "p", &spec)));
        let told: Vec<_> = index.conditions().flat_map(|(_, all)| all.iter().map(|one| (&*one.kind, one.status))).collect();
        match condition {
            // There is no such waypoint.
            PolicyCondition::ForWaypoint => assert_eq!(told, [("WaypointAccepted", false)], "{spec}"),
            _ => assert_eq!(told, [("ZtunnelAccepted", condition == PolicyCondition::Accepted)], "{spec}"),
        }
        let conditions: Vec<_> = index.policy_conditions().map(|(meta, condition)| (&*meta.name, condition)).collect();
        assert_eq!(conditions, [("p", condition)], "{spec}");
        assert_eq!((&open(&view, 80)[..2], &open(&view, 81)[..2]), (on_80, on_81), "{spec}");
    }
}

#[test]
fn dry_run_is_kept() {
    let text = authorization("shop", "p", "action: DENY, rules: [{}]")
        .replace("namespace: shop", "namespace: shop, annotations: {istio.io/dry-run: 'true'}");
    let (_, view) = index(&format!("{PODS}{text}"));
    assert!(view.policies().all(|policy| policy.dry_run));
    assert_eq!(open(&view, 80), "++++++");
}

#[test]
fn the_last_good_version_of_a_policy_stays_and_without_one_it_closes() {
    let read = |spec: &str| {
        let (objects, _) = chassis::objects::parse(Path::new("p.yaml"), &authorization("shop", "p", spec));
        files::read(&objects[0]).fact.expect("a fact")
    };
    let good = read("rules: [{to: [{operation: {ports: ['80']}}]}]");
    let bad = read("rules: [{from: [{source: {ipBlocks: [10.0.0.0/99]}}]}]");
    let worse = read("action: NEVER");

    let (mut index, view) = index(PODS);
    let view = tell(&mut index, &view, [bad.clone()]);
    assert_eq!(open(&view, 80), "----++");
    let view = tell(&mut index, &view, [worse, good.clone()]);
    assert_eq!((&*open(&view, 80), &*open(&view, 81)), ("++++++", "----++"));
    let view = tell(&mut index, &view, [bad.clone(), bad.clone()]);
    assert_eq!(open(&view, 80), "++++++");
    let view = tell(&mut index, &view, [Fact::Removed(good.key()), bad]);
    assert_eq!(open(&view, 80), "----++");
}

#[test]
fn peer_authentication_narrows_from_mesh_to_namespace_to_workload() {
    let mesh = |mode: &str| peer("istio-system", "mesh", &format!("mtls: {{mode: {mode}}}"));
    let shop = |mode: &str| peer("shop", "ns", &format!("mtls: {{mode: {mode}}}"));
    let web = |spec: &str| peer("shop", "web", &format!("selector: {{matchLabels: {{app: web}}}}, {spec}"));
    // (web, db, far) on port 80, then on 81; of each: an identity, nobody.
    for (policies, on_80, on_81) in [
        (String::new(), "++++++", "++++++"),
        (mesh("STRICT"), "+-+-+-", "+-+-+-"),
        (mesh("PERMISSIVE"), "++++++", "++++++"),
        (shop("STRICT"), "+-+-++", "+-+-++"),
        (mesh("STRICT") + &shop("PERMISSIVE"), "+++++-", "+++++-"),
        (mesh("STRICT") + &shop("DISABLE"), "+++++-", "+++++-"),
        (mesh("STRICT") + &shop("UNSET"), "+-+-+-", "+-+-+-"),
        (web("mtls: {mode: STRICT}"), "+-++++", "+-++++"),
        (shop("STRICT") + &web("mtls: {mode: PERMISSIVE}"), "+++-++", "+++-++"),
        (web("portLevelMtls: {80: {mode: STRICT}}"), "+-++++", "++++++"),
        (web("mtls: {mode: STRICT}, portLevelMtls: {80: {mode: PERMISSIVE}}"), "++++++", "+-++++"),
        (web("mtls: {mode: STRICT}, portLevelMtls: {80: {mode: DISABLE}, 81: {mode: DISABLE}}"), "++++++", "++++++"),
        (web("mtls: {mode: STRICT}, portLevelMtls: {80: {mode: UNSET}}"), "+-++++", "+-++++"),
        (mesh("STRICT") + &web("portLevelMtls: {80: {mode: PERMISSIVE}}"), "+++-+-", "+-+-+-"),
        (shop("PERMISSIVE") + &web("portLevelMtls: {80: {mode: PERMISSIVE}}"), "++++++", "++++++"),
    ] {
        let (_, view) = index(&format!("{PODS}{policies}"));
        assert_eq!((&*open(&view, 80), &*open(&view, 81)), (on_80, on_81), "{policies}");
        // And in the other order.
        let mut facts = facts(&format!("{PODS}{policies}"));
        facts.reverse();
        let mut index = Index::new(Mesh::default());
        let view = tell(&mut index, &View::default(), facts);
        assert_eq!((&*open(&view, 80), &*open(&view, 81)), (on_80, on_81), "reversed: {policies}");
    }
}

#[test]
fn generated_policies_have_their_known_names() {
    let strict = peer("istio-system", "mesh", "mtls: {mode: STRICT}");
    let port = peer("shop", "web", "selector: {matchLabels: {app: web}}, portLevelMtls: {80: {mode: PERMISSIVE}}");
    let (_, view) = index(&format!("{PODS}{strict}{port}"));
    let mut keys: Vec<_> = view.policies().map(|policy| policy.key()).collect();
    keys.sort();
    assert_eq!(keys, ["istio-system/istio_converted_static_strict", "shop/converted_peer_authentication_web"]);
    assert_eq!(named(&view, "shop/web"), "shop/converted_peer_authentication_web");
    assert_eq!(named(&view, "shop/db"), "istio-system/istio_converted_static_strict");
}

#[test]
fn the_oldest_peer_authentication_of_a_scope_counts() {
    let at = |text: String, year: u32| {
        text.replace("metadata: {", &format!("metadata: {{creationTimestamp: '{year}-01-01T00:00:00Z', "))
    };
    let old = at(peer("shop", "z", "mtls: {mode: PERMISSIVE}"), 2020);
    let new = at(peer("shop", "a", "mtls: {mode: STRICT}"), 2021);
    let (mut index, view) = index(&format!("{PODS}{new}{old}"));
    assert_eq!(open(&view, 80), "++++++");
    let view = tell(&mut index, &view, facts(&old).into_iter().map(|fact| Fact::Removed(fact.key())));
    assert_eq!(open(&view, 80), "+-+-++");
}
