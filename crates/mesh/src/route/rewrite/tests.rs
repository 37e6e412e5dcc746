//! The tables of Gateway API, and what VirtualService adds.

use crate::route::{
    Compiled, HttpRule, ServiceRules,
    asking::Asking,
    compile::Selected,
    http::{Action, Filters, HeaderEdit, HttpMatch, HttpRoute, PathRewrite, Precedence, Redirect, Rewrite},
    text::PathMatch,
};

fn compiled(matched: Option<PathMatch>, filters: Filters, action: Action) -> Compiled {
    let matches = vec![HttpMatch { path: matched, ..HttpMatch::default() }];
    let rule = HttpRule { matches, filters, action, ..HttpRule::default() };
    let mut rules = ServiceRules::of("shop/web".parse().expect("a key"));
    rules.http = vec![HttpRoute {
        name: "HTTPRoute/shop/a".into(),
        created: None,
        ports: Vec::new(),
        callers: None,
        precedence: Precedence::Specific,
        rules: vec![rule],
    }];
    Compiled::new(rules).expect("good rules")
}

fn path_of(matched: Option<PathMatch>, path: PathRewrite, asked: &str) -> String {
    let rewrite = Rewrite { host: None, path: Some(path) };
    let compiled = compiled(matched, Filters { rewrite, ..Filters::default() }, Action::default());
    let asking = Asking::of(&format!("GET {asked}"));
    let Selected::Rule(hit) = compiled.select(&asking.head()) else { panic!("{asked} takes no rule") };
    hit.rewritten(&asking.head()).path.expect("a new path")
}

#[test]
fn a_prefix_of_elements_is_replaced_as_gateway_api_tells() {
    for (asked, prefix, replacement, expected) in [
        ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
        ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
        ("/foo/bar", "/foo/", "/xyz", "/xyz/bar"),
        ("/foo/bar", "/foo/", "/xyz/", "/xyz/bar"),
        ("/foo", "/foo", "/xyz", "/xyz"),
        ("/foo/", "/foo", "/xyz", "/xyz/"),
        ("/foo/bar", "/foo", "", "/bar"),
        ("/foo/", "/foo", "", "/"),
        ("/foo", "/foo", "", "/"),
        ("/foo/", "/foo", "/", "/"),
        ("/foo", "/foo", "/", "/"),
        ("/foo/bar", "/", "/xyz", "/xyz/foo/bar"),
        ("/", "/", "/xyz", "/xyz/"),
    ] {
        let found = path_of(Some(PathMatch::PathPrefix(prefix.into())), PathRewrite::Prefix(replacement.into()), asked);
        assert_eq!(found, expected, "{asked} {prefix} {replacement}");
    }
    assert_eq!(path_of(None, PathRewrite::Prefix("/xyz".into()), "/foo"), "/xyz/foo");
}

#[test]
fn what_was_matched_otherwise_is_replaced_as_it_was_matched() {
    let prefix = |matched: PathMatch, replacement: &str, asked| {
        path_of(Some(matched), PathRewrite::Prefix(replacement.into()), asked)
    };
    assert_eq!(prefix(PathMatch::Prefix("/a".into()), "/b", "/abc"), "/bbc");
    assert_eq!(prefix(PathMatch::Prefix("/a/".into()), "/", "/a/c"), "/c");
    assert_eq!(prefix(PathMatch::Exact("/a/c".into()), "/b", "/a/c"), "/b");
    assert_eq!(prefix(PathMatch::Regex("/a.*".into()), "/b", "/a/c"), "/b");
    assert_eq!(path_of(None, PathRewrite::Full("/whole".into()), "/a/c"), "/whole");
    assert_eq!(path_of(None, PathRewrite::Full("whole".into()), "/a/c"), "/whole");
}

#[test]
fn an_expression_is_replaced_with_its_groups() {
    for (pattern, substitution, asked, expected) in [
        ("^/a/([^/]+)/(.*)$", r"/\2/by/\1", "/a/b/c/d", "/c/d/by/b"),
        ("o", "0", "/foo", "/f00"),
        ("^/a", r"/$1\\", "/a", r"/$1\"),
        ("b", r"[\0]", "/abc", "/a[b]c"),
        ("x", "y", "/abc", "/abc"),
        ("^/", "", "/abc", "/abc"),
    ] {
        let rewrite = PathRewrite::Regex { pattern: pattern.into(), substitution: substitution.into() };
        assert_eq!(path_of(None, rewrite, asked), expected, "{pattern} {substitution} {asked}");
    }
}

#[test]
fn a_substitution_names_only_groups_that_there_are() {
    for (substitution, reason) in [(r"\1", "there is no group 1"), (r"\x", "after \\"), ("a\\", "after \\")] {
        let error = super::translated(substitution, 1).expect_err("it cannot be used");
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn the_host_is_rewritten_or_set_as_a_header() {
    let of = |filters: Filters| {
        let compiled = compiled(None, filters, Action::default());
        let asking = Asking::of("GET /");
        let Selected::Rule(hit) = compiled.select(&asking.head()) else { panic!("it takes no rule") };
        hit.rewritten(&asking.head()).authority.map(str::to_owned)
    };
    let set = HeaderEdit { set: vec![("host".into(), "set.example".into())], ..HeaderEdit::default() };
    assert_eq!(of(Filters::default()), None);
    assert_eq!(of(Filters { request_headers: set.clone(), ..Filters::default() }).as_deref(), Some("set.example"));
    let rewrite = Rewrite { host: Some("new.example".into()), path: None };
    let both = Filters { rewrite, request_headers: set, ..Filters::default() };
    assert_eq!(of(both).as_deref(), Some("new.example"));
}

#[test]
fn a_redirect_keeps_what_it_does_not_change() {
    let nothing = Redirect { scheme: None, host: None, port: None, path: None, status: 302 };
    let prefix = Some(PathRewrite::Prefix("/new".into()));
    let scheme = |scheme: &str| Some(scheme.into());
    for (redirect, asked, expected) in [
        (nothing.clone(), "GET /a/b?c=d", "http://shop.example/a/b?c=d"),
        (nothing.clone(), "GET /a host=shop.example:8080", "http://shop.example:8080/a"),
        (nothing.clone(), "GET /a host=shop.example:80", "http://shop.example/a"),
        (Redirect { host: Some("x.example".into()), ..nothing.clone() }, "GET /a host=b:81", "http://x.example:81/a"),
        (Redirect { scheme: scheme("https"), ..nothing.clone() }, "GET /a host=b:81", "https://b/a"),
        (Redirect { scheme: scheme("https"), port: Some(443), ..nothing.clone() }, "GET /a", "https://shop.example/a"),
        (
            Redirect { scheme: scheme("https"), port: Some(80), ..nothing.clone() },
            "GET /a",
            "https://shop.example:80/a",
        ),
        (Redirect { port: Some(8443), ..nothing.clone() }, "GET /a host=b:81", "http://b:8443/a"),
        (Redirect { path: prefix, ..nothing }, "GET /a/b?c", "http://shop.example/new/b?c"),
    ] {
        let compiled =
            compiled(Some(PathMatch::PathPrefix("/a".into())), Filters::default(), Action::Redirect(redirect));
        let asking = Asking::of(asked);
        let Selected::Rule(hit) = compiled.select(&asking.head()) else { panic!("it takes no rule") };
        let location = hit.location(&asking.head()).expect("a redirect");
        assert_eq!((location.status, &*location.location), (302, expected), "{asked}");
    }
}
