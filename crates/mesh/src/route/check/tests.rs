//! Each mistake is named by its place and its reason.

use super::*;
use crate::{
    policy::{Clause, Match, PathPattern, RequestMatch, Rule, Values},
    route::{
        HttpRoute,
        guard::{ExternalAuthorizer, GuardPolicy},
        http::{Backend, Destination, DirectResponse, Precedence, Retry},
        limit::LimitScope,
        text::Fraction,
        traffic::{AdaptiveConcurrency, HashKey, Outlier, Subset},
    },
};
use std::time::Duration;

fn of(change: impl Fn(&mut ServiceRules)) -> Result<(), String> {
    let mut rules = ServiceRules::of("shop/web".parse().expect("a key"));
    rules.http = vec![HttpRoute {
        name: "HTTPRoute/shop/a".into(),
        created: None,
        ports: Vec::new(),
        callers: None,
        precedence: Precedence::Specific,
        rules: vec![HttpRule::default(), HttpRule::default()],
    }];
    change(&mut rules);
    service(&rules).map_err(|error| error.to_string())
}

fn of_rule(change: impl Fn(&mut HttpRule)) -> Result<(), String> {
    of(|rules| change(&mut rules.http[0].rules[1]))
}

fn of_traffic(change: impl Fn(&mut Traffic)) -> Result<(), String> {
    let mut traffic = Traffic { name: "DestinationRule/shop/d".into(), ..Traffic::default() };
    change(&mut traffic);
    of(|rules| rules.traffic = vec![traffic.clone()])
}

#[test]
fn what_a_rule_says_is_within_what_can_be_done() {
    let set = |name: &str, value: &str| HeaderEdit { set: vec![(name.into(), value.into())], ..HeaderEdit::default() };
    let place = |reason: &str| Err(format!("HTTPRoute/shop/a, rule 1: {reason}"));
    let respond = |status| of_rule(|rule| rule.action = Action::Respond(DirectResponse { status, body: None }));
    let header = |name: &str, value: &str| of_rule(|rule| rule.filters.request_headers = set(name, value));
    assert_eq!(respond(200), Ok(()));
    assert_eq!(respond(599), Ok(()));
    assert_eq!(respond(199), place("199 is no status from 200 to 599"));
    assert_eq!(respond(600), place("600 is no status from 200 to 599"));
    assert_eq!(header("x-a", "b"), Ok(()));
    assert_eq!(header(":authority", "b"), Ok(()));
    assert_eq!(header("x a", "b"), place("\"x a\" cannot be the name of a header"));
    assert_eq!(header(":path", "b"), place("\":path\" cannot be the name of a header"));
    assert_eq!(header("x-a", "b\r\nc: d"), place("\"b\\r\\nc: d\" cannot be the value of header x-a"));
    let of_backend = of_rule(|rule| {
        rule.action = Action::Forward(vec![Backend {
            destination: Destination::Invalid { reason: "none".into() },
            weight: 1,
            request_headers: HeaderEdit::default(),
            response_headers: HeaderEdit { remove: vec!["".into()], ..HeaderEdit::default() },
        }]);
    });
    assert_eq!(of_backend, place("\"\" cannot be the name of a header"));
    let mut retry = Retry::default();
    retry.on.status = vec![503, 99];
    assert_eq!(of_rule(|rule| rule.retry = Some(retry.clone())), place("99 is no status from 100 to 599"));
    let abort =
        |status| of_rule(|rule| rule.faults = vec![Fault { abort: Some((status, Fraction::ALL)), ..Fault::default() }]);
    assert_eq!(abort(AbortStatus::Grpc(16)), Ok(()));
    assert_eq!(abort(AbortStatus::Grpc(17)), place("17 is no status of gRPC"));
    assert_eq!(abort(AbortStatus::Http(100)), place("100 is no status from 200 to 599"));
    let limit = RateLimit {
        name: "l".into(),
        matches: Vec::new(),
        keys: Vec::new(),
        requests: 1,
        per: Duration::ZERO,
        burst: 1,
        scope: LimitScope::Replica,
    };
    assert_eq!(of_rule(|rule| rule.limits = vec![limit.clone()]), place("limit l: in no time at all"));
}

#[test]
fn how_a_service_is_reached_is_within_what_can_be_done() {
    let place = |reason: &str| Err(format!("DestinationRule/shop/d: {reason}"));
    let hashed =
        |algorithm| of_traffic(|traffic| traffic.balance = Balance::Consistent { key: HashKey::SourceIp, algorithm });
    assert_eq!(hashed(HashAlgorithm::Ring { points_min: 1024 }), Ok(()));
    assert_eq!(hashed(HashAlgorithm::Maglev { entries: 65_537 }), Ok(()));
    let max = limits::HASH_POINTS_MAX;
    assert_eq!(
        hashed(HashAlgorithm::Ring { points_min: max + 1 }),
        place(&format!("a ring of {} points; at most {max}", max + 1))
    );
    assert_eq!(
        hashed(HashAlgorithm::Maglev { entries: u32::MAX }),
        place(&format!("a Maglev table of {} entries; at most {max}", u32::MAX))
    );
    for entries in [0, 1, 65_536] {
        let reason = format!("a Maglev table of {entries} entries, which is no prime");
        assert_eq!(hashed(HashAlgorithm::Maglev { entries }), place(&reason));
    }
    let outlier = Outlier {
        consecutive_errors: 5,
        consecutive_gateway_errors: 0,
        consecutive_local_failures: 0,
        error_codes: Vec::new(),
        interval: Duration::from_secs(10),
        base_ejection: Duration::from_secs(30),
        max_ejection: Duration::from_secs(300),
        max_ejected_percent: 10,
        min_healthy_percent: 0,
    };
    let ejecting = |outlier: Outlier| of_traffic(|traffic| traffic.outlier = Some(outlier.clone()));
    assert_eq!(ejecting(outlier.clone()), Ok(()));
    let all = Outlier { max_ejected_percent: 101, ..outlier.clone() };
    assert_eq!(ejecting(all), place("more than 100 percent of the endpoints"));
    let always = Outlier { interval: Duration::ZERO, ..outlier };
    assert_eq!(ejecting(always), place("ejected endpoints are looked at all the time"));
    let adaptive =
        |minimum, maximum| of_traffic(|traffic| traffic.adaptive = Some(AdaptiveConcurrency { minimum, maximum }));
    assert_eq!(adaptive(1, 1), Ok(()));
    assert!(adaptive(0, 1).is_err() && adaptive(2, 1).is_err());
    let in_subset = of(|rules| {
        let algorithm = HashAlgorithm::Maglev { entries: 4 };
        let balance = Balance::Consistent { key: HashKey::SourceIp, algorithm };
        let traffic = vec![Traffic { name: "d".into(), balance, ..Traffic::default() }];
        rules.subsets = vec![Subset { name: "v1".into(), members: Vec::new(), traffic }];
    });
    assert_eq!(in_subset, Err("d, subset v1: a Maglev table of 4 entries, which is no prime".into()));
}

#[test]
fn what_guards_say_is_within_what_can_be_done() {
    let authorizer = ExternalAuthorizer {
        name: "opa".into(),
        destination: Destination::Invalid { reason: "none".into() },
        protocol: AuthorizerProtocol::Grpc,
        timeout: Duration::from_secs(1),
        fail_open: false,
        status_on_error: 403,
        body: None,
    };
    let custom = |authorizer: ExternalAuthorizer| {
        let policy = GuardPolicy {
            namespace: "shop".into(),
            name: "p".into(),
            action: GuardAction::Custom(Box::new(authorizer)),
            dry_run: false,
            rules: Vec::new(),
        };
        of(|rules| rules.guards.policies = vec![policy.clone()])
    };
    let place = |reason: &str| Err(format!("policy shop/p, authorizer opa: {reason}"));
    assert_eq!(custom(authorizer.clone()), Ok(()));
    let status = ExternalAuthorizer { status_on_error: 100, ..authorizer.clone() };
    assert_eq!(custom(status), place("100 is no status from 200 to 599"));
    let hasty = ExternalAuthorizer { timeout: Duration::ZERO, ..authorizer };
    assert_eq!(custom(hasty), place("it may take no time at all"));
    let paths = Values { any_of: vec![PathPattern::Template("/{a}".into())], none_of: Vec::new() };
    let request = Some(Box::new(RequestMatch { paths, ..RequestMatch::default() }));
    let rule = Rule { clauses: vec![Clause { matches: vec![Match { request, ..Match::default() }] }] };
    let error = of(|rules| {
        rules.guards.policies = vec![GuardPolicy {
            namespace: "shop".into(),
            name: "p".into(),
            action: GuardAction::Deny,
            dry_run: false,
            rules: vec![rule.clone()],
        }];
    });
    let error = error.expect_err("it is no template");
    assert!(error.starts_with("policy shop/p: in the path template \"/{a}\""), "{error}");
}
