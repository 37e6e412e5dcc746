//! Fixtures and fakes for the tests of other crates.

pub mod api_server;
pub mod audience;
pub mod authority;
pub mod certs;
pub mod control_plane;
pub mod reference;
pub mod tokens;
