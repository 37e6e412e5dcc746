//! Which pods are ours, and the listeners of each.
//!
//! The node agent tells over ZDS: [`protocol`] is what the messages say, [`session`] how the two
//! ends take turns, [`state`] what a message means after those before it. [`client`] is the proxy's
//! side of it: it starts, keeps and stops the [`listeners`] of each pod, whose connections take their [`seats`] on the
//! workers. [`own`] serves the pods that no agent tells of.

pub mod client;
pub mod listeners;
pub mod own;
pub mod protocol;
pub mod seats;
pub mod session;
pub mod state;
