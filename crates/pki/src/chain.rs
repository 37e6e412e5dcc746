//! Reading certificates that others sent: PEM to DER, and from a certificate what we ask of it.
//!
//! It decides nothing about trust; that is [`crate::verify`].

use crate::limits::{CHAIN_BYTES_MAX, CHAIN_CERTIFICATES_MAX};
use mesh::Identity;
use rustls_pki_types::{CertificateDer, pem::PemObject};
use std::time::{Duration, SystemTime};
use x509_parser::{
    certificate::X509Certificate,
    extensions::{ExtendedKeyUsage, GeneralName},
    prelude::FromDer,
    time::ASN1Time,
};

/// A certificate, parsed for what the config dump and the schedule ask of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The certificate itself.
    pub der: CertificateDer<'static>,
    /// The serial number in decimal, as Istio's tools print it.
    pub serial: String,
    /// Valid from here.
    pub not_before: SystemTime,
    /// Valid until here.
    pub not_after: SystemTime,
}

/// Why a chain or a certificate cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// Broken PEM.
    #[error("not PEM: {0}")]
    Pem(String),
    /// Not an X.509 certificate.
    #[error("not an X.509 certificate: {0}")]
    Der(String),
    /// Nothing in it.
    #[error("no certificate in it")]
    Empty,
    /// More than we are willing to read.
    #[error("over {CHAIN_CERTIFICATES_MAX} certificates or {CHAIN_BYTES_MAX} bytes")]
    TooLarge,
    /// The certificate names nobody, or several, or not by a SPIFFE URI.
    #[error("the certificate must have exactly one subject alternative name, a SPIFFE URI: {0}")]
    Name(String),
}

/// Every certificate of a PEM text, in order; at least one. What is not a certificate is passed over.
pub fn parse_pem(pem: &str) -> Result<Vec<Certificate>, ChainError> {
    if pem.len() > CHAIN_BYTES_MAX {
        return Err(ChainError::TooLarge);
    }
    let mut certificates = Vec::new();
    for der in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        if certificates.len() == CHAIN_CERTIFICATES_MAX {
            return Err(ChainError::TooLarge);
        }
        certificates.push(parse_der(der.map_err(|e| ChainError::Pem(e.to_string()))?)?);
    }
    if certificates.is_empty() { Err(ChainError::Empty) } else { Ok(certificates) }
}

/// One certificate of its DER bytes.
pub fn parse_der(der: CertificateDer<'static>) -> Result<Certificate, ChainError> {
    let parsed = x509(&der)?;
    let (serial, validity) = (parsed.serial.to_string(), parsed.validity().clone());
    Ok(Certificate { serial, not_before: date(validity.not_before), not_after: date(validity.not_after), der })
}

/// Who a leaf certificate names, strictly: one subject alternative name, a URI that is an identity
/// of this mesh. A second name of any kind would be a second way to read who the peer is.
pub fn identity(leaf: &CertificateDer<'_>) -> Result<Identity, ChainError> {
    name(&x509(leaf)?)
}

/// What a leaf says of itself: whom it names, and for which end of a connection it is meant.
pub(crate) struct Leaf {
    pub(crate) identity: Identity,
    pub(crate) server_auth: bool,
    pub(crate) client_auth: bool,
}

/// One parse of a leaf for everything that a verifier asks.
pub(crate) fn leaf(der: &CertificateDer<'_>) -> Result<Leaf, ChainError> {
    let parsed = x509(der)?;
    let purposes = parsed.extended_key_usage().map_err(|e| ChainError::Der(e.to_string()))?;
    // Only what is said counts: `anyExtendedKeyUsage`, or no word at all, is no permission.
    let says = |which: fn(&ExtendedKeyUsage<'_>) -> bool| purposes.as_ref().is_some_and(|found| which(found.value));
    Ok(Leaf { identity: name(&parsed)?, server_auth: says(|e| e.server_auth), client_auth: says(|e| e.client_auth) })
}

fn name(parsed: &X509Certificate<'_>) -> Result<Identity, ChainError> {
    let wrong = |reason: String| ChainError::Name(reason);
    let names = parsed.subject_alternative_name().map_err(|e| wrong(e.to_string()))?;
    let names = names.ok_or_else(|| wrong("it has none".into()))?;
    match &names.value.general_names[..] {
        [GeneralName::URI(uri)] => uri.parse().map_err(|e: mesh::identity::IdentityError| wrong(e.to_string())),
        [_] => Err(wrong("it has one of another kind".into())),
        several => Err(wrong(format!("it has {}", several.len()))),
    }
}

fn x509<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, ChainError> {
    match X509Certificate::from_der(der.as_ref()) {
        Ok(([], parsed)) => Ok(parsed),
        Ok(_) => Err(ChainError::Der("bytes after its end".into())),
        Err(e) => Err(ChainError::Der(e.to_string())),
    }
}

fn date(time: ASN1Time) -> SystemTime {
    let seconds = time.timestamp();
    let distance = Duration::from_secs(seconds.unsigned_abs());
    if seconds < 0 { SystemTime::UNIX_EPOCH - distance } else { SystemTime::UNIX_EPOCH + distance }
}

impl Certificate {
    /// The certificate as PEM, newline-terminated.
    pub fn pem(&self) -> String {
        pem_of(&self.der)
    }
}

pub(crate) fn pem_of(der: &[u8]) -> String {
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    pem::encode_config(&pem::Pem::new("CERTIFICATE", der), config)
}
