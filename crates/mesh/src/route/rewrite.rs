//! Where a request goes on its way: the host and path that its backend sees, and the place that a
//! redirect names.

use super::{
    Unusable,
    compile::Hit,
    head::{Head, split_port},
    http::{Action, PathRewrite, Redirect},
    matcher::{self, without_slash},
    text::PathMatch,
};
use regex::Regex;
use std::borrow::Cow;

/// Host and path as the backend sees them; none stays as it was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rewritten<'a> {
    /// The authority.
    pub authority: Option<&'a str>,
    /// The path, without the query.
    pub path: Option<String>,
}

/// An answer that tells the caller to ask elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// Its status.
    pub status: u16,
    /// Its `location` header.
    pub location: String,
}

impl<'a> Hit<'a> {
    /// Host and path as the backend of this rule sees them.
    pub fn rewritten(&self, head: &Head<'_>) -> Rewritten<'a> {
        let filters = &self.rule.filters;
        let path = filters.rewrite.path.as_ref();
        let set = filters.request_headers.set.iter().find(|(name, _)| matches!(&**name, "host" | ":authority"));
        Rewritten {
            authority: filters.rewrite.host.as_deref().or_else(|| set.map(|(_, host)| &**host)),
            path: path.map(|path| self.path(path, self.ready.rewrite.as_ref(), head.path)),
        }
    }

    /// What a rule that redirects answers; none if it does not.
    pub fn location(&self, head: &Head<'_>) -> Option<Location> {
        let Action::Redirect(redirect) = &self.rule.action else { return None };
        let path = match &redirect.path {
            Some(path) => self.path(path, self.ready.redirect.as_ref(), head.path).into(),
            None => Cow::Borrowed(head.path),
        };
        let query = head.query.map(|query| format!("?{query}")).unwrap_or_default();
        let location = format!("{}{path}{query}", origin(redirect, head));
        Some(Location { status: redirect.status, location })
    }

    fn path(&self, rewrite: &PathRewrite, substitution: Option<&Substitution>, path: &str) -> String {
        let changed = match rewrite {
            PathRewrite::Full(whole) => whole.to_string(),
            PathRewrite::Prefix(replacement) => match self.prefix() {
                Prefix::Elements(prefix) => instead_of_elements(path, prefix, replacement),
                Prefix::Text(prefix) => format!("{replacement}{}", path.get(prefix.len()..).unwrap_or_default()),
                Prefix::Whole => replacement.to_string(),
            },
            PathRewrite::Regex { .. } => match substitution {
                Some(Substitution { regex, replacement }) => regex.replace_all(path, replacement).into_owned(),
                None => path.to_owned(),
            },
        };
        if changed.starts_with('/') { changed } else { format!("/{changed}") }
    }

    /// The part of the path that the match of this rule named.
    fn prefix(&self) -> Prefix<'a> {
        match self.matched.map(|matched| matched.path.as_ref()) {
            // What asks for no path asks for `/`, as Gateway API's default does.
            None | Some(None) => Prefix::Elements("/"),
            Some(Some(PathMatch::PathPrefix(prefix))) => Prefix::Elements(prefix),
            Some(Some(PathMatch::Prefix(prefix))) => Prefix::Text(prefix),
            Some(Some(PathMatch::Exact(_) | PathMatch::Regex(_))) => Prefix::Whole,
        }
    }
}

/// Which part of a path was matched.
enum Prefix<'a> {
    Elements(&'a str),
    Text(&'a str),
    Whole,
}

/// A `/` at the end of either prefix says nothing (`HTTPPathModifier.replacePrefixMatch`).
fn instead_of_elements(path: &str, prefix: &str, replacement: &str) -> String {
    let rest = path.get(without_slash(prefix).len()..).unwrap_or_default();
    format!("{}{rest}", without_slash(replacement))
}

fn origin(redirect: &Redirect, head: &Head<'_>) -> String {
    let (own_host, own_port) = split_port(head.authority);
    let scheme = redirect.scheme.as_deref().unwrap_or(head.scheme);
    // A new scheme without a port has the scheme's own.
    let asked = if redirect.scheme.is_none() { own_port.and_then(|port| port.parse().ok()) } else { None };
    let host = redirect.host.as_deref().unwrap_or(own_host);
    match redirect.port.or(asked).filter(|port| Some(*port) != well_known(scheme)) {
        Some(port) => format!("{scheme}://{host}:{port}"),
        None => format!("{scheme}://{host}"),
    }
}

fn well_known(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

/// A regular expression and what takes the place of its hits.
#[derive(Clone, Debug)]
pub(super) struct Substitution {
    regex: Regex,
    /// In the language of the `regex` crate.
    replacement: String,
}

impl Substitution {
    pub(super) fn of(rewrite: Option<&PathRewrite>, place: &str) -> Result<Option<Self>, Unusable> {
        let Some(PathRewrite::Regex { pattern, substitution }) = rewrite else { return Ok(None) };
        let regex = matcher::regex(pattern, false, place)?;
        let replacement = translated(substitution, regex.captures_len())
            .map_err(|reason| Unusable::at(place, format!("substitution {substitution:?}: {reason}")))?;
        Ok(Some(Self { regex, replacement }))
    }
}

/// RE2's `\1` and `\\` in the `regex` crate's words.
fn translated(substitution: &str, groups: usize) -> Result<String, String> {
    let (mut translated, mut rest) = (String::new(), substitution.chars());
    while let Some(c) = rest.next() {
        match c {
            '$' => translated.push_str("$$"),
            '\\' => match rest.next() {
                Some('\\') => translated.push('\\'),
                Some(digit) if digit.is_ascii_digit() => {
                    let group = digit as usize - '0' as usize;
                    if group >= groups {
                        return Err(format!("there is no group {group}"));
                    }
                    translated.push_str(&format!("${{{group}}}"));
                }
                _ => return Err("after \\ stands a digit or another \\".into()),
            },
            c => translated.push(c),
        }
    }
    Ok(translated)
}

#[cfg(test)]
mod tests;
