//! As `over_h2`, in a program of its own: it measures how the program grows.
#![allow(missing_docs, reason = "tests")]

#[path = "../attacks.rs"]
mod attacks;
