//! Tokens that are accepted, and what is told of requests: RequestAuthentication, Telemetry, and
//! what the configuration of the mesh (the ConfigMap `istio`) says of both.

use super::{Meta, Target};
use mesh::{
    Str,
    route::{
        Destination,
        guard::{AuthorizerProtocol, BodyShown, Issuer},
        telemetry::{AccessLog, MetricOverride, Tracing},
        text::Fraction,
    },
};
use std::{collections::BTreeMap, time::Duration};

/// A `RequestAuthentication`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestAuthentication {
    /// Name and labels.
    pub meta: Meta,
    /// What it is for; none: sidecars, and not waypoints.
    pub targets: Vec<Target>,
    /// Whose tokens are accepted.
    pub issuers: Vec<Issuer>,
    /// Why it could not be understood, by field.
    pub refused: Vec<Str>,
    /// What is not honoured of it, by field.
    pub unheeded: Vec<Str>,
}

/// A `Telemetry`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Telemetry {
    /// Name and labels.
    pub meta: Meta,
    /// What it is for; `None`: its namespace, or the mesh in the root namespace.
    pub targets: Option<Vec<Target>>,
    /// It selects workloads, and so no waypoint.
    pub for_workloads: bool,
    /// The access log.
    pub access_log: Option<AccessLog>,
    /// Changes of metrics.
    pub metrics: Vec<MetricOverride>,
    /// Traces.
    pub tracing: Option<TracingAsked>,
    /// Why it could not be understood, by field.
    pub refused: Vec<Str>,
    /// What is not honoured of it, by field.
    pub unheeded: Vec<Str>,
}

/// Traces, and who collects them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TracingAsked {
    /// What is said beside the collector.
    pub tracing: Tracing,
    /// Name of the provider; none: as the mesh says.
    pub provider: Option<Str>,
    /// Whether spans were switched on or off expressly.
    pub said_disabled: bool,
}

/// What the configuration of the mesh says that matters to waypoints.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MeshConfig {
    /// Name and labels of the ConfigMap.
    pub meta: Meta,
    /// Others that can be asked or told, by name.
    pub providers: BTreeMap<Str, Provider>,
    /// An access log is written by default; `None`: nobody said.
    pub access_log: Option<bool>,
    /// Traces are made by default; `None`: nobody said.
    pub tracing: Option<bool>,
    /// Which share of requests is traced by default.
    pub sampling: Option<Fraction>,
    /// Providers of traces where a `Telemetry` names none.
    pub default_tracing: Vec<Str>,
    /// Providers of access logs where a `Telemetry` names none.
    pub default_access_logging: Vec<Str>,
    /// Why it could not be understood, by field.
    pub refused: Vec<Str>,
    /// What is not honoured of it, by field.
    pub unheeded: Vec<Str>,
}

/// Somebody who can be asked or told (`extensionProviders`).
#[derive(Clone, Debug, PartialEq)]
pub enum Provider {
    /// Decides whether a request may pass.
    Authorizer(Authorizer),
    /// Collects traces over OTLP.
    Collector(Destination),
    /// Writes an access log to the standard output.
    AccessLog,
    /// Collects metrics by asking for them.
    Prometheus,
    /// Something that we do not serve; its kind.
    Unserved(Str),
}

/// Somebody who decides whether a request may pass.
#[derive(Clone, Debug, PartialEq)]
pub struct Authorizer {
    /// Where it is, by host as written.
    pub destination: Destination,
    /// How it is asked.
    pub protocol: AuthorizerProtocol,
    /// How long it may take.
    pub timeout: Duration,
    /// Requests pass when it does not answer.
    pub fail_open: bool,
    /// Status when it does not answer and requests do not pass.
    pub status_on_error: u16,
    /// How much of the body it is shown.
    pub body: Option<BodyShown>,
}
