use super::*;
use crate::{authn::PodRef, facts::PodRecord};

/// Pods as `namespace/name uid account node`, one a line.
struct Pods(&'static str);

impl PodLookup for Pods {
    fn pod(&self, namespace: &str, name: &str) -> Option<PodRecord> {
        let wanted = format!("{namespace}/{name}");
        let words = self.0.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        words.into_iter().find(|words| words.first() == Some(&&*wanted)).map(|words| PodRecord {
            uid: words[1].into(),
            service_account: words[2].into(),
            node: words.get(3).copied().unwrap_or_default().into(),
        })
    }

    fn runs_on(&self, node: &str, namespace: &str, service_account: &str) -> bool {
        self.0.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).any(|words| match words[..] {
            [name, _, account, on] => {
                name.starts_with(&format!("{namespace}/")) && account == service_account && on == node
            }
            _ => false,
        })
    }
}

const WORLD: Pods = Pods(
    "istio-system/z1 u1 ztunnel n1
     istio-system/z2 u2 ztunnel n2
     istio-system/z3 u3 ztunnel
     istio-system/d1 u4 istiod n1
     shop/web u5 web n1
     shop/client u6 client n2
     shop/z1 u7 ztunnel n1",
);

fn caller(namespace: &str, account: &str, pod: Option<(&str, &str)>) -> Caller {
    Caller {
        identity: Identity::new("mesh", namespace, account).unwrap(),
        pod: pod.map(|(name, uid)| PodRef { name: name.into(), uid: uid.into() }),
    }
}

/// `allow <identity>` or `deny <reason>`.
fn check(caller: &Caller, requested: Option<&str>, want: &str) {
    let got = match decide(&Policy::default(), caller, requested, &WORLD) {
        Ok(identity) => format!("allow {}", identity.principal()),
        Err(Denied::NotTrusted(_)) => "deny: not trusted".into(),
        Err(Denied::NoIdentity(_)) => "deny: no identity".into(),
        Err(Denied::TrustDomain { .. }) => "deny: trust domain".into(),
        Err(Denied::Unbound(_)) => "deny: unbound".into(),
        Err(Denied::PodGone(_)) => "deny: pod gone".into(),
        Err(Denied::NoNode(_)) => "deny: no node".into(),
        Err(Denied::NotOnNode { .. }) => "deny: not on node".into(),
    };
    assert_eq!(got, want, "{caller:?} asks for {requested:?}");
}

#[test]
fn whoever_asks_for_nobody_gets_its_own() {
    check(&caller("shop", "web", Some(("web", "u5"))), None, "allow mesh/ns/shop/sa/web");
    check(&caller("shop", "web", None), None, "allow mesh/ns/shop/sa/web");
    check(&caller("istio-system", "ztunnel", None), None, "allow mesh/ns/istio-system/sa/ztunnel");
}

#[test]
fn only_a_node_proxy_gets_others_and_only_those_of_its_node() {
    let z1 = caller("istio-system", "ztunnel", Some(("z1", "u1")));
    let z2 = caller("istio-system", "ztunnel", Some(("z2", "u2")));
    let (web, client) = (Some("spiffe://mesh/ns/shop/sa/web"), Some("spiffe://mesh/ns/shop/sa/client"));
    check(&z1, web, "allow mesh/ns/shop/sa/web");
    check(&z1, client, "deny: not on node");
    check(&z2, client, "allow mesh/ns/shop/sa/client");
    check(&z2, web, "deny: not on node");
    check(&z1, Some("spiffe://mesh/ns/shop/sa/ghost"), "deny: not on node");
    check(&z1, Some("spiffe://mesh/ns/istio-system/sa/ztunnel"), "allow mesh/ns/istio-system/sa/ztunnel");
    for (namespace, account, pod) in [
        ("shop", "web", Some(("web", "u5"))),
        // The right account in another namespace, another account in the right one.
        ("shop", "ztunnel", Some(("z1", "u7"))),
        ("istio-system", "istiod", Some(("d1", "u4"))),
        ("istio-system", "ztunnel2", Some(("z1", "u1"))),
    ] {
        check(&caller(namespace, account, pod), web, "deny: not trusted");
    }
    // Not even its own, when it asks as one that asks for others.
    check(&caller("shop", "web", Some(("web", "u5"))), web, "deny: not trusted");
}

#[test]
fn the_node_is_that_of_the_pod_that_the_token_names() {
    let ask = Some("spiffe://mesh/ns/shop/sa/web");
    let ztunnel = |pod| caller("istio-system", "ztunnel", pod);
    check(&ztunnel(None), ask, "deny: unbound");
    check(&ztunnel(Some(("z1", "u2"))), ask, "deny: pod gone");
    check(&ztunnel(Some(("z1", ""))), ask, "deny: pod gone");
    check(&ztunnel(Some(("z9", "u1"))), ask, "deny: pod gone");
    check(&ztunnel(Some(("d1", "u4"))), ask, "deny: pod gone");
    check(&ztunnel(Some(("z3", "u3"))), ask, "deny: no node");
}

#[test]
fn what_is_no_identity_of_this_mesh_is_denied() {
    let z1 = caller("istio-system", "ztunnel", Some(("z1", "u1")));
    for text in [
        "",
        "web",
        "mesh/ns/shop/sa/web",
        "spiffe://mesh/ns/shop/sa/web/",
        "spiffe://mesh/ns/shop/sa/web/x",
        "spiffe://mesh/ns/shop/sa/",
        "spiffe://mesh/ns/shop/sa/web\0",
        "spiffe://mesh/ns/shop/sa/web ",
        "spiffe://mesh/ns/../sa/web",
        "spiffe://mesh//ns/shop/sa/web",
        "SPIFFE://mesh/ns/shop/sa/web",
    ] {
        check(&z1, Some(text), "deny: no identity");
    }
    check(&z1, Some("spiffe://evil/ns/shop/sa/web"), "deny: trust domain");
    check(&z1, Some("spiffe://Mesh/ns/shop/sa/web"), "deny: trust domain");
    check(&z1, Some("spiffe://mesh/ns/Shop/sa/web"), "deny: not on node");
}

#[test]
fn a_policy_that_trusts_nobody_lets_everybody_have_only_its_own() {
    let nobody = Policy { trusted_node_accounts: Vec::new() };
    let z1 = caller("istio-system", "ztunnel", Some(("z1", "u1")));
    let denied = decide(&nobody, &z1, Some("spiffe://mesh/ns/shop/sa/web"), &WORLD);
    assert!(matches!(denied, Err(Denied::NotTrusted(_))));
    assert_eq!(decide(&nobody, &z1, None, &WORLD), Ok(z1.identity));
}
