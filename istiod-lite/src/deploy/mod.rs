//! Waypoints on demand: for each Gateway of the class `istio-waypoint` its ServiceAccount, Deployment and
//! Service, as Istio's deployment controller makes them. Only the leader does this.
//!
//! Rooms, in reading order: [`asked`] (what a Gateway says) · [`parameters`] (the ConfigMaps that change
//! what is made) · [`overlay`] (how they do) · [`settings`] (image and mesh) · [`render`] (the objects) · [`step`]
//! (what is to be done about what is there) · [`outcome`] (what became of each Gateway) · `apply` (the only
//! one that waits). An object without our label is never overwritten, and with a mistake in what a
//! user wrote the objects stay as they are.

#[cfg(feature = "kubernetes")]
mod apply;
pub mod asked;
pub mod outcome;
pub mod overlay;
pub mod parameters;
pub mod render;
pub mod settings;
pub mod step;

#[cfg(feature = "kubernetes")]
pub use apply::Deployer;
