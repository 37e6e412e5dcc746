//! A whole waypoint in this process, on the loopback: real tunnels, real HTTP, a view of the test's own.

#![expect(clippy::unwrap_used, reason = "what a test needs and does not get fails it")]

mod cases;
mod endpoint;
mod form;
mod places;
mod stalled;
mod switch;
mod world;
