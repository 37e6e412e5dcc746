//! Is the peer who it says it is? Verifiers for both ends of a tunnel, and the [`Peer`] they prove.
//!
//! Only the mesh's roots count, only the one SPIFFE URI of the leaf names the peer, and the leaf
//! must say that it is meant for the end of the connection where it stands. Host names are never
//! looked at.

mod handshake;

pub(crate) use handshake::{ClientVerifier, ServerVerifier, refusal};

use crate::{
    certificate::WorkloadCertificate,
    chain::{self, ChainError},
    limits::PEER_CHAIN_MAX,
    revocation::{Lists, Revocations},
};
use mesh::Identity;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use std::{fmt, sync::Arc};

/// Who is at the other end of a handshake that succeeded. Nothing else makes one.
#[derive(Clone)]
pub struct Peer {
    identity: Identity,
    /// How it proved that, to be looked at again when certificates are revoked.
    proof: Arc<Proof>,
}

struct Proof {
    shown: Vec<CertificateDer<'static>>,
    trust: Trust,
    end: End,
    at: UnixTime,
}

impl Peer {
    /// Who it is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The peer of a completed handshake: rustls keeps `shown` only if a verifier of this module,
    /// made of the same certificate of ours, took it.
    pub(crate) fn of_handshake(
        shown: &[CertificateDer<'static>],
        trust: Trust,
        end: End,
        at: UnixTime,
    ) -> Result<Self, PeerRefused> {
        let leaf = shown.first().ok_or_else(|| PeerRefused::Untrusted("no certificate".into()))?;
        let identity = chain::identity(leaf)?;
        Ok(Self { identity, proof: Arc::new(Proof { shown: shown.to_vec(), trust, end, at }) })
    }

    /// Resolves when a certificate that the peer showed has been revoked. Never resolves otherwise; that
    /// certificates end is no reason to end a connection. The streams of [`crate::tls`] heed it by
    /// themselves.
    pub async fn revoked(&self) {
        let Some(mut revocations) = self.proof.trust.revocations.clone() else {
            return std::future::pending().await;
        };
        while !self.is_revoked(&revocations.now()) {
            revocations.changed().await;
        }
    }

    /// Whether there are lists at all that could revoke it.
    pub(crate) fn may_be_revoked(&self) -> bool {
        self.proof.trust.revocations.is_some()
    }

    fn is_revoked(&self, lists: &Lists) -> bool {
        // At the time of the handshake it held in all other respects.
        let Proof { shown, trust, end, at } = &*self.proof;
        let Some((leaf, above)) = shown.split_first() else { return true };
        verify(&trust.anchors, leaf, above, *end, *at, lists) == Err(PeerRefused::Revoked)
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
    /// Its authority has taken it back.
    #[error("the peer's certificate has been revoked")]
    Revoked,
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

/// What we believe: the roots, less what is revoked.
#[derive(Clone)]
pub(crate) struct Trust {
    pub(crate) anchors: Arc<Vec<TrustAnchor<'static>>>,
    pub(crate) revocations: Option<Revocations>,
}

impl Trust {
    pub(crate) fn of(ours: &WorkloadCertificate) -> Self {
        Self { anchors: Arc::clone(ours.anchors()), revocations: ours.revocations().cloned() }
    }

    /// What is revoked now.
    fn lists(&self) -> Lists {
        self.revocations.as_ref().map(Revocations::now).unwrap_or_default()
    }
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
    lists: &Lists,
) -> Result<Identity, PeerRefused> {
    if intermediates.len() >= PEER_CHAIN_MAX {
        return Err(PeerRefused::ChainTooLong(intermediates.len() + 1));
    }
    let usage = match end {
        End::Client => webpki::KeyUsage::client_auth(),
        End::Server => webpki::KeyUsage::server_auth(),
    };
    let entity = webpki::EndEntityCert::try_from(leaf).map_err(untrusted)?;
    lists.with_options(|revocation| {
        let path = entity.verify_for_usage(algorithms().all, anchors, intermediates, now, usage, revocation, None);
        path.map_err(untrusted).map(|_| ())
    })?;
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
        Error::CertRevoked => PeerRefused::Revoked,
        Error::UnknownIssuer => PeerRefused::UnknownRoot,
        other => PeerRefused::Untrusted(other.to_string()),
    }
}

impl PartialEq for Peer {
    fn eq(&self, other: &Self) -> bool {
        self.identity == other.identity && self.proof.shown == other.proof.shown
    }
}

impl Eq for Peer {}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer").field("identity", &self.identity).finish_non_exhaustive()
    }
}

fn algorithms() -> WebPkiSupportedAlgorithms {
    crate::tls::PROVIDER.signature_verification_algorithms
}
