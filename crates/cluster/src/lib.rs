//! A Kubernetes cluster, as the programs of the mesh use one: objects watched as events, written
//! by server-side apply, and one leader among replicas. The only crate that names `kube::`.
//!
//! It never decides what an object means: kinds are untyped values here, as
//! [`chassis::objects`] reads them from files, so that a field nobody foresaw loses nothing.
//!
//! ```no_run
//! # async fn watch() -> Result<(), cluster::OpenError> {
//! use cluster::{Client, resource, watch::{Kind, Watches}};
//! let client = Client::open().await?;
//! let pods = Kind::of(resource::POD).fields("spec.nodeName=worker-1");
//! let mut watches = Watches::open(&client, vec![pods]);
//! loop {
//!     for event in watches.next().await {
//!         println!("{event:?}");
//!     }
//! }
//! # }
//! ```
//!
//! Rooms: [`Client`] (how to get there, and one call) · [`resource`] (where a kind is found) ·
//! [`watch`] (what is there) · `write` (the verbs, as methods of [`Client`]) · [`lease`] (one
//! leader) · [`events`] (what people see in `kubectl describe`) · [`limits`].

pub mod call;
pub mod client;
pub mod events;
pub mod lease;
pub mod limits;
pub mod resource;
pub mod token;
pub mod watch;
mod write;

pub use call::CallError;
pub use client::{Client, OpenError};
pub use resource::Resource;
