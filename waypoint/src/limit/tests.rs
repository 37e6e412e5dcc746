use super::{bucket::Bucket, lease, limits::KEYS_MAX, *};
use crate::external::{CallFailed, call::Asking};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::Response;
use mesh::{Str, route::limit::LimitKey};
use proptest::prelude::*;
use std::{
    collections::HashMap,
    sync::{Mutex, Weak},
};

fn rate(requests: u32, per: Duration, burst: u32) -> Rate {
    Rate { requests, per, burst }
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

proptest! {
    /// Over any time a bucket gives its burst and its rate, to the token.
    #[test]
    fn a_bucket_is_exact(
        requests in 1u32..1000, per in 1u64..100_000, burst in 1u32..50, steps in prop::collection::vec((0u64..5_000_000_000, 0u32..20), 1..50)
    ) {
        let rate = rate(requests, Duration::from_millis(per), burst);
        let mut bucket = Bucket::full(rate, Duration::ZERO);
        let (mut now, mut taken) = (0u64, 0u64);
        for (wait, wanted) in steps {
            now += wait;
            taken += u64::from(bucket.take(wanted, Duration::from_nanos(now)));
            let brought = u128::from(now) * u128::from(requests) / Duration::from_millis(per).as_nanos();
            prop_assert!(u128::from(taken) <= u128::from(burst) + brought);
        }
        // And after the time it says, there is one more: not before.
        bucket.take(u32::MAX, Duration::from_nanos(now));
        let next = bucket.next().unwrap();
        let mut early = bucket;
        prop_assert_eq!(early.take(1, Duration::from_nanos(now) + next - Duration::from_nanos(1)), 0);
        prop_assert_eq!(bucket.take(1, Duration::from_nanos(now) + next), 1);
    }
}

#[test]
fn a_bucket_keeps_its_rate_for_ever() {
    // Three a second cannot be divided into whole nanoseconds.
    let mut bucket = Bucket::full(rate(3, ms(1000), 1), Duration::ZERO);
    bucket.take(1, Duration::ZERO);
    let taken: u32 =
        (1..=300_000u64).map(|n| bucket.take(1, Duration::from_micros(n * 333_333) + Duration::from_micros(n))).sum();
    assert_eq!(taken, 300_000);
}

#[test]
fn odd_limits_are_no_trouble() {
    let hour = Duration::from_secs(3600);
    for (rate, first, next) in [
        (rate(0, ms(1000), 2), 2, None),
        (rate(5, ms(1000), 0), 0, Some(ms(200))),
        (rate(1, Duration::ZERO, 1), 1, Some(Duration::from_nanos(1))),
        (rate(u32::MAX, Duration::MAX, u32::MAX), u32::MAX, Some(Duration::new(4_294_967_297, 1))),
        (rate(10, hour, 10), 10, Some(hour / 10)),
    ] {
        let mut bucket = Bucket::full(rate, Duration::ZERO);
        assert_eq!(bucket.take(u32::MAX, Duration::ZERO), first, "{rate:?}");
        assert_eq!(bucket.next(), next, "{rate:?}");
    }
    let mut late = Bucket::full(rate(1, ms(1000), 1), ms(5000));
    assert_eq!((late.take(1, ms(4000)), late.take(1, ms(4500))), (1, 0), "time that goes back brings nothing");
}

#[test]
fn another_limit_keeps_the_tokens_that_fit() {
    let mut bucket = Bucket::full(rate(10, ms(1000), 10), Duration::ZERO);
    bucket.take(4, Duration::ZERO);
    bucket.change(rate(1, ms(7), 100), Duration::ZERO);
    assert_eq!(bucket.tokens(), 6);
    bucket.change(rate(1, ms(7), 2), Duration::ZERO);
    assert_eq!(bucket.tokens(), 2);
    bucket.put_back(5);
    assert_eq!(bucket.tokens(), 2, "no more than the burst");
}

#[test]
fn tables_are_bounded_and_full_buckets_make_room() {
    let (table, limit, rate) = (Table::default(), Str::from("l"), rate(1, ms(1000), 1));
    let take = |key: &str, now| table.take(&limit, rate, key, now, |_| 1).taken;
    let invented = 2 * KEYS_MAX;
    let passed: u32 = (0..invented).map(|n| take(&n.to_string(), ms(1))).sum();
    assert!(table.len() <= KEYS_MAX + limits::SHARDS, "{}", table.len());
    assert!(passed as usize <= KEYS_MAX + limits::SHARDS, "whoever invents keys is limited as one");
    assert_eq!(take("one more", ms(2)), 0);
    assert_eq!(take("later", ms(1500)), 1, "buckets that are full again are forgotten");
    assert!(table.len() < KEYS_MAX);
    let long = "x".repeat(10_000);
    assert_eq!((take(&long, ms(1500)), take(&format!("{long}y"), ms(1500))), (1, 0));
}

#[test]
fn owners_are_agreed_upon_and_few_keys_move() {
    let names = |n: u32| (0..n).map(|n| Str::from(format!("pod-{n}"))).collect::<Vec<_>>();
    let (three, four) = (names(3), names(4));
    let mut shuffled = three.clone();
    shuffled.reverse();
    let (mut moved, mut counts) = (0, HashMap::<Str, u32>::new());
    for key in (0..3000).map(|n| n.to_string()) {
        let before = lease::owner(&three, "l", &key).unwrap();
        assert_eq!(before, lease::owner(&shuffled, "l", &key).unwrap());
        let after = lease::owner(&four, "l", &key).unwrap();
        moved += u32::from(before != after);
        assert!(before == after || &**after == "pod-3");
        *counts.entry(after.clone()).or_default() += 1;
    }
    assert!((650..850).contains(&moved), "{moved}");
    assert!(counts.values().all(|count| (600..900).contains(count)), "{counts:?}");
    assert_eq!(lease::owner(&[], "l", "k"), None);
}

/// Replicas of one process: who asks is answered at once, unless nobody answers.
#[derive(Default)]
struct Room {
    limiters: Mutex<HashMap<Str, Limiter>>,
    silent: Mutex<bool>,
}

struct Seat {
    room: Weak<Room>,
    members: Arc<Members>,
}

impl Replicas for Seat {
    fn members(&self) -> Arc<Members> {
        self.members.clone()
    }
    fn ask(&self, replica: &Str, question: Bytes) -> BoxFuture<'static, Result<Bytes, CallFailed>> {
        let (room, replica) = (self.room.upgrade().unwrap(), replica.clone());
        Box::pin(async move {
            if *room.silent.lock().unwrap() {
                std::future::pending::<()>().await;
            }
            let limiter = room.limiters.lock().unwrap()[&replica].clone();
            limiter.answer(&own(), &question).map(Bytes::from).map_err(|e| CallFailed::Unreadable(e.to_string()))
        })
    }
}

struct NoCall;

impl Call for NoCall {
    fn call(&self, _: Asking) -> BoxFuture<'static, Result<Response<tonic::body::Body>, CallFailed>> {
        Box::pin(async { Err(CallFailed::Nobody("test".into())) })
    }
}

fn own() -> Identity {
    "spiffe://cluster.local/ns/shop/sa/waypoint".parse().unwrap()
}

fn room(replicas: usize) -> (Arc<Room>, Vec<Limiter>) {
    let (room, names) =
        (Arc::<Room>::default(), (0..replicas).map(|n| Str::from(format!("pod-{n}"))).collect::<Vec<_>>());
    let seat = |name: &Str| {
        let members = Arc::new(Members { own: name.clone(), all: names.clone() });
        Limiter::new(Arc::new(Seat { room: Arc::downgrade(&room), members }), own(), Arc::new(NoCall))
    };
    let limiters: Vec<Limiter> = names.iter().map(seat).collect();
    room.limiters.lock().unwrap().extend(names.iter().cloned().zip(limiters.iter().cloned()));
    (room, limiters)
}

fn limit(name: &str, scope: LimitScope, requests: u32) -> RateLimit {
    RateLimit {
        name: name.into(),
        matches: vec![],
        keys: vec![LimitKey::Path],
        requests,
        per: ms(60_000),
        burst: requests,
        scope,
    }
}

async fn check(limiter: &Limiter, limits: &[RateLimit], path: &str) -> Verdict {
    let headers = HeaderMap::new();
    let address = "10.0.0.1".parse().unwrap();
    let head = Head {
        method: "GET",
        scheme: "http",
        authority: "web",
        path,
        query: None,
        headers: &headers,
        port: 80,
        caller: None,
        caller_address: address,
        remote_address: address,
        claims: None,
    };
    limiter.check(limits.iter(), &head).await
}

async fn passes(limiter: &Limiter, limits: &[RateLimit], path: &str) -> bool {
    matches!(check(limiter, limits, path).await, Verdict::Pass(_))
}

#[tokio::test(start_paused = true)]
async fn a_replica_counts_each_key_apart_and_tells_what_is_left() {
    let (_room, limiters) = room(1);
    let limits = [limit("TrafficPolicy/shop/web/0", LimitScope::Replica, 2)];
    let Verdict::Pass(passed) = check(&limiters[0], &limits, "/a").await else { panic!("the first passes") };
    let mut headers = HeaderMap::new();
    passed.told.unwrap().write(&mut headers);
    assert_eq!(headers["ratelimit-policy"], "\"TrafficPolicy/shop/web/0\";q=2;w=60");
    assert_eq!(headers["ratelimit"], "\"TrafficPolicy/shop/web/0\";r=1;t=30");
    assert!(passes(&limiters[0], &limits, "/a").await && passes(&limiters[0], &limits, "/b").await);
    let Verdict::Refuse(refusal) = check(&limiters[0], &limits, "/a").await else { panic!("the third is refused") };
    let response = refusal.response(false);
    assert_eq!((response.status().as_u16(), &**response.body()), (429, "local_rate_limited"));
    assert_eq!(response.headers()["retry-after"], "30");
    assert_eq!(response.headers()["ratelimit"], "\"TrafficPolicy/shop/web/0\";r=0;t=30");
    let grpc = refusal.response(true);
    assert_eq!((grpc.status().as_u16(), &**grpc.body()), (200, ""));
    assert!(grpc.headers()["grpc-status"] == "8" && grpc.headers()["content-type"] == "application/grpc");
    tokio::time::sleep(ms(30_000)).await;
    assert!(passes(&limiters[0], &limits, "/a").await && !passes(&limiters[0], &limits, "/a").await);
}

#[tokio::test(start_paused = true)]
async fn a_token_is_given_back_when_another_limit_refuses() {
    let (_room, limiters) = room(3);
    let narrow = limit("narrow", LimitScope::Replica, 0);
    for scope in [LimitScope::Replica, LimitScope::Shared] {
        let wide = limit(&format!("{scope:?}"), scope, 1);
        // The narrow one is of this replica, so that it is asked last only beside its own kind.
        let both = [wide.clone(), RateLimit { scope: wide.scope.clone(), ..narrow.clone() }];
        for path in ["/a", "/b", "/c", "/d"] {
            assert!(!passes(&limiters[0], &both, path).await);
            assert!(passes(&limiters[0], std::slice::from_ref(&wide), path).await, "its token is there: {path}");
            assert!(!passes(&limiters[0], std::slice::from_ref(&wide), path).await);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn replicas_count_together() {
    let (_room, limiters) = room(3);
    let limits = [limit("l", LimitScope::Shared, 30)];
    for path in ["/a", "/b", "/c", "/d", "/e"] {
        let mut passed = 0;
        for n in 0..200 {
            passed += u32::from(passes(&limiters[n % 3], &limits, path).await);
        }
        assert!((25..=30).contains(&passed), "{path}: {passed}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_an_answer_each_replica_limits_by_its_share() {
    let (room, limiters) = room(3);
    *room.silent.lock().unwrap() = true;
    let limits = [limit("l", LimitScope::Shared, 30)];
    for path in ["/a", "/b", "/c"] {
        let before = Instant::now();
        let mut passed = [0; 3];
        for n in 0..120 {
            passed[n % 3] += u32::from(passes(&limiters[n % 3], &limits, path).await);
        }
        let mut sorted = passed;
        sorted.sort_unstable();
        assert_eq!(sorted, [10, 10, 30], "{path}: its owner has the bucket, the others a share");
        assert!(before.elapsed() < ms(250), "each waits once: {:?}", before.elapsed());
    }
}

#[tokio::test]
async fn only_replicas_of_this_waypoint_are_answered() {
    let (_room, limiters) = room(1);
    let ask = br#"{"limit":"l","key":"k","requests":10,"per_nanos":1000000000,"burst":10,"wanted":4}"#;
    let stranger = "spiffe://cluster.local/ns/shop/sa/web".parse().unwrap();
    assert!(matches!(limiters[0].answer(&stranger, ask), Err(BadAsk::Stranger(_))));
    assert_eq!(limiters[0].answer(&own(), ask).unwrap(), br#"{"tokens":4,"next_nanos":100000000}"#);
    for bad in [&b"{}"[..], b"", b"[]", br#"{"limit":"l","key":"k","requests":-1}"#, &vec![b' '; 9000]] {
        assert!(matches!(limiters[0].answer(&own(), bad), Err(BadAsk::Unreadable(_))));
    }
}

#[tokio::test]
async fn a_service_that_does_not_answer_refuses_unless_the_limit_says_otherwise() {
    let (_room, limiters) = room(1);
    let service = |fail_open| LimitScope::Service {
        destination: mesh::route::Destination::Invalid { reason: "test".into() },
        domain: "d".into(),
        timeout: ms(100),
        fail_open,
    };
    let Verdict::Refuse(refusal) = check(&limiters[0], &[limit("l", service(false), 1)], "/").await else {
        panic!("it passes")
    };
    assert_eq!((refusal.response(false).status().as_u16(), refusal.flag().label()), (500, "RLSE"));
    let Verdict::Pass(passed) = check(&limiters[0], &[limit("l", service(true), 1)], "/").await else {
        panic!("it is refused")
    };
    assert!(passed.service_failed && passed.told.is_none());
}

#[test]
fn the_ready_endpoints_of_our_own_service_are_the_replicas() {
    use mesh::{Change, ServiceKey, View, Workload, workload::Health};
    let service: ServiceKey = "shop/waypoint.shop.svc.cluster.local".parse().unwrap();
    let workload = |uid: &str, health| {
        let mut workload = Workload::named(uid);
        (workload.namespace, workload.health) = ("shop".into(), health);
        workload.services.insert(service.clone(), Default::default());
        Change::Workload(Arc::new(workload))
    };
    let view = View::default().apply([
        workload("b", Health::Healthy),
        workload("c", Health::Unhealthy),
        workload("a", Health::Healthy),
    ]);
    let all = |own: &str| Members::of(&view, &service, &own.into()).all;
    assert_eq!(all("a"), ["a".into(), "b".into()]);
    assert_eq!(all("c"), ["a".into(), "b".into(), "c".into()], "we count ourselves");
}

#[tokio::test]
async fn a_waypoint_of_one_replica_owns_every_key() {
    let limiter = Limiter::new(Arc::new(Alone::new("me".into())), own(), Arc::new(NoCall));
    let limits = [limit("l", LimitScope::Shared, 2)];
    let passed = [passes(&limiter, &limits, "/").await, passes(&limiter, &limits, "/").await];
    assert_eq!((passed, passes(&limiter, &limits, "/").await), ([true, true], false));
}

#[test]
fn an_owner_that_comes_and_goes_renews_no_share() {
    use lease::{Borrower, Step};
    let mut borrower = Borrower::new(rate(30, ms(60_000), 30), 3, ms(0));
    let (mut now, mut passed) = (0, 0);
    for _ in 0..10 {
        assert_eq!(borrower.take(ms(now)), Step::Wait(Some(1)));
        borrower.failed(ms(now));
        passed += (0..50).filter(|_| borrower.take(ms(now + 1)) == Step::Pass(None)).count();
        borrower.granted(0, Some(ms(1)), ms(now + 2));
        now += 10;
    }
    assert_eq!(passed, 10, "a third of the burst, once");
}

#[test]
fn a_caller_is_told_when_the_owner_has_more_and_the_owner_is_asked_sooner() {
    use lease::{Borrower, Step};
    let hour = ms(3_600_000);
    let mut borrower = Borrower::new(rate(10, hour, 10), 3, ms(0));
    for (next, told) in [(Some(ms(360_000)), Some(ms(359_900))), (None, None)] {
        assert_eq!(borrower.take(ms(0)), Step::Wait(Some(1)));
        borrower.granted(0, next, ms(0));
        assert_eq!(borrower.take(ms(100)), Step::Refuse(told));
        assert_eq!(borrower.take(ms(1_000)), Step::Wait(Some(1)), "the limit may have changed meanwhile");
        borrower = Borrower::new(rate(10, hour, 10), 3, ms(0));
    }
}
