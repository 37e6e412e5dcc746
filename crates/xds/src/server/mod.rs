//! The server: what a control plane runs to tell node proxies of the mesh.
//!
//! [`catalog`] holds every resource encoded, and one log of what changed when; a [`state::Session`]
//! is a place in that log; [`run`](Discovery) is the gRPC service that moves sessions along.

pub mod catalog;
mod pace;
mod run;
pub mod state;

pub use catalog::{Catalog, Publisher, catalog};
pub use run::{Admission, Discovery, Report};
