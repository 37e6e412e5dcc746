//! Who is told what.

use super::*;
use crate::route::{
    Compiled, HttpRule, ServiceRules,
    asking::Asking,
    compile::Selected,
    http::{Filters, HttpRoute, Precedence},
    text::TextMatch,
};
use std::time::Duration;

fn names(names: &[&str]) -> Vec<crate::Str> {
    names.iter().map(|name| (*name).into()).collect()
}

fn cors() -> Cors {
    Cors {
        allow_origins: vec![
            TextMatch::Exact("https://shop.example".into()),
            TextMatch::Regex(r"https://.*\.shop\.example".into()),
        ],
        allow_methods: names(&["GET", "PUT"]),
        allow_headers: names(&["x-a", "x-b"]),
        expose_headers: names(&["x-c"]),
        allow_credentials: true,
        max_age: Some(Duration::from_secs(60)),
        forward_unmatched: false,
    }
}

/// `name: value` of each header, in order; or the kind of answer alone.
fn answer(cors: Option<Cors>, asking: &str) -> String {
    let filters = Filters { cors, ..Filters::default() };
    let mut rules = ServiceRules::of("shop/web".parse().expect("a key"));
    rules.http = vec![HttpRoute {
        name: "HTTPRoute/shop/a".into(),
        created: None,
        ports: Vec::new(),
        callers: None,
        precedence: Precedence::Specific,
        rules: vec![HttpRule { filters, ..HttpRule::default() }],
    }];
    let compiled = Compiled::new(rules).expect("good rules");
    let asking = Asking::of(asking);
    let Selected::Rule(hit) = compiled.select(&asking.head()) else { panic!("it takes no rule") };
    let (kind, written) = match hit.crossing(&asking.head()) {
        Crossing::Silent => return "silent".into(),
        Crossing::Preflight(written) => ("preflight", written),
        Crossing::Actual(written) => ("actual", written),
    };
    let line = |(name, value): &(HeaderName, HeaderValue)| {
        let name = name.as_str().trim_start_matches("access-control-");
        format!(" | {name}: {}", value.to_str().expect("a text"))
    };
    format!("{kind}{}", written.iter().map(line).collect::<String>())
}

const PREFLIGHT: &str = "access-control-request-method:PUT access-control-request-headers:x-z";

#[test]
fn nothing_is_said_without_a_rule_or_without_an_origin() {
    assert_eq!(answer(None, "GET / origin:https://shop.example"), "silent");
    assert_eq!(answer(Some(cors()), "GET /"), "silent");
    assert_eq!(answer(Some(cors()), &format!("OPTIONS / {PREFLIGHT}")), "silent");
}

#[test]
fn an_origin_that_is_allowed_is_told_what_is() {
    let allowed = " | vary: origin | allow-origin: https://shop.example | allow-credentials: true";
    assert_eq!(
        answer(Some(cors()), &format!("OPTIONS / origin:https://shop.example {PREFLIGHT}")),
        format!("preflight{allowed} | allow-methods: GET, PUT | allow-headers: x-a, x-b | max-age: 60")
    );
    assert_eq!(
        answer(Some(cors()), "PUT / origin:https://shop.example"),
        format!("actual{allowed} | expose-headers: x-c")
    );
    // Not a preflight: it does not say which method is to come.
    assert!(answer(Some(cors()), "OPTIONS / origin:https://shop.example").starts_with("actual"));
    assert!(answer(Some(cors()), "GET / origin:https://eu.shop.example").contains("allow-origin: https://eu."));
    assert!(answer(Some(cors()), "GET / origin:https://SHOP.example").contains("allow-origin"));
}

#[test]
fn an_origin_that_is_not_allowed_is_told_nothing_that_allows() {
    for origin in ["https://evil.example", "https://shop.example.evil", "http://shop.example", "null"] {
        let asked = format!("OPTIONS / origin:{origin} {PREFLIGHT}");
        assert_eq!(answer(Some(cors()), &asked), "preflight | vary: origin");
        assert_eq!(answer(Some(cors()), &format!("GET / origin:{origin}")), "actual | vary: origin");
        let forwards = Cors { forward_unmatched: true, ..cors() };
        assert_eq!(answer(Some(forwards), &asked), "silent");
    }
}

#[test]
fn what_stands_for_all_repeats_what_was_asked_for() {
    let all = Cors {
        allow_origins: vec![TextMatch::Present],
        allow_methods: names(&["*"]),
        allow_headers: names(&["*"]),
        allow_credentials: false,
        max_age: None,
        ..cors()
    };
    assert_eq!(
        answer(Some(all), &format!("OPTIONS / origin:null {PREFLIGHT}")),
        "preflight | vary: origin | allow-origin: null | allow-methods: PUT | allow-headers: x-z"
    );
}
