//! Bound service-account tokens without Kubernetes: issued and checked with a key of our own.
//!
//! The tokens have the claims that a Kubernetes API server writes, so that what reads them need
//! not know who issued them.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Issues tokens, as the API server does for kubelet. The key lives in the state directory.
pub struct TokenIssuer {}

/// For whom a token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRequest<'a> {
    /// The namespace of pod and service account.
    pub namespace: &'a str,
    /// The service account.
    pub service_account: &'a str,
    /// The pod's name.
    pub pod: &'a str,
    /// The pod's uid.
    pub pod_uid: &'a str,
    /// The node that the pod runs on.
    pub node: &'a str,
    /// How long the token holds.
    pub lifetime: Duration,
}

/// Why no token can be issued or checked.
#[derive(Debug, thiserror::Error)]
pub enum TokenIssuerError {
    /// The key file cannot be read or written.
    #[error("cannot read or write the token signing key {path}: {source}")]
    KeyFile {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The key is unusable.
    #[error("the token signing key is unusable; delete it to have a new one made: {0}")]
    Key(String),
    /// Signing failed.
    #[error("cannot sign a token: {0}")]
    Sign(String),
}

impl TokenIssuer {
    /// The issuer of this state directory; makes a key if there is none. Two processes that open
    /// the same directory have the same key.
    pub fn open(state_dir: &Path) -> Result<Self, TokenIssuerError> {
        let _ = state_dir;
        todo!()
    }

    /// A token, good from now on.
    pub fn issue(&self, request: &TokenRequest<'_>, now: SystemTime) -> Result<String, TokenIssuerError> {
        let _ = (request, now);
        todo!()
    }
}
