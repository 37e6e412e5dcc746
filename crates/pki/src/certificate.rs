//! What a workload proves itself with: a private key, the chain above it, and the roots it trusts.

use crate::chain::{Certificate, ChainError};
use mesh::Identity;
use rustls_pki_types::{PrivatePkcs8KeyDer, TrustAnchor};
use std::{
    sync::{Arc, OnceLock},
    time::SystemTime,
};

/// A certified key with its chain and the roots that came with it. Shared as `Arc`.
#[derive(Debug)]
pub struct WorkloadCertificate {
    pub(crate) identity: Identity,
    pub(crate) chain: Vec<Certificate>,
    pub(crate) roots: Vec<Certificate>,
    pub(crate) anchors: Arc<Vec<TrustAnchor<'static>>>,
    pub(crate) key: Arc<rustls::sign::CertifiedKey>,
    pub(crate) server: OnceLock<Arc<rustls::ServerConfig>>,
}

/// Why an authority's answer is no certificate of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateRefused {
    /// There must be a leaf and, as the last element, the roots.
    #[error("the authority sent {0} elements; a leaf and the roots are needed")]
    Incomplete(usize),
    /// An element cannot be read.
    #[error("element {element} of the chain: {source}")]
    Unreadable {
        /// Which element, from 0.
        element: usize,
        /// What is wrong with it.
        source: ChainError,
    },
    /// The certificate is for somebody else.
    #[error("asked for {asked}, the certificate is for {given}")]
    OtherIdentity {
        /// Whom we asked for.
        asked: Identity,
        /// Whom we got.
        given: Identity,
    },
    /// The certificate certifies another key.
    #[error("the certificate does not belong to our key: {0}")]
    OtherKey(String),
}

impl WorkloadCertificate {
    /// Puts together the key and the elements that an authority sent: leaf first, then
    /// intermediates, and the root or roots last.
    pub fn new(key: PrivatePkcs8KeyDer<'static>, elements: &[String]) -> Result<Self, CertificateRefused> {
        let _ = (key, elements);
        todo!()
    }

    /// Who this certificate names.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The leaf and the intermediates above it.
    pub fn chain(&self) -> &[Certificate] {
        &self.chain
    }

    /// The roots that its owner trusts. Several while the mesh changes its root.
    pub fn roots(&self) -> &[Certificate] {
        &self.roots
    }

    /// Valid from here.
    pub fn not_before(&self) -> SystemTime {
        self.chain[0].not_before
    }

    /// Valid until here.
    pub fn not_after(&self) -> SystemTime {
        self.chain[0].not_after
    }

    /// The leaf's serial number in decimal.
    pub fn serial(&self) -> &str {
        &self.chain[0].serial
    }
}
