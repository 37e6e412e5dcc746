use super::*;
use crate::WorkloadCertificate;
use rcgen::PKCS_RSA_SHA256;
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn web() -> Identity {
    Identity::new("mesh", "shop", "web").unwrap()
}

fn certify(issuer: &Issuer, ttl: i64, at: SystemTime) -> Result<WorkloadCertificate, IssueError> {
    let made = csr::request(&web()).unwrap();
    let elements = issuer.issue(&made.csr, &web(), ttl, Lifetimes::default(), at)?;
    assert!(elements.iter().all(|element| element.ends_with("-----END CERTIFICATE-----\n")));
    Ok(WorkloadCertificate::new(made.key, &elements).unwrap())
}

#[test]
fn a_certificate_is_as_istio_makes_it() {
    let issuer = Issuer::self_signed("mesh", ROOT_LIFETIME, now()).unwrap();
    let certificate = certify(&issuer, 3600, now()).unwrap();
    let (_, parsed) = X509Certificate::from_der(&certificate.chain()[0].der).unwrap();
    assert_eq!(parsed.subject().iter().count(), 0, "no subject");
    let names = parsed.subject_alternative_name().unwrap().unwrap();
    assert!(names.critical);
    assert_eq!(names.value.general_names, [GeneralName::URI("spiffe://mesh/ns/shop/sa/web")]);
    let usage = parsed.key_usage().unwrap().unwrap().value;
    assert_eq!(usage.flags, 0b101, "digitalSignature and keyEncipherment");
    let purposes = parsed.extended_key_usage().unwrap().unwrap().value;
    assert!(purposes.server_auth && purposes.client_auth && !purposes.any && purposes.other.is_empty());
    assert!(!parsed.basic_constraints().unwrap().unwrap().value.ca);
    assert_eq!(certificate.not_before(), now() - Duration::from_secs(120));
    assert_eq!(certificate.not_after(), now() + Duration::from_secs(3600));
    assert_eq!((certificate.chain().len(), certificate.roots().len()), (1, 1));
}

#[test]
fn a_life_is_the_default_or_what_was_asked_but_never_over_the_most() {
    let issuer = Issuer::self_signed("mesh", ROOT_LIFETIME, now()).unwrap();
    let max = 90 * 24 * 3600;
    for (asked, want) in [
        (0, Some(DAY)),
        (-5, Some(DAY)),
        (i64::MIN, Some(DAY)),
        (1, Some(Duration::from_secs(1))),
        (max, Some(90 * DAY)),
        (max + 1, None),
        (i64::MAX, None),
    ] {
        let got = certify(&issuer, asked, now());
        match want {
            Some(life) => assert_eq!(got.unwrap().not_after(), now() + life, "{asked}"),
            None => assert_eq!(got.err(), Some(IssueError::Lifetime { asked, max: 90 * 24 * 3600 })),
        }
    }
}

#[test]
fn nothing_outlives_its_signer_and_an_expired_signer_signs_nothing() {
    let issuer = Issuer::self_signed("mesh", 10 * DAY, now()).unwrap();
    for (at, want) in [(now(), now() + DAY), (now() + 9 * DAY + DAY / 2, now() + 10 * DAY)] {
        assert_eq!(certify(&issuer, 0, at).unwrap().not_after(), want);
    }
    assert_eq!(certify(&issuer, 0, now() + 10 * DAY).err(), Some(IssueError::Expired));
    assert_eq!(certify(&issuer, 0, now() + 100 * DAY).err(), Some(IssueError::Expired));
}

#[test]
fn what_a_request_asks_for_beyond_its_key_is_ignored() {
    let issuer = Issuer::self_signed("mesh", ROOT_LIFETIME, now()).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["evil.example".to_owned()]).unwrap();
    params.subject_alt_names.push(SanType::URI("spiffe://mesh/ns/kube-system/sa/admin".try_into().unwrap()));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.distinguished_name.push(DnType::CommonName, "admin");
    let csr = params.serialize_request(&key).unwrap().pem().unwrap();
    let elements = issuer.issue(&csr, &web(), 0, Lifetimes::default(), now()).unwrap();
    let leaf = chain::parse_pem(&elements[0]).unwrap().remove(0);
    let (_, parsed) = X509Certificate::from_der(&leaf.der).unwrap();
    assert_eq!(chain::identity(&leaf.der).unwrap(), web());
    assert_eq!(parsed.subject().iter().count(), 0);
    assert!(!parsed.is_ca());
    assert_eq!(parsed.key_usage().unwrap().unwrap().value.flags, 0b101);
    assert_eq!(parsed.public_key().raw, key.subject_public_key_info());
}

/// A root and an intermediate with these kinds of key.
fn plugged(root_kind: &'static rcgen::SignatureAlgorithm, kind: &'static rcgen::SignatureAlgorithm) -> [String; 4] {
    let ca = |name: &str| {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.not_before = date(now() - DAY);
        params.not_after = date(now() + 1000 * DAY);
        params
    };
    let (root_key, key) = (KeyPair::generate_for(root_kind).unwrap(), KeyPair::generate_for(kind).unwrap());
    let (root, middle) = (ca("root"), ca("middle"));
    let root_certificate = root.self_signed(&root_key).unwrap();
    let certificate = middle.signed_by(&key, &rcgen::Issuer::from_params(&root, &root_key)).unwrap();
    let certificate = chain::pem_of(certificate.der());
    [key.serialize_pem(), certificate.clone(), certificate, chain::pem_of(root_certificate.der())]
}

#[test]
fn a_plugged_in_authority_with_either_kind_of_key_signs_what_peers_believe() {
    use rcgen::{PKCS_ECDSA_P384_SHA384, PKCS_ED25519};
    let kinds = [&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384, &PKCS_ED25519, &PKCS_RSA_SHA256];
    for (root_kind, kind) in kinds.iter().flat_map(|root| kinds.iter().map(move |kind| (*root, *kind))) {
        let [key, certificate, above, roots] = plugged(root_kind, kind);
        let issuer = Issuer::from_pem(&key, &certificate, &above, &roots, now()).unwrap();
        let leaf = certify(&issuer, 0, now()).unwrap();
        assert_eq!((leaf.chain().len(), leaf.roots().len()), (2, 1), "the intermediate is sent once, the root last");
    }
}

#[test]
fn an_authority_that_nobody_would_believe_is_not_taken() {
    let [key, certificate, above, roots] = plugged(&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P256_SHA256);
    let [other_key, other_certificate, _, other_roots] = plugged(&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P256_SHA256);
    let leaf = {
        let issuer = Issuer::from_pem(&key, &certificate, &above, &roots, now()).unwrap();
        certify(&issuer, 0, now()).unwrap().chain()[0].pem()
    };
    for (name, key, certificate, roots, at) in [
        ("the key of another", &other_key, &certificate, &roots, now()),
        ("the roots of another", &key, &certificate, &other_roots, now()),
        ("the certificate of another", &key, &other_certificate, &roots, now()),
        ("a leaf as a CA", &key, &leaf, &roots, now()),
        ("expired", &key, &certificate, &roots, now() + 2000 * DAY),
        ("no key", &roots, &certificate, &roots, now()),
        ("no certificate", &key, &key, &roots, now()),
        ("no roots", &key, &certificate, &key, now()),
    ] {
        assert!(Issuer::from_pem(key, certificate, "", roots, at).is_err(), "{name} was taken");
    }
}

#[test]
fn two_roots_of_one_mesh_can_be_told_apart() {
    let one = Issuer::self_signed("mesh", ROOT_LIFETIME, now()).unwrap();
    let two = Issuer::self_signed("mesh", ROOT_LIFETIME, now()).unwrap();
    let both = format!("{}{}", one.certificate_pem(), two.certificate_pem());
    let one = one.with_roots(&both, now()).unwrap();
    assert_eq!(one.roots().len(), 2);
    assert_eq!(certify(&one, 0, now()).unwrap().roots().len(), 2);
}
