//! How the texts of a request are compared with what a rule asks for.

use crate::Str;

/// What a text must be.
///
/// Regular expressions are RE2's language (the `regex` crate's), and match the whole text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TextMatch {
    /// The same.
    Exact(Str),
    /// Begins with.
    Prefix(Str),
    /// Ends with.
    Suffix(Str),
    /// Contains.
    Contains(Str),
    /// Matches from its first to its last character.
    Regex(Str),
    /// Is there, whatever it is.
    Present,
}

/// What a header or a query parameter must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldMatch {
    /// Its name; of a header in lower case.
    pub name: Str,
    /// Its value. Several headers of a name are compared as one, joined by a comma; of a query
    /// parameter the first counts.
    pub value: TextMatch,
    /// Case does not matter.
    pub ignore_case: bool,
}

/// What a path must be. The path is compared as it stands after normalisation, without its query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathMatch {
    /// The same.
    Exact(Str),
    /// The same, or more after a `/`: `/a` is a prefix of `/a` and `/a/b`, not of `/ab` (Gateway API).
    PathPrefix(Str),
    /// Begins with, also within an element: `/a` is a prefix of `/ab` (VirtualService).
    Prefix(Str),
    /// Matches from its first to its last character.
    Regex(Str),
}

/// A share, in parts of a million.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fraction(pub u32);

impl Fraction {
    /// Always.
    pub const ALL: Self = Self(1_000_000);
    /// Never.
    pub const NONE: Self = Self(0);

    /// Whether a throw of a die with a million faces (0 to 999 999) is within the share.
    pub fn takes(self, throw: u32) -> bool {
        throw < self.0
    }
}
