//! Reaches what a plan says.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hbone::pool::OpenError;
use pki::cache::CertificateError;
use pki::tls::HandshakeError;

/// Why what a plan says could not be reached.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// TCP.
    #[error("cannot connect: {0}")]
    Connect(#[source] io::Error),
    /// TCP, in time.
    #[error("cannot connect within {} s", .0.as_secs())]
    ConnectDeadline(Duration),
    /// The name of the endpoint gives no address.
    #[error("cannot resolve {name}: {source}")]
    Resolve {
        /// The name.
        name: mesh::Str,
        /// Why.
        source: io::Error,
    },
    /// We have no certificate of the pod that sends.
    #[error("no certificate for the pod that sends: {0}")]
    Certificate(#[from] CertificateError),
    /// The tunnel: its TCP, its TLS, its CONNECT.
    #[error("no tunnel: {}", chain(.0))]
    Tunnel(#[from] OpenError<DialError>),
    /// The destination is on this node, and its end of the connection said no.
    #[error("refused at the destination: {0}")]
    Refused(Arc<crate::inbound::Reject>),
    /// The destination is on this node, and does not listen.
    #[error("not served at the destination: {0}")]
    NotServed(Arc<crate::inbound::Failure>),
}

/// Why no TLS connection could be made for a tunnel.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// TCP.
    #[error("cannot connect: {0}")]
    Connect(#[source] io::Error),
    /// TCP, in time.
    #[error("cannot connect within {} s", .0.as_secs())]
    ConnectDeadline(Duration),
    /// TLS.
    #[error("TLS failed: {0}")]
    Tls(#[from] HandshakeError),
    /// TLS, in time.
    #[error("no TLS within {} s", .0.as_secs())]
    TlsDeadline(Duration),
    /// We have no certificate of the pod that sends.
    #[error("no certificate for the pod that sends: {0}")]
    Certificate(#[from] CertificateError),
    /// Whom we expect is no identity of this mesh.
    #[error("nobody can be expected at the destination: {0}")]
    Expected(#[from] mesh::identity::IdentityError),
}

fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
