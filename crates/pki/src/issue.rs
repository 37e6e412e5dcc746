//! A request becomes a certificate.
//!
//! Of the request only the public key is used, after its signature was checked; who the
//! certificate names is the caller's decision, never the request's.
//!
//! A certificate has no subject, one critical URI name, the usages of both ends of TLS, and ends
//! no later than the certificate that signed it.
//!
//! `cargo run --release -p pki --example sign` issued 9,900 certificates a second on one core (of a
//! machine that was busy): 0.1 ms each, most of it checking the request's signature and signing.

use crate::{
    chain::{self, Certificate},
    clock::unix_time,
    csr::{self, BadRequest},
    revocation::Lists,
    verify::{self, End},
};
use mesh::Identity;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, SerialNumber,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject};
use std::{
    fmt,
    time::{Duration, SystemTime},
};
use time::OffsetDateTime;

/// A signing key with its certificate, the intermediates above it and the roots of the mesh.
pub struct Issuer {
    signer: rcgen::Issuer<'static, KeyPair>,
    certificate: Certificate,
    certificate_pem: String,
    /// From the signing certificate upwards, without roots: what a leaf is sent with.
    intermediates: Vec<Certificate>,
    roots: Vec<Certificate>,
    roots_pem: String,
}

/// Why an issuer could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IssuerError {
    /// The key is unusable.
    #[error("the CA key is unusable; want PEM of a P-256, P-384, RSA or Ed25519 key: {0}")]
    Key(String),
    /// The certificate, the chain or the roots cannot be read.
    #[error("the CA's {file} is unusable: {reason}")]
    Unreadable {
        /// Which of the three.
        file: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// What it would issue would not be believed.
    #[error("what this CA signs does not verify against its own roots: {0}")]
    Inconsistent(String),
}

/// Why no certificate was issued.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    /// The request is no usable PKCS#10 request.
    #[error(transparent)]
    Request(#[from] BadRequest),
    /// A longer life was asked for than is given.
    #[error("the requested lifetime of {asked} s is over the {max} s that are given at most")]
    Lifetime {
        /// Seconds asked for.
        asked: i64,
        /// Seconds that are given at most.
        max: u64,
    },
    /// Our own certificate has expired.
    #[error("the CA certificate has expired")]
    Expired,
    /// Signing failed.
    #[error("signing failed: {0}")]
    Sign(String),
}

/// How long issued certificates live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    /// For those who do not say.
    pub default: Duration,
    /// Whoever asks for more is refused.
    pub max: Duration,
}

impl Default for Lifetimes {
    fn default() -> Self {
        Self { default: Duration::from_secs(24 * 3600), max: Duration::from_secs(90 * 24 * 3600) }
    }
}

/// Life of a root that we make ourselves: 10 years, as Istio's.
pub const ROOT_LIFETIME: Duration = Duration::from_secs(3650 * 24 * 3600);

/// A certificate is valid from a little before it was made, for verifiers whose clock is behind.
pub const BACKDATING: Duration = Duration::from_secs(120);

impl Issuer {
    /// A new root of its own.
    pub fn self_signed(trust_domain: &str, lifetime: Duration, now: SystemTime) -> Result<Self, IssuerError> {
        let unusable = |e: rcgen::Error| IssuerError::Inconsistent(e.to_string());
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(unusable)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, trust_domain);
        // Path building finds a root by its name, so two roots of one mesh must not have the same.
        let serial = rand::random::<[u8; 16]>();
        let number = serial[..4].iter().map(|b| format!("{b:02x}")).collect::<String>();
        params.distinguished_name.push(DnType::CommonName, format!("{trust_domain} root {number}"));
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = date(now - BACKDATING);
        params.not_after = date(now + lifetime);
        let root = params.self_signed(&key).map_err(unusable)?;
        let pem = chain::pem_of(root.der());
        Self::from_pem(&key.serialize_pem(), &pem, "", &pem, now)
    }

    /// A plugged-in authority: its key, its certificate, the certificates above it (may be empty, may
    /// repeat its own) and the roots, all PEM. What it signs is tried against its roots at once.
    pub fn from_pem(
        key: &str,
        certificate: &str,
        above: &str,
        roots: &str,
        now: SystemTime,
    ) -> Result<Self, IssuerError> {
        let bad_key = |reason: &dyn ToString| IssuerError::Key(reason.to_string());
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|e| bad_key(&e))?;
        let key = KeyPair::try_from(&key).map_err(|e| bad_key(&e))?;
        let own = read("certificate", certificate)?.swap_remove(0);
        let above = if above.trim().is_empty() { Vec::new() } else { read("certificate chain", above)? };
        let parsed_roots = read("roots", roots)?;
        let signer = rcgen::Issuer::from_ca_cert_der(&own.der, key)
            .map_err(|e| IssuerError::Unreadable { file: "certificate", reason: e.to_string() })?;
        let mut intermediates = vec![own.clone()];
        intermediates.extend(above.into_iter().filter(|c| c.der != own.der));
        intermediates.retain(|c| parsed_roots.iter().all(|root| root.der != c.der));
        let issuer = Self {
            signer,
            certificate_pem: own.pem(),
            certificate: own,
            intermediates,
            roots_pem: bundle(&parsed_roots),
            roots: parsed_roots,
        };
        issuer.prove(now)?;
        Ok(issuer)
    }

    /// The same signer, which hands out these roots: what changes while the mesh changes its root.
    pub fn with_roots(self, roots: &str, now: SystemTime) -> Result<Self, IssuerError> {
        Self::from_pem(&self.key_pem(), &self.certificate_pem, &bundle(&self.intermediates), roots, now)
    }

    /// PEM of the signing key, to be kept secret.
    pub fn key_pem(&self) -> String {
        self.signer.key().serialize_pem()
    }

    /// PEM of the signing certificate.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The signing certificate.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// The roots of the mesh.
    pub fn roots(&self) -> &[Certificate] {
        &self.roots
    }

    /// PEM of the roots of the mesh.
    pub fn roots_pem(&self) -> &str {
        &self.roots_pem
    }

    /// The signing certificate's end.
    pub fn not_after(&self) -> SystemTime {
        self.certificate.not_after
    }

    /// A certificate for `identity` and the key of `csr`: PEM elements, leaf first, roots last.
    /// A `ttl_seconds` of 0 or less means the default.
    pub fn issue(
        &self,
        csr: &str,
        identity: &Identity,
        ttl_seconds: i64,
        lifetimes: Lifetimes,
        now: SystemTime,
    ) -> Result<Vec<String>, IssueError> {
        let life = lifetime(ttl_seconds, lifetimes)?;
        let key = csr::public_key(csr)?;
        let leaf = self.sign(&key, workload(identity)?, life, now)?;
        let mut elements = vec![chain::pem_of(&leaf)];
        elements.extend(self.intermediates.iter().map(Certificate::pem));
        elements.push(self.roots_pem.clone());
        Ok(elements)
    }

    /// A server certificate for host names, with a new key: what the control plane itself shows.
    pub fn issue_serving(
        &self,
        hostnames: &[String],
        lifetime: Duration,
        now: SystemTime,
    ) -> Result<rustls::sign::CertifiedKey, IssueError> {
        let failed = |e: &dyn ToString| IssueError::Sign(e.to_string());
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|e| failed(&e))?;
        let mut params = CertificateParams::new(hostnames).map_err(|e| failed(&e))?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let mut chain = vec![self.sign(&key, params, lifetime, now)?];
        chain.extend(self.intermediates.iter().map(|c| c.der.clone()));
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).map_err(|e| failed(&e))?;
        Ok(rustls::sign::CertifiedKey::new(chain, key))
    }

    fn sign(
        &self,
        key: &impl PublicKeyData,
        mut params: CertificateParams,
        life: Duration,
        now: SystemTime,
    ) -> Result<CertificateDer<'static>, IssueError> {
        if self.not_after() <= now {
            return Err(IssueError::Expired);
        }
        params.distinguished_name = DistinguishedName::new();
        params.serial_number = Some(SerialNumber::from_slice(&rand::random::<[u8; 16]>()));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.not_before = date(now - BACKDATING);
        params.not_after = date((now + life).min(self.not_after()));
        let signed = params.signed_by(key, &self.signer).map_err(|e| IssueError::Sign(e.to_string()))?;
        Ok(signed.der().clone())
    }

    /// Signs something and verifies it as a peer would: this finds a key of another certificate, a
    /// certificate that is no CA, a gap up to the roots and an expired chain, all before anybody asks.
    fn prove(&self, now: SystemTime) -> Result<(), IssuerError> {
        let wrong = |reason: &dyn ToString| IssuerError::Inconsistent(reason.to_string());
        let tried = Identity::new("trial", "trial", "trial").map_err(|e| wrong(&e))?;
        let request = csr::request(&tried).map_err(|e| wrong(&e))?;
        let elements = self.issue(&request.csr, &tried, 0, Lifetimes::default(), now).map_err(|e| wrong(&e))?;
        let certificate = crate::WorkloadCertificate::new(request.key, &elements).map_err(|e| wrong(&e))?;
        let above: Vec<_> = self.intermediates.iter().map(|c| c.der.clone()).collect();
        let leaf = &certificate.chain()[0].der;
        let proven =
            verify::verify(certificate.anchors(), leaf, &above, End::Server, unix_time(now), &Lists::default());
        proven.map_err(|e| wrong(&e)).map(|_| ())
    }
}

/// Never prints the key.
impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issuer")
            .field("serial", &self.certificate.serial)
            .field("not_after", &self.not_after())
            .finish_non_exhaustive()
    }
}

/// What a workload certificate says, but for its dates and its number.
fn workload(identity: &Identity) -> Result<CertificateParams, IssueError> {
    let mut params = CertificateParams::default();
    let uri = identity.to_string().try_into().map_err(|e: rcgen::Error| IssueError::Sign(e.to_string()))?;
    params.subject_alt_names = vec![SanType::URI(uri)];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    Ok(params)
}

/// How long a certificate lives for which `asked` seconds were asked.
fn lifetime(asked: i64, lifetimes: Lifetimes) -> Result<Duration, IssueError> {
    let max = lifetimes.max.as_secs();
    match u64::try_from(asked) {
        Err(_) | Ok(0) => Ok(lifetimes.default.min(lifetimes.max)),
        Ok(seconds) if seconds > max => Err(IssueError::Lifetime { asked, max }),
        Ok(seconds) => Ok(Duration::from_secs(seconds)),
    }
}

fn read(file: &'static str, pem: &str) -> Result<Vec<Certificate>, IssuerError> {
    chain::parse_pem(pem).map_err(|e| IssuerError::Unreadable { file, reason: e.to_string() })
}

fn bundle(certificates: &[Certificate]) -> String {
    certificates.iter().map(Certificate::pem).collect()
}

/// The second that `wall` falls in. Certificates have no finer time; what is out of range becomes 1970,
/// which is valid for nobody.
fn date(wall: SystemTime) -> OffsetDateTime {
    let seconds = wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    i64::try_from(seconds)
        .ok()
        .and_then(|s| OffsetDateTime::from_unix_timestamp(s).ok())
        .unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests;
