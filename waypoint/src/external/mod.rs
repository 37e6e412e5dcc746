//! Services that are asked while a request waits: external authorizers and rate limit services.
//!
//! The messages are Envoy's (`envoy.service.auth.v3`, `envoy.service.ratelimit.v3`), so that every
//! service that was written for Envoy can be asked. What to ask and what to do with an answer is
//! decided in plain functions; [`call`] is the only way out, and who provides it knows how a
//! destination is reached.
//!
//! Rooms: [`authorization`] (may this request pass?) · [`rate_limit`] (were there too many?) ·
//! [`edit`] (what answers change of a request) · [`shown`] (the part of a body that is shown).
//! Wire types of these services are named here and nowhere else in the waypoint.

pub mod authorization;
pub mod call;
pub mod edit;
pub mod rate_limit;
pub mod shown;

pub use call::{Call, CallFailed};

#[cfg(test)]
pub(crate) mod dial;
#[cfg(test)]
mod tests;
