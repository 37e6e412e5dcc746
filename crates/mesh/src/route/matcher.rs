//! What a request must be, checked once and ready to be asked.
//!
//! Missing is never equal: a header that is not there agrees with nothing that asks for it.

use super::{
    Unusable,
    head::Head,
    http::HttpMatch,
    text::{FieldMatch, PathMatch, TextMatch},
};
use crate::{Str, limits};
use regex::{Regex, RegexBuilder};

/// A regular expression that matches a whole text, as RE2's `FullMatch`.
pub(super) fn whole(pattern: &str, ignore_case: bool, place: &str) -> Result<Regex, Unusable> {
    // By itself first: in `a)|(?:b` the parentheses would otherwise pair with ours.
    regex(pattern, ignore_case, place)?;
    regex(&format!(r"\A(?:{pattern})\z"), ignore_case, place)
}

/// A regular expression, within what one may cost.
pub(super) fn regex(pattern: &str, ignore_case: bool, place: &str) -> Result<Regex, Unusable> {
    if pattern.len() > limits::PATTERN_BYTES_MAX {
        let reason = format!("an expression of {} bytes; at most {}", pattern.len(), limits::PATTERN_BYTES_MAX);
        return Err(Unusable::at(place, reason));
    }
    RegexBuilder::new(&with_ascii_classes(pattern))
        .case_insensitive(ignore_case)
        .size_limit(limits::REGEX_BYTES_MAX)
        .dfa_size_limit(limits::REGEX_BYTES_MAX)
        .build()
        .map_err(|error| {
            let reason = error.to_string();
            let last = reason.lines().last().unwrap_or_default();
            Unusable::at(place, format!("{pattern:?} is no regular expression of RE2: {last}"))
        })
}

/// With `\w`, `\d`, `\s` and `\b` of ASCII, as RE2 has them; the `regex` crate's are Unicode's, which
/// match more and take fifty times the memory.
fn with_ascii_classes(pattern: &str) -> String {
    let (mut translated, mut rest) = (String::with_capacity(pattern.len()), pattern.chars());
    while let Some(c) = rest.next() {
        if c != '\\' {
            translated.push(c);
            continue;
        }
        match rest.next() {
            // A class may stand in a class.
            Some('w') => translated.push_str("[0-9A-Za-z_]"),
            Some('W') => translated.push_str("[^0-9A-Za-z_]"),
            Some('d') => translated.push_str("[0-9]"),
            Some('D') => translated.push_str("[^0-9]"),
            Some('s') => translated.push_str(r"[\t\n\f\r\x20]"),
            Some('S') => translated.push_str(r"[^\t\n\f\r\x20]"),
            Some('b') => translated.push_str(r"(?-u:\b)"),
            other => {
                translated.push(c);
                translated.extend(other);
            }
        }
    }
    translated
}

/// A text that is compared.
#[derive(Clone, Debug)]
pub(super) struct Text {
    wanted: TextMatch,
    regex: Option<Regex>,
    ignore_case: bool,
}

impl Text {
    pub(super) fn new(wanted: &TextMatch, ignore_case: bool, place: &str) -> Result<Self, Unusable> {
        let regex = match wanted {
            TextMatch::Regex(pattern) => Some(whole(pattern, ignore_case, place)?),
            _ => None,
        };
        Ok(Self { wanted: wanted.clone(), regex, ignore_case })
    }

    pub(super) fn is(&self, found: &str) -> bool {
        match (&self.wanted, self.ignore_case) {
            (TextMatch::Present, _) => true,
            (TextMatch::Regex(_), _) => self.regex.as_ref().is_some_and(|regex| regex.is_match(found)),
            (TextMatch::Exact(wanted), false) => found == &**wanted,
            (TextMatch::Prefix(wanted), false) => found.starts_with(&**wanted),
            (TextMatch::Suffix(wanted), false) => found.ends_with(&**wanted),
            (TextMatch::Contains(wanted), false) => found.contains(&**wanted),
            (TextMatch::Exact(wanted), true) => found.eq_ignore_ascii_case(wanted),
            (TextMatch::Prefix(wanted), true) => begins(found.as_bytes(), wanted.as_bytes()),
            (TextMatch::Suffix(wanted), true) => ends(found.as_bytes(), wanted.as_bytes()),
            (TextMatch::Contains(wanted), true) => {
                wanted.is_empty()
                    || found.as_bytes().windows(wanted.len()).any(|at| at.eq_ignore_ascii_case(wanted.as_bytes()))
            }
        }
    }
}

fn begins(found: &[u8], wanted: &[u8]) -> bool {
    found.get(..wanted.len()).is_some_and(|start| start.eq_ignore_ascii_case(wanted))
}

fn ends(found: &[u8], wanted: &[u8]) -> bool {
    found.len().checked_sub(wanted.len()).is_some_and(|at| found[at..].eq_ignore_ascii_case(wanted))
}

/// A header or query parameter that is compared.
#[derive(Clone, Debug)]
struct Field {
    name: Str,
    value: Text,
}

impl Field {
    fn all(fields: &[FieldMatch], what: &str, place: &str) -> Result<Vec<Self>, Unusable> {
        let one = |field: &FieldMatch| {
            let place = format!("{place}, {what} {}", field.name);
            let value = Text::new(&field.value, field.ignore_case, &place)?;
            Ok(Self { name: field.name.clone(), value })
        };
        fields.iter().map(one).collect()
    }

    fn is_header_of(&self, head: &Head<'_>) -> bool {
        head.header(&self.name).is_some_and(|value| self.value.is(&value))
    }

    fn is_parameter_of(&self, head: &Head<'_>) -> bool {
        head.query_parameter(&self.name).is_some_and(|value| self.value.is(&value))
    }
}

/// A path that is compared.
#[derive(Clone, Debug)]
struct Path {
    wanted: PathMatch,
    regex: Option<Regex>,
    ignore_case: bool,
}

impl Path {
    fn new(wanted: &PathMatch, ignore_case: bool, place: &str) -> Result<Self, Unusable> {
        let regex = match wanted {
            PathMatch::Regex(pattern) => Some(whole(pattern, ignore_case, place)?),
            _ => None,
        };
        Ok(Self { wanted: wanted.clone(), regex, ignore_case })
    }

    fn is(&self, found: &str) -> bool {
        let begins = |wanted: &str| match self.ignore_case {
            true => begins(found.as_bytes(), wanted.as_bytes()),
            false => found.starts_with(wanted),
        };
        match &self.wanted {
            PathMatch::Exact(wanted) if self.ignore_case => found.eq_ignore_ascii_case(wanted),
            PathMatch::Exact(wanted) => found == &**wanted,
            PathMatch::Prefix(wanted) => begins(wanted),
            PathMatch::PathPrefix(wanted) => {
                let wanted = without_slash(wanted);
                begins(wanted) && matches!(found.as_bytes().get(wanted.len()), None | Some(b'/'))
            }
            PathMatch::Regex(_) => self.regex.as_ref().is_some_and(|regex| regex.is_match(found)),
        }
    }
}

/// A prefix of elements as it is compared: the `/` at its end says nothing.
pub(super) fn without_slash(prefix: &str) -> &str {
    prefix.trim_end_matches('/')
}

/// Everything that a request must be.
#[derive(Clone, Debug)]
pub(super) struct Matcher {
    path: Option<Path>,
    method: Option<Text>,
    headers: Vec<Field>,
    without_headers: Vec<Field>,
    query: Vec<Field>,
    authority: Option<Text>,
    scheme: Option<Text>,
    ports: Vec<u16>,
    caller_namespace: Option<Str>,
    claims: Vec<(Vec<Str>, Text)>,
}

impl Matcher {
    pub(super) fn new(wanted: &HttpMatch, place: &str) -> Result<Self, Unusable> {
        // Every field is taken apart here, so that a new one cannot be forgotten.
        let HttpMatch {
            path,
            path_ignore_case,
            method,
            headers,
            without_headers,
            query,
            authority,
            scheme,
            ports,
            caller_namespace,
            claims,
        } = wanted;
        let text = |wanted: &Option<TextMatch>, ignore_case: bool, what: &str| {
            wanted.as_ref().map(|wanted| Text::new(wanted, ignore_case, &format!("{place}, {what}"))).transpose()
        };
        let claim = |(path, wanted): &(Vec<Str>, TextMatch)| {
            Ok((path.clone(), Text::new(wanted, false, &format!("{place}, claim {}", path.join(".")))?))
        };
        let path = path.as_ref().map(|wanted| Path::new(wanted, *path_ignore_case, &format!("{place}, path")));
        Ok(Self {
            path: path.transpose()?,
            method: text(method, false, "method")?,
            headers: Field::all(headers, "header", place)?,
            without_headers: Field::all(without_headers, "without header", place)?,
            query: Field::all(query, "query parameter", place)?,
            // Names of hosts have no case.
            authority: text(authority, true, "authority")?,
            scheme: text(scheme, true, "scheme")?,
            ports: ports.clone(),
            caller_namespace: caller_namespace.clone(),
            claims: claims.iter().map(claim).collect::<Result<_, _>>()?,
        })
    }

    /// Matchers of alternatives; none of them: every request.
    pub(super) fn alternatives(wanted: &[HttpMatch], place: &str) -> Result<Vec<Self>, Unusable> {
        let numbered = wanted.iter().enumerate();
        numbered.map(|(at, wanted)| Self::new(wanted, &format!("{place}, match {at}"))).collect()
    }

    pub(super) fn is(&self, head: &Head<'_>) -> bool {
        self.path.as_ref().is_none_or(|path| path.is(head.path)) && self.is_beside_path(head)
    }

    /// The same for a request whose path is known to agree.
    pub(super) fn is_beside_path(&self, head: &Head<'_>) -> bool {
        let text = |wanted: &Option<Text>, found: &str| wanted.as_ref().is_none_or(|wanted| wanted.is(found));
        (self.ports.is_empty() || self.ports.contains(&head.port))
            && text(&self.method, head.method)
            && text(&self.scheme, head.scheme)
            && text(&self.authority, head.authority)
            && self.caller_namespace.as_deref().is_none_or(|wanted| head.caller_namespace() == Some(wanted))
            && self.headers.iter().all(|field| field.is_header_of(head))
            && !self.without_headers.iter().any(|field| field.is_header_of(head))
            && self.query.iter().all(|field| field.is_parameter_of(head))
            && self.claims.iter().all(|(path, wanted)| head.claim_is(path, |text| wanted.is(text)))
    }
}

/// Whether one of the alternatives agrees; without any, every request does.
pub(super) fn any(alternatives: &[Matcher], head: &Head<'_>) -> bool {
    alternatives.is_empty() || alternatives.iter().any(|one| one.is(head))
}
