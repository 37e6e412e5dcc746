//! Configuration over the wire: delta ADS of workloads, services and policies, both ends.
//!
//! [`client`] keeps a stream to a control plane and hands what it says to a sink as
//! [`mesh::Change`]s; [`server`] encodes each change once and gives every session what it has
//! not had yet. Both ends decide in plain state machines ([`client::state`],
//! [`server::state`]) that know no clock, no socket and no task; `tests/pair.rs` joins the two
//! over a bad link. Wire types stop at [`codec`]: nobody outside this crate sees one.
//!
//! It never decides who may see what: that is the [`server::Admission`] of the program.
//!
//! Reading order: [`resource`] (kinds and names) · [`node`] (what a client says of itself) ·
//! [`wire`] (the messages) · [`codec`] · [`digests`] (what a client has, in short) · [`client`] · [`server`] · [`limits`].

pub mod client;
pub mod codec;
pub mod digests;
pub mod limits;
pub mod node;
pub mod resource;
pub mod server;
pub mod wire;

pub use node::Node;
pub use resource::Kind;
