//! Services that are asked while a request waits: external authorizers and rate limit services.
//!
//! The messages are Envoy's (`envoy.service.auth.v3`, `envoy.service.ratelimit.v3`), so that every
//! service that was written for Envoy can be asked. What to ask and what to do with an answer is
//! decided in plain functions; [`call`] is the only way out, and who provides it knows how a
//! destination is reached.

pub mod call;

pub use call::{Call, CallFailed};
