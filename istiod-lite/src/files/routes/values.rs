//! Values of Gateway API's fields, with the limits that its CRDs put on them.

use crate::files::field::{Field, shorten};
use mesh::{Str, route::text::Fraction};
use std::time::Duration;

/// Notes fields that we do not know: each could narrow what the object does.
pub(super) fn only(field: &Field<'_>, known: &[&str]) {
    if field.is_there() {
        for key in field.unknown(known) {
            field.key(&key).note("is not a field that we know, and could change what the object does");
        }
    }
}

/// The members of a list that may have so many.
pub(super) fn up_to<'a>(field: &Field<'a>, max: usize) -> Vec<Field<'a>> {
    let items = field.list();
    if items.len() > max {
        field.note(format!("has {} items and may have {max}", items.len()));
        return Vec::new();
    }
    items
}

/// A text that must be there.
pub(super) fn required(field: &Field<'_>) -> Option<Str> {
    let text = field.text();
    match &text {
        Some(text) if text.is_empty() => field.note("is empty"),
        None if !field.is_there() => field.note("is missing"),
        _ => {}
    }
    text.filter(|text| !text.is_empty())
}

/// A text that must be there, at most so long.
pub(super) fn bounded(field: &Field<'_>, bytes_max: usize) -> Option<Str> {
    let text = required(field)?;
    if text.len() > bytes_max {
        field.note(format!("is {} bytes long and may be {bytes_max}", text.len()));
        return None;
    }
    Some(text)
}

/// The name of a header, a query parameter, or a cookie: a token of RFC 9110.
pub(super) fn token(field: &Field<'_>) -> Option<Str> {
    let text = bounded(field, 256)?;
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if !text.bytes().all(legal) {
        field.note(format!("{:?} is not a name of a header or parameter", shorten(&text)));
        return None;
    }
    Some(text)
}

/// The name of a header, in lower case. Pseudo headers are not among them.
pub(super) fn header_name(field: &Field<'_>) -> Option<Str> {
    token(field).map(|name| name.to_ascii_lowercase().into())
}

/// The value of a header: visible characters, with single spaces or tabs between them.
pub(super) fn header_value(field: &Field<'_>) -> Option<Str> {
    let text = bounded(field, 4096)?;
    let bytes = text.as_bytes();
    let blank = |b: &u8| matches!(b, b' ' | b'\t');
    let edges = bytes.first().is_some_and(blank) || bytes.last().is_some_and(blank);
    let doubled = bytes.windows(2).any(|pair| pair.iter().all(blank));
    let visible = bytes.iter().all(|b| blank(b) || b.is_ascii_graphic());
    if edges || doubled || !visible {
        field.note(format!("{:?} is not a value of a header", shorten(&text)));
        return None;
    }
    Some(text)
}

/// A hostname in lower case; with a `*` as its first label where that is allowed.
pub(super) fn hostname(field: &Field<'_>, wildcard: bool) -> Option<Str> {
    let text = bounded(field, 253)?;
    let name = text.strip_prefix("*.").filter(|_| wildcard).unwrap_or(&text);
    if !is_hostname(name) {
        field.note(format!("{:?} is not a hostname", shorten(&text)));
        return None;
    }
    if name.parse::<std::net::IpAddr>().is_ok() {
        field.note("is an address and must be a hostname");
        return None;
    }
    Some(text)
}

fn is_hostname(text: &str) -> bool {
    let legal = |label: &str| {
        let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        edge(label.as_bytes().first()) && edge(label.as_bytes().last()) && label.bytes().all(inner)
    };
    text.split('.').all(legal)
}

/// A duration as Gateway API writes it (GEP-2257): `1h30m`, `500ms`; zero counts as none.
pub(super) fn duration(field: &Field<'_>) -> Option<Duration> {
    let text = field.text()?;
    let parsed = parse_duration(&text);
    if parsed.is_none() {
        field.note(format!("{:?} is not a duration like 1h, 30s or 500ms", shorten(&text)));
    }
    parsed.filter(|duration| !duration.is_zero())
}

fn parse_duration(text: &str) -> Option<Duration> {
    let (mut rest, mut sum) = (text, Duration::ZERO);
    for _ in 0..4 {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest.get(..digits).filter(|digits| (1..=5).contains(&digits.len()))?.parse().ok()?;
        rest = &rest[digits..];
        let units = [("ms", 1), ("h", 3_600_000), ("m", 60_000), ("s", 1000)];
        let (unit, millis) = units.into_iter().find(|(unit, _)| rest.starts_with(unit))?;
        sum += Duration::from_millis(number * millis);
        rest = &rest[unit.len()..];
        if rest.is_empty() {
            return Some(sum);
        }
    }
    None
}

/// `percent` or `fraction` of something; all when neither is there.
pub(super) fn share(field: &Field<'_>) -> Fraction {
    let (percent, fraction) = (field.at("percent"), field.at("fraction"));
    if percent.is_there() && fraction.is_there() {
        fraction.note("stands beside percent, and only one of them may be said");
    }
    if fraction.is_there() {
        only(&fraction, &["numerator", "denominator"]);
        if !fraction.at("numerator").is_there() {
            fraction.at("numerator").note("is missing");
        }
        let numerator = u64::from(fraction.at("numerator").number().unwrap_or(0));
        let denominator = fraction.at("denominator");
        let denominator = if denominator.is_there() { u64::from(denominator.number().unwrap_or(0)) } else { 100 };
        if denominator == 0 || numerator > denominator {
            fraction.note("is not between 0 and 1");
            return Fraction::NONE;
        }
        // At most a million, because the numerator is not larger than the denominator.
        return Fraction(u32::try_from(numerator * 1_000_000 / denominator).unwrap_or(1_000_000));
    }
    match percent.number() {
        Some(percent) if percent <= 100 => Fraction(percent * 10_000),
        Some(_) => {
            percent.note("is not between 0 and 100");
            Fraction::NONE
        }
        None => Fraction::ALL,
    }
}

/// The text as a regular expression that matches it alone.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if r"\.+*?()|[]{}^$#&-~/".contains(c) && c != '/' {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_up_to_four_parts() {
        for (text, millis) in [
            ("0s", Some(0)),
            ("500ms", Some(500)),
            ("1h30m", Some(5_400_000)),
            ("1h1m1s1ms", Some(3_661_001)),
            ("", None),
            ("1", None),
            ("s", None),
            ("1.5s", None),
            ("123456s", None),
            ("1s1s1s1s1s", None),
            ("1d", None),
        ] {
            assert_eq!(parse_duration(text), millis.map(Duration::from_millis), "{text}");
        }
    }

    #[test]
    fn a_hostname_is_lower_case_labels() {
        for (text, good) in
            [("a.b-c.d1", true), ("A", false), ("a..b", false), ("-a", false), ("a-", false), ("", false)]
        {
            assert_eq!(is_hostname(text), good, "{text}");
        }
    }
}
