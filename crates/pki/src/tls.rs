//! The two ends of a tunnel's handshake.
//!
//! TLS 1.3 only, both sides prove themselves, ALPN is `h2`, AES-128-GCM first where the peer agrees,
//! post-quantum key exchange first with fallback. No SNI, no resumption, no early data: each
//! connection is checked against the roots of now. Deadlines are the caller's.

use crate::{
    certificate::WorkloadCertificate,
    verify::{Peer, PeerRefused},
};
use mesh::Identity;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};

/// Why no tunnel came to be.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// We do not believe the peer.
    #[error(transparent)]
    Refused(#[from] PeerRefused),
    /// The peer showed no certificate.
    #[error("the peer showed no certificate")]
    NoCertificate,
    /// The peer ended the handshake, by a TLS alert; most often it does not believe us.
    #[error("the peer refused the handshake: {0}")]
    Alert(String),
    /// The peer did not speak TLS 1.3 as we do: other protocol, version, parameters.
    #[error("the peer does not speak TLS as this mesh does: {0}")]
    Protocol(String),
    /// The peer did not agree to HTTP/2.
    #[error("the peer did not agree to HTTP/2 (ALPN h2)")]
    NoHttp2,
    /// Our own certificate has expired, so we do not show it.
    #[error("our own certificate for {0} has expired")]
    Expired(Identity),
    /// The connection broke.
    #[error("the connection broke during the handshake: {0}")]
    Io(std::io::Error),
}

/// What a pod's tunnel listener says: mutual TLS, peers of the same trust domain.
/// Built once for each certificate.
pub fn server_config(certificate: &WorkloadCertificate) -> Arc<rustls::ServerConfig> {
    let _ = certificate;
    todo!()
}

/// What a pod says when it opens a tunnel to one of `expected`. Nobody is expected if that is empty.
pub fn client_config(certificate: &WorkloadCertificate, expected: &[Identity]) -> Arc<rustls::ClientConfig> {
    let _ = (certificate, expected);
    todo!()
}

/// The server's end of the handshake. The caller gives the deadline.
pub async fn accept<IO: AsyncRead + AsyncWrite + Unpin>(
    io: IO,
    config: Arc<rustls::ServerConfig>,
) -> Result<(tokio_rustls::server::TlsStream<IO>, Peer), HandshakeError> {
    let _ = (io, config);
    todo!()
}

/// The client's end of the handshake. The caller gives the deadline.
pub async fn connect<IO: AsyncRead + AsyncWrite + Unpin>(
    io: IO,
    config: Arc<rustls::ClientConfig>,
) -> Result<(tokio_rustls::client::TlsStream<IO>, Peer), HandshakeError> {
    let _ = (io, config);
    todo!()
}
