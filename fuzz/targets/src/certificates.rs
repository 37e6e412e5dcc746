//! Identities and their proofs: certificates, requests for them, and tokens.

use crate::text;
use istiod_lite::{
    authn::local::{LocalAuthenticator, TokenIssuer, TokenRequest},
    facts::{PodLookup, PodRecord},
};
use mesh::Identity;
use pki::{
    certificate::WorkloadCertificate,
    chain,
    clock::SystemClock,
    csr,
    issue::{Issuer, Lifetimes},
};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use std::{
    sync::{Arc, LazyLock},
    time::{Duration, SystemTime},
};

/// As PEM, as DER, and as the chain of our own certificate.
pub(crate) fn chain(input: &[u8]) {
    let _ = chain::parse_pem(text(input));
    let der = CertificateDer::from(input.to_vec());
    if let Ok(identity) = chain::identity(&der) {
        assert_eq!(identity.to_string().parse(), Ok(identity));
    }
    let _ = chain::parse_der(der);
    let elements = [text(input).to_owned(), ISSUED.roots.clone()];
    let _ = WorkloadCertificate::new(ISSUED.key.clone_key(), &elements);
}

pub(crate) fn chain_seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<_> = ISSUED.chain.iter().map(|element| element.as_bytes().to_vec()).collect();
    for element in &ISSUED.chain {
        for certificate in chain::parse_pem(element).unwrap_or_default() {
            seeds.push(certificate.der.to_vec());
        }
    }
    seeds
}

pub(crate) fn request(input: &[u8]) {
    let _ = csr::public_key(text(input));
}

pub(crate) fn request_seeds() -> Vec<Vec<u8>> {
    vec![ISSUED.request.as_bytes().to_vec()]
}

/// A token of ours, of others, or of nobody: none proves anything but what was once issued.
pub(crate) fn token(input: &[u8]) {
    if let Ok(caller) = TOKENS.authenticator.review(text(input), "") {
        assert_eq!(caller.identity.to_string(), "spiffe://cluster.local/ns/shop/sa/web");
        assert_ne!(text(input), TOKENS.expired);
    }
}

pub(crate) fn token_seeds() -> Vec<Vec<u8>> {
    let none = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJzeXN0ZW06c2VydmljZWFjY291bnQ6c2hvcDp3ZWIifQ.";
    vec![TOKENS.good.as_bytes().to_vec(), TOKENS.expired.as_bytes().to_vec(), none.as_bytes().to_vec()]
}

pub(crate) fn identity(input: &[u8]) {
    if let Ok(identity) = text(input).parse::<Identity>() {
        assert_eq!(identity.to_string(), text(input), "two spellings of one identity");
    }
}

pub(crate) fn identity_seeds() -> Vec<Vec<u8>> {
    ["spiffe://cluster.local/ns/shop/sa/web", "spiffe://a.b/ns/../sa/x", "spiffe://td/ns/shop/sa/web/"]
        .map(|seed| seed.as_bytes().to_vec())
        .to_vec()
}

/// A certificate and what was asked for it.
struct Issued {
    key: PrivatePkcs8KeyDer<'static>,
    request: String,
    chain: Vec<String>,
    roots: String,
}

static ISSUED: LazyLock<Issued> = LazyLock::new(|| {
    let now = SystemTime::now();
    let (day, identity) = (Duration::from_secs(86_400), Identity::new("cluster.local", "shop", "web"));
    let identity = identity.expect("an identity of this target");
    let issuer = Issuer::self_signed("cluster.local", day, now).expect("a root of this target");
    let request = csr::request(&identity).expect("a key of this target");
    let chain =
        issuer.issue(&request.csr, &identity, 0, Lifetimes::default(), now).expect("a certificate of this target");
    Issued { key: request.key, request: request.csr, chain, roots: issuer.roots_pem().to_owned() }
});

/// Who checks tokens, and what they issued.
struct Tokens {
    authenticator: LocalAuthenticator,
    good: String,
    expired: String,
}

static TOKENS: LazyLock<Tokens> = LazyLock::new(|| {
    let state = tempfile::tempdir().expect("a directory of this target");
    let issuer = TokenIssuer::open(state.path()).expect("a key of this target");
    let request = TokenRequest {
        namespace: "shop",
        service_account: "web",
        pod: "web-1",
        pod_uid: "1",
        node: "n1",
        lifetime: Duration::from_secs(3600),
    };
    let at = |time| issuer.issue(&request, time).expect("a token of this target");
    let (good, expired) = (at(SystemTime::now()), at(SystemTime::UNIX_EPOCH));
    let authenticator =
        LocalAuthenticator::new(&issuer, "cluster.local", "Kubernetes", Arc::new(OnePod), Arc::new(SystemClock));
    Tokens { authenticator, good, expired }
});

/// Knows the pod that the good token is for.
struct OnePod;

impl PodLookup for OnePod {
    fn pod(&self, _: &str, _: &str) -> Option<PodRecord> {
        Some(PodRecord { uid: "1".into(), service_account: "web".into(), node: "n1".into() })
    }

    fn runs_on(&self, _: &str, _: &str, _: &str) -> bool {
        true
    }
}
