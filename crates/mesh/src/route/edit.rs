//! Changes of headers.

use super::http::HeaderEdit;
use http::{HeaderMap, HeaderName, HeaderValue};

impl HeaderEdit {
    /// Changes headers: first removes, then sets, then adds. The host is not a header that can be
    /// changed here ([`super::rewrite`] does), and what cannot be a header was refused before.
    pub fn apply(&self, headers: &mut HeaderMap) {
        for name in self.remove.iter().filter(|name| !is_host(name)) {
            headers.remove(&**name);
        }
        for (name, value) in self.set.iter().filter_map(parsed) {
            headers.insert(name, value);
        }
        for (name, value) in self.add.iter().filter_map(parsed) {
            headers.append(name, value);
        }
    }
}

fn parsed((name, value): &(crate::Str, crate::Str)) -> Option<(HeaderName, HeaderValue)> {
    let name = name.parse().ok().filter(|name: &HeaderName| !is_host(name.as_str()))?;
    Some((name, HeaderValue::from_str(value).ok()?))
}

/// Whether a name is one for the host of a request.
pub(super) fn is_host(name: &str) -> bool {
    matches!(name, "host" | ":authority")
}

#[cfg(test)]
mod tests;
