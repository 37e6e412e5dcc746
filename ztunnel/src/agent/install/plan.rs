//! What to do with the directory of CNI configurations, so that every new pod comes by our plugin.
//! Pure: files in, acts out.
//!
//! A container runtime uses the first file by name. Either our plugin is chained into that file, or
//! we have a file of our own that comes before it and says the same with our plugin added. The
//! second way leaves no moment in which another program's write takes our plugin away, such as the
//! start of the network provider when a node boots.

use std::collections::BTreeMap;

use super::conf::{Conf, ConfError, Plugin};

/// How it is to be done.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Manner {
    /// The file to follow; the first that can be used if not said.
    pub conf_name: Option<String>,
    /// Whether there is a file of our own; without, the followed file is changed.
    pub owns: bool,
    /// The name of that.
    pub owned: String,
    /// What our plugin is told.
    pub plugin: Plugin,
}

/// The directory: file name → text, or why it cannot be read.
pub type Files = BTreeMap<String, Result<String, String>>;

/// One act.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Write a file whole.
    Write {
        /// Its name.
        name: String,
        /// What it is to say.
        text: String,
    },
    /// Remove a file.
    Remove {
        /// Its name.
        name: String,
    },
}

impl Act {
    /// Of which file.
    pub fn name(&self) -> &str {
        let (Self::Write { name, .. } | Self::Remove { name }) = self;
        name
    }
}

/// What to do, and how it will stand then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// In this order.
    pub acts: Vec<Act>,
    /// Whether new pods come by our plugin then, or what is in the way.
    pub standing: Result<(), Obstacle>,
}

/// Why our plugin is not in the way of new pods.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    /// There is nothing to follow.
    #[error("no CNI configuration is there yet: install a network provider, or say its file in CNI_CONF_NAME")]
    NothingToFollow,
    /// The file that counts cannot be used.
    #[error("the CNI configuration {name} cannot be followed: {reason}")]
    Unusable {
        /// Which.
        name: String,
        /// Why.
        reason: String,
    },
    /// Another file comes before ours.
    #[error(
        "the CNI configuration {name} comes before {owned}: set ISTIO_OWNED_CNI_CONFIG_FILENAME to a name that comes first"
    )]
    NotFirst {
        /// Which.
        name: String,
        /// Ours.
        owned: String,
    },
}

/// What to do so that new pods come by our plugin.
pub fn install(files: &Files, manner: &Manner) -> Plan {
    let mut acts = Vec::new();
    let kept = match follow(files, manner) {
        Ok((_, conf)) if manner.owns => {
            put(files, &manner.owned, conf.without().with(&manner.plugin), &mut acts);
            manner.owned.clone()
        }
        Ok((name, conf)) => {
            let target = list_name(&name);
            put(files, &target, conf.with(&manner.plugin), &mut acts);
            if target != name {
                acts.push(Act::Remove { name });
            }
            target
        }
        // What it said stays said while the provider's own file is away.
        Err(_) if manner.owns && has_ours(files, &manner.owned) => manner.owned.clone(),
        Err(obstacle) => return Plan { acts, standing: Err(obstacle) },
    };
    // Only then, so that there is no moment without, it goes from wherever else it was.
    let more = elsewhere(files, &manner.owned, &kept);
    acts.extend(more.into_iter().filter(|act| acts.iter().all(|done| done.name() != act.name())).collect::<Vec<_>>());
    let first = files.keys().filter(|name| counts(name) && **name < kept && loads(files, name));
    let standing = match first.into_iter().find(|name| !acts.contains(&Act::Remove { name: (*name).clone() })) {
        Some(name) if manner.owns => Err(Obstacle::NotFirst { name: name.clone(), owned: kept }),
        Some(name) => Err(Obstacle::Unusable {
            name: kept,
            reason: format!("{name} comes before it, so it does not count: change CNI_CONF_NAME"),
        }),
        None => Ok(()),
    };
    Plan { acts, standing }
}

/// What to do so that nothing of ours is left.
pub fn uninstall(files: &Files, owned: &str) -> Vec<Act> {
    elsewhere(files, owned, "")
}

/// Takes our plugin out of every file but `kept`. One of our own goes whole.
fn elsewhere(files: &Files, owned: &str, kept: &str) -> Vec<Act> {
    let others = files.keys().filter(|name| counts(name) && *name != kept);
    let with_ours =
        others.filter_map(|name| Some((name, read(files, name)?.ok()?))).filter(|(_, conf)| conf.has_ours());
    let acts = with_ours.map(|(name, conf)| match conf.has_others() && name != owned {
        true => Act::Write { name: name.clone(), text: conf.without().text() },
        false => Act::Remove { name: name.clone() },
    });
    acts.collect()
}

fn has_ours(files: &Files, name: &str) -> bool {
    read(files, name).is_some_and(|conf| conf.is_ok_and(|conf| conf.has_ours()))
}

/// The file that counts, apart from one of our own.
fn follow(files: &Files, manner: &Manner) -> Result<(String, Conf), Obstacle> {
    let unusable = |name: &str, reason: String| Obstacle::Unusable { name: name.to_owned(), reason };
    if let Some(asked) = &manner.conf_name {
        let list = list_name(asked);
        let there =
            [asked, &list].into_iter().find(|name| files.contains_key(*name)).ok_or(Obstacle::NothingToFollow)?;
        let conf = read(files, there).unwrap_or_else(|| Err(ConfError::NoPlugins.to_string()));
        return conf.map(|conf| (there.clone(), conf)).map_err(|reason| unusable(there, reason));
    }
    let mut obstacle = Obstacle::NothingToFollow;
    for name in files.keys().filter(|name| counts(name) && manner.owned != **name) {
        match read(files, name) {
            Some(Ok(conf)) if conf.has_others() => return Ok((name.clone(), conf)),
            Some(Err(reason)) if obstacle == Obstacle::NothingToFollow => obstacle = unusable(name, reason),
            _ => {}
        }
    }
    Err(obstacle)
}

fn put(files: &Files, name: &str, conf: Conf, acts: &mut Vec<Act>) {
    // Somebody may write the same in another form; only what it says matters.
    if read(files, name).is_none_or(|there| there.as_ref() != Ok(&conf)) {
        acts.push(Act::Write { name: name.to_owned(), text: conf.text() });
    }
}

fn read(files: &Files, name: &str) -> Option<Result<Conf, String>> {
    let text = files.get(name)?;
    Some(text.as_ref().map_err(Clone::clone).and_then(|text| Conf::read(text).map_err(|error| error.to_string())))
}

/// Whether a runtime would take a file.
fn loads(files: &Files, name: &str) -> bool {
    read(files, name).is_some_and(|conf| conf.is_ok())
}

/// Whether runtimes look at a file of this name.
pub fn counts(name: &str) -> bool {
    let known = [".conf", ".conflist", ".json"].iter().any(|end| name.ends_with(end));
    known && !name.starts_with('.')
}

/// The name that a file has when it is a list.
fn list_name(name: &str) -> String {
    let stem = name.strip_suffix(".conf").or_else(|| name.strip_suffix(".json"));
    stem.map_or_else(|| name.to_owned(), |stem| format!("{stem}.conflist"))
}

#[cfg(test)]
mod tests;
