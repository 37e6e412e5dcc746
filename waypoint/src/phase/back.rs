//! What is done to an answer on its way back. Pure.

use http::header::{HeaderMap, HeaderName, HeaderValue};
use mesh::route::cors::Written;
use mesh::route::http::HeaderEdit;

use crate::external::authorization::Changes;

/// What is done to an answer, in this order.
#[derive(Debug, Default)]
pub struct Back {
    /// Headers of CORS, in place of the endpoint's own.
    pub cors: Option<Written>,
    /// Changes: those of the backend, then those of the rule.
    pub edits: Vec<HeaderEdit>,
    /// Headers that are added.
    pub added: Vec<(HeaderName, HeaderValue)>,
    /// What authorizers want changed.
    pub external: Vec<Changes>,
}

impl Back {
    /// Does it.
    pub fn apply(self, headers: &mut HeaderMap) {
        if let Some(written) = self.cors {
            let theirs: Vec<HeaderName> =
                headers.keys().filter(|name| name.as_str().starts_with("access-control-")).cloned().collect();
            for name in theirs {
                headers.remove(name);
            }
            for (name, value) in written {
                headers.insert(name, value);
            }
        }
        for edit in &self.edits {
            edit.apply(headers);
        }
        for changes in &self.external {
            changes.response(headers);
        }
        for (name, value) in self.added {
            headers.append(name, value);
        }
    }

    /// Adds a header, if it can be one.
    pub fn add(&mut self, name: &str, value: &str) {
        if let (Ok(name), Ok(value)) = (name.parse(), HeaderValue::from_str(value)) {
            self.added.push((name, value));
        }
    }
}
