//! Certificates as an attacker, or a careless authority, would make them.

use mesh::Identity;
use pki::{
    WorkloadCertificate, csr,
    issue::{Issuer, Lifetimes},
};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CustomExtension, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber,
};
use rustls::{crypto::aws_lc_rs, sign::CertifiedKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject};
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};
use time::OffsetDateTime;
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

pub(crate) const DAY: Duration = Duration::from_secs(24 * 3600);
const SUBJECT_ALT_NAME: [u64; 4] = [2, 5, 29, 17];

/// What a leaf is to look like; `Leaf::good` is what an honest authority makes.
pub(crate) struct Leaf {
    pub(crate) params: CertificateParams,
}

impl Leaf {
    pub(crate) fn good(uri: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.is_ca = IsCa::ExplicitNoCa;
        params.not_before = date(SystemTime::now() - DAY);
        params.not_after = date(SystemTime::now() + DAY);
        Self { params }
    }

    pub(crate) fn with(mut self, change: impl FnOnce(&mut CertificateParams)) -> Self {
        change(&mut self.params);
        self
    }

    /// With these bytes as the value of one URI name, whatever they are.
    pub(crate) fn raw_uri(self, value: &[u8]) -> Self {
        let name = [&[0x86, u8::try_from(value.len()).unwrap()], value].concat();
        let names = [&[0x30, u8::try_from(name.len()).unwrap()], &name[..]].concat();
        let mut extension = CustomExtension::from_oid_content(&SUBJECT_ALT_NAME, names);
        extension.set_criticality(true);
        self.with(|params| {
            params.subject_alt_names.clear();
            params.custom_extensions.push(extension);
        })
    }

    /// Signed by `by`, shown with the certificates of `above`.
    pub(crate) fn shown(self, by: &Ca, above: &[&Ca]) -> Arc<CertifiedKey> {
        let key = KeyPair::generate().unwrap();
        let leaf = self.params.signed_by(&key, &by.signer).unwrap();
        let mut chain = vec![leaf.der().clone()];
        chain.extend(above.iter().map(|ca| ca.der.clone()));
        certified(chain, &key)
    }

    pub(crate) fn self_signed(self) -> Arc<CertifiedKey> {
        let key = KeyPair::generate().unwrap();
        let leaf = self.params.self_signed(&key).unwrap();
        certified(vec![leaf.der().clone()], &key)
    }
}

/// Something that signs.
pub(crate) struct Ca {
    pub(crate) der: CertificateDer<'static>,
    pub(crate) signer: rcgen::Issuer<'static, KeyPair>,
}

impl Ca {
    /// The mesh's root itself.
    pub(crate) fn of(issuer: &Issuer) -> Self {
        let key = KeyPair::from_pem(&issuer.key_pem()).unwrap();
        let der = CertificateDer::from_pem_slice(issuer.certificate_pem().as_bytes()).unwrap();
        Self { signer: rcgen::Issuer::from_ca_cert_der(&der, key).unwrap(), der }
    }

    /// An intermediate below this.
    pub(crate) fn below(&self, name: &str, is_ca: IsCa) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = is_ca;
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = date(SystemTime::now() - DAY);
        params.not_after = date(SystemTime::now() + DAY);
        let der = params.signed_by(&key, &self.signer).unwrap().der().clone();
        Self { signer: rcgen::Issuer::new(params, key), der }
    }

    /// PEM of a list that takes back one certificate.
    pub(crate) fn revokes(&self, certificate: &CertificateDer<'_>) -> String {
        let (_, parsed) = X509Certificate::from_der(certificate).unwrap();
        let revoked = RevokedCertParams {
            serial_number: SerialNumber::from_slice(parsed.raw_serial()),
            revocation_time: date(SystemTime::now()),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date(SystemTime::now() - DAY),
            next_update: date(SystemTime::now() + DAY),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.signer).unwrap().pem().unwrap()
    }

    pub(crate) fn chain_of(&self, length: usize) -> Vec<Self> {
        let unconstrained = || IsCa::Ca(BasicConstraints::Unconstrained);
        let mut chain: Vec<Self> = Vec::new();
        for depth in 0..length {
            let above = chain.last().unwrap_or(self);
            let next = above.below(&format!("intermediate {depth}"), unconstrained());
            chain.push(next);
        }
        chain
    }
}

pub(crate) fn certified(chain: Vec<CertificateDer<'static>>, key: &KeyPair) -> Arc<CertifiedKey> {
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    Arc::new(CertifiedKey::new(chain, aws_lc_rs::sign::any_supported_type(&key).unwrap()))
}

pub(crate) fn root(trust_domain: &str) -> Issuer {
    Issuer::self_signed(trust_domain, 3650 * DAY, SystemTime::now()).unwrap()
}

/// An honest certificate.
pub(crate) fn honest(issuer: &Issuer, uri: &str) -> WorkloadCertificate {
    honest_at(issuer, uri, SystemTime::now(), 3600)
}

pub(crate) fn honest_at(issuer: &Issuer, uri: &str, now: SystemTime, ttl: i64) -> WorkloadCertificate {
    let identity: Identity = uri.parse().unwrap();
    let made = csr::request(&identity).unwrap();
    let elements = issuer.issue(&made.csr, &identity, ttl, Lifetimes::default(), now).unwrap();
    WorkloadCertificate::new(made.key, &elements).unwrap()
}

pub(crate) fn date(time: SystemTime) -> OffsetDateTime {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    OffsetDateTime::from_unix_timestamp(i64::try_from(seconds).unwrap()).unwrap()
}
