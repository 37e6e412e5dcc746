//! Which rule a request takes: each row a sentence, and a slow reading of the same sentences.

mod oracle;

use super::*;
use crate::route::{
    asking::Asking,
    http::{DirectResponse, Precedence, Redirect},
    text::{FieldMatch, PathMatch, TextMatch},
};

fn path(text: &str) -> PathMatch {
    match text.split_once(':') {
        Some(("exact", path)) => PathMatch::Exact(path.into()),
        Some(("begins", path)) => PathMatch::Prefix(path.into()),
        Some(("regex", path)) => PathMatch::Regex(path.into()),
        _ => PathMatch::PathPrefix(text.into()),
    }
}

fn field(name: &str, value: &str) -> FieldMatch {
    let value = if value == "*" { TextMatch::Present } else { TextMatch::Exact(value.into()) };
    FieldMatch { name: name.into(), value, ignore_case: false }
}

/// Words of a match: `path=`, `method=`, `host=`, `ns=`, `port=`, `?name=value`, `h.name=value`,
/// `no.name=value`, `claim.name=value`, `i` (the case of the path does not matter).
fn matching(text: &str) -> HttpMatch {
    let mut made = HttpMatch::default();
    for word in text.split_whitespace() {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        match name {
            "i" => made.path_ignore_case = true,
            "path" => made.path = Some(path(value)),
            "method" => made.method = Some(TextMatch::Exact(value.into())),
            "host" => made.authority = Some(TextMatch::Exact(value.into())),
            "ns" => made.caller_namespace = Some(value.into()),
            "port" => made.ports = vec![value.parse().expect("a port")],
            _ => match (name.strip_prefix('?'), name.split_once('.')) {
                (Some(name), _) => made.query.push(field(name, value)),
                (None, Some(("h", name))) => made.headers.push(field(name, value)),
                (None, Some(("no", name))) => made.without_headers.push(field(name, value)),
                (None, Some(("claim", name))) => {
                    made.claims.push((vec![name.into()], TextMatch::Exact(value.into())));
                }
                _ => panic!("{word:?} says nothing of a match"),
            },
        }
    }
    made
}

/// Rules as lines: `route [created=] [for=namespace] [port=] [listed]: match | match`. Further rules of a
/// route stand below it as `: match`.
fn rules(text: &str) -> ServiceRules {
    let mut rules = ServiceRules::of("shop/web.shop.svc.cluster.local".parse().expect("a key"));
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (route, matches) = line.split_once(": ").unwrap_or_else(|| (line.trim_end_matches(':'), ""));
        let mut words = route.trim_start_matches(':').split_whitespace();
        if let Some(name) = words.next() {
            let mut made = HttpRoute {
                name: format!("HTTPRoute/shop/{name}").into(),
                created: None,
                ports: Vec::new(),
                callers: None,
                precedence: Precedence::Specific,
                rules: Vec::new(),
            };
            for word in words {
                match word.split_once('=').unwrap_or((word, "")) {
                    ("created", at) => made.created = Some(at.into()),
                    ("for", namespace) => made.callers = Some(namespace.into()),
                    ("port", port) => made.ports.push(port.parse().expect("a port")),
                    ("listed", _) => made.precedence = Precedence::Listed,
                    _ => panic!("{word:?} says nothing of a route"),
                }
            }
            rules.http.push(made);
        }
        let alternatives = matches.split(" | ").map(str::trim).filter(|one| !one.is_empty());
        let route = rules.http.last_mut().expect("a route");
        let name = route.rules.len().to_string().into();
        route.rules.push(HttpRule { name, matches: alternatives.map(matching).collect(), ..HttpRule::default() });
    }
    rules
}

/// `route/rule`, `404`, or `-` for the service itself.
fn taken(compiled: &Compiled, asking: &Asking) -> String {
    match compiled.select(&asking.head()) {
        Selected::Rule(hit) => {
            let name = hit.route.name.strip_prefix("HTTPRoute/shop/").expect("a name of ours");
            format!("{name}/{}", hit.rule.name)
        }
        Selected::NoRoute { routes_exist: true } => "404".into(),
        Selected::NoRoute { routes_exist: false } => "-".into(),
    }
}

fn check(text: &str, rows: &[(&str, &str)]) {
    let rules = rules(text);
    let compiled = Compiled::new(rules.clone()).expect("good rules");
    for (asking, expected) in rows {
        let asked = Asking::of(asking).claims(r#"{"sub":"ann"}"#);
        assert_eq!(taken(&compiled, &asked), *expected, "{asking} among\n{text}");
        assert_eq!(oracle::taken(&rules, &asked.head()), *expected, "the oracle: {asking} among\n{text}");
    }
}

#[test]
fn without_routes_the_service_itself_is_asked_and_without_a_match_it_is_404() {
    check("", &[("GET /", "-")]);
    check("a:", &[("GET /x", "a/0")]);
    check("a: path=/x", &[("GET /x", "a/0"), ("GET /y", "404")]);
    check("a port=81: path=/x", &[("GET /x", "-"), ("GET /x port=81", "a/0"), ("GET /y port=81", "404")]);
    check("a: path=/x port=81", &[("GET /x", "404"), ("GET /x port=81", "a/0")]);
}

#[test]
fn a_prefix_is_of_elements_or_of_the_text() {
    check("a: path=/a", &[("GET /a", "a/0"), ("GET /a/b", "a/0"), ("GET /ab", "404"), ("GET /A", "404")]);
    check("a: path=/a/", &[("GET /a", "a/0"), ("GET /a/b", "a/0"), ("GET /ab", "404")]);
    check("a: path=/", &[("GET /", "a/0"), ("GET /a", "a/0"), ("OPTIONS *", "404")]);
    check("a: path=begins:/a", &[("GET /ab", "a/0"), ("GET /b", "404")]);
    check("a: path=/a i", &[("GET /A/b", "a/0"), ("GET /AB", "404")]);
    check("a: path=exact:/a i", &[("GET /A", "a/0"), ("GET /A/", "404")]);
    check("a: path=exact:/a", &[("GET /a", "a/0"), ("GET /a/", "404")]);
    check("a: path=regex:/a.", &[("GET /ab", "a/0"), ("GET /abc", "404"), ("GET /x/ab", "404")]);
    check("a: path=regex:/a|/b", &[("GET /a", "a/0"), ("GET /b", "a/0"), ("GET /ac", "404")]);
}

#[test]
fn the_most_specific_path_wins_then_method_headers_and_parameters() {
    check(
        "a: path=/
         b: path=/a
         c: path=exact:/a/b
         d: path=regex:/a/.*
         e: path=/a/c method=GET
         f: path=/a/c h.x=1
         g: path=/a/c h.x=1 h.y=2
         h: path=/a/c ?q=1
         i:",
        &[
            ("GET /", "a/0"),
            ("GET /a", "b/0"),
            ("GET /a/b", "c/0"),
            ("GET /a/x", "b/0"),
            ("GET /a/c x:1 y:2", "e/0"),
            ("POST /a/c x:1 y:2", "g/0"),
            ("POST /a/c?q=1 x:1", "f/0"),
            ("POST /a/c?q=1", "h/0"),
            ("POST /a/c?q=2&q=1", "b/0"),
            ("OPTIONS *", "i/0"),
        ],
    );
}

#[test]
fn of_equal_matches_the_older_route_then_the_smaller_name_then_the_earlier_rule_wins() {
    check("b: path=/\n a: path=/", &[("GET /", "a/0")]);
    check("b created=2024-01-01T00:00:00Z: path=/\n a: path=/", &[("GET /", "b/0")]);
    check("b created=2024-01-01T00:00:00Z: path=/\n a created=2025-01-01T00:00:00Z: path=/", &[("GET /", "b/0")]);
    check("a: path=/x | path=/\n: path=/", &[("GET /", "a/0")]);
    check("a: path=/\n: path=/ h.x=1\n: path=/", &[("GET /", "a/0"), ("GET / x:1", "a/1")]);
}

#[test]
fn the_callers_own_routes_come_first_and_listed_ones_last() {
    let shop = "from=td/ns/shop/sa/web";
    check(
        "a: path=exact:/x
         c for=shop: path=/",
        &[("GET /x", "a/0"), (&format!("GET /x {shop}"), "c/0"), ("GET /x from=td/ns/else/sa/web", "a/0")],
    );
    check("c for=shop: path=/x", &[("GET /y", "-"), (&format!("GET /y {shop}"), "404")]);
    check(
        "c for=shop: path=/x\n a: path=/y",
        &[(&format!("GET /y {shop}"), "a/0"), (&format!("GET /z {shop}"), "404")],
    );
    check("v listed: path=exact:/x\n a: path=/", &[("GET /x", "a/0")]);
    check(
        "v listed: path=/
         : path=exact:/x
         a: path=/y",
        &[("GET /x", "v/0"), ("GET /y", "a/0")],
    );
    check(
        "v created=2025-01-01T00:00:00Z listed: path=exact:/x
         w created=2024-01-01T00:00:00Z listed: path=/",
        &[("GET /x", "w/0")],
    );
}

#[test]
fn everything_that_a_match_says_must_agree() {
    check("a: host=shop.example", &[("GET /", "a/0"), ("GET / host=SHOP.example", "a/0"), ("GET / host=x", "404")]);
    check("a: ns=shop", &[("GET /", "404"), ("GET / from=td/ns/shop/sa/a", "a/0"), ("GET / from=td/ns/b/sa/a", "404")]);
    check("a: h.x=1", &[("GET / x:1", "a/0"), ("GET / x:2", "404"), ("GET / x:1 x:1", "404"), ("GET /", "404")]);
    check("a: h.x=*", &[("GET / x:", "a/0"), ("GET /", "404")]);
    check("a: no.x=1", &[("GET / x:1", "404"), ("GET / x:2", "a/0"), ("GET /", "a/0")]);
    check("a: ?q=1 ?r=*", &[("GET /?q=1&r", "a/0"), ("GET /?q=1", "404")]);
    check("a: claim.sub=ann", &[("GET /", "a/0")]);
    check("a: claim.sub=bob", &[("GET /", "404")]);
}

#[test]
fn fields_are_compared_in_each_way() {
    for (value, ignore_case, found, expected) in [
        (TextMatch::Exact("ab".into()), false, "ab", true),
        (TextMatch::Exact("ab".into()), false, "AB", false),
        (TextMatch::Exact("ab".into()), true, "AB", true),
        (TextMatch::Prefix("ab".into()), false, "abc", true),
        (TextMatch::Prefix("ab".into()), true, "aBc", true),
        (TextMatch::Prefix("ab".into()), true, "a", false),
        (TextMatch::Suffix("bc".into()), false, "abc", true),
        (TextMatch::Suffix("bc".into()), true, "aBC", true),
        (TextMatch::Suffix("bc".into()), true, "c", false),
        (TextMatch::Contains("b".into()), false, "abc", true),
        (TextMatch::Contains("B".into()), false, "abc", false),
        (TextMatch::Contains("B".into()), true, "abc", true),
        (TextMatch::Contains("".into()), true, "abc", true),
        (TextMatch::Contains("b".into()), true, "", false),
        (TextMatch::Regex("a.c".into()), false, "abc", true),
        (TextMatch::Regex("a.c".into()), false, "abcd", false),
        (TextMatch::Regex("a.c".into()), true, "ABC", true),
        (TextMatch::Prefix("ä".into()), true, "a", false),
        (TextMatch::Present, false, "", true),
    ] {
        let text = Text::new(&value, ignore_case, "here").expect("a good match");
        assert_eq!(text.is(found), expected, "{value:?} {ignore_case} {found}");
    }
}

#[test]
fn expressions_have_the_classes_of_re2() {
    for (pattern, found, expected) in [
        (r"\d+", "123", true),
        (r"\d", "\u{663}", false),
        (r"\D", "\u{663}", true),
        (r"[\w-]+", "a-b_9", true),
        (r"\w", "ä", false),
        (r"[^\w]", "ä", true),
        (r"[\W]", "ä", true),
        (r"\s\S", " a", true),
        (r"\s", "\u{a0}", false),
        (r"a\b.*", "a b", true),
        (r"\\w", r"\w", true),
        (r"\\w", r"\a", false),
        (r"\w{100}", &"a".repeat(100), true),
        (r"\pL", "ä", true),
    ] {
        let text = Text::new(&TextMatch::Regex(pattern.into()), false, "here").expect("a good expression");
        assert_eq!(text.is(found), expected, "{pattern} {found}");
    }
}

#[test]
fn of_five_thousand_routes_a_request_is_compared_with_those_of_its_path() {
    let lines: String =
        (0..5000).map(|n| format!("r{n}: path=/svc{n} | path=exact:/svc{n}/health | path=begins:/svc{n}-\n")).collect();
    let compiled = Compiled::new(rules(&lines)).expect("good rules");
    for (path, expected, compared) in [
        ("/svc4321/orders/7", "r4321/0", 1),
        ("/svc4321/health", "r4321/0", 2),
        ("/svc4321-a", "r4321/0", 1),
        ("/other", "404", 0),
    ] {
        let asking = Asking::of(&format!("GET {path}"));
        assert_eq!(taken(&compiled, &asking), expected, "{path}");
        assert_eq!(compiled.everyone.compared(path), compared, "{path}");
    }
}

#[test]
fn limits_and_faults_are_those_whose_matches_agree() {
    let limit = |name: &str, matches: &[&str]| RateLimit {
        name: name.into(),
        matches: matches.iter().map(|text| matching(text)).collect(),
        keys: Vec::new(),
        requests: 1,
        per: std::time::Duration::from_secs(1),
        burst: 1,
        scope: crate::route::limit::LimitScope::Replica,
    };
    let fault = |millis, matching_text: &str| Fault {
        matches: vec![matching(matching_text)],
        delay: Some((std::time::Duration::from_millis(millis), crate::route::text::Fraction::ALL)),
        abort: None,
    };
    let mut made = rules("a: path=/a\n: path=/b");
    made.limits = vec![limit("all", &[]), limit("posts", &["method=POST", "method=PUT"])];
    made.http[0].rules[0].limits = vec![limit("own", &["h.x=1"])];
    made.http[0].rules[0].faults = vec![fault(1, "h.x=1")];
    made.faults = vec![fault(2, "method=POST")];
    let service = Compiled::new(made).expect("good rules");
    let mut of_gateway = GatewayRules::of("ns".into(), "gw".into());
    of_gateway.limits = vec![limit("gateway", &["path=/a"])];
    of_gateway.faults = vec![fault(3, "method=GET")];
    let gateway = CompiledGateway::new(of_gateway).expect("good rules");
    for (asking, limits, delays) in [
        ("POST /a x:1", "gateway all posts own", vec![1]),
        ("GET /a", "gateway all", vec![]),
        ("PUT /b", "all posts", vec![]),
        ("POST /b", "all posts", vec![2]),
    ] {
        let asking = Asking::of(asking);
        let head = asking.head();
        let Selected::Rule(hit) = service.select(&head) else { panic!("no rule") };
        let all = gateway.limits(&head).chain(service.limits(&head)).chain(hit.limits(&head));
        let names: Vec<_> = all.map(|limit| &*limit.name).collect();
        assert_eq!(names.join(" "), limits, "{asking:?}");
        let found: Vec<_> = faults(&gateway, &service, Some(&hit), &head).collect();
        let millis: Vec<_> = found.iter().filter_map(|fault| fault.delay).map(|(delay, _)| delay.as_millis()).collect();
        assert_eq!(millis, delays, "{asking:?}");
    }
    let without = Compiled::new(rules("")).expect("good rules");
    let asking = Asking::of("GET /");
    assert_eq!(faults(&gateway, &without, None, &asking.head()).count(), 1);
}

#[test]
fn what_cannot_be_used_is_refused_with_its_place_and_reason() {
    let with = |change: fn(&mut ServiceRules)| {
        let mut rules = rules("a: path=/x\n: path=/y | h.x=1");
        change(&mut rules);
        Compiled::new(rules).expect_err("they cannot be used").to_string()
    };
    let check = |change: fn(&mut ServiceRules), place: &str, reason: &str| {
        let error = with(change);
        assert!(error.starts_with(place) && error.contains(reason), "{error}");
    };
    check(
        |rules| rules.http[0].rules[1].matches[0].path = Some(PathMatch::Regex("(".into())),
        "HTTPRoute/shop/a, rule 1, match 0, path: ",
        "unclosed group",
    );
    // These parentheses must not pair with the ones around every expression.
    check(
        |rules| rules.http[0].rules[1].matches[1].headers[0].value = TextMatch::Regex("a)|(?:b".into()),
        "HTTPRoute/shop/a, rule 1, match 1, header x: ",
        "unopened group",
    );
    check(
        |rules| rules.http[0].rules[0].matches[0].method = Some(TextMatch::Regex(r"\pL{1000}".into())),
        "HTTPRoute/shop/a, rule 0, match 0, method: ",
        "size limit",
    );
    check(
        |rules| rules.http[0].rules[0].matches[0].method = Some(TextMatch::Regex("a".repeat(5000).into())),
        "HTTPRoute/shop/a, rule 0, match 0, method: ",
        "at most 4096",
    );
    check(
        |rules| rules.http[0].rules[0].action = Action::Respond(DirectResponse { status: 700, body: None }),
        "HTTPRoute/shop/a, rule 0: ",
        "700 is no status",
    );
    check(
        |rules| {
            rules.http[0].rules[0].action =
                Action::Redirect(Redirect { scheme: None, host: None, port: None, path: None, status: 200 });
        },
        "HTTPRoute/shop/a, rule 0: ",
        "200 is no status of a redirect",
    );
    check(
        |rules| {
            let log = crate::route::telemetry::AccessLog { disabled: false, filter: Some("response.code >".into()) };
            rules.telemetry.access_log = Some(log);
        },
        "filter of the access log: column 16: ",
        "a value",
    );
}
