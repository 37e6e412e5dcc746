//! istiod-lite: under construction.

pub mod facts;
