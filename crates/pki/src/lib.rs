//! Certificates: ask for them, renew them, prove and check them in TLS handshakes, issue them.
//!
//! Reading order: [`clock`] · [`csr`] (what a workload sends to the authority) · [`chain`]
//! (reading X.509 that others sent) · [`certificate`] (a key, its chain and the roots) ·
//! [`revocation`] · [`verify`]
//! (is the peer who it says? yields a [`verify::Peer`]) · [`tls`] (the two ends of
//! a tunnel's handshake) · [`schedule`] (pure: which certificate next, and when) · [`cache`]
//! (drives the schedule) · [`control_plane`] (a channel to it, with its credentials) ·
//! [`ca_client`] and [`ca_server`] (both ends of the certificate RPC) · [`issue`] (a request
//! becomes a certificate) · [`own_authority`] (for tests without a control plane) · [`limits`].
//!
//! A [`verify::Peer`] is made by a completed handshake and by nothing else: no identity is
//! believed that a verifier did not produce.

pub mod ca_client;
pub mod ca_server;
pub mod cache;
pub mod certificate;
pub mod chain;
pub mod clock;
pub mod control_plane;
pub mod csr;
pub mod issue;
pub mod limits;
pub mod own_authority;
pub mod revocation;
pub mod schedule;
pub mod tls;
pub mod verify;

pub use certificate::WorkloadCertificate;
pub use clock::{Clock, SystemClock};
pub use verify::Peer;
