//! A mesh that a file tells of (`LOCAL_XDS_PATH`), for tests and for machines without a control plane.
//!
//! The spelling is that of the config dump, so what one proxy has dumped another can be started with.
//! What is not known here is refused: a misspelt field of a policy must not make it weaker.

mod policies;
mod workloads;

use std::fmt::Display;
use std::io;
use std::sync::Arc;

use chassis::objects;
use mesh::Change;
use pki::control_plane::Source;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Why a local state cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// The file cannot be read.
    #[error("cannot read the local state {path}: {source}")]
    File {
        /// Which.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// It is no YAML.
    #[error("line {line} of the local state {reason}")]
    Yaml {
        /// Where.
        line: usize,
        /// Why.
        reason: String,
    },
    /// It is no mapping of the three lists.
    #[error("the local state should have workloads, services and policies, each a list: {0}")]
    Shape(String),
    /// One of its items.
    #[error("{list}[{index}] of the local state: {reason}")]
    Item {
        /// Which list.
        list: &'static str,
        /// Which one of it, from 0.
        index: usize,
        /// What is wrong with it.
        reason: String,
    },
}

/// Reads it.
pub fn read(source: &Source) -> Result<Vec<Change>, LocalError> {
    match source {
        Source::File(path) => {
            let text = std::fs::read_to_string(path);
            parse(&text.map_err(|source| LocalError::File { path: path.display().to_string(), source })?)
        }
        Source::Literal(text) => parse(text),
        Source::System => Ok(Vec::new()),
    }
}

/// What a text tells, as changes of an empty view.
pub fn parse(text: &str) -> Result<Vec<Change>, LocalError> {
    let value = objects::value(text).map_err(|(line, reason)| LocalError::Yaml { line, reason })?;
    let mut lists = match value {
        Value::Object(lists) => lists,
        Value::Null => return Ok(Vec::new()),
        _ => return Err(LocalError::Shape("this is no mapping".into())),
    };
    let mut take = |name: &str| match lists.remove(name) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(items)) => Ok(items),
        Some(_) => Err(LocalError::Shape(format!("{name} is no list"))),
    };
    let mut changes = Vec::new();
    // Services and policies before the workloads that name them.
    for (index, item) in take("services")?.into_iter().enumerate() {
        let service = item_of::<workloads::ServiceItem>(item).and_then(|item| item.into_service());
        let service = service.map_err(|reason| LocalError::Item { list: "services", index, reason })?;
        changes.push(Change::Service(Arc::new(service)));
    }
    for (index, item) in take("policies")?.into_iter().enumerate() {
        let policy = item_of::<policies::PolicyItem>(item).map(policies::PolicyItem::into_policy);
        let policy = policy.map_err(|reason| LocalError::Item { list: "policies", index, reason })?;
        changes.push(Change::Policy(Arc::new(policy)));
    }
    for (index, item) in take("workloads")?.into_iter().enumerate() {
        let workload = item_of::<workloads::WorkloadItem>(item).and_then(|item| item.into_workload());
        let workload = workload.map_err(|reason| LocalError::Item { list: "workloads", index, reason })?;
        changes.push(Change::Workload(Arc::new(workload)));
    }
    match lists.keys().next() {
        Some(other) => Err(LocalError::Shape(format!("{other:?} is none of them"))),
        None => Ok(changes),
    }
}

fn item_of<T: DeserializeOwned>(item: Value) -> Result<T, String> {
    serde_json::from_value(item).map_err(told)
}

fn told(error: impl Display) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests;
