//! One program for people: `meshctl`, the command line of the mesh, and
//! `meshctl lab`, the whole mesh on one machine.
//!
//! It is a multi-call binary: `meshctl ztunnel`, `meshctl waypoint`,
//! `meshctl agent`, `meshctl istiod` and `meshctl app …` are the programs the lab starts, so
//! that one file is all that has to be built and all that runs.
//!
//! What is absent: nothing here speaks the mesh's protocols. The data path is
//! in `ztunnel` and `waypoint`, the control plane in `istiod-lite`; this crate starts them
//! and shows what they say.

pub mod app;
pub mod lab;

mod cli;
mod zc;

use std::ffi::OsString;
use std::process::ExitCode;

/// Runs the program with its arguments (without the program's own name).
///
/// Must be called before the process has started any thread: `meshctl lab`
/// enters new namespaces, which only a process of one thread may do.
pub fn main(args: Vec<OsString>) -> ExitCode {
    cli::run(args)
}
