//! A request becomes a certificate.
//!
//! Of the request only the public key is used, after its signature was checked; who the
//! certificate names is the caller's decision, never the request's.

use mesh::Identity;
use std::time::{Duration, SystemTime};

/// A signing key with its certificate, the intermediates above it and the roots of the mesh.
pub struct Issuer {}

/// Why an issuer could not be made.
#[derive(Debug, thiserror::Error)]
pub enum IssuerError {
    /// The key is unusable.
    #[error("the CA key is unusable: {0}")]
    Key(String),
    /// The certificate is unusable, or does not belong to the key, or is not a CA, or does not chain to the roots.
    #[error("the CA certificate is unusable: {0}")]
    Certificate(String),
}

/// Why no certificate was issued.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    /// The request is not a readable PKCS#10 request, or is too large, or its signature is wrong, or its key too weak.
    #[error("the certificate request is unusable: {0}")]
    Request(String),
    /// A longer life was asked for than is given.
    #[error("requested lifetime of {asked} s is over the {max} s that are given")]
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
    /// For those who say too much: refused.
    pub max: Duration,
}

impl Default for Lifetimes {
    fn default() -> Self {
        Self { default: Duration::from_secs(24 * 3600), max: Duration::from_secs(90 * 24 * 3600) }
    }
}

impl Issuer {
    /// A new root of its own, valid for 10 years.
    pub fn self_signed(trust_domain: &str, now: SystemTime) -> Result<Self, IssuerError> {
        let _ = (trust_domain, now);
        todo!()
    }

    /// A plugged-in authority: its key, its certificate, the intermediates above it (may be empty)
    /// and the roots, all PEM.
    pub fn from_pem(key: &str, certificate: &str, intermediates: &str, roots: &str) -> Result<Self, IssuerError> {
        let _ = (key, certificate, intermediates, roots);
        todo!()
    }

    /// The same signer, which hands out these roots: what changes while the mesh changes its root.
    pub fn with_roots(self, roots: &str) -> Result<Self, IssuerError> {
        let _ = roots;
        todo!()
    }

    /// PEM of the signing key, to be kept secret.
    pub fn key_pem(&self) -> String {
        todo!()
    }

    /// PEM of the signing certificate.
    pub fn certificate_pem(&self) -> &str {
        todo!()
    }

    /// PEM of the roots of the mesh.
    pub fn roots_pem(&self) -> &str {
        todo!()
    }

    /// The signing certificate's end.
    pub fn not_after(&self) -> SystemTime {
        todo!()
    }

    /// A certificate for `identity` and the key of `csr`: PEM elements, leaf first, roots last.
    /// `ttl` of 0 or less means the default.
    pub fn issue(
        &self,
        csr: &str,
        identity: &Identity,
        ttl_seconds: i64,
        lifetimes: Lifetimes,
        now: SystemTime,
    ) -> Result<Vec<String>, IssueError> {
        let _ = (csr, identity, ttl_seconds, lifetimes, now);
        todo!()
    }

    /// A server certificate for host names, with a new key: what the control plane itself shows.
    pub fn issue_serving(
        &self,
        hostnames: &[String],
        lifetime: Duration,
        now: SystemTime,
    ) -> Result<rustls::sign::CertifiedKey, IssueError> {
        let _ = (hostnames, lifetime, now);
        todo!()
    }
}
