use super::*;
use futures_util::FutureExt as _;
use mesh::fixture;
use std::time::Duration;

const OPEN: &str = "pod server ns=shop sa=server ip=10.0.0.2 uid=u";
const CLIENT_ONLY: &str = "
pod server ns=shop sa=server ip=10.0.0.2 uid=u
allow only-client ns=shop for=server principal=cluster.local/ns/shop/sa/client
";

fn judged(by: &View, account: &str) -> Option<Judged> {
    Some(Judged {
        workload: "u".into(),
        source: Identity::new("cluster.local", "shop", account).ok(),
        source_ip: "10.0.0.1".parse().expect("an address"),
        destination: "10.0.0.2:80".parse().expect("an address"),
        policy_version: by.policy_version(),
    })
}

#[test]
fn what_policy_came_to_forbid_is_broken_off_and_nothing_else() {
    let before = fixture::view(OPEN);
    let after = before.apply(fixture::changes(CLIENT_ONLY));
    let live = Live::default();
    let breakers: [Breaker; 3] = Default::default();
    let [friend, stranger, outgoing] = &breakers;
    let _open = (
        live.track(&Breaker::default(), judged(&before, "client"), friend),
        live.track(&Breaker::default(), judged(&before, "stranger"), stranger),
        live.track(&Breaker::default(), None, outgoing),
    );
    assert_eq!(live.judge(&before), 0);
    assert_eq!(live.judge(&after), 1);
    assert_eq!(breakers.each_ref().map(Breaker::cause), [None, Some(Cause::PolicyChanged), None]);
    assert_eq!(breakers.each_ref().map(|breaker| breaker.broken().now_or_never()), [None, Some(()), None]);
}

#[test]
fn a_policy_that_came_between_decision_and_opening_is_not_missed() {
    let before = fixture::view(OPEN);
    let after = before.apply(fixture::changes(CLIENT_ONLY));
    let live = Live::default();
    let (same, changed) = (Breaker::default(), Breaker::default());
    live.track(&Breaker::default(), judged(&after, "stranger"), &same).judge_again(&after);
    assert_eq!(same.cause(), None, "the view that decided is not asked twice");
    live.track(&Breaker::default(), judged(&before, "stranger"), &changed).judge_again(&after);
    assert_eq!(changed.cause(), Some(Cause::PolicyChanged));
}

#[test]
fn a_connection_that_ended_is_forgotten() {
    let live = Live::default();
    let tracked = live.track(&Breaker::default(), None, &Breaker::default());
    assert_eq!(live.len(), 1);
    drop(tracked);
    assert!(live.is_empty());
}

#[test]
fn a_crowd_that_has_gone_leaves_no_room_for_another() {
    let live = Live::default();
    let room = || live.lock().open.capacity();
    let mut crowd: Vec<_> = (0..10_000).map(|_| live.track(&Breaker::default(), None, &Breaker::default())).collect();
    assert!(room() >= 10_000);
    crowd.truncate(1000);
    assert!((1000..=4000).contains(&room()), "{}", room());
    drop(crowd);
    assert!(room() <= 2 * MAP_KEPT, "{}", room());
}

#[test]
fn only_the_first_cause_counts() {
    let breaker = Breaker::default();
    breaker.break_off(Cause::PodGone);
    breaker.break_off(Cause::PolicyChanged);
    assert_eq!(breaker.cause(), Some(Cause::PodGone));
}

#[tokio::test(start_paused = true)]
async fn who_moves_the_bytes_hears_of_the_break() {
    let breaker = Breaker::default();
    let moving = chassis::task::spawn("moves the bytes", breaker.broken());
    tokio::task::yield_now().await;
    assert!(!moving.is_finished());
    breaker.break_off(Cause::PodGone);
    tokio::time::timeout(Duration::from_secs(1), moving).await.expect("woken").expect("no panic");
}

#[test]
fn a_pod_that_came_back_keeps_what_it_has_opened_since() {
    let live = Live::default();
    let [left, came, old, new]: [Breaker; 4] = Default::default();
    let _open = (live.track(&left, None, &old), live.track(&came, None, &new));
    assert_eq!(live.break_off_pod(&left, Cause::DrainDeadline), 1);
    assert_eq!([left, came, old, new].map(|breaker| breaker.cause().is_some()), [true, false, true, false]);
}

#[test]
fn the_most_that_were_open_are_told_once() {
    let live = Live::default();
    let open: Vec<_> = (0..3).map(|_| live.track(&Breaker::default(), None, &Breaker::default())).collect();
    drop(open);
    let one = live.track(&Breaker::default(), None, &Breaker::default());
    assert_eq!([live.peak(), live.peak()], [3, 1]);
    drop(one);
    assert_eq!([live.peak(), live.peak()], [1, 0]);
}
