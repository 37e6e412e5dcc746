//! What is traced of a service: its Telemetry over the waypoint's, ready to be asked.

use crate::report::Outcome;
use mesh::{
    Str,
    route::{
        Destination,
        telemetry::{TagValue, Telemetry},
        text::Fraction,
    },
};

/// What is traced.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which share of the requests that do not say.
    pub sampling: Fraction,
    /// Where spans go; none: nowhere, but trace ids are passed on.
    pub collector: Option<Destination>,
    tags: Vec<(Str, Source)>,
}

/// Where the value of a tag comes from.
#[derive(Clone, Debug)]
enum Source {
    Always(Str),
    Header(Str, Option<Str>),
}

/// The longest value of a tag that a caller writes.
const VALUE_BYTES_MAX: usize = 1024;

impl Settings {
    /// What a service says, and where it says nothing the waypoint, and where neither does
    /// `sampling`. `environment` reads variables of the environment, once.
    pub fn of(
        service: Option<&Telemetry>,
        gateway: &Telemetry,
        sampling: Fraction,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Self {
        let levels: Vec<_> = service
            .and_then(|telemetry| telemetry.tracing.as_ref())
            .into_iter()
            .chain(gateway.tracing.as_ref())
            .collect();
        let collector = levels.iter().find_map(|tracing| tracing.collector.clone());
        let source = |value: &TagValue| match value {
            TagValue::Literal(text) => Some(Source::Always(text.clone())),
            TagValue::Header(name, default) => Some(Source::Header(name.clone(), default.clone())),
            TagValue::Environment(name, default) => {
                environment(name).map(Into::into).or_else(|| default.clone()).map(Source::Always)
            }
        };
        let mut tags: Vec<(Str, Source)> = Vec::new();
        for (name, value) in levels.iter().flat_map(|tracing| &tracing.tags) {
            // The service's own come first, and count.
            if let (Some(source), true) = (source(value), tags.iter().all(|(known, _)| known != name)) {
                tags.push((name.clone(), source));
            }
        }
        Self {
            sampling: levels.iter().find_map(|tracing| tracing.sampling).unwrap_or(sampling),
            collector: collector.filter(|_| !levels.first().is_some_and(|tracing| tracing.disabled)),
            tags,
        }
    }

    /// The tags of a request.
    pub(super) fn tags<'a>(&'a self, outcome: &'a Outcome) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.tags.iter().filter_map(|(name, source)| {
            let value = match source {
                Source::Always(text) => Some(&**text),
                Source::Header(header, default) => outcome.header(&**header).or(default.as_deref()),
            }?;
            Some((&**name, &value[..value.floor_char_boundary(VALUE_BYTES_MAX)]))
        })
    }
}
