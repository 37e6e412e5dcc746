//! The same promises with the engine that may stand in for ours. `support` tells them apart by the
//! name of this program.
#![allow(missing_docs, clippy::duplicate_mod, reason = "tests, each with its support")]

#[path = "../accept.rs"]
mod accept;
#[path = "../pool.rs"]
mod pool;
#[path = "../relay.rs"]
mod relay;
#[path = "../stream.rs"]
mod stream;
#[path = "../tls.rs"]
mod tls;
