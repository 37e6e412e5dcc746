//! The reference itself, on cases that can be read off.

use super::*;
use crate::reference::Dice;

fn asked(authority: &str, method: &str, path: &str) -> Request {
    let address: IpAddr = "10.0.0.1".parse().expect("an address");
    let http = Http {
        authority: authority.into(),
        method: method.into(),
        path: path.into(),
        headers: BTreeMap::from([("x-user".into(), "ann".into())]),
        remote: address,
        claims: BTreeMap::from([("[iss]".into(), vec!["i".into()]), ("[groups]".into(), vec!["a".into(), "b".into()])]),
    };
    Request { caller: None, source: address, destination: address, port: 80, server_name: None, http: Some(http) }
}

#[test]
fn each_way_to_match_matches() {
    for (field, value, expected) in [
        ("hosts", "shop.example", true),
        ("hosts", "SHOP.*", true),
        ("hosts", "shop.example:81", true),
        ("hosts", "shop.example:80", false),
        ("notHosts", "shop.example", false),
        ("methods", "GET", true),
        ("methods", "get", false),
        ("paths", "/a/b", true),
        ("paths", "/a*", true),
        ("paths", "/{*}/b", true),
        ("paths", "/{**}", true),
        ("paths", "/a/b/{**}", false),
        ("paths", "/a/{**}/b", false),
        ("notPaths", "/a/{*}", false),
        ("remoteIpBlocks", "10.0.0.0/8", true),
        ("requestPrincipals", "*", false),
        ("notRequestPrincipals", "*", true),
    ] {
        let entry = Fields::from([(field, vec![value.to_owned()])]);
        let rule = Rule { to: vec![entry], ..Rule::default() };
        let policy = Policy { action: "ALLOW", rules: vec![rule], ..Policy::default() };
        assert_eq!(answer(&[policy], &asked("Shop.example:81", "GET", "/a/b")).allowed, expected, "{field} {value}");
    }
    for (key, value, expected) in [
        ("request.headers[X-User]", "ann", true),
        ("request.headers[x-none]", "*", false),
        ("request.auth.claims[groups]", "b", true),
        ("request.auth.claims[groups]", "a,b", false),
        ("request.auth.claims[iss]", "i", true),
    ] {
        let condition = Condition { key, values: vec![value.into()], not_values: Vec::new() };
        let rule = Rule { when: vec![condition], ..Rule::default() };
        let policy = Policy { action: "ALLOW", rules: vec![rule], ..Policy::default() };
        assert_eq!(answer(&[policy], &asked("x", "GET", "/")).allowed, expected, "{key} {value}");
    }
}

#[test]
fn the_same_seed_makes_the_same_policies_and_requests() {
    let made = |seed| {
        let mut dice = Dice::seeded(seed);
        format!("{:?} {:?}", Market.policy(&mut dice, "p"), Market.request(&mut dice))
    };
    assert_eq!(made(7), made(7));
    assert_ne!(made(7), made(8));
}
