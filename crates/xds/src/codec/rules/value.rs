//! What every rule is made of, and how strictly it is read: texts, numbers, durations, shares,
//! destinations.

use super::super::{DecodeError, port};
use mesh::{
    ServiceKey, Str,
    route::{
        Destination,
        text::{FieldMatch, Fraction, PathMatch, TextMatch},
    },
};
use proto::waypoint as wire;
use std::time::Duration;

pub(super) type Read<T> = Result<T, DecodeError>;

/// A field that must be there.
pub(super) fn required<T>(field: &'static str, value: Option<T>) -> Read<T> {
    value.ok_or(DecodeError::Missing(field))
}

/// A text that must not be empty.
pub(super) fn name(field: &'static str, text: String) -> Read<Str> {
    if text.is_empty() { Err(DecodeError::Missing(field)) } else { Ok(text.into()) }
}

/// A list that must not be empty, of texts that must not be either.
pub(super) fn path(field: &'static str, names: Vec<String>) -> Read<Vec<Str>> {
    if names.is_empty() { Err(DecodeError::Missing(field)) } else { all(names, |text| name(field, text)) }
}

/// Each of a list, or the first error.
pub(super) fn all<W, T>(list: Vec<W>, read: impl FnMut(W) -> Read<T>) -> Read<Vec<T>> {
    list.into_iter().map(read).collect()
}

/// What may be absent.
pub(super) fn some<W, T>(value: Option<W>, read: impl FnOnce(W) -> Read<T>) -> Read<Option<T>> {
    value.map(read).transpose()
}

/// The same, with where it is in what is wrong with it.
pub(super) fn within<T>(kind: &'static str, name: &str, read: Read<T>) -> Read<T> {
    read.map_err(|error| DecodeError::Within {
        place: format!("{kind} {:?}", name.chars().take(200).collect::<String>()),
        error: Box::new(error),
    })
}

/// A message that says nothing is not written.
pub(super) fn unless_empty<M: Default + PartialEq>(message: M) -> Option<M> {
    (message != M::default()).then_some(message)
}

pub(super) fn text(text: &Str) -> String {
    text.to_string()
}

pub(super) fn optional(text: &Option<Str>) -> Option<String> {
    text.as_ref().map(Str::to_string)
}

pub(super) fn texts(list: &[Str]) -> Vec<String> {
    list.iter().map(Str::to_string).collect()
}

pub(super) fn strs(list: Vec<String>) -> Vec<Str> {
    list.into_iter().map(Str::from).collect()
}

pub(super) fn ports(list: &[u16]) -> Vec<u32> {
    list.iter().copied().map(u32::from).collect()
}

pub(super) fn read_port(field: &'static str, value: u32) -> Read<u16> {
    if value == 0 { Err(DecodeError::Missing(field)) } else { port(field, value) }
}

pub(super) fn read_ports(field: &'static str, list: Vec<u32>) -> Read<Vec<u16>> {
    all(list, |value| read_port(field, value))
}

/// A number that is narrower than on the wire.
pub(super) fn number<T: TryFrom<u32>>(field: &'static str, value: u32) -> Read<T> {
    T::try_from(value).map_err(|_| DecodeError::Number { field, value })
}

/// A status of HTTP.
pub(super) fn status(field: &'static str, value: u32) -> Read<u16> {
    match number(field, value)? {
        status @ 200..=599 => Ok(status),
        _ => Err(DecodeError::Number { field, value }),
    }
}

pub(super) fn percent(field: &'static str, value: u32) -> Read<u8> {
    match number(field, value)? {
        percent @ 0..=100 => Ok(percent),
        _ => Err(DecodeError::Number { field, value }),
    }
}

pub(super) fn share(field: &'static str, value: u32) -> Read<Fraction> {
    let share = Fraction(value);
    if share <= Fraction::ALL { Ok(share) } else { Err(DecodeError::Number { field, value }) }
}

pub(super) fn duration(duration: Duration) -> prost_types::Duration {
    // Nobody waits longer than 292 billion years.
    let seconds = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    prost_types::Duration { seconds, nanos: duration.subsec_nanos() as i32 }
}

pub(super) fn durations(value: Option<Duration>) -> Option<prost_types::Duration> {
    value.map(duration)
}

pub(super) fn read_duration(field: &'static str, value: Option<prost_types::Duration>) -> Read<Duration> {
    let value = required(field, value)?;
    let whole = u64::try_from(value.seconds).ok();
    let part = u32::try_from(value.nanos).ok().filter(|nanos| *nanos < 1_000_000_000);
    match (whole, part) {
        (Some(seconds), Some(nanos)) => Ok(Duration::new(seconds, nanos)),
        _ => Err(DecodeError::Duration(field)),
    }
}

pub(super) fn read_durations(field: &'static str, value: Option<prost_types::Duration>) -> Read<Option<Duration>> {
    some(value, |value| read_duration(field, Some(value)))
}

pub(super) fn service(key: &ServiceKey) -> wire::ServiceName {
    wire::ServiceName { namespace: text(&key.namespace), hostname: text(&key.hostname) }
}

pub(super) fn read_service(field: &'static str, key: Option<wire::ServiceName>) -> Read<ServiceKey> {
    let key = required(field, key)?;
    Ok(ServiceKey { namespace: name(field, key.namespace)?, hostname: name(field, key.hostname)? })
}

pub(super) fn destination(destination: &Destination) -> wire::Destination {
    use wire::destination::Kind;
    let kind = match destination {
        Destination::Service { service: key, port, subset } => Kind::Service(wire::DestinationService {
            service: Some(service(key)),
            port: (*port).into(),
            subset: optional(subset),
        }),
        Destination::Invalid { reason } => Kind::Invalid(text(reason)),
    };
    wire::Destination { kind: Some(kind) }
}

pub(super) fn read_destination(destination: Option<wire::Destination>) -> Read<Destination> {
    use wire::destination::Kind;
    match required("destination", destination.and_then(|destination| destination.kind))? {
        Kind::Service(to) => Ok(Destination::Service {
            service: read_service("destination.service", to.service)?,
            port: read_port("destination.port", to.port)?,
            subset: to.subset.map(Str::from),
        }),
        Kind::Invalid(reason) => Ok(Destination::Invalid { reason: reason.into() }),
    }
}

pub(super) fn text_match(matched: &TextMatch) -> wire::TextMatch {
    use wire::text_match::Match;
    let matched = match matched {
        TextMatch::Exact(it) => Match::Exact(text(it)),
        TextMatch::Prefix(it) => Match::Prefix(text(it)),
        TextMatch::Suffix(it) => Match::Suffix(text(it)),
        TextMatch::Contains(it) => Match::Contains(text(it)),
        TextMatch::Regex(it) => Match::Regex(text(it)),
        TextMatch::Present => Match::Present(()),
    };
    wire::TextMatch { r#match: Some(matched) }
}

pub(super) fn read_text_match(field: &'static str, matched: Option<wire::TextMatch>) -> Read<TextMatch> {
    use wire::text_match::Match;
    Ok(match required(field, matched.and_then(|matched| matched.r#match))? {
        Match::Exact(it) => TextMatch::Exact(it.into()),
        Match::Prefix(it) => TextMatch::Prefix(it.into()),
        Match::Suffix(it) => TextMatch::Suffix(it.into()),
        Match::Contains(it) => TextMatch::Contains(it.into()),
        Match::Regex(it) => TextMatch::Regex(it.into()),
        Match::Present(()) => TextMatch::Present,
    })
}

/// A text match that may be absent, but says something where it is there.
pub(super) fn read_optional_match(field: &'static str, matched: Option<wire::TextMatch>) -> Read<Option<TextMatch>> {
    some(matched, |matched| read_text_match(field, Some(matched)))
}

pub(super) fn field_match(matched: &FieldMatch) -> wire::FieldMatch {
    wire::FieldMatch {
        name: text(&matched.name),
        value: Some(text_match(&matched.value)),
        ignore_case: matched.ignore_case,
    }
}

pub(super) fn read_field_matches(field: &'static str, list: Vec<wire::FieldMatch>) -> Read<Vec<FieldMatch>> {
    all(list, |matched| {
        Ok(FieldMatch {
            name: name(field, matched.name)?,
            value: read_text_match(field, matched.value)?,
            ignore_case: matched.ignore_case,
        })
    })
}

pub(super) fn path_match(matched: &PathMatch) -> wire::PathMatch {
    use wire::path_match::Match;
    let matched = match matched {
        PathMatch::Exact(it) => Match::Exact(text(it)),
        PathMatch::PathPrefix(it) => Match::PathPrefix(text(it)),
        PathMatch::Prefix(it) => Match::Prefix(text(it)),
        PathMatch::Regex(it) => Match::Regex(text(it)),
    };
    wire::PathMatch { r#match: Some(matched) }
}

pub(super) fn read_path_match(matched: wire::PathMatch) -> Read<PathMatch> {
    use wire::path_match::Match;
    Ok(match required("path", matched.r#match)? {
        Match::Exact(it) => PathMatch::Exact(it.into()),
        Match::PathPrefix(it) => PathMatch::PathPrefix(it.into()),
        Match::Prefix(it) => PathMatch::Prefix(it.into()),
        Match::Regex(it) => PathMatch::Regex(it.into()),
    })
}

pub(super) fn headers(list: &[(Str, Str)]) -> Vec<wire::Header> {
    list.iter().map(|(name, value)| wire::Header { name: text(name), value: text(value) }).collect()
}

pub(super) fn read_headers(field: &'static str, list: Vec<wire::Header>) -> Read<Vec<(Str, Str)>> {
    all(list, |header| Ok((name(field, header.name)?, header.value.into())))
}
