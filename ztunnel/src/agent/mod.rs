//! The node agent: which pods of this node are in the mesh, and their redirection.
//!
//! It reads Namespaces and Pods, programs the network namespaces of those that are in, hands
//! them to the node proxy over ZDS, and says so on the Pod. It never carries a byte of a pod.
//! When it ends, rules and proxies stay: a pod that is in does not notice.
//!
//! Rooms: [`facts`] (what we know of pods and namespaces) · [`enrol`] (who is in; pure) ·
//! [`steps`] (what to do next about one pod; pure) · [`pod`] (does it) · [`zds`] (the proxies
//! that are connected) · [`cni`] (new pods ask before they start) · [`status`] (the annotation) ·
//! `reader` (follows facts, says what should be) · [`run`] (wiring) · [`report`] (metrics).

pub mod cni;
pub mod config;
pub mod enrol;
pub mod facts;
pub mod limits;
pub mod pod;
mod reader;
pub mod report;
pub mod run;
mod socket;
pub mod status;
pub mod steps;
pub mod zds;

use std::ffi::OsString;
use std::process::ExitCode;

use chassis::env::ProcessEnvironment;
use chassis::run::Options;

/// Runs the node agent to its end. The arguments are those of the process, program name first.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let config = match config::Config::read(args, &ProcessEnvironment) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    chassis::run::run(&Options::from_environment("agent"), |process| run::start(config, process))
}
