//! What a policy may ask of a request, each row a sentence: policies, a request, the answer.

use super::*;
use crate::{
    Str,
    authz::check_templates,
    policy::{Clause, Match, PathPattern, RequestMatch, Rule, StringMatch, Values},
    route::{Destination, asking::Asking, guard::AuthorizerProtocol},
};
use std::time::Duration;

fn text(value: &str) -> StringMatch {
    match (value, value.strip_prefix('*'), value.strip_suffix('*')) {
        ("*", ..) => StringMatch::Presence,
        (_, Some(suffix), _) => StringMatch::Suffix(suffix.into()),
        (_, _, Some(prefix)) => StringMatch::Prefix(prefix.into()),
        _ => StringMatch::Exact(value.into()),
    }
}

fn put<T>(values: &mut Values<T>, negated: bool, value: &str, made: impl Fn(&str) -> T) {
    let list = if negated { &mut values.none_of } else { &mut values.any_of };
    list.extend(value.split(',').map(made));
}

/// `host=`, `method=`, `path=`, `principal=`, `aud=`, `azp=`, `remote=`, `sni=`, `claim.name=`, `header.name=`,
/// and `caller=`, `port=` of the connection; each with `not-` in front too.
fn matching(words: &[&str]) -> Match {
    let (mut made, mut request) = (Match::default(), RequestMatch::default());
    for word in words {
        let (name, value) = word.split_once('=').expect("a field and its value");
        let (name, negated) = name.strip_prefix("not-").map_or((name, false), |name| (name, true));
        match name {
            "caller" => put(&mut made.principals, negated, value, text),
            "port" => put(&mut made.destination_ports, negated, value, |port| port.parse().expect("a port")),
            "host" => put(&mut request.hosts, negated, value, text),
            "method" => put(&mut request.methods, negated, value, text),
            "path" => put(&mut request.paths, negated, value, |path| match path.contains('{') {
                true => PathPattern::Template(path.into()),
                false => PathPattern::Text(text(path)),
            }),
            "principal" => put(&mut request.principals, negated, value, text),
            "aud" => put(&mut request.audiences, negated, value, text),
            "azp" => put(&mut request.presenters, negated, value, text),
            "remote" => put(&mut request.remote_ips, negated, value, |net| net.parse().expect("a range")),
            "sni" => put(&mut request.server_names, negated, value, text),
            _ => {
                let mut values = Values::default();
                put(&mut values, negated, value, text);
                match name.split_once('.') {
                    Some(("claim", path)) => request.claims.push((path.split('.').map(Str::from).collect(), values)),
                    Some(("header", name)) => request.headers.push((name.into(), values)),
                    _ => panic!("{word:?} says nothing of a match"),
                }
            }
        }
    }
    made.request = (request != RequestMatch::default()).then(|| Box::new(request));
    made
}

/// One policy a line: `allow|deny|audit|custom[:authorizer] NAME [dry] [anyone] [field=value …]`.
fn guards(lines: &str) -> Guards {
    let policy = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let fields: Vec<&str> = words[2..].iter().copied().filter(|word| word.contains('=')).collect();
        let clauses = if fields.is_empty() { vec![] } else { vec![Clause { matches: vec![matching(&fields)] }] };
        let any = !fields.is_empty() || words.contains(&"anyone");
        GuardPolicy {
            namespace: "shop".into(),
            name: words[1].into(),
            action: match words[0].split_once(':').unwrap_or((words[0], "who")) {
                ("allow", _) => GuardAction::Allow,
                ("deny", _) => GuardAction::Deny,
                ("audit", _) => GuardAction::Audit,
                (_, name) => GuardAction::Custom(Box::new(authorizer(name))),
            },
            dry_run: words.contains(&"dry"),
            rules: any.then_some(Rule { clauses }).into_iter().collect(),
        }
    };
    let lines = lines.lines().map(str::trim).filter(|line| !line.is_empty());
    Guards { authentications: Vec::new(), policies: lines.map(policy).collect() }
}

fn authorizer(name: &str) -> ExternalAuthorizer {
    ExternalAuthorizer {
        name: name.into(),
        destination: Destination::Invalid { reason: "it is never asked".into() },
        protocol: AuthorizerProtocol::Grpc,
        timeout: Duration::from_secs(1),
        fail_open: false,
        status_on_error: 403,
        body: None,
    }
}

/// The reason, then who is asked and what is logged.
fn answer(gateway: &str, service: &str, asking: &str, claims: &str) -> String {
    let (gateway, service) = (guards(gateway), guards(service));
    let asked = Asking::of(asking).claims(claims);
    let head = asked.head();
    judged(&gateway, &service, &attributes(&head, true, None))
}

fn attributes<'a>(head: &'a crate::route::Head<'a>, seen: bool, server_name: Option<&'a str>) -> Attributes<'a> {
    Attributes {
        source: head.caller,
        source_ip: head.caller_address,
        destination_ip: "10.0.0.2".parse().expect("an address"),
        destination_port: head.port,
        server_name,
        request: seen.then_some(head),
    }
}

fn judged(gateway: &Guards, service: &Guards, attributes: &Attributes<'_>) -> String {
    let verdict = judge(gateway, service, attributes);
    let mut answer = match verdict.reason {
        GuardReason::NoPolicy => "no policy".to_owned(),
        GuardReason::AllowedBy(policy) => format!("allowed by {}", policy.name),
        GuardReason::DeniedBy(policy) => format!("denied by {}", policy.name),
        GuardReason::NothingAllows => "nothing allows".to_owned(),
    };
    assert_eq!(verdict.allowed, answer.starts_with("allowed") || answer == "no policy");
    for (policy, who) in verdict.ask {
        answer.push_str(&format!(", {} asks {}", policy.name, who.name));
    }
    for policy in verdict.audit {
        answer.push_str(&format!(", audited by {}", policy.name));
    }
    for policy in verdict.dry_run {
        answer.push_str(&format!(", on trial {}", policy.name));
    }
    answer
}

fn check(service: &str, rows: &[(&str, &str)]) {
    for (asking, expected) in rows {
        assert_eq!(answer("", service, asking, ""), *expected, "{asking} under\n{service}");
    }
}

#[test]
fn custom_then_deny_then_allow_and_the_rest_for_the_log() {
    check("", &[("GET /", "no policy")]);
    check("allow none", &[("GET /", "nothing allows")]);
    check("deny none", &[("GET /", "no policy")]);
    check("allow all anyone\ndeny a path=/a", &[("GET /", "allowed by all"), ("GET /a", "denied by a")]);
    check("audit a path=/a", &[("GET /a", "no policy, audited by a"), ("GET /b", "no policy")]);
    check("deny a dry anyone\nallow b dry", &[("GET /", "no policy, on trial a")]);
    check("custom:x c dry anyone", &[("GET /", "no policy, on trial c")]);
    check(
        "custom:x c path=/a\ncustom:x d anyone\ncustom:y e path=/a\nallow f path=/a",
        &[("GET /a", "allowed by f, c asks x, e asks y"), ("GET /b", "nothing allows, d asks x")],
    );
}

#[test]
fn policies_of_the_waypoint_and_of_the_service_are_one_list() {
    for (gateway, service, expected) in [
        ("allow g path=/a", "allow s path=/b", "allowed by g"),
        ("allow g path=/b", "allow s path=/a", "allowed by s"),
        ("allow g path=/b", "allow s path=/b", "nothing allows"),
        ("deny g path=/a", "allow s anyone", "denied by g"),
        ("allow g anyone", "deny s path=/a", "denied by s"),
        ("custom:x g anyone", "custom:x s anyone", "no policy, g asks x"),
    ] {
        assert_eq!(answer(gateway, service, "GET /a", ""), expected, "{gateway} / {service}");
    }
}

#[test]
fn each_field_of_a_request_is_compared() {
    let claims = r#"{"iss":"https://id","sub":"ann","aud":["a","b"],"azp":"cli","scope":"read write",
        "groups":["x"],"org":{"name":"acme","size":7}}"#;
    let asking = "GET /admin/users?x=1 host=shop.example:8080 from=td/ns/shop/sa/web ip=::ffff:10.0.0.9 x-user:ann x-many:a x-many:b";
    for (field, hit) in [
        ("host=shop.example", true),
        ("host=SHOP.Example", true),
        ("host=shop.example:8080", true),
        ("host=shop.example:80", false),
        ("host=*.example", true),
        ("host=*:8080", true),
        ("host=shop.*", true),
        ("host=shop.example:*", true),
        ("host=*", true),
        ("host=example", false),
        ("not-host=shop.example", false),
        ("not-host=pay.example", true),
        ("method=GET", true),
        ("method=get", false),
        ("method=G*,P*", true),
        ("not-method=GET", false),
        ("path=/admin/users", true),
        ("path=/admin", false),
        ("path=/admin*", true),
        ("path=*/users", true),
        ("path=/Admin/users", false),
        ("path=/{*}/users", true),
        ("path=/admin/{**}", true),
        ("not-path=/admin/{*}", false),
        ("not-path=/public*", true),
        ("principal=https://id/ann", true),
        ("principal=*/ann", true),
        ("principal=*", true),
        ("principal=https://id/bob", false),
        ("aud=b", true),
        ("aud=c", false),
        ("not-aud=a", false),
        ("azp=cli", true),
        ("claim.scope=write", true),
        ("claim.scope=wri", false),
        ("claim.groups=x", true),
        ("claim.org.name=ac*", true),
        ("claim.org.size=7", false),
        ("claim.org=acme", false),
        ("claim.none=*", false),
        ("not-claim.none=*", true),
        ("not-claim.groups=x", false),
        ("header.x-user=ann", true),
        ("header.x-many=a,b", false),
        ("header.x-many=a*", true),
        ("header.x-none=*", false),
        ("not-header.x-none=*", true),
        ("header.host=shop.example:8080", true),
        ("remote=10.0.0.0/24", true),
        ("not-remote=10.0.0.0/24", false),
        ("caller=td/ns/shop/sa/web", true),
        ("method=GET path=/admin* caller=td/ns/shop/*", true),
        ("method=GET path=/x", false),
        ("method=GET caller=td/ns/other/*", false),
    ] {
        let expected = if hit { "denied by p" } else { "no policy" };
        assert_eq!(answer("", &format!("deny p {field}"), asking, claims), expected, "{field}");
    }
}

#[test]
fn without_a_token_nothing_of_one_agrees() {
    for (field, hit) in [
        ("principal=*", false),
        ("not-principal=*", true),
        ("aud=*", false),
        ("claim.iss=*", false),
        ("not-claim.iss=https://id", true),
    ] {
        for claims in ["", r#"{"iss":"","sub":"ann"}"#, r#"{"sub":"ann"}"#] {
            let expected = if hit { "denied by p" } else { "no policy" };
            assert_eq!(answer("", &format!("deny p {field}"), "GET /", claims), expected, "{field} {claims}");
        }
    }
}

#[test]
fn templates_are_compared_element_by_element() {
    for (template, path, hit) in [
        ("/{*}", "/a", true),
        ("/{*}", "/", false),
        ("/{*}", "/a/b", false),
        ("/a/{*}/c", "/a/b/c", true),
        ("/a/{*}/c", "/a//c", false),
        ("/a/{**}", "/a", false),
        ("/a/{**}", "/a/", true),
        ("/a/{**}", "/a/b/c", true),
        ("/{**}", "/", true),
        ("/a/{**}/c", "/a/c", false),
        ("/a/{**}/c", "/a/b/c", true),
        ("/a/{**}/c", "/a//c", true),
        ("/a/{**}/c", "/a/b/b/c", true),
        ("/a/{**}/", "/a/b/", true),
        ("/a/{**}/", "/a/b", false),
        ("/{*}/{**}/c", "/a/b/c", true),
        ("/{*}/{**}/c", "/a/c", false),
    ] {
        let expected = if hit { "denied by p" } else { "no policy" };
        check(&format!("deny p path={template}"), &[(&format!("GET {path}"), expected)]);
    }
}

#[test]
fn a_template_that_is_none_is_refused() {
    for (template, reason) in [
        ("a/{*}", "does not begin with /"),
        ("/a{*}", "neither a text"),
        ("/{a}", "neither a text"),
        ("/{*}/*", "neither a text"),
        ("/{*", "neither a text"),
        ("/{**}/{*}", "not the last of its kind"),
        ("/{**}/{**}", "not the last of its kind"),
    ] {
        let rules = &guards(&format!("deny p path={template}")).policies[0].rules;
        let error = check_templates(rules).expect_err(template);
        assert!(error.contains(reason), "{error}");
    }
    assert_eq!(check_templates(&guards("deny p path=/{*}/a/{**}/b").policies[0].rules), Ok(()));
}

#[test]
fn where_no_request_is_seen_no_more_passes() {
    for (policy, server_name, expected) in [
        ("allow p path=/a", None, "nothing allows"),
        ("allow p not-path=/a", None, "nothing allows"),
        ("allow p path=/a port=80", None, "nothing allows"),
        ("allow p port=80", None, "allowed by p"),
        ("deny p path=/a", None, "denied by p"),
        ("deny p not-path=/a", None, "denied by p"),
        ("deny p path=/a port=80", None, "denied by p"),
        ("deny p path=/a port=81", None, "no policy"),
        ("deny p header.x=1 caller=td/ns/shop/*", None, "no policy"),
        ("custom:x p path=/a", None, "no policy, p asks x"),
        ("audit p path=/a", None, "no policy"),
        ("allow p sni=a.example", Some("A.example"), "allowed by p"),
        ("allow p sni=a.example", Some("b.example"), "nothing allows"),
        ("allow p sni=a.example", None, "nothing allows"),
        ("allow p sni=a.example path=/a", Some("a.example"), "nothing allows"),
        ("deny p sni=a.example path=/a", Some("a.example"), "denied by p"),
        ("deny p sni=a.example path=/a", Some("b.example"), "no policy"),
        ("deny p not-sni=*.example", None, "denied by p"),
    ] {
        let asked = Asking::of("GET /");
        let head = asked.head();
        let found = judged(&Guards::default(), &guards(policy), &attributes(&head, false, server_name));
        assert_eq!(found, expected, "{policy} {server_name:?}");
    }
    // A rule that asks about a request in any of its matches allows nothing.
    let mut either = guards("allow p port=80");
    either.policies[0].rules[0].clauses[0].matches.push(matching(&["path=/a"]));
    let asked = Asking::of("GET /");
    let head = asked.head();
    assert_eq!(judged(&Guards::default(), &either, &attributes(&head, false, None)), "nothing allows");
}

#[test]
fn encoded_slashes_find_no_way_around() {
    for (policies, path, expected) in [
        ("deny admin path=/admin,/admin/*", "/admin%2Fusers", "denied by admin"),
        ("deny admin path=/admin,/admin/*", "/admin%5Cusers", "denied by admin"),
        ("deny admin path=/admin,/admin/*", "/x%2Fadmin", "no policy"),
        ("allow public path=/public/*", "/public/a%2Fb", "allowed by public"),
        ("allow exact path=/public/{*}", "/public/a%2Fb", "nothing allows"),
        ("custom:door ask path=/door/*", "/door%2Fx", "no policy, ask asks door"),
    ] {
        assert_eq!(answer("", policies, &format!("GET {path}"), ""), expected, "{path} under {policies}");
    }
}
