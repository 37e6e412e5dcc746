//! Which program of the multi-call binary is meant.

use std::ffi::OsString;
use std::process::ExitCode;

pub(crate) fn run(args: Vec<OsString>) -> ExitCode {
    let _ = args;
    ExitCode::SUCCESS
}
