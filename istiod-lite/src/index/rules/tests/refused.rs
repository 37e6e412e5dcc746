//! What cannot be understood: the field is named, the last good version stays, others are untouched.

use super::{route, shop, show, tell};
use crate::index::Index;

const WEB: &str = "parentRefs: [{group: '', kind: Service, name: web}]";
const GOOD: &str = "rules: [{backendRefs: [{name: api, port: 8080}]}]";

/// Mistakes: a rule, and the field and reason that must be told.
const RULES: &[(&str, &str)] = &[
    ("{matches: [{path: {value: a}}]}", "spec.rules[0].matches[0].path.value: \"a\" is not an absolute path"),
    ("{matches: [{path: {type: Glob, value: /a}}]}", "spec.rules[0].matches[0].path.type: \"Glob\" is none of"),
    (
        "{matches: [{path: {type: RegularExpression, value: '('}}]}",
        "spec.rules[0]: match 0, path: \"(\" is no regular expression",
    ),
    ("{matches: [{method: FETCH}]}", "spec.rules[0].matches[0].method: \"FETCH\" is none of"),
    (
        "{matches: [{headers: [{name: 'a b', value: c}]}]}",
        "spec.rules[0].matches[0].headers[0].name: \"a b\" is not a name",
    ),
    ("{matches: [{headers: [{name: a, value: ''}]}]}", "spec.rules[0].matches[0].headers[0].value: is empty"),
    ("{matches: [{header: []}]}", "spec.rules[0].matches[0][\"header\"]: is not a field that we know"),
    ("{matches: [{headers: [{name: a, type: RegularExpression, value: '['}]}]}", "spec.rules[0]: "),
    ("{backendRefs: [{name: api}]}", "spec.rules[0].backendRefs[0].port: is missing"),
    ("{backendRefs: [{port: 1}]}", "spec.rules[0].backendRefs[0].name: is missing"),
    (
        "{backendRefs: [{name: api, port: 1, weight: 1000001}]}",
        "spec.rules[0].backendRefs[0].weight: is more than 1000000",
    ),
    ("{filters: [{type: Magic}]}", "spec.rules[0].filters[0].type: \"Magic\" is none of"),
    ("{filters: [{type: CORS}]}", "spec.rules[0].filters[0].cors: is missing"),
    (
        "{filters: [{type: CORS, cors: {allowOrigins: [shop.example]}}]}",
        "spec.rules[0].filters[0].cors.allowOrigins[0]: \"shop.example\" is not an origin",
    ),
    (
        "{filters: [{type: CORS, cors: {allowOrigins: ['*', 'https://a']}}]}",
        "spec.rules[0].filters[0].cors.allowOrigins: holds '*' beside others",
    ),
    (
        "{filters: [{type: RequestRedirect, requestRedirect: {statusCode: 300}}]}",
        "spec.rules[0].filters[0].requestRedirect.statusCode: is none of 301, 302, 303, 307, 308",
    ),
    (
        "{filters: [{type: RequestRedirect, requestRedirect: {}}], backendRefs: [{name: api, port: 8080}]}",
        "spec.rules[0].backendRefs: stand beside RequestRedirect",
    ),
    (
        "{filters: [{type: RequestRedirect, requestRedirect: {}}, {type: URLRewrite, urlRewrite: {}}]}",
        "spec.rules[0].filters: holds RequestRedirect and URLRewrite",
    ),
    (
        "{matches: [{path: {type: Exact, value: /a}}], filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /b}}}]}",
        "spec.rules[0].filters: replace a prefix",
    ),
    (
        "{filters: [{type: RequestHeaderModifier, requestHeaderModifier: {}}, {type: RequestHeaderModifier, requestHeaderModifier: {}}]}",
        "spec.rules[0].filters[1].type: RequestHeaderModifier is there twice",
    ),
    (
        "{filters: [{type: RequestMirror, requestMirror: {backendRef: {name: api, port: 8080}, percent: 101}}]}",
        "spec.rules[0].filters[0].requestMirror.percent: is not between 0 and 100",
    ),
    (
        "{filters: [{type: RequestMirror, requestMirror: {backendRef: {name: api, port: 8080}, fraction: {numerator: 2, denominator: 1}}}]}",
        "spec.rules[0].filters[0].requestMirror.fraction: is not between 0 and 1",
    ),
    ("{timeouts: {request: 1s, backendRequest: 2s}}", "spec.rules[0].timeouts.backendRequest: is longer than request"),
    ("{timeouts: {request: soon}}", "spec.rules[0].timeouts.request: \"soon\" is not a duration"),
    ("{retry: {codes: [200]}}", "spec.rules[0].retry.codes[0]: is not a status from 400 to 599"),
    ("{retry: {attempts: 0}}", "spec.rules[0].retry.attempts: is not a number from 1"),
    (
        "{sessionPersistence: {cookieConfig: {lifetimeType: Permanent}}}",
        "spec.rules[0].sessionPersistence.absoluteTimeout: is missing",
    ),
    (
        "{sessionPersistence: {type: Header, cookieConfig: {}}}",
        "spec.rules[0].sessionPersistence.cookieConfig: stands beside type Header",
    ),
    ("{name: a}, {name: a}", "spec.rules: have two rules of the name a"),
];

fn bad(index: &Index) -> String {
    let unmet = show::unmet(index);
    assert_eq!(unmet.len(), 1, "{unmet:?}");
    unmet.into_iter().next().unwrap_or_default()
}

#[test]
fn a_route_that_cannot_be_understood_stays_as_it_was() {
    let other = route("HTTPRoute", "other", &format!("{WEB}\nrules: [{{matches: [{{path: {{value: /other}}}}]}}]"));
    for (rule, expected) in RULES {
        let broken = route("HTTPRoute", "r", &format!("{WEB}\nrules: [{rule}]"));
        let accepted = format!("HTTPRoute/shop/r Service/shop/web: !Accepted/UnsupportedValue: {expected}");

        let index = shop(&format!("{broken}{other}"));
        assert_eq!(show::http(&index), ["/other/** → 500"], "{rule}");
        let told = bad(&index);
        assert!(told.starts_with(&accepted) && told.ends_with("; it is not attached"), "{rule}: {told}");

        let mut index = shop(&format!("{}{other}", route("HTTPRoute", "r", &format!("{WEB}\n{GOOD}"))));
        let good = show::rules(&index);
        tell(&mut index, &broken);
        assert_eq!(show::rules(&index), good, "{rule}");
        let told = bad(&index);
        assert!(told.starts_with(&accepted) && told.ends_with("; the last good version stays"), "{rule}: {told}");

        tell(&mut index, &route("HTTPRoute", "r", &format!("{WEB}\n{GOOD}")));
        assert_eq!((show::rules(&index), show::unmet(&index)), (good, Vec::new()), "{rule}");
    }
}

#[test]
fn the_other_kinds_name_what_they_do_not_understand() {
    for (kind, spec, expected) in [
        (
            "GRPCRoute",
            format!("{WEB}\nrules: [{{matches: [{{method: {{}}}}]}}]"),
            "spec.rules[0].matches[0].method: names neither service nor method",
        ),
        (
            "GRPCRoute",
            format!("{WEB}\nrules: [{{matches: [{{method: {{service: a/b}}}}]}}]"),
            "spec.rules[0].matches[0].method.service: \"a/b\" is not a name of gRPC",
        ),
        (
            "GRPCRoute",
            format!("{WEB}\nrules: [{{timeouts: {{}}}}]"),
            "spec.rules[0][\"timeouts\"]: is not a field that we know",
        ),
        ("TCPRoute", format!("{WEB}\nrules: []"), "spec.rules: have 0 rules and must have one"),
        ("TCPRoute", format!("{WEB}\nrules: [{{backendRefs: []}}]"), "spec.rules[0].backendRefs: name no backend"),
        ("TLSRoute", format!("{WEB}\n{GOOD}"), "spec.hostnames: name nothing"),
        (
            "TLSRoute",
            format!("{WEB}\nhostnames: [10.0.0.1]\n{GOOD}"),
            "spec.hostnames[0]: is an address and must be a hostname",
        ),
        ("HTTPRoute", format!("{WEB}\nhostnames: ['a_b']\n{GOOD}"), "spec.hostnames[0]: \"a_b\" is not a hostname"),
        (
            "HTTPRoute",
            format!(
                "parentRefs: [{{group: '', kind: Service, name: web}}, {{group: '', kind: Service, name: web}}]\n{GOOD}"
            ),
            "spec.parentRefs: names Service/shop/web twice",
        ),
        ("HTTPRoute", format!("{WEB}\nparent: x\n{GOOD}"), "spec[\"parent\"]: is not a field that we know"),
    ] {
        let index = shop(&route(kind, "r", &spec));
        assert_eq!(show::rules(&index), [""; 0], "{spec}");
        let told = show::unmet(&index);
        assert!(
            !told.is_empty()
                && told.iter().all(|line| line.contains(&format!("!Accepted/UnsupportedValue: {expected}"))),
            "{spec}: {told:?}"
        );
    }
}
