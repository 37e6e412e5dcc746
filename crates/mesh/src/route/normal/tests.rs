//! One form for all spellings, and no form for what has none.

use super::*;
use proptest::prelude::*;

const ALL: [PathNormalization; 4] = [
    PathNormalization::None,
    PathNormalization::Base,
    PathNormalization::MergeSlashes,
    PathNormalization::DecodeAndMergeSlashes,
];

#[test]
fn a_path_has_one_spelling() {
    // Path, then as BASE, MERGE_SLASHES and DECODE_AND_MERGE_SLASHES leave it.
    for (raw, base, merge, decode) in [
        ("", "/", "/", "/"),
        ("/", "/", "/", "/"),
        ("/a/b", "/a/b", "/a/b", "/a/b"),
        ("/a%2db%7E%41", "/a-b~A", "/a-b~A", "/a-b~A"),
        ("/%c3%a4%20", "/%C3%A4%20", "/%C3%A4%20", "/%C3%A4%20"),
        ("/a/./b", "/a/b", "/a/b", "/a/b"),
        ("/a/../b", "/b", "/b", "/b"),
        ("/a/%2e%2E/b", "/b", "/b", "/b"),
        ("/a/.%2e/b", "/b", "/b", "/b"),
        ("/../../a", "/a", "/a", "/a"),
        ("/a/..", "/", "/", "/"),
        ("/a/.", "/a/", "/a/", "/a/"),
        ("/a/b/..", "/a/", "/a/", "/a/"),
        ("/a/...", "/a/...", "/a/...", "/a/..."),
        ("/.a/..b", "/.a/..b", "/.a/..b", "/.a/..b"),
        ("//a", "//a", "/a", "/a"),
        ("/a//../b", "/a/b", "/a/b", "/a/b"),
        ("/a\\b", "/a/b", "/a/b", "/a/b"),
        ("/a\\..\\b", "/b", "/b", "/b"),
        ("/a/\\/b", "/a///b", "/a/b", "/a/b"),
        ("/a%2fb", "/a%2Fb", "/a%2Fb", "/a/b"),
        ("/a%5cb", "/a%5Cb", "/a%5Cb", "/a/b"),
        ("/a%252e", "/a%252e", "/a%252e", "/a%252e"),
        ("/a;v=1/b;/..x;y", "/a;v=1/b;/..x;y", "/a;v=1/b;/..x;y", "/a;v=1/b;/..x;y"),
    ] {
        for (how, expected) in ALL[1..].iter().zip([base, merge, decode]) {
            assert_eq!(path(raw, *how).as_deref(), Ok(expected), "{raw} by {how:?}");
        }
    }
    assert_eq!(path("/a/%2e%2e//b", PathNormalization::None).as_deref(), Ok("/a/%2e%2e//b"));
}

#[test]
fn dots_that_only_some_readers_see_are_refused() {
    for raw in ["/a%2F..%2fb", "/a/..%2fb", "/a%5c..", "/a/..;/b", "/a/.;x=1/b", "/%2e%2e%2fb", "/a%2F.;b"] {
        for how in [PathNormalization::Base, PathNormalization::MergeSlashes] {
            assert_eq!(path(raw, how), Err(BadTarget::HiddenDots), "{raw} by {how:?}");
        }
    }
    // Where encoded slashes are decoded, the dots between them are followed.
    assert_eq!(path("/a%2F..%2fb", PathNormalization::DecodeAndMergeSlashes).as_deref(), Ok("/b"));
}

#[test]
fn a_plain_path_is_not_copied() {
    assert!(matches!(path("/a/b-c.d", PathNormalization::default()), Ok(Cow::Borrowed(_))));
}

#[test]
fn a_target_is_a_path_a_url_or_the_whole_server() {
    let find = |method, text| target(method, text, PathNormalization::default());
    let of = |scheme, authority: Option<&'static str>, path: &'static str, query| Target {
        scheme,
        authority: authority.map(Into::into),
        path: path.into(),
        query,
    };
    for (method, text, expected) in [
        ("GET", "/a?b=c?d", Ok(of(None, None, "/a", Some("b=c?d")))),
        ("GET", "/a?../%zz//", Ok(of(None, None, "/a", Some("../%zz//")))),
        ("GET", "?b", Ok(of(None, None, "/", Some("b")))),
        ("GET", "", Ok(of(None, None, "/", None))),
        ("OPTIONS", "*", Ok(of(None, None, "*", None))),
        ("GET", "*", Err(BadTarget::Form)),
        ("GET", "HTTP://Shop.Example:80/a/../b?c", Ok(of(Some("http"), Some("shop.example:80"), "/b", Some("c")))),
        ("GET", "https://shop.example", Ok(of(Some("https"), Some("shop.example"), "/", None))),
        ("GET", "http://shop.example?x", Ok(of(Some("http"), Some("shop.example"), "/", Some("x")))),
        ("GET", "http://shop.example\\a", Ok(of(Some("http"), Some("shop.example"), "/a", None))),
        ("GET", "http://me@shop.example/", Err(BadTarget::User)),
        ("GET", "http:///a", Err(BadTarget::Host)),
        ("GET", "ftp://shop.example/", Err(BadTarget::Form)),
        ("GET", "a/b", Err(BadTarget::Form)),
        ("GET", "shop.example:443", Err(BadTarget::Form)),
        ("GET", "/a#b", Err(BadTarget::Fragment)),
        ("GET", "/a?b#c", Err(BadTarget::Fragment)),
        ("GET", "/a\0", Err(BadTarget::Byte(0))),
        ("GET", "/a b", Err(BadTarget::Byte(b' '))),
        ("GET", "/a?\r\nx: y", Err(BadTarget::Byte(b'\r'))),
        ("GET", "/ä", Err(BadTarget::Byte(0xc3))),
        ("GET", "/a\x7f", Err(BadTarget::Byte(0x7f))),
        ("GET", "/a%00", Err(BadTarget::Nul)),
        ("GET", "/a%2", Err(BadTarget::Escape)),
        ("GET", "/a%g0", Err(BadTarget::Escape)),
        ("GET", "/a%", Err(BadTarget::Escape)),
        ("GET", "/a%+1", Err(BadTarget::Escape)),
    ] {
        assert_eq!(find(method, text), expected, "{method} {text:?}");
    }
}

#[test]
fn a_host_has_one_spelling() {
    for (text, expected) in [
        ("shop.example", Ok("shop.example")),
        ("Shop.EXAMPLE", Ok("shop.example")),
        ("shop.example.", Ok("shop.example")),
        ("shop.example.:8080", Ok("shop.example:8080")),
        ("shop:8080", Ok("shop:8080")),
        ("10.0.0.1:80", Ok("10.0.0.1:80")),
        ("[FD00::1]:80", Ok("[fd00::1]:80")),
        ("a_b~c", Ok("a_b~c")),
        ("", Err(BadTarget::Host)),
        (".", Err(BadTarget::Host)),
        ("a..b", Err(BadTarget::Host)),
        ("a:", Err(BadTarget::Host)),
        ("a:080", Err(BadTarget::Host)),
        ("a:+80", Err(BadTarget::Host)),
        ("a:0", Err(BadTarget::Host)),
        ("a:65536", Err(BadTarget::Host)),
        ("a:80:80", Err(BadTarget::Host)),
        ("::1", Err(BadTarget::Host)),
        ("[::1", Err(BadTarget::Host)),
        ("[::1].", Err(BadTarget::Host)),
        ("[10.0.0.1]", Err(BadTarget::Host)),
        ("a/b", Err(BadTarget::Host)),
        ("a b", Err(BadTarget::Host)),
        ("a,b", Err(BadTarget::Host)),
        ("*.a", Err(BadTarget::Host)),
        ("ä.example", Err(BadTarget::Host)),
        ("me@a", Err(BadTarget::User)),
    ] {
        assert_eq!(authority(text).as_deref(), expected.as_ref().map(|text| &**text), "{text:?}");
    }
}

/// Paths of what normalisation is about.
fn raw_path() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => Just("/"), 2 => Just("."), 1 => Just(".."), 1 => Just("\\"), 2 => Just("a"), 1 => Just(";b"),
        1 => Just("%2e"), 1 => Just("%2E"), 1 => Just("%2f"), 1 => Just("%5C"), 1 => Just("%41"), 1 => Just("%25"),
        1 => Just("%7e"), 1 => Just("%c3%a4"), 1 => Just("2e"), 1 => Just("%"),
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| format!("/{}", pieces.concat()))
}

/// Anything, mostly of the signs that have a meaning.
fn any_text() -> impl Strategy<Value = String> {
    let signs: Vec<char> = "/:%?#@[].\\*-2eF0aZhtps\0é €".chars().collect();
    let character = prop_oneof![8 => prop::sample::select(signs), 1 => any::<char>()];
    prop::collection::vec(character, 0..40).prop_map(|text| text.into_iter().collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_normal_path_is_normal(raw in raw_path(), how in prop::sample::select(&ALL[1..])) {
        let Ok(once) = path(&raw, how) else { return Ok(()) };
        let once = once.into_owned();
        let twice = path(&once, how);
        prop_assert_eq!(twice.as_deref(), Ok(&*once), "{}", raw);
        prop_assert!(once.starts_with('/'));
        prop_assert!(!once.contains('\\'));
        let bad = |element: &str| matches!(element, "." | "..");
        prop_assert!(!once.split('/').any(bad), "{} became {}", raw, once);
        if how != PathNormalization::Base {
            prop_assert!(!once.contains("//"), "{} became {}", raw, once);
        }
        for (at, _) in once.match_indices('%') {
            let byte = escaped(&once.as_bytes()[at..]).expect("an escape");
            prop_assert!(!is_unreserved(byte), "{} became {}", raw, once);
            prop_assert!(!once[at..at + 3].bytes().any(|b| b.is_ascii_lowercase()));
            if how == PathNormalization::DecodeAndMergeSlashes {
                prop_assert!(!matches!(byte, b'/' | b'\\'));
            }
        }
    }

    #[test]
    fn no_target_panics(options: bool, text in any_text()) {
        for how in ALL {
            let _ = target(if options { "OPTIONS" } else { "GET" }, &text, how);
        }
        if let Ok(host) = authority(&text) {
            let again = authority(&host);
            prop_assert_eq!(again.as_deref(), Ok(&*host));
        }
    }
}
