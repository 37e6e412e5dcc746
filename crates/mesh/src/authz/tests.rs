//! Every construct of a policy, each row a sentence: policies, a caller, the answer.

use super::*;
use crate::fixture;

/// `principal ip -> ip:port`; `-` is a caller without identity.
fn verdict(policies: &str, call: &str) -> Verdict {
    let pods = "pod server ns=shop ip=10.0.0.2,fd00::2\npod other ns=else ip=10.0.0.3\n";
    let view = fixture::view(&format!("{pods}{policies}"));
    let words: Vec<&str> = call.split_whitespace().collect();
    let [caller, source_ip, "->", destination] = words[..] else { panic!("bad call {call:?}") };
    let identity = (caller != "-").then(|| format!("spiffe://{caller}").parse::<Identity>().expect("a good identity"));
    let destination: std::net::SocketAddr = destination.parse().expect("an address and port");
    let pod = view.workload_by_address("", "10.0.0.2".parse().expect("an address")).expect("the server");
    let attributes = Attributes {
        source: identity.as_ref(),
        source_ip: source_ip.parse().expect("an address"),
        destination_ip: destination.ip(),
        destination_port: destination.port(),
        server_name: None,
        request: None,
    };
    decide(&view, pod, &attributes)
}

fn check(policies: &str, rows: &[(&str, &str)]) {
    for (call, expected) in rows {
        let verdict = verdict(policies, call);
        let found = match &verdict.reason {
            Reason::NoPolicy => "no policy".to_string(),
            Reason::AllowedBy(policy) => format!("allowed by {}", policy.key()),
            Reason::DeniedBy(policy) => format!("denied by {}", policy.key()),
            Reason::NothingAllows => "nothing allows".to_string(),
        };
        assert_eq!(&found, expected, "{call} under\n{policies}");
        assert_eq!(verdict.allowed, expected.starts_with("allowed") || *expected == "no policy");
    }
}

const WEB: &str = "td/ns/shop/sa/web 10.0.0.1 -> 10.0.0.2:80";
const NOBODY: &str = "- 10.0.0.1 -> 10.0.0.2:80";

#[test]
fn without_a_policy_everything_passes() {
    check("", &[(WEB, "no policy"), (NOBODY, "no policy")]);
    check("deny elsewhere ns=else anyone", &[(WEB, "no policy")]);
    check("deny elsewhere ns=else for=other anyone", &[(WEB, "no policy")]);
}

#[test]
fn policies_are_global_of_the_namespace_or_named() {
    check("deny everywhere ns=root global anyone", &[(WEB, "denied by root/everywhere")]);
    check("deny here ns=shop anyone", &[(WEB, "denied by shop/here")]);
    check("deny this ns=shop for=server anyone", &[(WEB, "denied by shop/this")]);
}

#[test]
fn deny_comes_before_allow() {
    check(
        "allow all ns=shop anyone\ndeny some ns=shop principal=td/ns/shop/sa/web",
        &[(WEB, "denied by shop/some"), (NOBODY, "allowed by shop/all")],
    );
}

#[test]
fn an_allow_policy_that_does_not_hit_closes_the_rest() {
    check(
        "allow web ns=shop port=80",
        &[(WEB, "allowed by shop/web"), ("- 10.0.0.1 -> 10.0.0.2:81", "nothing allows")],
    );
    check("deny web ns=shop port=80", &[(WEB, "denied by shop/web"), ("- 10.0.0.1 -> 10.0.0.2:81", "no policy")]);
}

#[test]
fn a_policy_without_rules_never_hits() {
    check("allow none ns=shop", &[(WEB, "nothing allows")]);
    check("deny none ns=shop", &[(WEB, "no policy")]);
}

#[test]
fn dry_run_policies_only_show_in_the_log() {
    let policies = "deny all ns=shop dry-run anyone\nallow none ns=shop dry-run\nallow web ns=shop dry-run port=80";
    check(policies, &[(WEB, "no policy")]);
    let mut names: Vec<_> = verdict(policies, WEB).dry_run.iter().map(|policy| policy.key()).collect();
    names.sort();
    assert_eq!(names, ["shop/all", "shop/web"]);
    let unhit = verdict("deny no ns=shop dry-run port=1\nallow yes ns=shop anyone", WEB);
    assert!(unhit.allowed && unhit.dry_run.is_empty());
}

#[test]
fn a_policy_that_is_named_but_missing_is_told() {
    let view = fixture::view(
        "pod server ns=shop ip=10.0.0.2 policies=shop/gone,shop/here\ndeny here ns=shop for=server port=1",
    );
    let pod = view.workload("Kubernetes//Pod/shop/server").expect("the server");
    let ip = "10.0.0.2".parse().expect("an address");
    let asked = Attributes {
        source: None,
        source_ip: ip,
        destination_ip: ip,
        destination_port: 80,
        server_name: None,
        request: None,
    };
    let verdict = decide(&view, pod, &asked);
    assert!(verdict.allowed);
    assert_eq!(verdict.missing, ["shop/gone".into()]);
}

#[test]
fn texts_match_exactly_at_an_end_or_by_presence() {
    let odd = "td/ns/shop/sa/webX 10.0.0.1 -> 10.0.0.2:80";
    for (field, web, other, nobody) in [
        ("principal=td/ns/shop/sa/web", true, false, false),
        ("principal=td/ns/shop/*", true, true, false),
        ("principal=*/sa/web", true, false, false),
        ("principal=*", true, true, false),
        ("not-principal=*", false, false, true),
        ("not-principal=td/ns/shop/sa/web", false, true, true),
        ("not-principal=*/sa/web,*X", false, false, true),
        ("namespace=shop", true, true, false),
        ("namespace=sho", false, false, false),
        ("namespace=s*", true, true, false),
        ("not-namespace=shop", false, false, true),
        ("not-namespace=else", true, true, true),
        ("account=shop/web", true, false, false),
        ("account=else/web", false, false, false),
        ("account=shop/webX,shop/web", true, true, false),
        ("not-account=shop/web", false, true, true),
        ("principal=t.", false, false, false),
        ("principal=.*", false, false, false),
    ] {
        for (call, hit) in [(WEB, web), (odd, other), (NOBODY, nobody)] {
            let expected = if hit { "denied by shop/p" } else { "no policy" };
            check(&format!("deny p ns=shop {field}"), &[(call, expected)]);
        }
    }
}

#[test]
fn addresses_match_by_range_and_ports_by_number() {
    for (field, call, hit) in [
        ("source-ip=10.0.0.0/24", "- 10.0.0.255 -> 10.0.0.2:80", true),
        ("source-ip=10.0.0.0/24", "- 10.0.1.0 -> 10.0.0.2:80", false),
        ("source-ip=10.0.0.1", "- 10.0.0.1 -> 10.0.0.2:80", true),
        ("source-ip=10.0.0.1", "- ::ffff:10.0.0.1 -> 10.0.0.2:80", true),
        ("source-ip=::ffff:10.0.0.0/120", "- 10.0.0.1 -> 10.0.0.2:80", true),
        ("source-ip=::/0", "- 10.0.0.1 -> 10.0.0.2:80", false),
        ("source-ip=0.0.0.0/0", "- fd00::1 -> [fd00::2]:80", false),
        ("source-ip=fd00::/16", "- fd00::1 -> [fd00::2]:80", true),
        ("not-source-ip=10.0.0.0/24", "- 10.0.0.9 -> 10.0.0.2:80", false),
        ("not-source-ip=10.0.0.0/24", "- 10.0.9.9 -> 10.0.0.2:80", true),
        ("ip=10.0.0.2", "- 10.0.0.1 -> 10.0.0.2:80", true),
        ("ip=10.0.0.2", "- 10.0.0.1 -> [fd00::2]:80", false),
        ("not-ip=10.0.0.2", "- 10.0.0.1 -> [fd00::2]:80", true),
        ("port=80,81", "- 10.0.0.1 -> 10.0.0.2:81", true),
        ("port=80,81", "- 10.0.0.1 -> 10.0.0.2:82", false),
        ("not-port=80", "- 10.0.0.1 -> 10.0.0.2:82", true),
        ("not-port=80", "- 10.0.0.1 -> 10.0.0.2:80", false),
    ] {
        check(&format!("deny p ns=shop {field}"), &[(call, if hit { "denied by shop/p" } else { "no policy" })]);
    }
}

#[test]
fn fields_and_clauses_must_all_agree_matches_and_rules_need_not() {
    let policies = "
        deny p ns=shop port=80 not-port=81 source-ip=10.0.0.0/24
        or p ns=shop port=90
        and p ns=shop namespace=shop
        deny p ns=shop port=100";
    let denied = "denied by shop/p";
    check(
        policies,
        &[
            (WEB, denied),
            (NOBODY, "no policy"),
            ("td/ns/shop/sa/web 10.9.0.1 -> 10.0.0.2:80", "no policy"),
            ("td/ns/shop/sa/web 10.9.0.1 -> 10.0.0.2:90", denied),
            ("td/ns/else/sa/web 10.9.0.1 -> 10.0.0.2:90", "no policy"),
            ("- 10.9.0.1 -> 10.0.0.2:100", denied),
        ],
    );
}

#[test]
fn a_clause_without_matches_always_hits_and_a_match_without_fields_never() {
    let rule = |clauses: Vec<Clause>| Policy {
        name: "p".into(),
        namespace: "shop".into(),
        scope: crate::policy::PolicyScope::Namespace,
        action: Action::Deny,
        rules: vec![Rule { clauses }],
        dry_run: false,
    };
    let empty_match = Clause { matches: vec![Match::default()] };
    let port = Match { destination_ports: Values { any_of: vec![80], none_of: vec![] }, ..Match::default() };
    for (clauses, hit) in [
        (vec![], true),
        (vec![Clause::default()], true),
        (vec![empty_match.clone()], false),
        (vec![Clause::default(), empty_match.clone()], false),
        (vec![Clause { matches: vec![Match::default(), port.clone()] }], true),
        (vec![Clause { matches: vec![port] }, empty_match], false),
    ] {
        let view = fixture::view("pod server ns=shop ip=10.0.0.2");
        let view = view.apply([crate::Change::Policy(Arc::new(rule(clauses.clone())))]);
        let ip = "10.0.0.2".parse().expect("an address");
        let asked = Attributes {
            source: None,
            source_ip: ip,
            destination_ip: ip,
            destination_port: 80,
            server_name: None,
            request: None,
        };
        let pod = view.workload_by_address("", ip).expect("the server");
        assert_eq!(decide(&view, pod, &asked).allowed, !hit, "{clauses:?}");
    }
}
