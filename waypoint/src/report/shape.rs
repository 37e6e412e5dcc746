//! What the Telemetry API changes of metrics: which are kept, and with which labels.

use super::{
    attribute::Attribute,
    outcome::Outcome,
    party::{Shared, UNKNOWN},
};
use mesh::{Str, route::telemetry::MetricOverride};

/// A metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub(super) enum Metric {
    Requests,
    Duration,
    RequestBytes,
    ResponseBytes,
    RequestMessages,
    ResponseMessages,
    TcpOpened,
    TcpClosed,
    TcpReceived,
    TcpSent,
}

impl Metric {
    pub(super) const ALL: [Self; 10] = [
        Self::Requests,
        Self::Duration,
        Self::RequestBytes,
        Self::ResponseBytes,
        Self::RequestMessages,
        Self::ResponseMessages,
        Self::TcpOpened,
        Self::TcpClosed,
        Self::TcpReceived,
        Self::TcpSent,
    ];

    /// Its name, as the registry wants it: of counters without `_total`.
    pub(super) const fn family(self) -> &'static str {
        match self {
            Self::Requests => "istio_requests",
            Self::Duration => "istio_request_duration_milliseconds",
            Self::RequestBytes => "istio_request_bytes",
            Self::ResponseBytes => "istio_response_bytes",
            Self::RequestMessages => "istio_request_messages",
            Self::ResponseMessages => "istio_response_messages",
            Self::TcpOpened => "istio_tcp_connections_opened",
            Self::TcpClosed => "istio_tcp_connections_closed",
            Self::TcpReceived => "istio_tcp_received_bytes",
            Self::TcpSent => "istio_tcp_sent_bytes",
        }
    }

    pub(super) const fn help(self) -> &'static str {
        match self {
            Self::Requests => "The total number of requests",
            Self::Duration => "How long requests took in milliseconds",
            Self::RequestBytes => "The size of requests in bytes",
            Self::ResponseBytes => "The size of responses in bytes",
            Self::RequestMessages => "The total number of gRPC messages of requests",
            Self::ResponseMessages => "The total number of gRPC messages of responses",
            Self::TcpOpened => "The total number of TCP connections opened",
            Self::TcpClosed => "The total number of TCP connections closed",
            Self::TcpReceived => "The size of total bytes received during request in case of a TCP connection",
            Self::TcpSent => "The size of total bytes sent during response in case of a TCP connection",
        }
    }

    fn is_named(self, name: &str) -> bool {
        name == self.family() || name.strip_suffix("_total") == Some(self.family())
    }
}

/// The changes of metrics of one service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Shape {
    /// What labels users gave; each is asked for once a request.
    sources: Vec<Option<Attribute>>,
    /// A row a metric.
    rows: Vec<Row>,
}

/// The changes of one metric.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Row {
    pub(super) disabled: bool,
    /// Labels: (name, which of the values it is; none: it is left out).
    pub(super) labels: Vec<(Str, Option<usize>)>,
}

/// The changes as one series has them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Changed {
    /// A row a metric.
    pub(super) rows: Shared<Box<[Row]>>,
    /// What rows refer to.
    pub(super) values: Box<[Str]>,
}

/// Most labels that users may add or change, over all metrics: each is kept in every series.
const CHANGES_MAX: usize = 64;

impl Shape {
    /// The changes in order, later ones over earlier; none if nothing is changed. What cannot be
    /// read is said to `complain` and stands as `unknown`.
    pub(super) fn of<'a>(
        overrides: impl IntoIterator<Item = &'a MetricOverride>,
        mut complain: impl FnMut(String),
    ) -> Option<Self> {
        let mut shape = Self { sources: Vec::new(), rows: vec![Row::default(); Metric::ALL.len()] };
        for change in overrides {
            let taken = change
                .tags
                .iter()
                .map(|(name, value)| (name, value.as_ref().map(|text| shape.source(text, &mut complain))));
            let tags: Vec<(Str, Option<usize>)> = taken.map(|(name, source)| (name.clone(), source)).collect();
            for (row, metric) in shape.rows.iter_mut().zip(Metric::ALL) {
                if change.metric.as_ref().is_none_or(|name| metric.is_named(name)) {
                    row.change(change.disabled, &tags);
                }
            }
        }
        shape.rows.iter().any(|row| *row != Row::default()).then_some(shape)
    }

    fn source(&mut self, text: &str, complain: &mut impl FnMut(String)) -> usize {
        let read = Attribute::parse(text);
        if let Err(error) = &read {
            complain(error.to_string());
        }
        self.sources.push(read.ok());
        self.sources.len() - 1
    }

    /// The values that users' labels have for a request.
    pub(super) fn values(&self, outcome: &Outcome) -> Box<[Str]> {
        let value = |source: &Option<Attribute>| {
            let text = source.as_ref().and_then(|source| source.of(outcome));
            text.map_or_else(|| UNKNOWN.clone(), |text| text[..text.floor_char_boundary(VALUE_BYTES_MAX)].into())
        };
        self.sources.iter().map(value).collect()
    }

    /// The rows, which are all that a series needs of it.
    pub(super) fn rows(&self) -> &[Row] {
        &self.rows
    }
}

/// The longest value of a user's label; headers may be longer, and memory is not theirs.
const VALUE_BYTES_MAX: usize = 256;

impl Row {
    fn change(&mut self, disabled: bool, tags: &[(Str, Option<usize>)]) {
        self.disabled = disabled;
        for (name, source) in tags {
            self.labels.retain(|(label, _)| label != name);
            if self.labels.len() < CHANGES_MAX {
                self.labels.push((name.clone(), *source));
            }
        }
    }
}
