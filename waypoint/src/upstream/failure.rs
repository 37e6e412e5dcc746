//! Why a request or connection did not reach an endpoint, or came to nothing there.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use mesh::Str;
use pki::cache::CertificateError;
use pki::tls::HandshakeError;

/// Why there is no connection to an endpoint. Nothing of a request has gone anywhere by then.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ConnectFailure {
    /// TCP.
    #[error("cannot connect: {0}")]
    Tcp(Arc<io::Error>),
    /// In time.
    #[error("cannot connect within {0:?}")]
    Deadline(Duration),
    /// The node proxy of the endpoint refused the tunnel: policy, or it does not have the pod.
    #[error("the endpoint's node refused the tunnel with {0}")]
    Refused(StatusCode),
    /// The tunnel, before it was answered.
    #[error("no tunnel: {0}")]
    Tunnel(Str),
    /// All tunnels to the endpoint are taken.
    #[error("all tunnels to the endpoint are full")]
    Full,
    /// The name of the endpoint gives no address.
    #[error("cannot resolve {name}: {reason}")]
    Name {
        /// The name.
        name: Str,
        /// Why.
        reason: Str,
    },
    /// TLS of our own, or what it needs.
    #[error("no TLS to the endpoint: {0}")]
    Origination(Str),
    /// HTTP did not begin.
    #[error("the endpoint does not begin HTTP: {0}")]
    Http(Str),
}

/// What one try came to, when it was not a response.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TryFailure {
    /// The destination has no endpoint at all, or none that may be used.
    #[error("no healthy endpoint")]
    NoEndpoint,
    /// A limit of the destination is reached.
    #[error("the destination's limit of {0} is reached")]
    Overflow(&'static str),
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectFailure),
    /// The connection ended before anything of the request was sent.
    #[error("the connection ended before the request was sent")]
    Unsent,
    /// The endpoint did not take the request up (HTTP/2 REFUSED_STREAM, or GOAWAY before it).
    #[error("the endpoint refused the stream")]
    RefusedStream,
    /// The connection or stream ended without a response.
    #[error("the endpoint ended the connection without a response: {0}")]
    Reset(Str),
    /// The endpoint speaks HTTP/2 and takes no extended CONNECT. Nothing was sent.
    #[error("the endpoint takes no WebSocket over HTTP/2")]
    NoWebSocket,
    /// What came is no HTTP response.
    #[error("the endpoint's response is malformed: {0}")]
    Malformed(Str),
    /// The caller's own request broke off while it was sent.
    #[error("the caller broke off its request: {0}")]
    Caller(Str),
    /// The first byte of the response did not come in time.
    #[error("no response within {0:?}")]
    PerTry(Duration),
    /// The whole of all tries did not end in time.
    #[error("no response within {0:?}, all tries together")]
    Timeout(Duration),
    /// Nothing moved in either direction.
    #[error("nothing moved for {0:?}")]
    Idle(Duration),
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
    /// We have no certificate.
    #[error("we have no certificate: {0}")]
    Certificate(#[from] CertificateError),
}

/// An error with its causes, in one line.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
