//! Tunnels of the mesh: HTTP/2 CONNECT streams over a finished mTLS connection.
//!
//! What is here, in reading order: [`head`] (what a CONNECT says), [`limits`] (every number),
//! [`stream`] (one tunnel as a reader and a writer), [`accept`] (the receiving end of a
//! connection), [`open`] (the sending end), [`pool`] (which connection carries a new tunnel),
//! [`relay`] (bytes both ways, counted).
//!
//! What is not: sockets, TLS and identities (the caller brings a finished stream and keeps the
//! `Peer`), policy, and the choice of a destination. Nothing here believes a header.

pub mod accept;
mod credit;
mod flood;
pub mod head;
mod keep;
pub mod limits;
pub mod open;
pub mod pool;
pub mod relay;
pub mod stream;
