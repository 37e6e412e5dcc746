//! The words of the mesh and the decisions taken over them.
//!
//! Everything here is plain data and plain functions: no `async`, no locks, no clock, no
//! random source and no environment. What varies comes in as an argument.
//!
//! Reading order: [`identity`] · [`workload`] · [`service`] · [`policy`] · [`view`] (what a
//! process knows of the mesh at one instant) · [`authz`] (may this connection pass?) ·
//! [`balance`] (which endpoint?) · [`route`] (what becomes of a request?) · [`limits`] · [`fixture`] (a text that becomes a view).

pub mod authz;
pub mod balance;
pub mod fixture;
pub mod identity;
pub mod limits;
pub mod policy;
pub mod route;
pub mod service;
pub mod shards;
pub mod view;
pub mod workload;

pub use identity::Identity;
pub use policy::Policy;
pub use service::{Service, ServiceKey};
pub use view::{Change, View};
pub use workload::Workload;

/// Text that many values share: names, namespaces, hostnames.
pub type Str = std::sync::Arc<str>;
