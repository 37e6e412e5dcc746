//! Configuration that cannot be used: a condition names field and reason, the last good rules stay,
//! others are untouched, and a policy that is not understood closes.

mod cases;

use super::{
    CLIENT, ask,
    routes::{Ask, asked},
};
use crate::stage::Stage;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::time::Duration;

/// A mistake is told this soon.
const TOLD: Duration = Duration::from_secs(10);

/// Gateway API gives it none, so that its mistakes are told on a page of the control plane only. It permits, so
/// an entry that is not understood permits nothing.
const WITHOUT_STATUS: &str = "ReferenceGrant";

/// What became of a mistake that was not stored.
const REFUSED: &str = "refused";

/// What is good, what is broken, and the words that say so.
struct Mistake {
    kind: &'static str,
    /// With `VALUE` where the good or the broken one goes. Of its objects the one called `mistake` is the one.
    object: &'static str,
    good: &'static str,
    broken: &'static str,
    /// Words of the condition: the field first.
    told: &'static [&'static str],
    /// A request that shows that the good one holds.
    asks: Ask,
    /// It is a policy: what it is for is closed where nothing good of it was ever known.
    closes: bool,
}

/// The condition of an object that says that all of some words are wrong with it: its reason and its message.
pub(crate) fn told(stage: &Stage, name: &str, words: &[&str]) -> Result<Option<(String, String)>> {
    let objects: Vec<Value> = serde_json::from_str(&stage.told("status")?)?;
    let ours = objects.iter().filter(|object| object["name"] == name);
    let mut conditions = ours.flat_map(|object| object["conditions"].as_array().into_iter().flatten());
    let text = |condition: &Value, key: &str| condition[key].as_str().unwrap_or_default().to_owned();
    let said = |condition: &&Value| {
        let message = text(condition, "message");
        condition["status"] == "False" && words.iter().all(|word| message.contains(word))
    };
    let found = conditions.find(said).map(|condition| (text(condition, "reason"), text(condition, "message")));
    Ok(found.filter(|(reason, _)| !reason.is_empty()))
}

/// What the control plane says of a kind that has no status: the field and what is wrong.
fn told_without_status(stage: &Stage, kind: &str, words: &[&str]) -> Result<Option<(String, String)>> {
    let problems: Vec<Value> = serde_json::from_str(&stage.told("problems")?)?;
    let text = |problem: &Value, key: &str| problem[key].as_str().unwrap_or_default().to_owned();
    let ours = problems.iter().filter(|problem| text(problem, "resource").contains(kind));
    let mut said = ours.map(|problem| (text(problem, "field"), text(problem, "reason")));
    Ok(said.find(|(field, reason)| words.iter().all(|word| field.contains(word)) && !reason.is_empty()))
}

/// Everything the control plane says of objects of a name, for whoever looks for the reason of a failure.
fn all_of(stage: &Stage, name: &str) -> String {
    told(stage, name, &[]).map(|found| format!("{found:?}")).unwrap_or_else(|error| format!("{error:#}"))
}

/// Waits until a mistake is told, and gives its reason.
pub(crate) fn wait_until_told(stage: &mut Stage, what: &str, name: &str, words: &[&str]) -> Result<String> {
    let mut found = None;
    let waited = stage.wait(&format!("{what}: the mistake is told with {words:?}"), TOLD, |stage| {
        found = told(stage, name, words)?;
        Ok(found.is_some())
    });
    waited.with_context(|| all_of(stage, name))?;
    Ok(found.context("it was told")?.0)
}

fn holds(stage: &mut Stage, what: &str, (options, url, expected): Ask) -> Result<()> {
    let mut last = None;
    // A waypoint of its own may have to start first.
    let waited = stage.wait(what, super::RULES_DEADLINE * 3, |stage| {
        last = asked(stage, "store-v1.mall", options, url, expected)?;
        Ok(last.is_none())
    });
    waited.map(drop).with_context(|| format!("not {expected:?}: {last:?}"))
}

/// Runs the scenario.
pub fn run(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    super::open(stage)?;
    for mistake in cases::MISTAKES {
        let reason = made(stage, mistake).context(mistake.kind)?;
        let then = if mistake.kind == WITHOUT_STATUS && reason != REFUSED {
            "it permits nothing"
        } else {
            "the last good rules stay"
        };
        seen.push(format!("{}: {reason}, {}; {then}", mistake.kind, mistake.told.join(", ")));
    }
    Ok(())
}

/// A mistake is made in what was good, and then, of a policy, in what never was.
fn made(stage: &mut Stage, mistake: &Mistake) -> Result<String> {
    let (good, broken) =
        (mistake.object.replace("VALUE", mistake.good), mistake.object.replace("VALUE", mistake.broken));
    stage.apply(&good)?;
    holds(stage, "it is in force", mistake.asks)?;
    let refused = match stage.apply(&broken) {
        Err(error) if stage.is_cluster() => Some(format!("{error:#}")),
        applied => applied.map(|()| None)?,
    };
    let reason = if let Some(said) = &refused {
        // A cluster asks the control plane, or its own definition of the kind, before an object is stored.
        ensure!(mistake.told.iter().all(|word| said.contains(word)), "refused without {:?}: {said}", mistake.told);
        REFUSED.to_owned()
    } else if mistake.kind == WITHOUT_STATUS {
        stage.wait("the mistake is told", TOLD, |stage| {
            Ok(told_without_status(stage, mistake.kind, mistake.told)?.is_some())
        })?;
        "among the problems".to_owned()
    } else {
        wait_until_told(stage, mistake.kind, "mistake", mistake.told)?
    };
    let (options, url, expected) = mistake.asks;
    if refused.is_none() && mistake.kind == WITHOUT_STATUS {
        // Unlike what stays, this has to reach the waypoint first.
        holds(stage, "it permits nothing", (options, url, "500"))?;
    } else {
        let changed = asked(stage, "store-v1.mall", options, url, expected)?;
        ensure!(changed.is_none(), "the last good version is gone: {changed:?}");
    }
    others_are_untouched(stage)?;
    stage.delete(&good)?;
    if mistake.closes && refused.is_none() {
        stage.wait("it is forgotten", TOLD, |stage| Ok(told(stage, "mistake", &[])?.is_none()))?;
        stage.apply(&broken)?;
        holds(stage, "not understood is closed", (options, url, "403"))?;
        others_are_untouched(stage)?;
        stage.delete(&good)?;
    }
    holds(stage, "it is gone", (&[], "http://store-v1.mall/", "200 by=v1 res.x-mark=-"))?;
    Ok(reason)
}

fn others_are_untouched(stage: &Stage) -> Result<()> {
    let other = ask(stage, CLIENT, "http://store-v2.mall/", &[])?;
    ensure!(other.status == 200, "another service is disturbed: {other:?}");
    Ok(())
}
