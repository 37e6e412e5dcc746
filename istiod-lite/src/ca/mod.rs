//! The certificate authority: who may have which certificate, and the key that signs them.
//!
//! [`policy`] (pure: caller and request to allow or deny) · [`rate`] (pure: how often one caller may
//! ask) · [`root`] (the signing key on disk, its reload and its rotation) · [`serving`] (the
//! certificate that this process itself shows) · [`service`] (the RPC).

pub(crate) mod files;
pub mod policy;
pub mod rate;
pub mod root;
mod rotation;
pub mod service;
pub mod serving;
