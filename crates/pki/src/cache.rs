//! The certificates of every identity this process speaks for, kept fresh.
//!
//! [`crate::schedule`] decides, this asks and waits. An expired certificate is never handed out; one
//! that still holds is kept when its renewal fails.

use crate::{
    certificate::{CertificateRefused, WorkloadCertificate},
    chain::Certificate,
    clock::Clock,
};
use mesh::Identity;
use std::{future::Future, pin::Pin, sync::Arc};

/// A future of an [`Authority`].
pub type Certifying<'a> = Pin<Box<dyn Future<Output = Result<WorkloadCertificate, CertificateError>> + Send + 'a>>;

/// Somebody who gives certificates.
pub trait Authority: Send + Sync + 'static {
    /// A new key and its certificate for `identity`. Has its own deadline.
    fn certify<'a>(&'a self, identity: &'a Identity) -> Certifying<'a>;
}

/// Why there is no certificate.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CertificateError {
    /// The authority did not answer.
    #[error("the certificate authority cannot be reached: {0}")]
    Unreachable(String),
    /// The authority said no.
    #[error("the certificate authority refused {identity}: {message}")]
    Refused {
        /// For whom we asked.
        identity: Identity,
        /// Its status and words.
        message: String,
    },
    /// What it sent is no certificate of ours.
    #[error("the certificate authority's answer is unusable: {0}")]
    Unusable(#[from] CertificateRefused),
    /// The token that proves us to the authority cannot be read, or no key be made.
    #[error("cannot ask the certificate authority: {0}")]
    CannotAsk(String),
    /// No answer in time.
    #[error("the certificate authority did not answer in time")]
    TimedOut,
    /// Too many identities at once.
    #[error("more than {0} identities at once")]
    TooMany(usize),
    /// The identity was dropped while somebody waited.
    #[error("{0} is no longer served here")]
    Forgotten(Identity),
}

/// One identity, as the config dump shows it.
#[derive(Clone, Debug)]
pub struct CertificateStatus {
    /// Whose.
    pub identity: Identity,
    /// `Available`, `Initializing`, or `Unavailable: <reason>`.
    pub state: String,
    /// Leaf and intermediates.
    pub chain: Vec<Certificate>,
    /// The trusted roots.
    pub roots: Vec<Certificate>,
}

/// A handle to the certificates. Cloning it is cheap.
#[derive(Clone, Debug)]
pub struct CertificateCache {}

/// The work behind a [`CertificateCache`]: run it as a task, as long as the cache is used.
pub struct Driver {}

impl CertificateCache {
    /// An empty cache, and the driver to be spawned for it.
    pub fn new(authority: Arc<dyn Authority>, clock: Arc<dyn Clock>) -> (Self, Driver) {
        let _ = (authority, clock);
        todo!()
    }

    /// The certificate of `identity`, waiting for it if need be. The identity is kept and renewed
    /// from here on, until forgotten.
    pub async fn fetch(&self, identity: &Identity) -> Result<Arc<WorkloadCertificate>, CertificateError> {
        let _ = identity;
        todo!()
    }

    /// Asks for a certificate that will be needed soon.
    pub fn warm(&self, identity: &Identity) {
        let _ = identity;
        todo!()
    }

    /// Nobody here is `identity` any more: its key is dropped.
    pub fn forget(&self, identity: &Identity) {
        let _ = identity;
        todo!()
    }

    /// Everything held, by identity.
    pub fn dump(&self) -> Vec<CertificateStatus> {
        todo!()
    }
}

impl Driver {
    /// Fetches and renews. Ends only when dropped.
    pub async fn run(self) {
        todo!()
    }
}
