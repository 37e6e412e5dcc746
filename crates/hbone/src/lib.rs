//! Tunnels of the mesh: HTTP/2 CONNECT streams over a finished mTLS connection.
//!
//! What is here, in reading order: [`head`] (what a CONNECT says), [`limits`] (every number),
//! [`stream`] (one tunnel as a reader and a writer), [`accept`] (the receiving end of a
//! connection), [`open`] (the sending end), [`pool`] (which connection carries a new tunnel),
//! [`relay`] (bytes both ways, counted).
//!
//! HTTP/2 itself is our own: `engine`. The `h2` crate, which it is compared with, may stand in for it
//! ([`limits::Engine`]).
//!
//! What is not: sockets, TLS and identities (the caller brings a finished stream and keeps the
//! `Peer`), policy, and the choice of a destination. Nothing here believes a header.

pub mod accept;
mod credit;
mod drain;
mod engine;
mod flood;
mod h2;
pub mod head;
mod keep;
pub mod limits;
pub mod open;
pub mod pool;
pub mod relay;
pub mod stream;

/// What the fuzzer does to a connection; see `fuzz/`.
#[doc(hidden)]
pub use engine::trial::trial;
