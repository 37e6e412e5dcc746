//! Values that many kinds spell in the same way: durations, shares, matches of texts, headers.

use super::field::{Field, shorten};
use crate::facts::{Target, TargetKind, by_host, by_name};
use mesh::{
    Str,
    route::{
        Destination,
        http::HeaderEdit,
        text::{Fraction, TextMatch},
    },
};
use std::time::Duration;

/// Notes the fields here that are none of these.
pub(super) fn known(field: &Field<'_>, keys: &[&str]) {
    if field.is_there() {
        for key in field.unknown(keys) {
            field.at(&key).note("is not a field that we know");
        }
    }
}

/// Remarks the fields here that are understood and not done.
pub(super) fn unhonoured(field: &Field<'_>, keys: &[&str]) {
    for key in keys.iter().map(|key| field.at(key)).filter(Field::is_there) {
        key.remark("is not honoured by waypoints");
    }
}

/// A length of time, as Go and protocol buffers write it: `1.5s`, `1h30m`, `200ms`.
pub(super) fn duration(field: &Field<'_>) -> Option<Duration> {
    let text = field.text()?;
    let found = parse_duration(&text);
    if found.is_none() {
        field.note(format!("{:?} is not a length of time such as 1.5s, 200ms or 1h30m", shorten(&text)));
    }
    found
}

/// As `duration`, and more than nothing.
pub(super) fn some_duration(field: &Field<'_>) -> Option<Duration> {
    let found = duration(field)?;
    if found < Duration::from_millis(1) {
        field.note("must be at least 1ms");
        return None;
    }
    Some(found)
}

fn parse_duration(text: &str) -> Option<Duration> {
    const UNITS: [(&str, f64); 7] =
        [("ns", 1e-9), ("us", 1e-6), ("µs", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let (mut rest, mut seconds) = (text, 0.0);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        rest = &rest[end..];
        let end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let (_, unit) = UNITS.iter().find(|(name, _)| *name == &rest[..end])?;
        seconds += number * unit;
        rest = &rest[end..];
    }
    // Whole nanoseconds, so that 0.1s is what it says.
    let found = Duration::try_from_secs_f64(seconds).ok().filter(|_| !text.is_empty())?;
    Some(Duration::from_nanos(u64::try_from(found.as_nanos()).ok()?))
}

/// A share in percent, from 0 to 100.
pub(super) fn percent(field: &Field<'_>) -> Option<Fraction> {
    let number = field.float()?;
    if !(0.0..=100.0).contains(&number) {
        field.note("is not a share from 0 to 100");
        return None;
    }
    Some(Fraction((number * 10_000.0).round() as u32))
}

/// A number in percent without a fraction.
pub(super) fn whole_percent(field: &Field<'_>) -> Option<u8> {
    let number = field.number()?;
    if number > 100 {
        field.note("is not a share from 0 to 100");
    }
    u8::try_from(number).ok().filter(|number| *number <= 100)
}

/// `{exact: …}`, `{prefix: …}` or `{regex: …}`. One that says nothing asks that the text be there.
pub(super) fn text_match(field: &Field<'_>) -> Option<TextMatch> {
    if !field.is_there() {
        return None;
    }
    known(field, &["exact", "prefix", "regex"]);
    let said: Vec<_> = ["exact", "prefix", "regex"].into_iter().filter(|key| field.at(key).is_there()).collect();
    match said[..] {
        [] => Some(TextMatch::Present),
        ["exact"] => field.at("exact").text().map(TextMatch::Exact),
        ["prefix"] => field.at("prefix").text().map(TextMatch::Prefix),
        ["regex"] => regex(&field.at("regex")).map(TextMatch::Regex),
        _ => {
            field.note("says more than one of exact, prefix, regex");
            None
        }
    }
}

fn regex(field: &Field<'_>) -> Option<Str> {
    let text = field.text()?;
    if text.is_empty() {
        field.note("is empty");
        return None;
    }
    Some(text)
}

/// A name of a header, in lower case.
pub(super) fn header_name(field: &Field<'_>, name: &str) -> Option<Str> {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if name.is_empty() || !name.bytes().all(token) {
        field.note(format!("{:?} is not a name of a header", shorten(name)));
        return None;
    }
    Some(name.to_ascii_lowercase().into())
}

/// A list of names of headers, in lower case.
pub(super) fn header_names(field: &Field<'_>) -> Vec<Str> {
    let name = |item: &Field<'_>| header_name(item, &item.text()?);
    field.list().iter().filter_map(name).collect()
}

/// A list of texts.
pub(super) fn texts(field: &Field<'_>) -> Vec<Str> {
    field.list().iter().filter_map(Field::text).collect()
}

/// `{set: …, add: …, remove: …}`.
pub(super) fn header_edit(field: &Field<'_>) -> HeaderEdit {
    known(field, &["set", "add", "remove"]);
    let pairs = |field: &Field<'_>| {
        let members = field.members().into_iter();
        members.filter_map(|(name, value)| Some((header_name(&value, &name)?, header_value(&value)?))).collect()
    };
    HeaderEdit { set: pairs(&field.at("set")), add: pairs(&field.at("add")), remove: header_names(&field.at("remove")) }
}

/// What may be the value of a header.
pub(super) fn header_value(field: &Field<'_>) -> Option<Str> {
    let text = field.loose_text()?;
    if text.chars().any(|c| c.is_control() && c != '\t') {
        field.note("holds a character that no header may hold");
        return None;
    }
    Some(text)
}

/// `a.b`, `[a][b]`, or a mix of both: the names on the way to a claim.
pub(super) fn claim_path(text: &str) -> Option<Vec<Str>> {
    let (mut rest, mut path) = (text, Vec::new());
    while !rest.is_empty() {
        let (name, after) = match rest.strip_prefix('[') {
            Some(inner) => inner.split_once(']')?,
            None => {
                let inner = rest.strip_prefix('.').unwrap_or(rest);
                inner.split_at(inner.find(['.', '[']).unwrap_or(inner.len()))
            }
        };
        if name.is_empty() || name.contains(['[', ']']) {
            return None;
        }
        path.push(name.into());
        rest = after;
    }
    (!path.is_empty()).then_some(path)
}

/// A host as an object of a namespace names it: one without a dot is a Service beside the object.
pub(super) fn host(host: &str, own: &str, port: u16, subset: Option<Str>) -> Destination {
    let host = host.to_ascii_lowercase();
    let service = if host.contains('.') { by_host(&host) } else { by_name(own, &host) };
    Destination::Service { service, port, subset }
}

/// `targetRefs`, or the one `targetRef` of old; `None` when there is neither.
pub(super) fn targets(spec: &Field<'_>, kinds: &[TargetKind]) -> Option<Vec<Target>> {
    let (one, many) = (spec.at("targetRef"), spec.at("targetRefs"));
    if one.is_there() && many.is_there() {
        one.note("stands beside targetRefs, and only one of them may");
    }
    let refs = if one.is_there() { vec![one] } else { many.list_if_there()? };
    let found: Vec<Target> = refs.iter().filter_map(|field| target(field, kinds)).collect();
    if refs.is_empty() {
        many.note("is empty, so it is not clear what it is for");
    }
    Some(found)
}

fn target(field: &Field<'_>, kinds: &[TargetKind]) -> Option<Target> {
    known(field, &["group", "kind", "name", "namespace", "sectionName"]);
    let group = field.at("group").text().unwrap_or_default();
    let kind = field.at("kind").text().unwrap_or_default();
    let found = match (&*group, &*kind) {
        ("" | "core", "Service") => Some(TargetKind::Service),
        ("networking.istio.io", "ServiceEntry") => Some(TargetKind::ServiceEntry),
        ("gateway.networking.k8s.io", "Gateway") => Some(TargetKind::Gateway),
        ("gateway.networking.k8s.io", "GatewayClass") => Some(TargetKind::GatewayClass),
        ("gateway.networking.k8s.io", "HTTPRoute") => Some(TargetKind::HttpRoute),
        ("gateway.networking.k8s.io", "GRPCRoute") => Some(TargetKind::GrpcRoute),
        _ => None,
    };
    let Some(kind) = found.filter(|kind| kinds.contains(kind)) else {
        let names: Vec<_> = kinds.iter().map(|kind| kind.name()).collect();
        field.note(format!("{:?} {:?} is none of {}", shorten(&group), shorten(&kind), names.join(", ")));
        return None;
    };
    if field.at("namespace").text().is_some_and(|namespace| !namespace.is_empty()) {
        field.at("namespace").note("must be left out: a policy is for what is in its own namespace");
    }
    let name = field.at("name").text().filter(|name| !name.is_empty());
    if name.is_none() {
        field.at("name").note("says nothing");
    }
    let section = field.at("sectionName").text().filter(|name| !name.is_empty());
    Some(Target { kind, name: name?, section })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_are_read_as_go_writes_them() {
        for (text, expected) in [
            ("0", Some(0)),
            ("0s", Some(0)),
            ("5s", Some(5_000)),
            ("1.5s", Some(1_500)),
            ("0.1s", Some(100)),
            ("200ms", Some(200)),
            ("1h2m3s", Some(3_723_000)),
            ("", None),
            ("5", None),
            ("5 s", None),
            ("-5s", None),
            ("s", None),
            ("1.2.3s", None),
            ("5d", None),
            ("99999999999999999999999999h", None),
        ] {
            assert_eq!(parse_duration(text), expected.map(Duration::from_millis), "{text:?}");
        }
    }

    #[test]
    fn the_way_to_a_claim_is_read_in_both_spellings() {
        for (text, expected) in [
            (".a.b", "a/b"),
            ("[a][b]", "a/b"),
            ("[a.b][c]", "a.b/c"),
            (".a[b]", "a/b"),
            ("", "-"),
            ("[", "-"),
            ("[a]]", "-"),
            ("..", "-"),
        ] {
            let found = claim_path(text).map_or_else(|| "-".to_owned(), |path| path.join("/"));
            assert_eq!(found, expected, "{text:?}");
        }
    }
}
