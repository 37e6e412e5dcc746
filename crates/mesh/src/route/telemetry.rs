//! What is told of requests.

use super::{Destination, text::Fraction};
use crate::Str;

/// What is told of the requests of a service or of a waypoint.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Telemetry {
    /// The access log; none: as the waypoint says.
    pub access_log: Option<AccessLog>,
    /// Changes of metrics, in order.
    pub metrics: Vec<MetricOverride>,
    /// Traces; none: as the waypoint says.
    pub tracing: Option<Tracing>,
}

/// What is written of each request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessLog {
    /// Nothing.
    pub disabled: bool,
    /// Only requests for which this is true.
    pub filter: Option<Str>,
}

/// A change of one metric, or of all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricOverride {
    /// Its name (`istio_requests_total`, …); none: all.
    pub metric: Option<Str>,
    /// It is not kept.
    pub disabled: bool,
    /// Labels: (name, what it is instead; none: it is left out).
    pub tags: Vec<(Str, Option<Str>)>,
}

/// Traces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tracing {
    /// No spans.
    pub disabled: bool,
    /// Which share of requests that do not say is traced.
    pub sampling: Option<Fraction>,
    /// A collector that speaks OTLP over gRPC.
    pub collector: Option<Destination>,
    /// Further attributes.
    pub tags: Vec<(Str, TagValue)>,
}

/// The value of a further attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TagValue {
    /// Always this.
    Literal(Str),
    /// A header of the request, and what it is when there is none.
    Header(Str, Option<Str>),
    /// A variable of the waypoint's environment, and what it is when there is none.
    Environment(Str, Option<Str>),
}
