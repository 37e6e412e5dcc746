//! The control plane: reads what Kubernetes, or a directory of its YAML, says, and tells node
//! proxies of it over xDS; certifies workloads.

use std::{ffi::OsString, process::ExitCode};

pub mod authn;
pub mod ca;
pub mod facts;
pub mod files;
pub mod index;

/// The whole of the program: `istiod-lite discovery --config-dir DIR --state-dir DIR`.
/// `args` begins with the name of the program.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let _ = args.into_iter();
    ExitCode::FAILURE
}
