//! The control plane: reads what Kubernetes, or a directory of its YAML, says, and tells node
//! proxies of it over xDS; certifies workloads.
//!
//! Reading order: [`app`] (the wiring) · [`config`] · [`source`] (where facts come from: [`files`]
//! turns objects into [`facts`]) · [`index`] (facts → changes, pure) · [`publish`] (the one that
//! writes; who may see what) · [`serve`] (the ports) · [`ledger`], [`deploy`], [`status`] (what is written to a
//! cluster, by the leader) · [`webhook`] (what is not let into one) · [`authn`] (who is calling) · [`ca`] (who may
//! have which certificate) · [`problems`] (what could not be understood) · [`report`] (what is
//! counted) · [`limits`].
//!
//! No connection of the mesh goes through this process, and none waits for it.

use chassis::{
    env::ProcessEnvironment,
    run::{self, Options},
};
use clap::Parser;
use std::{ffi::OsString, process::ExitCode};

pub mod app;
pub mod authn;
pub mod ca;
pub mod config;
pub mod deploy;
pub mod facts;
pub mod files;
mod flags;
pub mod index;
pub mod ledger;
pub mod limits;
pub mod problems;
pub mod publish;
pub mod report;
pub mod serve;
pub mod source;
pub mod status;
pub mod webhook;

/// The whole of the program: `istiod-lite discovery` in a cluster, with `--config-dir DIR --state-dir DIR`
/// from files. The flags of Istio's charts are taken too.
/// `args` begins with the name of the program.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let (args, theirs) = flags::take(args);
    let cli = match config::Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(usage) => {
            let code = if usage.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
            // A closed standard output is no reason for another error.
            let _printed = usage.print();
            return code;
        }
    };
    match cli.read() {
        Ok(config::Asked::Print(text)) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Ok(config::Asked::Serve(config)) => {
            let options = theirs.lay_over(Options::from_environment("istiod-lite"), &ProcessEnvironment);
            run::run(&options, |process| async move {
                theirs.tell();
                app::start(*config, &process).await
            })
        }
        Err(mistakes) => {
            eprintln!("istiod-lite: {mistakes}");
            ExitCode::FAILURE
        }
    }
}
