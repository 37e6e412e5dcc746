//! Fixtures and fakes for the tests of other crates.

pub mod certs;
pub mod reference;
