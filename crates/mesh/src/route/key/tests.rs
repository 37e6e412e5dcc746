//! What requests are told apart by.

use super::*;
use crate::route::{asking::Asking, limit::LimitScope};
use std::time::Duration;

fn limit(keys: Vec<LimitKey>) -> RateLimit {
    let per = Duration::from_secs(1);
    RateLimit { name: "l".into(), matches: Vec::new(), keys, requests: 1, per, burst: 1, scope: LimitScope::Replica }
}

#[test]
fn a_request_is_counted_under_what_it_has() {
    let asking = Asking::of("POST /a?b host=shop.example:81 from=td/ns/shop/sa/web ip=::ffff:10.0.0.9 x-user:ann")
        .claims(r#"{"org":{"id":7,"name":"acme"}}"#);
    let nobody = Asking::of("GET /");
    let claim = |path: &[&str]| LimitKey::Claim(path.iter().map(|name| (*name).into()).collect());
    for (keys, expected, nobodys) in [
        (vec![], "", ""),
        (vec![LimitKey::Header("x-user".into())], "ann", ""),
        (vec![LimitKey::Path], "/a", "/"),
        (vec![LimitKey::Method, LimitKey::Path], "POST\u{1f}/a", "GET\u{1f}/"),
        (vec![LimitKey::Host], "shop.example", "shop.example"),
        (vec![LimitKey::CallerIdentity], "spiffe://td/ns/shop/sa/web", ""),
        (vec![LimitKey::CallerNamespace], "shop", ""),
        (vec![LimitKey::CallerAddress], "10.0.0.9", "10.0.0.1"),
        (vec![claim(&["org", "name"])], "acme", ""),
        (vec![claim(&["org", "id"])], "7", ""),
        (vec![LimitKey::Header("x-none".into()), LimitKey::Method], "\u{1f}POST", "\u{1f}GET"),
    ] {
        assert_eq!(limit(keys.clone()).key(&asking.head()), expected, "{keys:?}");
        assert_eq!(limit(keys.clone()).key(&nobody.head()), nobodys, "{keys:?}");
    }
}

#[test]
fn nobody_can_pretend_to_be_two_parts() {
    let keys = vec![LimitKey::Header("a".into()), LimitKey::Header("b".into())];
    let text = r#"{"x":"1\u001f2"}"#;
    let asking = Asking::of("GET /").claims(text);
    let claimed = limit(vec![LimitKey::Claim(vec!["x".into()]), LimitKey::Header("b".into())]).key(&asking.head());
    assert_eq!(claimed, "12\u{1f}");
    let one = limit(keys.clone()).key(&Asking::of("GET / a:1 b:2").head());
    assert_ne!(one, limit(keys).key(&Asking::of("GET / a:12").head()));
}

#[test]
fn a_request_is_placed_by_what_it_has() {
    let cookie = |ttl| HashKey::Cookie { name: "c".into(), path: None, ttl };
    let asking = Asking::of("GET /?q=5 x:1 cookie:c=2 ip=::ffff:10.0.0.9");
    for (key, expected) in [
        (HashKey::Header("x".into()), Some("1")),
        (HashKey::Header("y".into()), None),
        (cookie(None), Some("2")),
        (HashKey::SourceIp, Some("10.0.0.9")),
        (HashKey::Query("q".into()), Some("5")),
        (HashKey::Query("r".into()), None),
    ] {
        assert_eq!(key.of(&asking.head()), expected.map(hash::of), "{key:?}");
    }
}

#[test]
fn a_cookie_is_made_where_it_has_a_life() {
    let cookie = |path: Option<&str>, ttl| HashKey::Cookie { name: "c".into(), path: path.map(Into::into), ttl };
    for (key, expected) in [
        (HashKey::SourceIp, None),
        (cookie(None, None), None),
        (cookie(None, Some(Duration::ZERO)), Some("c=v; Path=/; HttpOnly")),
        (cookie(Some("/a"), Some(Duration::from_secs(9))), Some("c=v; Path=/a; Max-Age=9; HttpOnly")),
    ] {
        assert_eq!(key.cookie_made("v").as_deref(), expected, "{key:?}");
    }
}
