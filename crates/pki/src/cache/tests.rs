//! The cache with an authority of our own, in paused time.
#![expect(clippy::disallowed_methods, reason = "a test sees its tasks end")]

use super::*;
use crate::{
    clock::SettableClock,
    csr,
    issue::{Issuer, Lifetimes},
};
use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, SystemTime},
};

/// An authority by the cache's clock, which works, fails, hangs or panics as it is told.
struct Scripted {
    issuer: Issuer,
    clock: Arc<SettableClock>,
    ttl: i64,
    mood: Mutex<Mood>,
    asked: AtomicUsize,
    at_once: AtomicUsize,
    at_once_max: AtomicUsize,
}

#[derive(Clone, Copy)]
enum Mood {
    Works,
    Away,
    Hangs,
    Panics,
}

const DELAY: Duration = Duration::from_millis(50);

impl Scripted {
    fn be(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    async fn answer(&self, identity: &Identity) -> Result<WorkloadCertificate, CertificateError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let mood = *self.mood.lock().unwrap();
        sleep(DELAY).await;
        match mood {
            Mood::Works => {}
            Mood::Away => return Err(CertificateError::Unreachable("away".into())),
            Mood::Hangs => std::future::pending().await,
            Mood::Panics => panic!("the authority's client is broken"),
        }
        let made = csr::request(identity).unwrap();
        let now = self.clock.now().wall;
        let elements = self.issuer.issue(&made.csr, identity, self.ttl, Lifetimes::default(), now).unwrap();
        Ok(WorkloadCertificate::new(made.key, &elements).unwrap())
    }
}

impl Authority for Scripted {
    fn certify<'a>(&'a self, identity: &'a Identity) -> Certifying<'a> {
        Box::pin(async move {
            let now = self.at_once.fetch_add(1, Ordering::Relaxed) + 1;
            self.at_once_max.fetch_max(now, Ordering::Relaxed);
            let answer = self.answer(identity).await;
            self.at_once.fetch_sub(1, Ordering::Relaxed);
            answer
        })
    }
}

fn start(ttl: i64) -> (CertificateCache, Arc<Scripted>, Arc<SettableClock>) {
    let wall = SystemTime::now();
    let clock = Arc::new(SettableClock::new(wall));
    let issuer = Issuer::self_signed("mesh", Duration::from_secs(3650 * 24 * 3600), wall).unwrap();
    let authority = Arc::new(Scripted {
        issuer,
        clock: Arc::clone(&clock),
        ttl,
        mood: Mutex::new(Mood::Works),
        asked: AtomicUsize::new(0),
        at_once: AtomicUsize::new(0),
        at_once_max: AtomicUsize::new(0),
    });
    let (cache, driver) = CertificateCache::new(authority.clone(), clock.clone());
    tokio::spawn(driver.run());
    (cache, authority, clock)
}

fn id(name: &str) -> Identity {
    Identity::new("mesh", "shop", name).unwrap()
}

#[tokio::test(start_paused = true)]
async fn many_who_wait_for_one_identity_cost_one_request() {
    let (cache, authority, _) = start(3600);
    let waiting: Vec<_> = (0..100)
        .map(|_| {
            let cache = cache.clone();
            tokio::spawn(async move { cache.fetch(&id("web")).await })
        })
        .collect();
    for one in waiting {
        assert_eq!(*one.await.unwrap().unwrap().identity(), id("web"));
    }
    assert_eq!(authority.asked.load(Ordering::Relaxed), 1);
    cache.fetch(&id("web")).await.unwrap();
    assert_eq!(authority.asked.load(Ordering::Relaxed), 1, "and then it is held");
}

#[tokio::test(start_paused = true)]
async fn two_hundred_identities_are_asked_for_eight_at_a_time() {
    let (cache, authority, _) = start(3600);
    let began = Instant::now();
    for at in 0..200 {
        cache.warm(&id(&format!("sa{at}")));
    }
    while cache.dump().iter().any(|status| status.state != CertificateState::Available) {
        sleep(Duration::from_millis(10)).await;
    }
    assert!(began.elapsed() < 200 / 8 * DELAY + Duration::from_millis(500), "took {:?}", began.elapsed());
    assert_eq!(authority.at_once_max.load(Ordering::Relaxed), 8);
}

#[tokio::test(start_paused = true)]
async fn a_certificate_is_renewed_before_anybody_notices() {
    let (cache, authority, _) = start(3600);
    let first = cache.fetch(&id("web")).await.unwrap();
    sleep(Duration::from_secs(1802)).await;
    assert_eq!(authority.asked.load(Ordering::Relaxed), 2);
    let second = cache.fetch(&id("web")).await.unwrap();
    assert_ne!(first.serial(), second.serial());
}

#[tokio::test(start_paused = true)]
async fn a_failed_renewal_keeps_what_holds_and_then_fails_closed() {
    let (cache, authority, clock) = start(60);
    let first = cache.fetch(&id("web")).await.unwrap();
    authority.be(Mood::Away);
    sleep(Duration::from_secs(58)).await;
    assert_eq!(cache.fetch(&id("web")).await.unwrap().serial(), first.serial());
    sleep(Duration::from_secs(3)).await;
    assert!(clock.now().wall >= first.not_after());
    let refused = cache.fetch(&id("web")).await;
    assert_eq!(refused.err(), Some(CertificateError::Unreachable("away".into())));
    authority.be(Mood::Works);
    let back = Instant::now();
    while cache.fetch(&id("web")).await.is_err() {}
    assert!(back.elapsed() <= Duration::from_secs(2), "back after {:?}", back.elapsed());
}

#[tokio::test(start_paused = true)]
async fn after_a_suspend_nothing_expired_is_handed_out_and_it_is_renewed_at_once() {
    let (cache, authority, clock) = start(3600);
    let first = cache.fetch(&id("web")).await.unwrap();
    clock.jump(Duration::from_secs(2 * 3600));
    let second = cache.fetch(&id("web")).await.unwrap();
    assert_ne!(first.serial(), second.serial());
    clock.jump(Duration::from_secs(2000));
    sleep(Duration::from_secs(2)).await;
    assert_eq!(authority.asked.load(Ordering::Relaxed), 3, "past half of its life, and nobody asked");
}

#[tokio::test(start_paused = true)]
async fn an_authority_that_hangs_is_given_up_on() {
    let (cache, authority, _) = start(3600);
    authority.be(Mood::Hangs);
    let began = Instant::now();
    assert_eq!(cache.fetch(&id("web")).await.err(), Some(CertificateError::TimedOut));
    assert!(began.elapsed() <= FETCH_WAIT_MAX);
    authority.be(Mood::Works);
    sleep(Duration::from_secs(3)).await;
    cache.fetch(&id("web")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_panic_while_asking_is_one_failure_like_any_other() {
    let (cache, authority, _) = start(3600);
    authority.be(Mood::Panics);
    assert!(matches!(cache.fetch(&id("web")).await, Err(CertificateError::CannotAsk(_))));
    authority.be(Mood::Works);
    while cache.fetch(&id("web")).await.is_err() {}
}

#[tokio::test(start_paused = true)]
async fn a_certificate_that_is_expired_by_our_clock_is_an_error_that_says_so() {
    let (cache, authority, clock) = start(3600);
    let mine = Arc::new(SettableClock::new(clock.now().wall + Duration::from_secs(365 * 24 * 3600)));
    let (far, driver) = CertificateCache::new(authority, mine);
    tokio::spawn(driver.run());
    let refused = far.fetch(&id("web")).await.err();
    assert_eq!(refused, Some(CertificateError::Unusable(CertificateRefused::Expired)));
    drop(cache);
}

#[tokio::test(start_paused = true)]
async fn a_forgotten_identity_is_dropped_and_those_who_wait_are_told() {
    let (cache, authority, _) = start(3600);
    cache.fetch(&id("web")).await.unwrap();
    cache.forget(&id("web"));
    assert!(cache.dump().is_empty());
    authority.be(Mood::Hangs);
    let waiting = tokio::spawn({
        let cache = cache.clone();
        async move { cache.fetch(&id("web")).await }
    });
    sleep(Duration::from_millis(10)).await;
    cache.forget(&id("web"));
    assert_eq!(waiting.await.unwrap().err(), Some(CertificateError::Forgotten(id("web"))));
}

#[tokio::test(start_paused = true)]
async fn the_dump_says_how_each_identity_stands() {
    let (cache, authority, _) = start(3600);
    cache.fetch(&id("good")).await.unwrap();
    authority.be(Mood::Away);
    assert!(cache.fetch(&id("bad")).await.is_err());
    authority.be(Mood::Hangs);
    cache.warm(&id("new"));
    sleep(Duration::from_millis(10)).await;
    let dump = cache.dump();
    let states: Vec<_> = dump.iter().map(|s| (s.identity.service_account().to_string(), s.state.clone())).collect();
    assert_eq!(
        states,
        [
            ("bad".into(), CertificateState::Unavailable(CertificateError::Unreachable("away".into()))),
            ("good".into(), CertificateState::Available),
            ("new".into(), CertificateState::Initializing),
        ]
    );
    assert_eq!((dump[1].chain().len(), dump[1].roots().len()), (1, 1));
}
