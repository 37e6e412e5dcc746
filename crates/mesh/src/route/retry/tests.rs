//! What is tried again, and the law.

use super::*;
use crate::route::http::RetryOn;
use proptest::prelude::*;

const SENT: TryOutcome = TryOutcome::Reset { sent: true };
const UNSENT: TryOutcome = TryOutcome::Reset { sent: false };

fn response(status: u16) -> TryOutcome {
    TryOutcome::Response { status, grpc_status: None }
}

fn policy(on: RetryOn) -> Retry {
    Retry { attempts: 3, on, ..Retry::default() }
}

fn tries<'a>(method: &'a str, policy: Option<&'a Retry>) -> Tries<'a> {
    Tries { method, policy, replayable: true, made: 1, budget: true, throw: 0 }
}

fn done(outcome: TryOutcome, tries: &Tries<'_>) -> Option<Why> {
    match next(outcome, tries) {
        Next::Again { .. } => None,
        Next::Done(why) => Some(why),
    }
}

#[test]
fn without_a_policy_only_what_was_never_processed_is_tried_twice_more() {
    for method in ["GET", "POST"] {
        for (outcome, expected) in [
            (TryOutcome::ConnectFailed, None),
            (TryOutcome::RefusedStream, None),
            (UNSENT, None),
            (SENT, Some(Why::NotAsked)),
            (TryOutcome::TimedOut { sent: false }, Some(Why::NotAsked)),
            (TryOutcome::ResetAfterHeaders, Some(Why::NotAsked)),
            (response(503), Some(Why::NotAsked)),
        ] {
            assert_eq!(done(outcome, &tries(method, None)), expected, "{method} {outcome:?}");
        }
    }
    for (made, expected) in [(1, None), (2, None), (3, Some(Why::Attempts))] {
        assert_eq!(done(TryOutcome::ConnectFailed, &Tries { made, ..tries("GET", None) }), expected);
    }
}

#[test]
fn a_policy_says_on_what() {
    let on = |set: fn(&mut RetryOn)| {
        let mut on = RetryOn::default();
        set(&mut on);
        policy(on)
    };
    let grpc = |status| TryOutcome::Response { status: 200, grpc_status: Some(status) };
    for (policy, again, not) in [
        (on(|_| ()), vec![], vec![TryOutcome::ConnectFailed, TryOutcome::RefusedStream, SENT, response(503)]),
        (on(|on| on.connect_failure = true), vec![TryOutcome::ConnectFailed], vec![TryOutcome::RefusedStream, SENT]),
        (on(|on| on.refused_stream = true), vec![TryOutcome::RefusedStream], vec![TryOutcome::ConnectFailed, SENT]),
        (on(|on| on.reset = true), vec![SENT, UNSENT, TryOutcome::RefusedStream], vec![TryOutcome::ConnectFailed]),
        (
            on(|on| on.server_error = true),
            vec![response(500), response(599), SENT, TryOutcome::ConnectFailed, TryOutcome::TimedOut { sent: true }],
            vec![response(499), response(200), TryOutcome::ResetAfterHeaders],
        ),
        (
            on(|on| on.gateway_error = true),
            vec![response(502), response(503), response(504), SENT],
            vec![response(500), response(501), response(505)],
        ),
        (on(|on| on.conflict = true), vec![response(409)], vec![response(408), SENT]),
        (on(|on| on.status = vec![418]), vec![response(418)], vec![response(503)]),
        (on(|on| on.grpc_status = vec![14]), vec![grpc(14)], vec![grpc(13), response(200)]),
    ] {
        for outcome in again {
            assert_eq!(done(outcome, &tries("GET", Some(&policy))), None, "{outcome:?} {policy:?}");
        }
        for outcome in not {
            assert_eq!(done(outcome, &tries("GET", Some(&policy))), Some(Why::NotAsked), "{outcome:?} {policy:?}");
        }
    }
}

#[test]
fn what_forbids_another_try_is_named() {
    let all = policy(RetryOn { server_error: true, ..RetryOn::default() });
    let base = tries("GET", Some(&all));
    for (outcome, tries, expected) in [
        (response(503), Tries { method: "POST", ..base }, Some(Why::MayBeProcessed)),
        (SENT, Tries { method: "PATCH", ..base }, Some(Why::MayBeProcessed)),
        (SENT, Tries { method: "get", ..base }, Some(Why::MayBeProcessed)),
        (UNSENT, Tries { method: "POST", ..base }, None),
        (response(503), Tries { method: "PUT", ..base }, None),
        (response(503), Tries { replayable: false, ..base }, Some(Why::BodyGone)),
        (response(503), Tries { made: 3, ..base }, None),
        (response(503), Tries { made: 4, ..base }, Some(Why::Attempts)),
        (response(503), Tries { budget: false, ..base }, Some(Why::Budget)),
        (response(200), Tries { budget: false, ..base }, Some(Why::NotAsked)),
    ] {
        assert_eq!(done(outcome, &tries), expected, "{outcome:?} {tries:?}");
    }
    let never = Retry { attempts: 0, ..all.clone() };
    assert_eq!(done(response(503), &tries("GET", Some(&never))), Some(Why::Attempts));
}

#[test]
fn each_wait_is_twice_the_last_and_spread_upwards() {
    let retry = Retry {
        attempts: 100,
        backoff: Some(Duration::from_millis(100)),
        ..policy(RetryOn { reset: true, ..RetryOn::default() })
    };
    for (made, throw, expected) in [
        (1, 0, 100),
        (1, 500_000, 125),
        (1, 1_000_000, 150),
        (2, 0, 200),
        (3, 0, 400),
        (4, 1_000_000, 1000),
        (5, 0, 1000),
        (90, u32::MAX, 1000),
    ] {
        let found = next(SENT, &Tries { made, throw, ..tries("GET", Some(&retry)) });
        assert_eq!(found, Next::Again { wait: Duration::from_millis(expected) }, "{made} {throw}");
    }
}

fn outcome() -> impl Strategy<Value = TryOutcome> {
    prop_oneof![
        Just(TryOutcome::ConnectFailed),
        Just(TryOutcome::RefusedStream),
        Just(TryOutcome::ResetAfterHeaders),
        any::<bool>().prop_map(|sent| TryOutcome::Reset { sent }),
        any::<bool>().prop_map(|sent| TryOutcome::TimedOut { sent }),
        (100..600u16, prop::option::of(0..17u8))
            .prop_map(|(status, grpc_status)| TryOutcome::Response { status, grpc_status }),
    ]
}

prop_compose! {
    fn any_policy()(attempts in 0..5u32, flags: [bool; 6], status in prop::collection::vec(100..600u16, 0..3), backoff in prop::option::of(any::<u64>())) -> Retry {
        let [connect_failure, refused_stream, reset, server_error, gateway_error, conflict] = flags;
        let on = RetryOn { connect_failure, refused_stream, reset, server_error, gateway_error, conflict, status, grpc_status: (0..17).collect() };
        Retry { attempts, per_try_timeout: None, on, backoff: backoff.map(Duration::from_nanos) }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5000))]

    #[test]
    fn what_may_be_processed_is_never_repeated_unless_that_is_harmless(
        outcome in outcome(), policy in prop::option::of(any_policy()), made in 1..6u32, replayable: bool, budget: bool, throw: u32,
        method in prop::sample::select(&["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "POST", "PATCH", "CONNECT", "PURGE", "get", ""][..]),
    ) {
        let found = next(outcome, &Tries { method, policy: policy.as_ref(), replayable, made, budget, throw });
        if let Next::Again { wait } = found {
            let harmless = ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"].contains(&method);
            let unprocessed = matches!(outcome, TryOutcome::ConnectFailed | TryOutcome::RefusedStream | UNSENT | TryOutcome::TimedOut { sent: false });
            prop_assert!(harmless || unprocessed);
            prop_assert!(outcome != TryOutcome::ResetAfterHeaders);
            prop_assert!(replayable && budget);
            prop_assert!(made <= policy.as_ref().map_or(2, |policy| policy.attempts));
            let first = policy.and_then(|policy| policy.backoff).unwrap_or(DEFAULT_BACKOFF);
            prop_assert!(wait >= first && wait <= first * 10);
        }
    }
}
