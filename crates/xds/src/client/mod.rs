//! The client: what a node proxy or waypoint runs to know the mesh.

mod run;
pub mod state;

pub use run::{Config, Dial, DialError, Report, Sink, Termination, run};
