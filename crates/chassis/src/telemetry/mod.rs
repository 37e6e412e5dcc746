//! Log lines: made on the thread that logs, written by one thread of their own.

use std::{str::FromStr, sync::Arc};

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Tab-separated text.
    #[default]
    Plain,
    /// One JSON object a line.
    Json,
}

/// A word that is no log format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("log format {0:?} is unknown: use plain or json")]
pub struct UnknownFormat(pub String);

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        match text {
            "plain" | "" => Ok(Self::Plain),
            "json" => Ok(Self::Json),
            _ => Err(UnknownFormat(text.chars().take(40).collect())),
        }
    }
}

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
#[derive(Clone)]
pub struct Level {
    _inner: Arc<()>,
}

impl Level {
    /// Replaces the filter, in the syntax of `RUST_LOG`.
    pub fn set(&self, filter: &str) -> Result<(), BadFilter> {
        let _ = filter;
        todo!("lands next")
    }

    /// Goes back to the filter the process began with.
    pub fn reset(&self) {
        todo!("lands next")
    }

    /// The filter that is in force.
    pub fn current(&self) -> String {
        todo!("lands next")
    }
}
