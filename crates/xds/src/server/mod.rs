//! The server: what a control plane runs to tell node proxies and waypoints of the mesh.
//!
//! [`catalog`] holds every resource encoded, and one log of what changed when; a [`state::Session`]
//! is a place in that log; [`audience`] says which of the resources a session is told of;
//! [`run`](Discovery) is the gRPC service that moves sessions along.

pub mod audience;
mod body;
mod buckets;
pub mod catalog;
mod pace;
mod requests;
mod run;
mod shelf;
pub mod state;

pub use audience::{Audience, Publication, Scope};
pub use catalog::{Catalog, Publisher, catalog};
pub use run::{Admission, Discovery, Report};
