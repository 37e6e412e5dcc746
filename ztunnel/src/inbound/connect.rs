//! Reaches the application of a pod.

use std::io;
use std::time::Duration;

/// Why a connection that may come in does not reach the application.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// TCP.
    #[error("cannot connect to the application: {0}")]
    Connect(#[source] io::Error),
    /// TCP, in time.
    #[error("cannot connect to the application within {} s", .0.as_secs())]
    ConnectDeadline(Duration),
    /// Who asked gave up before it was answered.
    #[error("the caller gave up before it was answered")]
    Gone,
    /// TLS failed, so nobody knows who it was.
    #[error("TLS failed: {0}")]
    Tls(#[from] pki::tls::HandshakeError),
    /// TLS, in time.
    #[error("no TLS within {} s", .0.as_secs())]
    TlsDeadline(Duration),
    /// TLS is up, but HTTP/2 is not.
    #[error("no HTTP/2: {0}")]
    Http2(#[from] hbone::accept::HandshakeError),
    /// We have no certificate of the pod that is called.
    #[error("no certificate for the pod that is called: {0}")]
    Certificate(#[from] pki::cache::CertificateError),
}
