//! A line of a log while it is being written: words, numbers and texts of strangers, none of which can be mistaken
//! for another or begin a line of its own. Pure.

use super::flags::Flags;
use crate::digits;
use chassis::limits::LOG_VALUE_BYTES_MAX;
use std::{
    fmt::Write,
    net::SocketAddr,
    time::{Duration, SystemTime},
};

/// Bytes of a usual line.
const USUAL_BYTES: usize = 512;

/// A line.
pub(super) struct Line(String);

impl Line {
    pub(super) fn new() -> Self {
        Self(String::with_capacity(USUAL_BYTES))
    }

    /// The whole line, with its end.
    pub(super) fn end(mut self) -> String {
        self.0.push('\n');
        self.0
    }

    /// A text of our own.
    pub(super) fn say(&mut self, text: &str) -> &mut Self {
        self.0.push_str(text);
        self
    }

    pub(super) fn number(&mut self, number: u64) -> &mut Self {
        digits::decimal(&mut self.0, number);
        self
    }

    pub(super) fn address(&mut self, address: SocketAddr) -> &mut Self {
        digits::socket(&mut self.0, address);
        self
    }

    /// Most requests have none, which is not worth a writer of its own.
    pub(super) fn flags(&mut self, flags: Flags) -> &mut Self {
        // Writing to a string cannot fail.
        let _never = write!(self.0, "{flags}");
        self
    }

    /// RFC 3339 with milliseconds, as Envoy's `START_TIME`.
    pub(super) fn time(&mut self, time: SystemTime) -> &mut Self {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let seconds = i64::try_from(since.as_secs()).unwrap_or_default();
        let at = time::OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(time::OffsetDateTime::UNIX_EPOCH);
        let (year, month, day) = at.to_calendar_date();
        let (hour, minute, second) = at.to_hms();
        let mut part = |number: u64, width: usize, behind: &str| {
            digits::padded(&mut self.0, number, width);
            self.0.push_str(behind);
        };
        part(u64::try_from(year).unwrap_or_default(), 4, "-");
        part(u8::from(month).into(), 2, "-");
        part(day.into(), 2, "T");
        part(hour.into(), 2, ":");
        part(minute.into(), 2, ":");
        part(second.into(), 2, ".");
        part(since.subsec_millis().into(), 3, "Z");
        self
    }

    /// A word without quotes: blanks in it would shift the columns behind it.
    pub(super) fn bare(&mut self, value: Option<&str>) -> &mut Self {
        match value.filter(|value| !value.is_empty()) {
            None => self.say("-"),
            Some(value) if value.contains(' ') => self.escaped(&value.replace(' ', "_")),
            Some(value) => self.escaped(value),
        }
    }

    pub(super) fn quoted(&mut self, value: Option<&str>) -> &mut Self {
        self.say("\"").escaped(value.filter(|value| !value.is_empty()).unwrap_or("-")).say("\"")
    }

    /// As in JSON, and no longer than a value may be.
    pub(super) fn escaped(&mut self, value: &str) -> &mut Self {
        let end = value.floor_char_boundary(LOG_VALUE_BYTES_MAX);
        let (value, rest) = value.split_at(end);
        // Nearly all values are of this kind.
        if value.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\') {
            self.0.push_str(value);
        } else {
            value.chars().for_each(|c| self.character(c));
        }
        self.say(if rest.is_empty() { "" } else { "…" })
    }

    fn character(&mut self, c: char) {
        match c {
            '"' => self.0.push_str("\\\""),
            '\\' => self.0.push_str("\\\\"),
            c if c.is_control() => {
                self.0.push_str("\\u");
                digits::hexadecimal(&mut self.0, u32::from(c).into(), 4);
            }
            c => self.0.push(c),
        }
    }

    /// Something, or `-`.
    pub(super) fn or_dash<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T) -> &mut Self) -> &mut Self {
        match value {
            Some(value) => write(self, value),
            None => self.say("-"),
        }
    }
}

/// Whole milliseconds.
pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
