//! HTTP/2 by the `h2` crate: what our own engine is compared with, and what may stand in for it.

pub(crate) mod accept;
mod credit;
pub(crate) mod open;
pub(crate) mod stream;
mod watched;
