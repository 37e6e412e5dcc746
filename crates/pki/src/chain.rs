//! Reading certificates that others sent: PEM to DER, and from a certificate what we ask of it.
//!
//! A certificate is parsed once. It decides nothing about trust; that is [`crate::verify`].

use mesh::Identity;
use rustls_pki_types::CertificateDer;
use std::time::SystemTime;

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
    /// Not PEM, or PEM of something else.
    #[error("not a PEM certificate: {0}")]
    Pem(String),
    /// Not an X.509 certificate.
    #[error("not an X.509 certificate: {0}")]
    Der(String),
    /// Nothing in it.
    #[error("no certificate in it")]
    Empty,
    /// More than we are willing to read.
    #[error("more than {0} certificates or bytes")]
    TooLarge(usize),
    /// The certificate names nobody, or several, or not by a SPIFFE URI.
    #[error("the certificate must have exactly one subject alternative name, a SPIFFE URI: {0}")]
    Identity(String),
}

/// Every certificate of a PEM text, in order.
pub fn parse_pem(pem: &str) -> Result<Vec<Certificate>, ChainError> {
    let _ = pem;
    todo!()
}

/// One certificate of its DER bytes.
pub fn parse_der(der: CertificateDer<'static>) -> Result<Certificate, ChainError> {
    let _ = der;
    todo!()
}

/// Who a leaf certificate names: strictly one subject alternative name, a URI that is an identity.
pub fn identity(leaf: &CertificateDer<'_>) -> Result<Identity, ChainError> {
    let _ = leaf;
    todo!()
}

impl Certificate {
    /// The certificate as PEM, newline-terminated.
    pub fn pem(&self) -> String {
        todo!()
    }
}
