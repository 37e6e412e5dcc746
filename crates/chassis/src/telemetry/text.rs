//! Values → safe text: nothing that came from a peer can end a line, forge a field or move a cursor.

use super::Format;
use crate::limits;
use std::{
    fmt::{self, Write},
    time::{SystemTime, UNIX_EPOCH},
};

/// Writes text with every character that could mislead a reader as an escape, up to a limit.
struct Escaped<'a> {
    out: &'a mut String,
    format: Format,
    quoted: bool,
    left: usize,
}

impl Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.left == 0 {
            return Ok(());
        }
        let harmless = text.bytes().all(|b| matches!(b, b' '..=b'~') && !(self.quoted && matches!(b, b'"' | b'\\')));
        if harmless && text.len() <= self.left {
            self.out.push_str(text);
            self.left -= text.len();
            return Ok(());
        }
        for c in text.chars() {
            let before = self.out.len();
            self.push(c);
            let grown = self.out.len() - before;
            if grown >= self.left {
                self.left = 0;
                self.out.push_str("...");
                break;
            }
            self.left -= grown;
        }
        Ok(())
    }
}

impl Escaped<'_> {
    fn push(&mut self, c: char) {
        match (c, self.format) {
            ('\n', _) => self.out.push_str("\\n"),
            ('\r', _) => self.out.push_str("\\r"),
            ('\t', _) => self.out.push_str("\\t"),
            ('"' | '\\', _) if self.quoted => self.out.extend(['\\', c]),
            (c, Format::Plain) if misleading(c) => push(self.out, format_args!("\\u{{{:x}}}", u32::from(c))),
            // All of these are in the basic plane, so one unit is enough.
            (c, Format::Json) if misleading(c) => push(self.out, format_args!("\\u{:04x}", u32::from(c))),
            (c, _) => self.out.push(c),
        }
    }
}

/// Control characters, line separators, and marks that turn the direction of writing.
fn misleading(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// Writing to a string cannot fail.
pub(super) fn push(out: &mut String, text: fmt::Arguments<'_>) {
    let _never = out.write_fmt(text);
}

/// Text without quotes around it, for messages.
pub(super) fn bare(out: &mut String, format: Format, text: fmt::Arguments<'_>) {
    let _never = Escaped { out, format, quoted: false, left: limits::LOG_VALUE_BYTES_MAX }.write_fmt(text);
}

/// Text with quotes around it, for strings.
pub(super) fn quoted(out: &mut String, format: Format, text: fmt::Arguments<'_>) {
    out.push('"');
    let _never = Escaped { out, format, quoted: true, left: limits::LOG_VALUE_BYTES_MAX }.write_fmt(text);
    out.push('"');
}

/// What is displayed: addresses and numbers stand bare, what could be mistaken for several fields is quoted.
pub(super) fn displayed(out: &mut String, format: Format, text: fmt::Arguments<'_>) {
    if format == Format::Json {
        return quoted(out, format, text);
    }
    let whole = text.to_string();
    let simple = |b: u8| matches!(b, b'!'..=b'~') && !matches!(b, b'"' | b'=' | b'\\');
    if !whole.is_empty() && whole.len() <= limits::LOG_VALUE_BYTES_MAX && whole.bytes().all(simple) {
        out.push_str(&whole);
    } else {
        quoted(out, format, format_args!("{whole}"));
    }
}

/// A moment as RFC 3339 in UTC with microseconds.
pub(super) struct Time(pub(super) SystemTime);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since = self.0.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (days, second) = ((since.as_secs() / 86_400) as i64, since.as_secs() % 86_400);
        let (year, month, day) = date(days);
        let (h, m, s) = (second / 3600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.{:06}Z", since.subsec_micros())
    }
}

/// Year, month and day of a day since 1970 (after Howard Hinnant's `civil_from_days`: years begin in March).
fn date(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let (day, month) =
        (day_of_year - (153 * shifted + 2) / 5 + 1, if shifted < 10 { shifted + 3 } else { shifted - 9 });
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn moments_are_written_in_utc_with_microseconds() {
        for (seconds, micros, expected) in [
            (0, 0, "1970-01-01T00:00:00.000000Z"),
            (951_782_400, 5, "2000-02-29T00:00:00.000005Z"),
            (1_709_251_199, 999_999, "2024-02-29T23:59:59.999999Z"),
            (1_795_245_635, 1, "2026-11-21T07:20:35.000001Z"),
            (4_102_444_800, 0, "2100-01-01T00:00:00.000000Z"),
        ] {
            let time = UNIX_EPOCH + Duration::new(seconds, micros * 1000);
            assert_eq!(Time(time).to_string(), expected);
        }
    }

    #[test]
    fn text_of_peers_cannot_leave_its_value() {
        for (text, expected) in [
            ("plain", "plain"),
            ("10.0.0.1:80", "10.0.0.1:80"),
            ("[::1]:80", "[::1]:80"),
            ("a b", "\"a b\""),
            ("", "\"\""),
            ("x\nerror: forged", "\"x\\nerror: forged\""),
            ("a\" bytes_sent=1 b=\"", "\"a\\\" bytes_sent=1 b=\\\"\""),
            ("\u{1b}[31mred", "\"\\u{1b}[31mred\""),
            ("\u{202e}txt", "\"\\u{202e}txt\""),
            ("grün", "\"grün\""),
        ] {
            let mut out = String::new();
            displayed(&mut out, Format::Plain, format_args!("{text}"));
            assert_eq!(out, expected);
        }
    }

    #[test]
    fn a_long_value_is_cut_and_the_cut_is_shown() {
        let mut out = String::new();
        quoted(&mut out, Format::Plain, format_args!("{}", "ü".repeat(100_000)));
        assert!(out.len() < limits::LOG_VALUE_BYTES_MAX + 10 && out.ends_with("...\""));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_one_json_string(text in "\\PC*|[\u{0}-\u{a0}\u{2020}-\u{2070}\"\\\\]{0,40}") {
            let mut out = String::new();
            quoted(&mut out, Format::Json, format_args!("{text}"));
            let back: String = serde_json::from_str(&out).unwrap();
            proptest::prop_assert!(back == text || back.ends_with("..."));
            proptest::prop_assert!(!out.contains('\n'));
        }
    }
}
