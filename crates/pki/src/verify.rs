//! Is the peer who it says it is? Verifiers for both ends of a tunnel, and the [`Peer`] they prove.
//!
//! Only the mesh's roots count, only the one SPIFFE URI of the leaf names the peer, and the leaf
//! must be meant for the end of the connection where it stands. Names of hosts are never looked at.

use mesh::Identity;

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
}

/// Why a peer's certificate is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerRefused {
    /// More certificates than any chain of ours has.
    #[error("the peer sent {0} certificates")]
    ChainTooLong(usize),
    /// Expired, not yet valid, another root, another purpose, a broken signature.
    #[error("the peer's certificate does not hold: {0}")]
    Untrusted(String),
    /// It does not say for which end of a connection it is meant.
    #[error("the peer's certificate is not meant for {0}")]
    Purpose(&'static str),
    /// It does not name exactly one SPIFFE identity.
    #[error(transparent)]
    Name(#[from] crate::chain::ChainError),
    /// It is from another trust domain.
    #[error("the peer {peer} is not of trust domain {ours}")]
    TrustDomain {
        /// The peer.
        peer: Identity,
        /// Our trust domain.
        ours: String,
    },
    /// It is somebody, but nobody we want to talk to.
    #[error("the peer is {peer}, not who was expected")]
    Unexpected {
        /// The peer.
        peer: Identity,
    },
}
