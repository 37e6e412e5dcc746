//! The scenarios: what the mesh promises, tried with real programs, each with its evidence.
//!
//! ```text
//! cargo run --release -p e2e -- lab                 # all, on the lab
//! cargo run --release -p e2e -- lab --only traffic  # one
//! cargo run --release -p e2e -- list
//! ```
//!
//! A scenario that cannot run fails; none is skipped.

pub mod apps;
pub mod capture;
pub mod report;
pub mod scenarios;
pub mod stage;

use clap::{Parser, Subcommand};
use std::{path::PathBuf, process::ExitCode, time::Instant};

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
    /// Print the scenarios and what each shows.
    List,
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
            for scenario in scenarios::ALL {
                println!("{:<24} {}", scenario.name, scenario.about);
            }
            ExitCode::SUCCESS
        }
        What::App { app } => apps::run(app),
        What::Lab { only, keep, artifacts } => match lab(&only, keep, &artifacts) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => {
                eprintln!("e2e: {error:#}");
                ExitCode::FAILURE
            }
        },
    }
}

fn lab(only: &[String], keep: bool, artifacts: &std::path::Path) -> anyhow::Result<bool> {
    if let Some(unknown) = only.iter().find(|name| scenarios::ALL.iter().all(|s| s.name != **name)) {
        anyhow::bail!("no scenario is named {unknown:?}; `e2e list` prints them");
    }
    std::fs::create_dir_all(artifacts)?;
    let meshctl = stage::meshctl()?;
    let wanted = |s: &&scenarios::Scenario| only.is_empty() || only.iter().any(|name| name == s.name);
    let mut all = Vec::new();
    let mut shared: Option<stage::Stage> = None;
    for scenario in scenarios::ALL.iter().filter(wanted) {
        let started = Instant::now();
        let mut seen = Vec::new();
        let end = play(scenario, &meshctl, &mut shared, &mut seen);
        let failure = end.err().map(|error| format!("{error:#}"));
        if failure.is_some()
            && let Some(stage) = &mut shared
        {
            stage.save(&artifacts.join(scenario.name));
            if keep {
                println!("the lab still runs; its name is {}", stage.lab().name());
                stage.keep();
            }
        }
        let ended =
            report::Ended { name: scenario.name, about: scenario.about, seen, failure, took: started.elapsed() };
        report::print(&ended);
        let stop = keep && ended.failure.is_some();
        if ended.failure.is_some() {
            shared = None; // a fresh lab for the next one: a failure must not spread
        }
        all.push(ended);
        if stop {
            break;
        }
    }
    drop(shared);
    report::junit(&all, &artifacts.join("junit.xml"))?;
    Ok(report::summarise(&all))
}

fn play(
    scenario: &scenarios::Scenario,
    meshctl: &std::path::Path,
    shared: &mut Option<stage::Stage>,
    seen: &mut Vec<String>,
) -> anyhow::Result<()> {
    for program in scenario.needs {
        stage::require(program)?;
    }
    if scenario.fresh {
        *shared = None;
    }
    if shared.is_none() {
        *shared = Some(stage::Stage::start(meshctl, scenario.env)?);
    }
    let stage = shared.as_mut().expect("it was just put there");
    stage.healthy()?;
    let end = (scenario.run)(stage, seen);
    if end.is_ok() && !scenario.env.is_empty() {
        *shared = None; // the next one wants the mesh as it is by default
    }
    end
}
