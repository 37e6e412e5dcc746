//! What the mesh costs, measured beside what people would pick instead.
//!
//! ```text
//! cargo run --release -p e2e -- bench                                # all rows
//! cargo run --release -p e2e -- bench --only bulk --seconds 2        # one, quickly
//! cargo run --release -p e2e -- bench --sittings 2 --json FILE --write docs/performance.md
//! ```
//!
//! | room | what it is for |
//! |---|---|
//! | [`rows`] | the rows of the table |
//! | [`rig`] | the lab they are measured in, and rounds in which each contender has its turn |
//! | [`peers`] | the configurations of those that we are compared with |
//! | [`load`] | the programs that make load |
//! | [`usage`], [`machine`] | what processes use; what was measured on |
//! | [`figure`] | medians, ratios, targets; pure |
//! | [`notes`] | where the time goes, of rows whose target is not met |
//! | [`page`] | the table, for people and for machines |
//!
//! A row that cannot run says so and why; nothing is estimated.

pub mod figure;
pub mod load;
pub mod machine;
pub mod notes;
pub mod page;
pub mod peers;
pub mod rig;
pub mod rows;
pub mod usage;

use crate::stage;
use anyhow::{Context, Result, ensure};
use clap::Args;
use meshctl::lab::client::component_variable;
use page::{Page, Sitting};
use rig::Rig;
use rows::Row;
use std::path::PathBuf;

/// What to measure.
#[derive(Debug, Args)]
pub struct Options {
    /// Only this row; may be given several times. `none` measures nothing, and writes what was measured before.
    #[arg(long)]
    only: Vec<String>,
    /// How long each contender is measured in each round.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// How often each contender has its turn in a sitting.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How often everything is measured, each time in a lab of its own.
    #[arg(long, default_value_t = 1)]
    sittings: usize,
    /// Exit with 1 where a target is missed, or a row cannot run.
    #[arg(long)]
    check: bool,
    /// Write what was measured as JSON. Rows of that file which are not measured now stay.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Write the table as a page of Markdown, from all rows of the JSON file if there is one.
    #[arg(long)]
    write: Option<PathBuf>,
    /// With which of cargo's profiles our programs are built.
    #[arg(long, default_value = "dist")]
    profile: String,
    /// Sets a variable of one of the mesh's programs, for a trial that is not kept: ztunnel, istiod, agent or waypoint.
    /// May be given several times.
    #[arg(long, value_name = "PROGRAM:KEY=VALUE", value_parser = component_variable)]
    env: Vec<rig::Variable>,
}

/// Measures, prints and writes. Whether every target is met.
pub fn run(options: &Options) -> Result<bool> {
    let wanted = wanted(&options.only)?;
    let is_trial = !options.env.is_empty();
    ensure!(
        !is_trial || (options.write.is_none() && options.json.is_none()),
        "a trial with other variables is not kept"
    );
    let mut page = match &options.json {
        Some(path) if path.exists() => page::read(&std::fs::read_to_string(path)?)
            .with_context(|| format!("{} was not written by this program", path.display()))?,
        _ => Page::default(),
    };
    page.machine = machine::look()?;
    if !wanted.is_empty() {
        let mut measured: Vec<Vec<Sitting>> = wanted.iter().map(|_| Vec::new()).collect();
        for _ in 0..options.sittings {
            let mut shared = None;
            for (row, sittings) in wanted.iter().zip(&mut measured) {
                let sitting = sit(row, options, &mut shared)?;
                page::print(row, &sitting);
                sittings.push(sitting);
            }
        }
        wanted.iter().zip(measured).for_each(|(row, sittings)| page.put(row, sittings));
    }
    if let Some(path) = &options.json {
        std::fs::write(path, serde_json::to_string_pretty(&page)? + "\n")?;
    }
    if let Some(path) = &options.write {
        std::fs::write(path, page::markdown(&page))?;
    }
    let good = |name: &str| page.rows.iter().find(|row| row.name == name).is_some_and(|row| row.good());
    let good = wanted.iter().all(|row| good(row.name));
    Ok(good || !options.check)
}

fn wanted(only: &[String]) -> Result<Vec<&'static Row>> {
    if only == ["none"] {
        return Ok(Vec::new());
    }
    for name in only {
        ensure!(rows::ALL.iter().any(|row| row.name == name), "no row is named {name:?}: {}", names().join(", "));
    }
    Ok(rows::ALL.iter().filter(|row| only.is_empty() || only.iter().any(|name| name == row.name)).collect())
}

fn names() -> Vec<&'static str> {
    rows::ALL.iter().map(|row| row.name).collect()
}

/// One row in one sitting. A row that fails does not end the others.
fn sit(row: &Row, options: &Options, shared: &mut Option<Rig>) -> Result<Sitting> {
    if row.fresh {
        *shared = None;
    }
    let mut sitting = Sitting {
        seconds: options.seconds,
        rounds: options.rounds,
        profile: options.profile.clone(),
        ..Sitting::default()
    };
    let measured = row.needs.iter().try_for_each(|program| stage::require(program)).and_then(|()| {
        if shared.is_none() {
            *shared = Some(Rig::start(&options.profile, options.env.clone(), options.seconds, options.rounds)?);
        }
        let rig = shared.as_mut().context("it was just put there")?;
        sitting.others = machine::others()?;
        (row.run)(rig)
    });
    match measured {
        Ok(figures) => sitting.figures = figures,
        Err(error) => {
            sitting.failure = Some(format!("{error:#}"));
            *shared = None; // what a failure has left must not be measured with the next
        }
    }
    if row.fresh {
        *shared = None;
    }
    Ok(sitting)
}
