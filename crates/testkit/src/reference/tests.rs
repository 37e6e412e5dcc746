//! The reference itself, on cases that can be read off.

use super::*;

fn fields(name: &'static str, values: &[&str]) -> Fields {
    Fields::from([(name, values.iter().map(ToString::to_string).collect())])
}

fn check(action: &'static str, rule: Rule, caller: Option<&str>, expected: bool) {
    let policy = Policy { namespace: "shop".into(), name: "p".into(), action, rules: vec![rule], ..Policy::default() };
    let cast = Cast::default();
    let caller = caller.map(|account| ["cluster.local".into(), "shop".into(), account.into()]);
    let call = Call { caller, address: "10.0.1.7".parse().expect("an address"), port: 80 };
    let found = allowed(std::slice::from_ref(&policy), &cast.root_namespace, &cast.pods[0], &call);
    assert_eq!(found, expected, "{} {call:?}", policy.manifest());
}

#[test]
fn each_way_to_match_matches() {
    let from = |name, value: &str| Rule { from: vec![fields(name, &[value])], ..Rule::default() };
    check("ALLOW", from("principals", "cluster.local/ns/shop/sa/web"), Some("web"), true);
    check("ALLOW", from("principals", "cluster.local/ns/shop/sa/web"), Some("web2"), false);
    check("ALLOW", from("principals", "*"), None, false);
    check("DENY", from("notPrincipals", "*"), None, false);
    check("DENY", from("notPrincipals", "*"), Some("web"), true);
    check("ALLOW", from("serviceAccounts", "web"), Some("web"), true);
    check("ALLOW", from("serviceAccounts", "pay/web"), Some("web"), false);
    check("ALLOW", from("ipBlocks", "10.0.1.0/24"), None, true);
    check("ALLOW", from("ipBlocks", "10.0.2.0/23"), None, false);
    check("ALLOW", from("namespaces", "sh*"), Some("web"), true);
    check("ALLOW", Rule { to: vec![fields("ports", &["80"])], ..Rule::default() }, None, true);
    check("ALLOW", Rule { to: vec![fields("paths", &["/a"])], ..Rule::default() }, None, false);
    check("DENY", Rule { to: vec![fields("paths", &["/a"])], ..Rule::default() }, None, false);
    check("DENY", Rule::default(), None, false);
    check("AUDIT", Rule::default(), None, true);
}

#[test]
fn the_same_seed_makes_the_same_policies() {
    let manifest = |seed| Cast::default().policy(&mut Dice::seeded(seed), "p").manifest();
    assert_eq!(manifest(7), manifest(7));
    assert_ne!(manifest(7), manifest(8));
}
