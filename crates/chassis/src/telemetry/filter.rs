//! Which lines are logged: a filter in the syntax of `RUST_LOG` that can be changed while running.

use std::sync::{Arc, Mutex, PoisonError};
use tracing_subscriber::{EnvFilter, Registry, reload};

/// The longest filter that is taken; a hundred modules with a level each.
const FILTER_BYTES_MAX: usize = 4096;

/// A filter that cannot be parsed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("log filter {filter:?} is wrong ({reason}): write a level such as debug, or pairs such as info,access=off")]
pub struct BadFilter {
    /// What was asked for.
    pub filter: String,
    /// Why it cannot be.
    pub reason: String,
}

/// Changes what is logged, while the process runs. Clones change the same.
#[derive(Clone, Debug)]
pub struct Level {
    handle: Option<reload::Handle<EnvFilter, Registry>>,
    first: Arc<str>,
    current: Arc<Mutex<String>>,
}

impl Level {
    /// A level that changes nothing, for processes and tests without a log of their own.
    pub fn fixed() -> Self {
        Self { handle: None, first: "info".into(), current: Arc::new(Mutex::new("info".into())) }
    }

    /// Changes the filter: directives for the same target are replaced, others are kept. So `debug`
    /// changes what is not named, and `access=off` silences the access log only.
    pub fn set(&self, change: &str) -> Result<(), BadFilter> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let merged = merge(&current, change);
        let filter = parse(&merged)?;
        if let Some(handle) = &self.handle {
            let gone = |e: reload::Error| BadFilter { filter: change.into(), reason: e.to_string() };
            handle.reload(filter).map_err(gone)?;
        }
        *current = merged;
        Ok(())
    }

    /// Goes back to the filter the process began with.
    pub fn reset(&self) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(handle), Ok(filter)) = (&self.handle, parse(&self.first)) {
            let _only_fails_when_the_log_is_gone = handle.reload(filter);
        }
        *current = self.first.to_string();
    }

    /// The filter that is in force.
    pub fn current(&self) -> String {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The layer that filters, and the handle that changes it.
pub(super) fn layer(filter: &str) -> Result<(reload::Layer<EnvFilter, Registry>, Level), BadFilter> {
    let merged = merge("", if filter.is_empty() { "info" } else { filter });
    let (layer, handle) = reload::Layer::new(parse(&merged)?);
    let level = Level { handle: Some(handle), first: merged.as_str().into(), current: Arc::new(Mutex::new(merged)) };
    Ok((layer, level))
}

/// Lays the directives of `change` over those of `current`.
fn merge(current: &str, change: &str) -> String {
    let mut merged: Vec<&str> = Vec::new();
    for directive in current.split(',').chain(change.split(',')).map(str::trim).filter(|d| !d.is_empty()) {
        merged.retain(|other| target(other) != target(directive));
        merged.push(directive);
    }
    merged.join(",")
}

/// What a directive is about: "" for a bare level.
fn target(directive: &str) -> &str {
    directive.rsplit_once('=').map_or("", |(target, _)| target)
}

fn parse(text: &str) -> Result<EnvFilter, BadFilter> {
    let bad = |reason: String| BadFilter { filter: text.chars().take(200).collect(), reason };
    if text.len() > FILTER_BYTES_MAX {
        return Err(bad(format!("longer than {FILTER_BYTES_MAX} bytes")));
    }
    for directive in text.split(',') {
        // The library takes any word for a target and logs everything of it; here it is a spelling mistake.
        let level = directive.rsplit_once('=').map_or(directive, |(_, level)| level);
        level.parse::<tracing::level_filters::LevelFilter>().map_err(|_| bad(format!("{level:?} is no level")))?;
    }
    EnvFilter::try_new(text).map_err(|e| bad(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_replaces_what_it_names_and_keeps_the_rest() {
        for (current, change, expected) in [
            ("info", "debug", "debug"),
            ("info,access=off", "debug", "access=off,debug"),
            ("info", "access=debug", "info,access=debug"),
            ("info,access=debug", "access=off", "info,access=off"),
            ("info", " a=warn , b=error,", "info,a=warn,b=error"),
            ("", "info,info", "info"),
        ] {
            assert_eq!(merge(current, change), expected, "{current} + {change}");
        }
    }

    #[test]
    fn a_wrong_filter_changes_nothing() {
        let (_layer, level) = layer("info").unwrap();
        for wrong in ["loud", "access=loud", "=", "a=b=c", &"a=info,".repeat(1000).replace("a=", "aaaaaaaaaa=x")] {
            assert!(level.set(wrong).is_err(), "{wrong} was taken");
        }
        assert_eq!(level.current(), "info");
        level.set("debug,access=off").unwrap();
        assert_eq!(level.current(), "debug,access=off");
        level.reset();
        assert_eq!(level.current(), "info");
    }
}
