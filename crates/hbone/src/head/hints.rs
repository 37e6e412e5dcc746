//! The fields of a CONNECT beside its target, taken one after the other as they come.

use http::HeaderMap;
use mesh::Str;

use super::{BAGGAGE, BaggageText, FORWARDED, FORWARDED_NETWORK, Forwarded, TRACEPARENT, TraceParent};

/// What was said, as far as it could be read. Of a field that comes twice the first one counts, readable or not;
/// of baggage all do.
#[derive(Debug, Default)]
pub(crate) struct Hints {
    pub(crate) baggage: BaggageText,
    pub(super) forwarded: Option<Option<Forwarded>>,
    pub(super) traceparent: Option<Option<TraceParent>>,
    pub(super) network: Option<Option<Str>>,
}

impl Hints {
    /// Those among these headers.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let mut hints = Self::default();
        for (name, value) in headers {
            hints.take(name.as_str().as_bytes(), value.as_bytes());
        }
        hints
    }

    /// Takes a field, and says whether it is one of these.
    pub(crate) fn take(&mut self, name: &[u8], value: &[u8]) -> bool {
        let text = || text(value);
        match std::str::from_utf8(name) {
            Ok(BAGGAGE) => text().into_iter().for_each(|text| self.baggage.take(text)),
            Ok(FORWARDED) => drop(self.forwarded.get_or_insert_with(|| text().and_then(Forwarded::parse))),
            Ok(TRACEPARENT) => drop(self.traceparent.get_or_insert_with(|| text().and_then(TraceParent::parse))),
            Ok(FORWARDED_NETWORK) => drop(self.network.get_or_insert_with(|| text().and_then(network))),
            _ => return false,
        }
        true
    }
}

/// A value of nothing but ASCII. That it has no control characters is seen to where any value is taken.
fn text(value: &[u8]) -> Option<&str> {
    if value.is_ascii() { std::str::from_utf8(value).ok() } else { None }
}

fn network(text: &str) -> Option<Str> {
    let legal = |b: u8| b.is_ascii_graphic();
    (!text.is_empty() && text.len() <= mesh::limits::NAME_BYTES_MAX && text.bytes().all(legal)).then(|| text.into())
}
