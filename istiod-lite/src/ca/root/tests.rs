use super::*;
use mesh::Identity;
use pki::{WorkloadCertificate, csr, issue::Lifetimes};
use std::{fs, os::unix::fs::PermissionsExt};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn open(dir: &Path, at: SystemTime) -> Result<Root, RootError> {
    Root::open(dir, "mesh", DAY, at)
}

fn certify(root: &Root, at: SystemTime) -> WorkloadCertificate {
    let web = Identity::new("mesh", "shop", "web").unwrap();
    let made = csr::request(&web).unwrap();
    let elements = root.issuer().issue(&made.csr, &web, 0, Lifetimes::default(), at).unwrap();
    WorkloadCertificate::new(made.key, &elements).unwrap()
}

fn signer(root: &Root) -> String {
    root.issuer().certificate().serial.clone()
}

fn trusted(root: &Root) -> Vec<String> {
    root.issuer().roots().iter().map(|root| root.serial.clone()).collect()
}

#[test]
fn a_restart_has_the_same_root_and_secrets_stay_secret() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path(), now()).unwrap();
    let second = open(dir.path(), now() + DAY).unwrap();
    assert_eq!(signer(&first), signer(&second));
    assert_eq!(fs::read_to_string(dir.path().join(ROOTS)).unwrap(), second.issuer().roots_pem());
    for (file, mode) in [(KEY, 0o600), (CERTIFICATE, 0o600), (ROOTS, 0o644)] {
        let is = fs::metadata(dir.path().join(file)).unwrap().permissions().mode() & 0o777;
        // The umask may take from what everybody may read, never from a secret's protection.
        assert!(is == mode || (mode == 0o644 && is & 0o600 == 0o600), "{file} is {is:o}");
    }
    assert!(!second.tick(now() + DAY).unwrap(), "nothing is due");
}

#[test]
fn a_lost_key_or_a_broken_file_is_an_error_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path(), now()).unwrap();
    let key = fs::read_to_string(dir.path().join(KEY)).unwrap();
    fs::remove_file(dir.path().join(KEY)).unwrap();
    assert!(matches!(open(dir.path(), now()), Err(RootError::KeyLost(path)) if path.ends_with(KEY)));
    fs::write(dir.path().join(KEY), "no key").unwrap();
    assert!(matches!(open(dir.path(), now()), Err(RootError::Unusable { .. })));
    fs::write(dir.path().join(KEY), key).unwrap();
    open(dir.path(), now()).unwrap();
    // A key alone was never used: a crash between the two writes of the very first start.
    fs::remove_file(dir.path().join(CERTIFICATE)).unwrap();
    open(dir.path(), now()).unwrap();
    fs::write(dir.path().join(STAGE), "{}").unwrap();
    assert!(matches!(open(dir.path(), now()), Err(RootError::File { path, .. }) if path.ends_with(STAGE)));
}

#[test]
fn a_rotation_goes_through_its_steps_twice_and_survives_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let mut at = now();
    let mut root = open(dir.path(), at).unwrap();
    for round in 0..2 {
        let old = signer(&root);
        assert!(root.rotate(at).unwrap());
        assert!(!root.rotate(at).unwrap(), "one at a time");
        let announced = trusted(&root);
        assert_eq!((signer(&root), announced.len()), (old.clone(), 2), "round {round}: announced");
        root = open(dir.path(), at).unwrap();
        assert_eq!((signer(&root), trusted(&root)), (old.clone(), announced.clone()), "and after a restart");

        at += DAY;
        assert!(root.tick(at).unwrap());
        let new = signer(&root);
        assert!(new != old && announced.contains(&new), "round {round}: switched");
        assert_eq!(trusted(&root), [new.clone(), old.clone()]);
        root = open(dir.path(), at).unwrap();
        assert_eq!((signer(&root), trusted(&root)), (new.clone(), vec![new.clone(), old]), "and after a restart");
        assert_eq!(certify(&root, at).roots().len(), 2);

        assert!(!root.tick(at + DAY / 2).unwrap(), "not before the overlap is over");
        at += DAY;
        assert!(root.tick(at).unwrap());
        assert_eq!(trusted(&root), [new], "round {round}: the old one is gone");
        assert_eq!(fs::read_to_string(dir.path().join(ROOTS)).unwrap(), root.issuer().roots_pem());
        for leftover in [NEXT_KEY, NEXT_CERTIFICATE, OLD_CERTIFICATE] {
            assert!(!dir.path().join(leftover).exists(), "{leftover}");
        }
        root = open(dir.path(), at).unwrap();
    }
}

#[test]
fn a_crash_in_the_middle_of_the_switch_is_completed() {
    for crash_after in 0..3 {
        let dir = tempfile::tempdir().unwrap();
        let root = open(dir.path(), now()).unwrap();
        root.rotate(now()).unwrap();
        let (next_key, next) = (read(dir.path(), NEXT_KEY).unwrap(), read(dir.path(), NEXT_CERTIFICATE).unwrap());
        // What `tick` writes, one after the other.
        write(dir.path(), OLD_CERTIFICATE, &read(dir.path(), CERTIFICATE).unwrap()).unwrap();
        let since = rotation::seconds(now() + DAY);
        write(dir.path(), STAGE, &serde_json::to_string(&Stage::Switched { since }).unwrap()).unwrap();
        if crash_after >= 1 {
            write(dir.path(), KEY, &next_key).unwrap();
        }
        if crash_after >= 2 {
            write(dir.path(), CERTIFICATE, &next).unwrap();
            remove(dir.path(), NEXT_KEY).unwrap();
        }
        let root = open(dir.path(), now() + DAY).unwrap();
        assert_eq!(root.issuer().certificate_pem(), next, "crashed after {crash_after}");
        assert_eq!(trusted(&root).len(), 2);
    }
}

#[test]
fn a_root_near_its_end_is_replaced_unasked() {
    let dir = tempfile::tempdir().unwrap();
    let root = open(dir.path(), now()).unwrap();
    assert!(!root.tick(now() + 7 * 365 * DAY).unwrap());
    assert!(root.tick(now() + 9 * 365 * DAY).unwrap());
    assert_eq!(trusted(&root).len(), 2);
}

#[test]
fn an_operator_asks_for_a_new_root_by_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let root = open(dir.path(), now()).unwrap();
    let ask = || fs::write(dir.path().join(ASKED), "").unwrap();
    ask();
    assert!(root.tick(now()).unwrap());
    assert_eq!(trusted(&root).len(), 2, "the next root is announced");
    assert!(!dir.path().join(ASKED).exists(), "once is enough");
    ask();
    assert!(!root.tick(now()).unwrap(), "it is under way already");
    assert!(!dir.path().join(ASKED).exists());
    let old = signer(&root);
    assert!(root.tick(now() + DAY).unwrap());
    assert_ne!(signer(&root), old);
    // A plugged-in CA is somebody else's to replace, who is told so once.
    let plugged = tempfile::tempdir().unwrap();
    let issuer = Issuer::self_signed("mesh", ROOT_LIFETIME, now()).unwrap();
    plug_in(plugged.path(), &issuer, issuer.roots_pem());
    let root = Root::plugged(plugged.path(), Some(dir.path()), now()).unwrap();
    ask();
    assert!(matches!(root.tick(now()), Err(RootError::NotOurs(_))));
    assert!(!root.tick(now()).unwrap());
}

fn plug_in(dir: &Path, issuer: &Issuer, roots: &str) {
    fs::write(dir.join(KEY), issuer.key_pem()).unwrap();
    fs::write(dir.join(CERTIFICATE), issuer.certificate_pem()).unwrap();
    fs::write(dir.join(ROOTS), roots).unwrap();
}

#[test]
fn a_plugged_in_authority_is_reloaded_unless_it_would_cut_everybody_off() {
    let (dir, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let make = || Issuer::self_signed("mesh", ROOT_LIFETIME, now()).unwrap();
    let (a, b, c) = (make(), make(), make());
    plug_in(dir.path(), &a, a.roots_pem());
    let root = Root::plugged(dir.path(), Some(state.path()), now()).unwrap();
    assert!(!root.tick(now()).unwrap());
    assert!(matches!(root.rotate(now()), Err(RootError::NotOurs(_))));
    let both = format!("{}{}", a.roots_pem(), b.roots_pem());
    // A to A+B, then B signs, then B alone: none of them cuts anybody off.
    for (signer, roots) in [(&a, &*both), (&b, &both), (&b, b.roots_pem())] {
        plug_in(dir.path(), signer, roots);
        assert!(root.tick(now()).unwrap());
        assert_eq!(root.issuer().certificate_pem(), signer.certificate_pem());
        assert_eq!(fs::read_to_string(state.path().join(ROOTS)).unwrap(), roots);
    }
    plug_in(dir.path(), &c, c.roots_pem());
    assert!(matches!(root.tick(now()), Err(RootError::Unrelated(_))));
    fs::write(dir.path().join(KEY), "half a fi").unwrap();
    assert!(matches!(root.tick(now()), Err(RootError::Unusable { .. })));
    fs::remove_file(dir.path().join(KEY)).unwrap();
    assert!(matches!(root.tick(now()), Err(RootError::File { .. })));
    assert_eq!(root.issuer().certificate_pem(), b.certificate_pem(), "the last good one stays");
    certify(&root, now());
}

#[test]
fn the_layout_of_cert_manager_is_taken_too() {
    let (dir, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let a = Issuer::self_signed("mesh", ROOT_LIFETIME, now()).unwrap();
    fs::write(dir.path().join("tls.key"), a.key_pem()).unwrap();
    fs::write(dir.path().join("tls.crt"), a.certificate_pem()).unwrap();
    fs::write(dir.path().join("ca.crt"), a.roots_pem()).unwrap();
    let root = Root::plugged(dir.path(), Some(state.path()), now()).unwrap();
    assert_eq!(certify(&root, now()).roots().len(), 1);
}
