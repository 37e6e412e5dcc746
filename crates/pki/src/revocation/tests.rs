use super::*;
use std::{fs, time::Duration};
use tokio::time::timeout;

/// An empty list of some CA: made by rcgen, as the tests of handshakes make theirs.
fn list() -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.key_usages = vec![rcgen::KeyUsagePurpose::CrlSign];
    let date = time::OffsetDateTime::UNIX_EPOCH;
    let list = rcgen::CertificateRevocationListParams {
        this_update: date,
        next_update: date + time::Duration::DAY,
        crl_number: rcgen::SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: Vec::new(),
        key_identifier_method: rcgen::KeyIdMethod::Sha256,
    };
    list.signed_by(&rcgen::Issuer::new(params, key)).unwrap().pem().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_file_is_followed_and_a_broken_one_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ca-crl.pem");
    let revocations = Revocations::default();
    let lists = || revocations.now().0.len();
    let follow = revocations.follow(&path);
    tokio::pin!(follow);
    let mut look = async || {
        let looked = timeout(REVOCATION_LOOK * 2, &mut follow).await;
        assert!(looked.is_err(), "it follows for ever");
    };
    look().await;
    assert_eq!(lists(), 0, "no file yet");
    fs::write(&path, list()).unwrap();
    look().await;
    assert_eq!(lists(), 1);
    fs::write(&path, format!("{}{}", list(), list())).unwrap();
    look().await;
    assert_eq!(lists(), 2);
    fs::write(&path, "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n").unwrap();
    look().await;
    assert_eq!(lists(), 2, "broken");
    fs::remove_file(&path).unwrap();
    look().await;
    assert_eq!(lists(), 0);
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_hears_of_a_change() {
    let revocations = Revocations::default();
    let mut waiting = revocations.clone();
    assert!(timeout(Duration::from_secs(60), waiting.changed()).await.is_err());
    revocations.replace(&list()).unwrap();
    assert!(timeout(Duration::from_secs(1), waiting.changed()).await.is_ok());
}
