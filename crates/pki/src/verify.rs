//! Is the peer who it says it is? Verifiers for both ends of a tunnel, and the [`Peer`] they prove.
//!
//! Only the mesh's roots count, only the one SPIFFE URI of the leaf names the peer, and the leaf
//! must say that it is meant for the end of the connection where it stands. Host names are never
//! looked at.

use crate::{
    certificate::WorkloadCertificate,
    chain::{self, ChainError},
    limits::PEER_CHAIN_MAX,
};
use mesh::Identity;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use std::{fmt, sync::Arc};

/// Who is at the other end of a handshake that succeeded. Nothing else makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    identity: Identity,
}

impl Peer {
    /// Who it is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The peer of a completed handshake: rustls keeps these certificates only if a verifier of
    /// this module took them.
    pub(crate) fn of_handshake(certificates: &[CertificateDer<'_>]) -> Result<Self, PeerRefused> {
        let leaf = certificates.first().ok_or_else(|| PeerRefused::Untrusted("no certificate".into()))?;
        Ok(Self { identity: chain::identity(leaf)? })
    }
}

/// Why a peer's certificate is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerRefused {
    /// More certificates than any chain of ours has.
    #[error("the peer sent {0} certificates, more than {PEER_CHAIN_MAX}")]
    ChainTooLong(usize),
    /// A certificate of the chain is over.
    #[error("the peer's certificate has expired")]
    Expired,
    /// A certificate of the chain has not begun.
    #[error("the peer's certificate is not yet valid; compare the clocks")]
    NotYetValid,
    /// It comes from another root.
    #[error("the peer's certificate does not come from a root of this mesh")]
    UnknownRoot,
    /// A broken signature, a constraint of a CA, an unknown critical extension and the like.
    #[error("the peer's certificate does not hold: {0}")]
    Untrusted(String),
    /// It does not say that it is meant for this end of a connection.
    #[error("the peer's certificate is not meant for a {0}")]
    Purpose(&'static str),
    /// It does not name exactly one SPIFFE identity.
    #[error(transparent)]
    Name(#[from] ChainError),
    /// It is from another trust domain.
    #[error("the peer {peer} is not of trust domain {ours}")]
    TrustDomain {
        /// The peer.
        peer: Identity,
        /// Our trust domain.
        ours: String,
    },
    /// It is somebody, but nobody we want to talk to.
    #[error("the peer is {peer}, which is not expected here")]
    Unexpected {
        /// The peer.
        peer: Identity,
    },
}

/// Which end of the connection the peer stands at.
#[derive(Clone, Copy)]
pub(crate) enum End {
    Client,
    Server,
}

/// Whom the shown certificates prove, if anybody.
pub(crate) fn verify(
    anchors: &[TrustAnchor<'_>],
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    end: End,
    now: UnixTime,
) -> Result<Identity, PeerRefused> {
    if intermediates.len() >= PEER_CHAIN_MAX {
        return Err(PeerRefused::ChainTooLong(intermediates.len() + 1));
    }
    let usage = match end {
        End::Client => webpki::KeyUsage::client_auth(),
        End::Server => webpki::KeyUsage::server_auth(),
    };
    let entity = webpki::EndEntityCert::try_from(leaf).map_err(untrusted)?;
    entity.verify_for_usage(algorithms().all, anchors, intermediates, now, usage, None, None).map_err(untrusted)?;
    // Path building takes a certificate that says nothing of its purpose. We do not. That is asked
    // here of the leaf alone, since the same demand there would also be put to the intermediates.
    let leaf = chain::leaf(leaf)?;
    match end {
        End::Client if !leaf.client_auth => Err(PeerRefused::Purpose("client")),
        End::Server if !leaf.server_auth => Err(PeerRefused::Purpose("server")),
        _ => Ok(leaf.identity),
    }
}

fn untrusted(error: webpki::Error) -> PeerRefused {
    use webpki::Error;
    match error {
        Error::CertExpired { .. } => PeerRefused::Expired,
        Error::CertNotValidYet { .. } => PeerRefused::NotYetValid,
        Error::UnknownIssuer => PeerRefused::UnknownRoot,
        other => PeerRefused::Untrusted(other.to_string()),
    }
}

fn algorithms() -> WebPkiSupportedAlgorithms {
    crate::tls::PROVIDER.signature_verification_algorithms
}

/// Takes clients of one trust domain.
pub(crate) struct ClientVerifier {
    anchors: Arc<Vec<TrustAnchor<'static>>>,
    trust_domain: mesh::Str,
}

impl ClientVerifier {
    pub(crate) fn new(ours: &WorkloadCertificate) -> Self {
        Self { anchors: Arc::clone(ours.anchors()), trust_domain: ours.identity().trust_domain().clone() }
    }

    fn decide(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), PeerRefused> {
        let peer = verify(&self.anchors, leaf, intermediates, End::Client, now)?;
        if *peer.trust_domain() == self.trust_domain {
            Ok(())
        } else {
            Err(PeerRefused::TrustDomain { peer, ours: self.trust_domain.to_string() })
        }
    }
}

/// Takes servers that are one of those expected.
pub(crate) struct ServerVerifier {
    anchors: Arc<Vec<TrustAnchor<'static>>>,
    expected: Box<[Identity]>,
}

impl ServerVerifier {
    pub(crate) fn new(ours: &WorkloadCertificate, expected: &[Identity]) -> Self {
        Self { anchors: Arc::clone(ours.anchors()), expected: expected.into() }
    }

    fn decide(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), PeerRefused> {
        let peer = verify(&self.anchors, leaf, intermediates, End::Server, now)?;
        if self.expected.contains(&peer) { Ok(()) } else { Err(PeerRefused::Unexpected { peer }) }
    }
}

impl ClientCertVerifier for ClientVerifier {
    // No hints: they would tell any stranger the names of our roots, and every client has one certificate.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.decide(leaf, intermediates, now).map(|()| ClientCertVerified::assertion()).map_err(carried)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        algorithms().supported_schemes()
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.decide(leaf, intermediates, now).map(|()| ServerCertVerified::assertion()).map_err(carried)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        algorithms().supported_schemes()
    }
}

fn no_tls12() -> rustls::Error {
    rustls::Error::General("TLS 1.2 is not spoken here".into())
}

/// Our reason, carried through rustls to whoever did the handshake.
fn carried(refused: PeerRefused) -> rustls::Error {
    rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(refused))))
}

/// Our reason, if this is how a handshake failed.
pub(crate) fn refusal(error: &rustls::Error) -> Option<PeerRefused> {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(reason))) => {
            reason.downcast_ref::<PeerRefused>().cloned()
        }
        _ => None,
    }
}

impl fmt::Debug for ClientVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientVerifier").field("trust_domain", &self.trust_domain).finish_non_exhaustive()
    }
}

impl fmt::Debug for ServerVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerVerifier").field("expected", &self.expected).finish_non_exhaustive()
    }
}
