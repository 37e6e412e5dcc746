//! The decisions of [`super`] in the shape that rustls asks for them.

use super::{End, PeerRefused, Trust, algorithms, verify};
use crate::certificate::WorkloadCertificate;
use mesh::Identity;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{verify_tls12_signature, verify_tls13_signature},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::{fmt, sync::Arc};

/// Takes clients of one trust domain.
pub(crate) struct ClientVerifier {
    trust: Trust,
    trust_domain: mesh::Str,
}

impl ClientVerifier {
    pub(crate) fn new(ours: &WorkloadCertificate) -> Self {
        Self { trust: Trust::of(ours), trust_domain: ours.identity().trust_domain().clone() }
    }

    fn decide(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), PeerRefused> {
        let peer = verify(&self.trust.anchors, leaf, intermediates, End::Client, now, &self.trust.lists())?;
        if *peer.trust_domain() == self.trust_domain {
            Ok(())
        } else {
            Err(PeerRefused::TrustDomain { peer, ours: self.trust_domain.to_string() })
        }
    }
}

/// Takes servers that are one of those expected.
pub(crate) struct ServerVerifier {
    trust: Trust,
    expected: Box<[Identity]>,
}

impl ServerVerifier {
    pub(crate) fn new(ours: &WorkloadCertificate, expected: &[Identity]) -> Self {
        Self { trust: Trust::of(ours), expected: expected.into() }
    }

    fn decide(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), PeerRefused> {
        let peer = verify(&self.trust.anchors, leaf, intermediates, End::Server, now, &self.trust.lists())?;
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
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        of_tls12(message, certificate, signature)
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
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        of_tls12(message, certificate, signature)
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

fn of_tls12(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signature: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, rustls::Error> {
    if !crate::tls::speaks_tls12() {
        return Err(rustls::Error::General("TLS 1.2 is not spoken here".into()));
    }
    verify_tls12_signature(message, certificate, signature, &algorithms())
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
