//! Settings from the environment: each is one typed [`Key`] with a name, a default, a unit and a
//! sentence of documentation. All mistakes are collected and told at once, and the table in the
//! documentation is printed from the same keys.
//!
//! ```
//! use chassis::env::{Key, Reader};
//! use std::{collections::BTreeMap, time::Duration};
//!
//! const SECRET_TTL: Key<Duration> = Key::new("SECRET_TTL", "24h", "duration", "Asked-for life of a certificate.");
//!
//! let environment: BTreeMap<String, String> = [("SECRET_TTL".into(), "1h".into())].into();
//! let mut reader = Reader::new(&environment);
//! let ttl = reader.read(&SECRET_TTL);
//! reader.finish().unwrap();
//! assert_eq!(ttl, Duration::from_secs(3600));
//! ```

use std::{
    collections::BTreeMap,
    fmt,
    marker::PhantomData,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

/// Where values come from.
pub trait Strings {
    /// The value of a name; `None` when it is not set.
    fn value(&self, name: &str) -> Option<String>;
    /// Every name that begins with `prefix`, with its value, sorted.
    fn with_prefix(&self, prefix: &str) -> Vec<(String, String)>;
}

/// The environment of this process.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcessEnvironment;

#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the environment")]
impl Strings for ProcessEnvironment {
    fn value(&self, name: &str) -> Option<String> {
        // Bytes that are no text become a text that no parser takes, and so an error that names the key.
        std::env::var_os(name).map(|v| v.to_string_lossy().into_owned())
    }

    fn with_prefix(&self, prefix: &str) -> Vec<(String, String)> {
        let mut found: Vec<(String, String)> = std::env::vars_os()
            .map(|(k, v)| (k.to_string_lossy().into_owned(), v.to_string_lossy().into_owned()))
            .filter(|(k, _)| k.starts_with(prefix))
            .collect();
        found.sort();
        found
    }
}

impl Strings for BTreeMap<String, String> {
    fn value(&self, name: &str) -> Option<String> {
        self.get(name).cloned()
    }

    fn with_prefix(&self, prefix: &str) -> Vec<(String, String)> {
        self.iter().filter(|(k, _)| k.starts_with(prefix)).map(|(k, v)| (k.clone(), v.clone())).collect()
    }
}

/// One setting. `T` is what it is parsed to.
#[derive(Debug)]
pub struct Key<T> {
    /// What the documentation table shows of it.
    pub row: Row,
    kind: PhantomData<fn() -> T>,
}

/// What the documentation table shows of a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Name of the variable.
    pub name: &'static str,
    /// The value when it is not set; "" when there is none.
    pub default: &'static str,
    /// What the value is: `duration`, `port`, `true or false`, `path`, ….
    pub unit: &'static str,
    /// One sentence.
    pub doc: &'static str,
}

impl<T: Value> Key<T> {
    /// A setting. The default is written as the operator would write it; "" is none.
    pub const fn new(name: &'static str, default: &'static str, unit: &'static str, doc: &'static str) -> Self {
        Self { row: Row { name, default, unit, doc }, kind: PhantomData }
    }
}

/// What a setting can be parsed to.
pub trait Value: Sized {
    /// Parses; the error says what was expected.
    fn parse(text: &str) -> Result<Self, String>;
}

/// A setting that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Which one.
    pub name: String,
    /// What it said.
    pub value: String,
    /// What was expected.
    pub reason: String,
}

/// Every setting that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistakes(pub Vec<Mistake>);

impl std::error::Error for Mistakes {}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, m) in self.0.iter().enumerate() {
            let lead = if i == 0 { "" } else { "; " };
            write!(f, "{lead}environment variable {}={:?}: {}", m.name, m.value, m.reason)?;
        }
        Ok(())
    }
}

/// Reads settings and collects mistakes.
pub struct Reader<'a> {
    strings: &'a dyn Strings,
    mistakes: Vec<Mistake>,
}

impl<'a> Reader<'a> {
    /// Reads from `strings`.
    pub fn new(strings: &'a dyn Strings) -> Self {
        Self { strings, mistakes: Vec::new() }
    }

    /// A setting that has a default. A mistake is kept for [`Self::finish`], and the default is returned.
    pub fn read<T: Value>(&mut self, key: &Key<T>) -> T {
        self.optional(key).unwrap_or_else(|| default_of(key))
    }

    /// A setting that may be missing and has no default. Set to nothing counts as missing.
    pub fn optional<T: Value>(&mut self, key: &Key<T>) -> Option<T> {
        let text = self.strings.value(key.row.name).filter(|text| !text.is_empty())?;
        match T::parse(text.trim()) {
            Ok(value) => Some(value),
            Err(reason) => {
                self.mistake(key.row.name, &text, &reason);
                None
            }
        }
    }

    /// A setting that must be there. A missing one is a mistake, and then `None` is returned.
    pub fn required<T: Value>(&mut self, key: &Key<T>) -> Option<T> {
        let found = self.optional(key);
        if self.strings.value(key.row.name).is_none_or(|text| text.is_empty()) {
            self.mistake(key.row.name, "", "must be set");
        }
        found
    }

    /// Every variable that begins with `prefix`, such as `XDS_HEADER_`.
    pub fn with_prefix(&self, prefix: &str) -> Vec<(String, String)> {
        self.strings.with_prefix(prefix)
    }

    /// Adds a mistake that only shows when several settings are seen together.
    pub fn mistake(&mut self, name: &str, value: &str, reason: &str) {
        self.mistakes.push(Mistake { name: name.into(), value: value.into(), reason: reason.into() });
    }

    /// All mistakes at once.
    pub fn finish(self) -> Result<(), Mistakes> {
        if self.mistakes.is_empty() { Ok(()) } else { Err(Mistakes(self.mistakes)) }
    }
}

/// The default of a key, parsed. A default that does not parse is our own mistake, and every
/// program has a test that reads all its keys from an empty environment.
fn default_of<T: Value>(key: &Key<T>) -> T {
    match T::parse(key.row.default) {
        Ok(value) => value,
        Err(reason) => panic!("the default {:?} of {} is wrong: {reason}", key.row.default, key.row.name),
    }
}

/// Every key with its value, for an operator to read; a value that is `secret` (by name and text) is left out.
pub fn shown(rows: &[Row], strings: &dyn Strings, secret: impl Fn(&str, &str) -> bool) -> serde_json::Value {
    let value = |row: &Row| {
        let text = strings.value(row.name).filter(|text| !text.is_empty()).unwrap_or_else(|| row.default.to_owned());
        if secret(row.name, &text) { "(given)".to_owned() } else { text }
    };
    rows.iter().map(|row| (row.name.to_owned(), value(row).into())).collect::<serde_json::Map<_, _>>().into()
}

/// The documentation table of `rows`, in Markdown.
pub fn table(rows: &[Row]) -> String {
    let mut text = String::from("| variable | default | value | meaning |\n|---|---|---|---|\n");
    for row in rows {
        let default = if row.default.is_empty() { String::new() } else { format!("`{}`", row.default) };
        text.push_str(&format!("| `{}` | {default} | {} | {} |\n", row.name, row.unit, row.doc));
    }
    text
}

impl Value for String {
    fn parse(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }
}

impl Value for PathBuf {
    fn parse(text: &str) -> Result<Self, String> {
        Ok(Self::from(text))
    }
}

impl Value for bool {
    fn parse(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Ok(true),
            "false" | "0" | "no" | "off" => Ok(false),
            _ => Err("expected true or false".into()),
        }
    }
}

macro_rules! parsed_by_from_str {
    ($($kind:ty: $expected:literal),+ $(,)?) => {$(
        impl Value for $kind {
            fn parse(text: &str) -> Result<Self, String> {
                text.parse().map_err(|_| $expected.into())
            }
        }
    )+};
}

parsed_by_from_str! {
    u16: "expected a number from 0 to 65535",
    u32: "expected a whole number",
    u64: "expected a whole number",
    usize: "expected a whole number",
    f64: "expected a number",
    IpAddr: "expected an IP address",
    SocketAddr: "expected <address>:<port>",
}

impl Value for Duration {
    /// `100ms`, `5s`, `2m`, `24h`, and sums such as `1h30m`, as Go programs write them. A bare `0` is zero.
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || "expected a duration such as 500ms, 5s, 10m, 24h or 1h30m".to_owned();
        if text == "0" {
            return Ok(Self::ZERO);
        }
        let (mut rest, mut seconds) = (text, 0f64);
        while !rest.is_empty() {
            let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
            let unit = rest[number..].find(|c: char| c.is_ascii_digit() || c == '.').map_or(rest.len(), |n| n + number);
            let factor = match &rest[number..unit] {
                "ns" => 1e-9,
                "us" | "µs" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return Err(wrong()),
            };
            seconds += rest[..number].parse::<f64>().map_err(|_| wrong())? * factor;
            rest = &rest[unit..];
        }
        if text.is_empty() { Err(wrong()) } else { Self::try_from_secs_f64(seconds).map_err(|_| wrong()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORT: Key<u16> = Key::new("PORT", "15012", "port", "Where to listen.");
    const NAME: Key<String> = Key::new("NAME", "", "text", "What to be called.");
    const TTL: Key<Duration> = Key::new("TTL", "24h", "duration", "How long.");

    fn environment(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn what_is_not_set_has_its_default() {
        for strings in [environment(&[]), environment(&[("PORT", ""), ("NAME", "")])] {
            let mut reader = Reader::new(&strings);
            assert_eq!(reader.read(&PORT), 15012);
            assert_eq!(reader.optional(&NAME), None);
            assert_eq!(reader.finish(), Ok(()));
        }
    }

    #[test]
    fn all_mistakes_are_told_at_once() {
        let strings = environment(&[("PORT", "http"), ("TTL", "forever")]);
        let mut reader = Reader::new(&strings);
        assert_eq!(reader.read(&PORT), 15012, "the default stands in until the mistakes are told");
        reader.read(&TTL);
        assert_eq!(reader.required(&NAME), None);
        let text = reader.finish().unwrap_err().to_string();
        for part in ["PORT=\"http\"", "TTL=\"forever\"", "NAME=\"\": must be set"] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
    }

    #[test]
    fn durations_are_written_as_go_writes_them() {
        let millis = |text: &str| Duration::parse(text).map(|d| d.as_millis() as u64).ok();
        for (text, expected) in [
            ("0", Some(0)),
            ("5s", Some(5000)),
            ("1h30m", Some(5_400_000)),
            ("1.5s", Some(1500)),
            ("250ms", Some(250)),
            ("24h0m0s", Some(86_400_000)),
            ("", None),
            ("5", None),
            ("s", None),
            ("-5s", None),
            ("5 s", None),
            ("1d", None),
            ("1..2s", None),
            ("99999999999999999999h", None),
        ] {
            assert_eq!(millis(text), expected, "{text:?}");
        }
    }

    #[test]
    fn the_table_shows_every_key() {
        assert_eq!(
            table(&[PORT.row, NAME.row]),
            "| variable | default | value | meaning |\n|---|---|---|---|\n\
             | `PORT` | `15012` | port | Where to listen. |\n| `NAME` |  | text | What to be called. |\n"
        );
    }
}
