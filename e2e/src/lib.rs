//! The scenarios: what the mesh promises, tried with real programs, each with its evidence.
//!
//! ```text
//! cargo run --release -p e2e -- lab                 # all, on the lab
//! cargo run --release -p e2e -- lab --only traffic  # one
//! cargo run --release -p e2e -- kind                # on a cluster that it makes with kind
//! cargo run --release -p e2e -- list
//! cargo run --release -p e2e -- bench               # what it costs, beside others; see [`bench`]
//! cargo run --release -p e2e -- counts              # instructions of the hot functions; see [`counts`]
//! ```
//!
//! A scenario that cannot run fails; none is skipped.

pub mod apps;
pub mod bench;
pub mod capture;
pub mod counts;
pub mod kind;
pub mod report;
pub mod scenarios;
pub mod stage;
pub mod suite;

use clap::{Parser, Subcommand};
use scenarios::On;
use std::{path::PathBuf, process::ExitCode};
use suite::Suite;

#[derive(Debug, Parser)]
#[command(about = "Tries what the mesh promises, with real programs")]
struct Command {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Run the scenarios on `meshctl lab`.
    Lab {
        /// Only this scenario; may be given several times.
        #[arg(long)]
        only: Vec<String>,
        /// Leave the lab running after a failure, to look at it.
        #[arg(long)]
        keep: bool,
        /// Where logs of a failure and the JUnit report go.
        #[arg(long, default_value = "target/e2e")]
        artifacts: PathBuf,
    },
    /// Run the scenarios on a cluster of Kubernetes, which kind makes on this machine's Docker.
    Kind {
        /// Only this scenario; may be given several times.
        #[arg(long)]
        only: Vec<String>,
        /// Leave the cluster when it ends, and take the one that an earlier run has left.
        #[arg(long)]
        keep: bool,
        /// What to call the cluster.
        #[arg(long, default_value = "mesh-e2e")]
        name: String,
        /// Where logs of a failure and the JUnit report go.
        #[arg(long, default_value = "target/e2e-kind")]
        artifacts: PathBuf,
    },
    /// Print the scenarios and what each shows.
    List,
    /// Measure what the mesh costs, beside what people would pick instead.
    Bench(bench::Options),
    /// Count the instructions of the hot functions, and compare them with those that are kept.
    Counts(counts::Options),
    /// One piece of work, for `counts`.
    #[command(hide = true)]
    Counted {
        /// Which.
        name: String,
    },
    /// A small program that scenarios run inside pods.
    #[command(hide = true)]
    App {
        #[command(subcommand)]
        app: apps::App,
    },
}

/// The whole program.
pub fn main() -> ExitCode {
    match Command::parse().what {
        What::List => {
            for scenario in scenarios::all() {
                let place = format!("{:?}", scenario.on).to_lowercase();
                println!("{:<24} {place:<5} {}", scenario.name, scenario.about);
            }
            ExitCode::SUCCESS
        }
        What::App { app } => apps::run(app),
        What::Bench(options) => end(bench::run(&options)),
        What::Counts(options) => end(counts::run(&options)),
        What::Counted { name } => end(counts::counted(&name)),
        What::Lab { only, keep, artifacts } => {
            play(&Suite { on: On::Lab, only, keep, artifacts, cluster: String::new() })
        }
        What::Kind { only, keep, name, artifacts } => {
            play(&Suite { on: On::Kind, only, keep, artifacts, cluster: name })
        }
    }
}

fn play(suite: &Suite) -> ExitCode {
    end(suite.run())
}

/// Whether all was well, as a process says it.
fn end(good: anyhow::Result<bool>) -> ExitCode {
    match good {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("e2e: {error:#}");
            ExitCode::FAILURE
        }
    }
}
