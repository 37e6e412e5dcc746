//! What a workload proves itself with: a private key, the chain above it, and the roots it trusts.

use crate::{
    chain::{self, Certificate, ChainError},
    revocation::Revocations,
    tls::ServerEnd,
};
use mesh::Identity;
use rustls::{crypto::aws_lc_rs, sign::CertifiedKey};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, TrustAnchor};
use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::SystemTime,
};

/// A certified key with its chain and the roots that came with it. Shared as `Arc`.
pub struct WorkloadCertificate {
    identity: Identity,
    chain: Vec<Certificate>,
    roots: Vec<Certificate>,
    anchors: Arc<Vec<TrustAnchor<'static>>>,
    key: Arc<CertifiedKey>,
    revocations: Option<Revocations>,
    server: OnceLock<Arc<ServerEnd>>,
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
    /// The certificate has no life left.
    #[error("the certificate has already expired; compare the clocks of this machine and of the authority")]
    Expired,
}

impl WorkloadCertificate {
    /// Puts together the key and the elements that an authority sent: leaf first, then
    /// intermediates, and the root or roots last.
    pub fn new(key: PrivatePkcs8KeyDer<'static>, elements: &[String]) -> Result<Self, CertificateRefused> {
        let [leading @ .., last] = elements else { return Err(CertificateRefused::Incomplete(0)) };
        let unreadable = |element: usize| move |source| CertificateRefused::Unreadable { element, source };
        let mut chain = Vec::new();
        for (element, text) in leading.iter().enumerate() {
            chain.extend(chain::parse_pem(text).map_err(unreadable(element))?);
        }
        let leaf = chain.first().ok_or(CertificateRefused::Incomplete(elements.len()))?;
        let identity = chain::identity(&leaf.der).map_err(unreadable(0))?;
        let roots = chain::parse_pem(last).map_err(unreadable(leading.len()))?;
        let anchors = anchors(&roots).map_err(unreadable(leading.len()))?;
        let signing = aws_lc_rs::sign::any_supported_type(&PrivateKeyDer::Pkcs8(key));
        let signing = signing.map_err(|e| CertificateRefused::OtherKey(e.to_string()))?;
        let key = CertifiedKey::new(chain.iter().map(|c| c.der.clone()).collect(), signing);
        key.keys_match().map_err(|e| CertificateRefused::OtherKey(e.to_string()))?;
        let (anchors, key) = (Arc::new(anchors), Arc::new(key));
        let (revocations, server) = (None, OnceLock::new());
        Ok(Self { identity, chain, roots, anchors, key, revocations, server })
    }

    /// The same, whose owner believes nobody whom these lists revoke.
    pub fn heeding(self, revocations: &Revocations) -> Self {
        Self { revocations: Some(revocations.clone()), server: OnceLock::new(), ..self }
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

    pub(crate) fn anchors(&self) -> &Arc<Vec<TrustAnchor<'static>>> {
        &self.anchors
    }

    pub(crate) fn key(&self) -> &Arc<CertifiedKey> {
        &self.key
    }

    pub(crate) fn revocations(&self) -> Option<&Revocations> {
        self.revocations.as_ref()
    }

    /// The server's end of this certificate, built by the first who asks: a listener asks for each
    /// connection, and it is always the same.
    pub(crate) fn server(&self, build: impl FnOnce() -> ServerEnd) -> Arc<ServerEnd> {
        Arc::clone(self.server.get_or_init(|| Arc::new(build())))
    }
}

/// The roots as path building wants them.
pub(crate) fn anchors(roots: &[Certificate]) -> Result<Vec<TrustAnchor<'static>>, ChainError> {
    let anchor = |root: &Certificate| webpki::anchor_from_trusted_cert(&root.der).map(|a| a.to_owned());
    roots.iter().map(|root| anchor(root).map_err(|e| ChainError::Der(e.to_string()))).collect()
}

/// Never prints the key.
impl fmt::Debug for WorkloadCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkloadCertificate")
            .field("identity", &self.identity)
            .field("serial", &self.serial())
            .field("not_after", &self.not_after())
            .finish_non_exhaustive()
    }
}
