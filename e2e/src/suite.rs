//! One run of scenarios on one kind of stage: in order, each with its evidence, a failure kept apart from the next.

use crate::{
    kind::Cluster,
    report,
    scenarios::{self, On, Scenario},
    stage::{self, Stage},
};
use anyhow::Result;
use std::{
    path::{Path, PathBuf},
    time::Instant,
};

/// What is asked for.
#[derive(Debug)]
pub struct Suite {
    /// Where it is played.
    pub on: On,
    /// Only these scenarios, if any is named.
    pub only: Vec<String>,
    /// Leave the stage standing: the lab after a failure, a cluster in any case.
    pub keep: bool,
    /// Where logs of a failure and the JUnit report go.
    pub artifacts: PathBuf,
    /// The name of a cluster.
    pub cluster: String,
}

impl Suite {
    /// Plays all; whether all went well.
    pub fn run(&self) -> Result<bool> {
        let wanted = self.wanted()?;
        std::fs::create_dir_all(&self.artifacts)?;
        let meshctl = if self.on == On::Lab { stage::meshctl()? } else { PathBuf::new() };
        let mut all = Vec::new();
        let mut shared: Option<Stage> = None;
        let mut dirty = true;
        for scenario in wanted {
            let started = Instant::now();
            let mut seen = Vec::new();
            let end = self.play(scenario, &meshctl, &mut shared, dirty, &mut seen);
            let failure = end.err().map(|error| format!("{error:#}"));
            dirty = failure.is_some();
            if dirty && let Some(stage) = &mut shared {
                let folder = self.artifacts.join(scenario.name);
                std::fs::remove_dir_all(&folder).ok(); // of an earlier run
                stage.save(&folder);
                if self.keep {
                    stage.keep();
                }
            }
            let (name, about, took) = (scenario.name, scenario.about, started.elapsed());
            let ended = report::Ended { name, about, seen, failure, took };
            report::print(&ended);
            all.push(ended);
            if dirty && self.on != On::Lab && shared.is_none() {
                break; // there is no cluster, and there will be none for the next one
            }
            if dirty && self.on == On::Lab {
                if self.keep {
                    break; // what is to be looked at is left as it is
                }
                shared = None; // a fresh lab for the next one: a failure must not spread
            }
        }
        drop(shared);
        report::junit(self.on, &all, &self.artifacts.join("junit.xml"))?;
        Ok(report::summarise(&all))
    }

    fn wanted(&self) -> Result<Vec<&'static Scenario>> {
        for name in &self.only {
            let Some(known) = scenarios::all().find(|scenario| scenario.name == name) else {
                anyhow::bail!("no scenario is named {name:?}; `e2e list` prints them");
            };
            anyhow::ensure!(known.on.is(self.on), "the scenario {name} is played on {:?} only", known.on);
        }
        let named = |s: &&'static Scenario| self.only.is_empty() || self.only.iter().any(|name| name == s.name);
        Ok(scenarios::all().filter(|scenario| scenario.on.is(self.on)).filter(named).collect())
    }

    fn play(
        &self,
        scenario: &Scenario,
        meshctl: &Path,
        shared: &mut Option<Stage>,
        dirty: bool,
        seen: &mut Vec<String>,
    ) -> Result<()> {
        for program in scenario.needs.iter().filter(|_| self.on == On::Lab) {
            stage::require(program)?;
        }
        if scenario.fresh && self.on == On::Lab {
            *shared = None;
        }
        if shared.is_none() {
            *shared = Some(match self.on {
                On::Lab => Stage::start(meshctl, scenario.env)?,
                On::Kind | On::Both => Stage::on(Cluster::start(&self.cluster, self.keep, &self.artifacts)?),
            });
        }
        let stage = shared.as_mut().expect("it was just put there");
        stage.healthy()?;
        if scenario.fresh || dirty {
            stage.clear()?;
        }
        if scenario.installed {
            stage.installed()?;
        }
        let end = (scenario.run)(stage, seen);
        if end.is_ok() && !scenario.env.is_empty() {
            *shared = None; // the next one wants the mesh as it is by default
        }
        end
    }
}
