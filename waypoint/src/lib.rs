//! The L7 proxy of a namespace.

pub mod adaptive;
pub mod authn;
pub mod budget;
pub mod external;
pub mod limit;
pub mod outlier;
pub mod report;
pub mod trace;
