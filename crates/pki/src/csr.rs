//! A key pair and the request to certify it, as the authority expects it.
//!
//! P-256, SHA-256, empty subject, one critical subject alternative name with the SPIFFE URI.

use mesh::Identity;
use rustls_pki_types::PrivatePkcs8KeyDer;

/// A fresh key and the request that asks to certify it. The key never leaves the process.
pub struct Request {
    /// PEM of the PKCS#10 request.
    pub csr: String,
    /// The private key, PKCS#8.
    pub key: PrivatePkcs8KeyDer<'static>,
}

/// No key or no request could be made.
#[derive(Debug, thiserror::Error)]
#[error("could not make a key and a certificate request: {0}")]
pub struct RequestError(#[from] rcgen::Error);

/// A new key, and a request for `identity`.
pub fn request(identity: &Identity) -> Result<Request, RequestError> {
    let _ = identity;
    todo!()
}
