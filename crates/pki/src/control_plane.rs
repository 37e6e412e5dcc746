//! The way to the control plane: a TLS channel and the credentials of each request.
//!
//! Its server certificate is verified by host name against the root file, which is read anew for
//! each connection; the token is read anew for each request, because Kubernetes rotates both.

use http::Uri;
use std::path::PathBuf;
use tonic::{metadata::MetadataMap, transport::Channel};

/// Where a PEM text or a token comes from.
#[derive(Clone, Debug)]
pub enum Source {
    /// A file, read each time it is needed.
    File(PathBuf),
    /// Given as it is.
    Literal(String),
}

/// How to reach the control plane and prove oneself to it.
#[derive(Clone, Debug)]
pub struct ControlPlane {
    /// `https://host:port`.
    pub address: Uri,
    /// The roots that its server certificate must come from.
    pub roots: Source,
    /// The bearer token; none for a control plane that asks for none.
    pub token: Option<Source>,
    /// Sent as `clusterid`.
    pub cluster_id: String,
    /// The name its certificate must have, if not the host of `address`.
    pub alternative_hostname: Option<String>,
    /// Further headers of each request.
    pub headers: Vec<(String, String)>,
}

/// Why the control plane cannot be addressed.
#[derive(Debug, thiserror::Error)]
pub enum ControlPlaneError {
    /// The address is not usable.
    #[error("control plane address {0}: want https://host:port")]
    Address(Uri),
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The roots are unusable.
    #[error("the root certificates are unusable: {0}")]
    Roots(String),
    /// A header or the token has characters that no header may have.
    #[error("{0} is not usable as a header")]
    Header(String),
}

impl ControlPlane {
    /// A channel that connects when first used, and again after each loss. HTTP/2 only, ping each
    /// 30 s, dead after 10 s without answer.
    pub fn channel(&self) -> Result<Channel, ControlPlaneError> {
        todo!()
    }

    /// The metadata of one request: `authorization`, `clusterid` and the further headers.
    /// Reads the token file; it is small and in memory, so it is read in place.
    pub fn metadata(&self) -> Result<MetadataMap, ControlPlaneError> {
        todo!()
    }
}
