//! The certificate authority: who may have which certificate, and the key that signs them.
//!
//! [`policy`] (pure: caller and request to allow or deny) · [`rate`] (pure: how often one caller may
//! ask) · [`root`] (the signing key on disk, its reload and its rotation) · `keys` (pure: the same in
//! one piece) and `secret` (where a cluster keeps it) · `bundle` (the roots in every namespace) ·
//! [`serving`] (the certificate that this process itself shows) · [`service`] (the RPC).

#[cfg(feature = "kubernetes")]
pub mod bundle;
pub(crate) mod files;
#[cfg(feature = "kubernetes")]
mod keys;
pub mod policy;
pub mod rate;
pub mod root;
mod rotation;
#[cfg(feature = "kubernetes")]
pub mod secret;
pub mod service;
pub mod serving;
