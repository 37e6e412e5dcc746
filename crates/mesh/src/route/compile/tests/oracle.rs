//! The words of [`crate::route::http`] read one after the other: every match of every route is
//! looked at, and of those that agree the best is found by comparing them. It shares no code with
//! what it checks.

use super::{HttpMatch, PathMatch, ServiceRules, TextMatch, matching, rules};
use crate::route::{
    Head, HttpRoute,
    asking::Asking,
    compile::{Compiled, tests},
    http::Precedence,
};
use proptest::prelude::*;
use std::cmp::Ordering;

struct Found<'a> {
    route: &'a HttpRoute,
    rule: usize,
    matched: usize,
    wanted: HttpMatch,
}

pub(super) fn taken(rules: &ServiceRules, head: &Head<'_>) -> String {
    let namespace = head.caller.map(|caller| caller.namespace().to_string());
    let concerns = |route: &&HttpRoute| match &route.callers {
        Some(callers) => Some(callers.to_string()) == namespace,
        None => true,
    };
    let for_port = |route: &&HttpRoute| route.ports.is_empty() || route.ports.contains(&head.port);
    let routes: Vec<&HttpRoute> = rules.http.iter().filter(concerns).filter(for_port).collect();
    let mut agreeing = Vec::new();
    for route in &routes {
        for (rule, written) in route.rules.iter().enumerate() {
            let every = vec![HttpMatch::default()];
            let matches = if written.matches.is_empty() { &every } else { &written.matches };
            for (matched, wanted) in matches.iter().enumerate().filter(|(_, wanted)| agrees(wanted, head)) {
                agreeing.push(Found { route, rule, matched, wanted: wanted.clone() });
            }
        }
    }
    agreeing.sort_by(better);
    match agreeing.first() {
        Some(best) => format!("{}/{}", best.route.name.trim_start_matches("HTTPRoute/shop/"), best.rule),
        None if routes.is_empty() => "-".into(),
        None => "404".into(),
    }
}

fn agrees(wanted: &HttpMatch, head: &Head<'_>) -> bool {
    let (mut path, mut asked) = (wanted.path.clone(), head.path.to_string());
    if wanted.path_ignore_case {
        asked = asked.to_lowercase();
        path = path.map(|path| match path {
            PathMatch::Exact(text) => PathMatch::Exact(text.to_lowercase().into()),
            PathMatch::PathPrefix(text) => PathMatch::PathPrefix(text.to_lowercase().into()),
            PathMatch::Prefix(text) => PathMatch::Prefix(text.to_lowercase().into()),
            PathMatch::Regex(text) => PathMatch::Regex(text.to_lowercase().into()),
        });
    }
    let header = |name: &str, value: &TextMatch| {
        let values: Vec<_> = head.headers.get_all(name).iter().map(|value| value.to_str().expect("a text")).collect();
        !values.is_empty() && is(value, &values.join(","))
    };
    let parameter = |name: &str, value: &TextMatch| {
        let pairs = head.query.unwrap_or_default().split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let mut first = pairs.filter(|(key, _)| *key == name && head.query.is_some());
        first.next().is_some_and(|(_, found)| is(value, found))
    };
    let claim = |path: &[crate::Str], value: &TextMatch| match head.claims.and_then(|claims| claims.get(&*path[0])) {
        Some(serde_json::Value::String(text)) => is(value, text),
        _ => false,
    };
    let namespace = head.caller.map(|caller| caller.namespace().to_string());
    path.is_none_or(|path| path_agrees(&path, &asked))
        && wanted.method.as_ref().is_none_or(|method| is(method, head.method))
        && wanted.authority.as_ref().is_none_or(|host| is(host, &head.authority.to_lowercase()))
        && (wanted.ports.is_empty() || wanted.ports.contains(&head.port))
        && wanted.caller_namespace.as_ref().is_none_or(|wanted| Some(wanted.to_string()) == namespace)
        && wanted.headers.iter().all(|field| header(&field.name, &field.value))
        && !wanted.without_headers.iter().any(|field| header(&field.name, &field.value))
        && wanted.query.iter().all(|field| parameter(&field.name, &field.value))
        && wanted.claims.iter().all(|(path, value)| claim(path, value))
}

fn path_agrees(path: &PathMatch, asked: &str) -> bool {
    match path {
        PathMatch::Exact(path) => **path == *asked,
        PathMatch::Prefix(path) => asked.starts_with(&**path),
        PathMatch::PathPrefix(path) => {
            let wanted: Vec<&str> = path.split('/').filter(|element| !element.is_empty()).collect();
            let found: Vec<&str> = asked.split('/').skip(1).collect();
            asked.starts_with('/') && found.starts_with(&wanted)
        }
        // Those of random rules by hand: compiling them for each request took most of the time.
        PathMatch::Regex(path) if **path == *"/a.*" => asked.starts_with("/a"),
        PathMatch::Regex(path) if **path == *"/." => asked.starts_with('/') && asked.chars().count() == 2,
        PathMatch::Regex(path) => {
            // The expressions here have no alternatives, so the first hit is the longest.
            let regex = regex::Regex::new(path).expect("a good expression");
            regex.find(asked).is_some_and(|hit| hit.as_str() == asked)
        }
    }
}

fn is(wanted: &TextMatch, found: &str) -> bool {
    match wanted {
        TextMatch::Exact(wanted) => **wanted == *found,
        TextMatch::Present => true,
        other => panic!("the oracle was not taught {other:?}"),
    }
}

fn better(a: &Found<'_>, b: &Found<'_>) -> Ordering {
    let own = |found: &Found<'_>| u8::from(found.route.callers.is_none());
    let listed = |found: &Found<'_>| u8::from(found.route.precedence == Precedence::Listed);
    let age = |found: &Found<'_>| found.route.created.as_deref().unwrap_or("unsaid").to_owned();
    let name = |found: &Found<'_>| found.route.name.to_string();
    own(a)
        .cmp(&own(b))
        .then(listed(a).cmp(&listed(b)))
        .then_with(|| if listed(a) == 1 { Ordering::Equal } else { more_specific(&a.wanted, &b.wanted) })
        .then_with(|| age(a).cmp(&age(b)))
        .then_with(|| name(a).cmp(&name(b)))
        .then(a.rule.cmp(&b.rule))
        .then(a.matched.cmp(&b.matched))
}

fn more_specific(a: &HttpMatch, b: &HttpMatch) -> Ordering {
    let kind = |wanted: &HttpMatch| match &wanted.path {
        Some(PathMatch::Exact(_)) => 0,
        Some(PathMatch::PathPrefix(_) | PathMatch::Prefix(_)) => 1,
        Some(PathMatch::Regex(_)) => 2,
        None => 3,
    };
    let length = |wanted: &HttpMatch| match &wanted.path {
        Some(PathMatch::PathPrefix(path)) => path.trim_end_matches('/').len(),
        Some(PathMatch::Prefix(path)) => path.len(),
        _ => 0,
    };
    kind(a)
        .cmp(&kind(b))
        .then(length(b).cmp(&length(a)))
        .then(b.method.is_some().cmp(&a.method.is_some()))
        .then(b.headers.len().cmp(&a.headers.len()))
        .then(b.query.len().cmp(&a.query.len()))
}

/// Words of which few are enough for matches and requests to meet.
const PATHS: [&str; 16] = [
    "",
    "",
    "path=/",
    "path=/a",
    "path=/a/",
    "path=/a/b",
    "path=/b",
    "path=exact:/a",
    "path=exact:/a/b",
    "path=exact:/",
    "path=begins:/a",
    "path=begins:/a/b",
    "path=regex:/a.*",
    "path=regex:/.",
    "path=/A i",
    "path=exact:/A/b i",
];
const METHODS: [&str; 5] = ["", "", "", "method=GET", "method=POST"];
const FIELDS: [&str; 10] =
    ["", "", "h.x=1", "h.x=*", "h.y=1", "h.x=1 h.y=1", "no.x=1", "?q=1", "?q=1 ?r=1", "h.x=1 ?q=1"];
const OTHERS: [&str; 8] = ["", "", "", "host=shop.example", "host=x", "ns=shop", "port=80", "claim.sub=ann"];
const ROUTES: [&str; 11] = [
    "a:",
    "b:",
    "c created=2024-01-01T00:00:00Z:",
    "d created=2025-01-01T00:00:00Z:",
    "e for=shop:",
    "f for=else:",
    "g listed:",
    "h created=2024-01-01T00:00:00Z listed:",
    "i for=shop listed:",
    "j port=80:",
    "k port=81:",
];

fn one(words: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
    prop::sample::select(words)
}

fn some_rules() -> impl Strategy<Value = ServiceRules> {
    let a_match = (one(&PATHS), one(&METHODS), one(&FIELDS), one(&OTHERS));
    let a_match =
        a_match.prop_map(|(path, method, fields, other)| matching(&format!("{path} {method} {fields} {other}")));
    let routes = (prop::sample::subsequence(&ROUTES[..], 0..=6), prop::collection::vec(1..4usize, 6));
    let matches = prop::collection::vec(prop::collection::vec(a_match, 0..3), 18);
    (routes, matches).prop_map(|((heads, counts), mut matches)| {
        let mut made = rules(&heads.join("\n"));
        for (route, count) in made.http.iter_mut().zip(counts) {
            let rule = route.rules[0].clone();
            route.rules = vec![rule; count];
            for (at, rule) in route.rules.iter_mut().enumerate() {
                rule.name = at.to_string().into();
                rule.matches = matches.pop().unwrap_or_default();
            }
        }
        made
    })
}

fn a_request() -> impl Strategy<Value = String> {
    let paths = one(&["/", "/a", "/a/", "/a/b", "/a/b/c", "/ab", "/b", "/c", "/A", "/A/B", "*"]);
    let queries = one(&["", "", "?q=1", "?q=1&r=1", "?q=2&q=1"]);
    let others = prop::sample::subsequence(&["x:1", "x:2", "y:1", "host=x", "port=81"][..], 0..4);
    let from = one(&["", "from=td/ns/shop/sa/a", "from=td/ns/else/sa/a"]);
    let all = (one(&["GET", "POST"]), paths, queries, others, from);
    all.prop_map(|(method, path, query, others, from)| format!("{method} {path}{query} {} {from}", others.join(" ")))
}

proptest! {
    // 1,000 sets of rules, and 12 requests of each.
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn the_rule_is_that_of_the_oracle(rules in some_rules(), asked in prop::collection::vec(a_request(), 12)) {
        let compiled = Compiled::new(rules.clone()).expect("good rules");
        for text in asked {
            let asking = Asking::of(&text).claims(r#"{"sub":"ann"}"#);
            prop_assert_eq!(tests::taken(&compiled, &asking), taken(&rules, &asking.head()), "{}", text);
        }
    }
}
