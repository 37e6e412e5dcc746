//! The node agent: which pods of this node are in the mesh, and their redirection.
//!
//! It reads Namespaces and Pods, programs the network namespaces of those that are in, hands
//! them to the node proxy over ZDS, and says so on the Pod. It never carries a byte of a pod.
//! When it ends, rules and proxies stay: a pod that is in does not notice.
//!
//! Rooms: [`facts`] (what we know of pods and namespaces) · [`source`] (where that comes from: files
//! or a cluster) · [`enrol`] (who is in; pure) · `book` (what should be of each pod; pure) ·
//! [`steps`] (what to do next about one pod; pure) · [`pod`] (does it) · [`processes`] (finds the
//! namespaces of pods that run already) · [`zds`] (the proxies that are connected) · [`cni`] (new
//! pods ask before they start) · [`install`] (the CNI plugin on the node) · [`status`] (the
//! annotation) · `reader` (follows facts, says what should be) · [`removal`] (the end) · [`run`]
//! (wiring) · [`report`] (metrics).

mod book;
pub mod cni;
pub mod config;
pub mod enrol;
pub mod facts;
pub mod install;
#[cfg(feature = "kubernetes")]
pub mod kubernetes;
pub mod limits;
pub mod place;
pub mod pod;
pub mod processes;
mod reader;
pub mod removal;
pub mod report;
pub mod run;
mod search;
mod socket;
pub mod source;
pub mod status;
pub mod steps;
#[cfg(feature = "kubernetes")]
mod untaint;
pub mod zds;

use std::ffi::OsString;
use std::process::ExitCode;

use chassis::env::ProcessEnvironment;
use chassis::run::Options;

/// Runs the node agent to its end. The arguments are those of the process, program name first.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    run(args, false)
}

/// The same, with the CNI plugin put on the node and kept there.
pub fn install_cni(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    run(args, true)
}

fn run(args: impl IntoIterator<Item = OsString>, installs: bool) -> ExitCode {
    let config = match config::Config::read(args, &ProcessEnvironment, installs) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    chassis::run::run(&Options::from_environment("agent"), |process| run::start(config, process))
}
