use super::*;
use crate::facts::PodRecord;
use pki::clock::SettableClock;
use proptest::prelude::*;
use std::os::unix::fs::PermissionsExt;

struct OnePod;

impl PodLookup for OnePod {
    fn pod(&self, namespace: &str, name: &str) -> Option<PodRecord> {
        let there = namespace == "shop" && name == "web-1";
        there.then(|| PodRecord { uid: "u1".into(), service_account: "web".into(), node: "n1".into() })
    }

    fn runs_on(&self, _: &str, _: &str, _: &str) -> bool {
        false
    }
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

const REQUEST: TokenRequest<'_> = TokenRequest {
    namespace: "shop",
    service_account: "web",
    pod: "web-1",
    pod_uid: "u1",
    node: "n1",
    lifetime: Duration::from_secs(3600),
};

fn authenticator(issuer: &TokenIssuer, clock: Arc<SettableClock>) -> LocalAuthenticator {
    LocalAuthenticator::new(issuer, "mesh", "Kubernetes", Arc::new(OnePod), clock)
}

fn open() -> (tempfile::TempDir, TokenIssuer) {
    let dir = tempfile::tempdir().unwrap();
    let issuer = TokenIssuer::open(dir.path()).unwrap();
    (dir, issuer)
}

#[tokio::test]
async fn a_token_proves_its_pod_as_long_as_it_holds() {
    let (_dir, issuer) = open();
    let clock = Arc::new(SettableClock::new(now()));
    let authenticator = authenticator(&issuer, clock.clone());
    let token = issuer.issue(&REQUEST, now()).unwrap();
    let caller = authenticator.authenticate(&token, "Kubernetes").await.unwrap();
    assert_eq!(caller.identity.to_string(), "spiffe://mesh/ns/shop/sa/web");
    assert_eq!(caller.pod, Some(crate::authn::PodRef { name: "web-1".into(), uid: "u1".into() }));
    assert!(authenticator.review(&token, "").is_ok());
    let stranger = authenticator.review(&token, "kubernetes");
    assert_eq!(stranger, Err(AuthenticationError::UnknownCluster("kubernetes".into())));
    clock.set(now() + Duration::from_secs(3599));
    assert!(authenticator.review(&token, "").is_ok());
    clock.set(now() + Duration::from_secs(3600));
    assert!(matches!(authenticator.review(&token, ""), Err(AuthenticationError::BadToken(_))), "it is over");
    clock.set(now() - Duration::from_secs(9));
    assert!(authenticator.review(&token, "").is_ok(), "a clock that is a little behind");
    clock.set(now() - Duration::from_secs(60));
    assert!(matches!(authenticator.review(&token, ""), Err(AuthenticationError::BadToken(_))), "from the future");
}

#[tokio::test]
async fn each_claim_counts() {
    let (_dir, issuer) = open();
    let authenticator = authenticator(&issuer, Arc::new(SettableClock::new(now())));
    let honest = Claims {
        iss: ISSUER.into(),
        sub: "system:serviceaccount:shop:web".into(),
        aud: vec![AUDIENCE.into()],
        iat: 1_800_000_000,
        nbf: 1_800_000_000,
        exp: 1_800_003_600,
        kubernetes: Kubernetes {
            namespace: "shop".into(),
            serviceaccount: Named { name: "web".into() },
            pod: Bound { name: "web-1".into(), uid: "u1".into() },
            node: Named { name: "n1".into() },
        },
    };
    let check = |what: &str, change: fn(&mut Claims), good: bool| {
        let mut claims = honest.clone();
        change(&mut claims);
        let got = authenticator.review(&issuer.sign(&claims).unwrap(), "");
        assert_eq!(got.is_ok(), good, "{what}: {got:?}");
    };
    check("nothing changed", |_| {}, true);
    check("two audiences", |c| c.aud.push("other".into()), true);
    check("the node is not asked", |c| c.kubernetes.node.name = "n9".into(), true);
    check("issuer", |c| c.iss.push('x'), false);
    check("no audience", |c| c.aud.clear(), false);
    check("other audience", |c| c.aud = vec!["istio-ca2".into()], false);
    check("expired now", |c| c.exp = 1_800_000_000, false);
    check("begins later", |c| c.nbf = 1_800_000_060, false);
    check("issued later", |c| c.iat = 1_800_000_060, false);
    check("subject of another", |c| c.sub = "system:serviceaccount:shop:db".into(), false);
    check("subject of another namespace", |c| c.sub = "system:serviceaccount:prod:web".into(), false);
    check("subject with more", |c| c.sub.push_str(":x"), false);
    check("no subject", |c| c.sub.clear(), false);
    check("subject that is no SPIFFE part", |c| c.sub = "system:serviceaccount:shop:we/b".into(), false);
    check("bound namespace", |c| c.kubernetes.namespace = "prod".into(), false);
    check("bound account", |c| c.kubernetes.serviceaccount.name = "db".into(), false);
    check("bound pod", |c| c.kubernetes.pod.name = "web-2".into(), false);
    check("bound uid", |c| c.kubernetes.pod.uid = "u2".into(), false);
    check("no uid", |c| c.kubernetes.pod.uid.clear(), false);
}

#[tokio::test]
async fn a_claim_that_stands_twice_is_refused() {
    let (_dir, issuer) = open();
    let authenticator = authenticator(&issuer, Arc::new(SettableClock::new(now())));
    // Duplicate keys are how one parser is made to read another text than the next.
    struct Twice;
    impl serde::Serialize for Twice {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            use serde::ser::SerializeMap;
            let mut map = serializer.serialize_map(None)?;
            map.serialize_entry("sub", "system:serviceaccount:shop:web")?;
            map.serialize_entry("sub", "system:serviceaccount:kube-system:admin")?;
            map.end()
        }
    }
    let token = issuer.sign(&Twice).unwrap();
    assert!(matches!(authenticator.review(&token, ""), Err(AuthenticationError::BadToken(_))));
}

#[tokio::test]
async fn what_is_no_token_is_refused_without_much_work() {
    let (_dir, issuer) = open();
    let authenticator = authenticator(&issuer, Arc::new(SettableClock::new(now())));
    for text in ["", ".", "..", "...", "a.b.c", "eyJhbGciOiJFUzI1NiJ9..", &"x".repeat(TOKEN_BYTES_MAX + 1)] {
        assert!(matches!(authenticator.review(text, ""), Err(AuthenticationError::BadToken(_))), "{text:.20}");
    }
}

#[test]
fn two_who_open_one_directory_have_one_key_and_nobody_else_can_read_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_owned();
    let opened: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| TokenIssuer::open(&path).unwrap())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let token = opened[0].issue(&REQUEST, now()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _entered = runtime.enter();
    for issuer in &opened {
        let authenticator = authenticator(issuer, Arc::new(SettableClock::new(now())));
        assert!(authenticator.review(&token, "").is_ok());
    }
    let mode = fs::metadata(path.join(KEY_FILE)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let files: Vec<_> = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(files, [KEY_FILE], "nothing is left lying about");
}

#[test]
fn a_broken_key_is_an_error_and_not_a_new_key() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(KEY_FILE), "-----BEGIN PRIVATE KEY-----\n").unwrap();
    assert!(matches!(TokenIssuer::open(dir.path()), Err(TokenIssuerError::Key(_))));
}

proptest! {
    #[test]
    fn no_text_makes_the_review_panic(text in "[a-zA-Z0-9_.=-]{0,200}", cluster in ".{0,10}") {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let _entered = runtime.enter();
        let issuer = TokenIssuer::of_key(&KeyPair::generate().unwrap().serialize_pem()).unwrap();
        let authenticator = authenticator(&issuer, Arc::new(SettableClock::new(now())));
        prop_assert!(authenticator.review(&text, &cluster).is_err());
    }
}
