//! What a head says of itself.

use super::*;
use crate::route::asking::Asking;

#[test]
fn headers_of_one_name_are_one_and_the_host_is_the_authority() {
    let asking = Asking::of("GET /a?b=c host=shop.example:8080 x-one:1 x-two:a x-two:b host:evil.example");
    let head = asking.head();
    for (name, expected) in [
        ("x-one", Some("1")),
        ("X-One", Some("1")),
        ("x-two", Some("a,b")),
        ("x-three", None),
        ("host", Some("shop.example:8080")),
        (":authority", Some("shop.example:8080")),
        (":method", Some("GET")),
        (":path", Some("/a?b=c")),
        (":scheme", Some("http")),
        ("not a name", None),
    ] {
        assert_eq!(head.header(name).as_deref(), expected, "{name}");
    }
    assert_eq!((head.host(), head.named_port()), ("shop.example", Some(8080)));
}

#[test]
fn one_header_is_read_without_a_copy() {
    let asking = Asking::of("GET / x-one:1");
    assert!(matches!(asking.head().header("x-one"), Some(Cow::Borrowed("1"))));
}

#[test]
fn a_header_that_is_no_text_is_still_compared() {
    let mut headers = HeaderMap::new();
    headers.insert("x", http::HeaderValue::from_bytes(b"admin\xff").expect("an opaque value"));
    let asking = Asking::of("GET /");
    let head = Head { headers: &headers, ..asking.head() };
    assert_eq!(head.header("x").as_deref(), Some("admin\u{fffd}"));
}

#[test]
fn the_first_query_parameter_of_a_name_counts_decoded() {
    let asking = Asking::of("GET /?a=1&a=2&b&c=&d%20e=f+g%2F&x=%zz&=empty");
    for (name, expected) in [
        ("a", Some("1")),
        ("b", Some("")),
        ("c", Some("")),
        ("d e", Some("f g/")),
        ("x", Some("%zz")),
        ("", Some("empty")),
        ("z", None),
    ] {
        assert_eq!(asking.head().query_parameter(name).as_deref(), expected, "{name}");
    }
    assert_eq!(Asking::of("GET /").head().query_parameter("a"), None);
}

#[test]
fn a_cookie_is_found_among_others_and_in_several_headers() {
    let asking = Asking::of("GET / cookie:a=1;_b=\"2\" cookie:c=3;a=4;d");
    for (name, expected) in [("a", Some("1")), ("b", Some("2")), ("c", Some("3")), ("d", None)] {
        assert_eq!(asking.head().cookie(name), expected, "{name}");
    }
}

#[test]
fn a_claim_has_its_text_or_those_of_its_list() {
    let claims = r#"{"iss":"me","n":7,"groups":["a b","c",1],"scope":"read write","deep":{"er":"x","scope":"p q"}}"#;
    let asking = Asking::of("GET /").claims(claims);
    for (path, wanted, expected) in [
        (&["iss"][..], "me", true),
        (&["iss"], "m", false),
        (&["n"], "7", false),
        (&["groups"], "a b", true),
        (&["groups"], "a", false),
        (&["groups"], "1", false),
        (&["scope"], "write", true),
        (&["scope"], "read write", false),
        (&["deep", "er"], "x", true),
        (&["deep", "scope"], "p q", true),
        (&["deep"], "x", false),
        (&["gone", "er"], "x", false),
        (&[], "me", false),
    ] {
        assert_eq!(asking.head().claim_is(path, |text| text == wanted), expected, "{path:?} {wanted}");
    }
}

#[test]
fn a_port_is_what_stands_after_the_last_colon_outside_brackets() {
    for (authority, expected) in [
        ("a", ("a", None)),
        ("a:80", ("a", Some("80"))),
        ("[::1]", ("[::1]", None)),
        ("[::1]:80", ("[::1]", Some("80"))),
        ("", ("", None)),
    ] {
        assert_eq!(split_port(authority), expected);
    }
}
