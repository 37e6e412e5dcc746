//! Reaches the application of a pod.

use std::io;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::plan::Plan;
use super::{Call, proxy_protocol};
use crate::limits::CONNECT_DEADLINE;
use crate::node::{ConnectError, LocalPod};

/// Connects to the application, in the name of the caller where that is possible, and tells it what
/// was asked for where it wants to know.
pub async fn open(plan: &Plan, call: &Call, pod: &LocalPod) -> Result<TcpStream, Failure> {
    let mut stream = pod.connect_as(call.from.ip(), plan.address).await?;
    if let Some(target) = plan.announce {
        let header = proxy_protocol::header(call.from, target, call.source.as_ref());
        let written = timeout(CONNECT_DEADLINE, stream.write_all(&header)).await;
        written.map_err(|_| Failure::ConnectDeadline(CONNECT_DEADLINE))?.map_err(Failure::Connect)?;
    }
    Ok(stream)
}

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

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Failed(error) => Self::Connect(error),
            ConnectError::Deadline => Self::ConnectDeadline(CONNECT_DEADLINE),
        }
    }
}
