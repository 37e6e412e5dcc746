//! The labels of traffic metrics, exactly as Istio names and orders them. Pure.
//!
//! Values come from the view and from proven identities only. What a peer says of itself is never
//! a label: it would let strangers fill the memory of whoever stores the metrics.

use crate::connection::{Connection, Direction, Party};
use mesh::Str;
use prometheus_client::encoding::{EncodeLabelSet, LabelSetEncoder};
use std::{fmt, sync::LazyLock};

/// What stands where nothing is known.
static UNKNOWN: LazyLock<Str> = LazyLock::new(|| "unknown".into());

/// What stands for all that came when there were too many.
static OVERFLOW: LazyLock<Str> = LazyLock::new(|| "overflow".into());

/// The labels of one series, but for `response_flags`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Labels {
    pub(super) reporter: Direction,
    pub(super) source: End,
    pub(super) service: [Str; 3],
    pub(super) destination: End,
    pub(super) mutual_tls: bool,
}

/// The labels of one end.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct End {
    workload: Str,
    canonical_service: Str,
    canonical_revision: Str,
    namespace: Str,
    principal: Str,
    cluster: Str,
    region: Str,
    zone: Str,
}

impl Labels {
    /// The labels of a connection.
    pub(super) fn of(connection: &Connection) -> Self {
        let service = match &connection.service {
            Some(service) => [&service.hostname, &service.namespace, &service.name].map(known),
            None => std::array::from_fn(|_| UNKNOWN.clone()),
        };
        Self {
            reporter: connection.direction,
            source: End::of(&connection.source),
            service,
            destination: End::of(&connection.destination),
            mutual_tls: connection.source.identity.is_some() && connection.destination.identity.is_some(),
        }
    }

    /// What is counted together when there are too many series.
    pub(super) fn overflow(reporter: Direction) -> Self {
        let end = || {
            let word = || OVERFLOW.clone();
            End {
                workload: word(),
                canonical_service: word(),
                canonical_revision: word(),
                namespace: word(),
                principal: word(),
                cluster: word(),
                region: "".into(),
                zone: "".into(),
            }
        };
        let service = std::array::from_fn(|_| OVERFLOW.clone());
        Self { reporter, source: end(), service, destination: end(), mutual_tls: false }
    }
}

impl End {
    /// The labels of one end of a connection.
    pub(super) fn of(party: &Party) -> Self {
        let principal = party.identity.as_ref().map_or_else(|| UNKNOWN.clone(), |id| id.to_string().into());
        match &party.workload {
            Some(workload) => Self { principal, ..Self::of_workload(workload) },
            None => {
                let word = || UNKNOWN.clone();
                // A proven identity tells its namespace even where the view knows no workload.
                let namespace = party.identity.as_ref().map_or_else(word, |id| id.namespace().clone());
                Self {
                    workload: word(),
                    canonical_service: word(),
                    canonical_revision: word(),
                    namespace,
                    principal,
                    cluster: word(),
                    region: "".into(),
                    zone: "".into(),
                }
            }
        }
    }

    fn of_workload(workload: &mesh::Workload) -> Self {
        Self {
            workload: known(&workload.workload_name),
            canonical_service: known(&workload.canonical_name),
            canonical_revision: known(&workload.canonical_revision),
            namespace: known(&workload.namespace),
            principal: UNKNOWN.clone(),
            cluster: known(&workload.cluster_id),
            region: workload.locality.region.clone(),
            zone: workload.locality.zone.clone(),
        }
    }
}

fn known(text: &Str) -> Str {
    if text.is_empty() { UNKNOWN.clone() } else { text.clone() }
}

/// Writes pairs; the encoder's steps are many for so little.
pub(super) fn pair(encoder: &mut LabelSetEncoder<'_>, name: &str, value: &str) -> fmt::Result {
    prometheus_client::encoding::EncodeLabel::encode(&(name, value), encoder.encode_label())
}

/// [`Labels`] together with the one that differs between the counts of a series.
#[derive(Debug)]
pub(super) struct Flagged<'a> {
    pub(super) labels: &'a Labels,
    pub(super) flag: &'static str,
}

impl EncodeLabelSet for Flagged<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        let Labels { reporter, source, service, destination, mutual_tls } = self.labels;
        pair(encoder, "reporter", reporter_label(*reporter))?;
        pair(encoder, "source_workload", &source.workload)?;
        pair(encoder, "source_canonical_service", &source.canonical_service)?;
        pair(encoder, "source_canonical_revision", &source.canonical_revision)?;
        pair(encoder, "source_workload_namespace", &source.namespace)?;
        pair(encoder, "source_principal", &source.principal)?;
        pair(encoder, "source_app", &source.canonical_service)?;
        pair(encoder, "source_version", &source.canonical_revision)?;
        pair(encoder, "source_cluster", &source.cluster)?;
        pair(encoder, "destination_service", &service[0])?;
        pair(encoder, "destination_service_namespace", &service[1])?;
        pair(encoder, "destination_service_name", &service[2])?;
        pair(encoder, "destination_workload", &destination.workload)?;
        pair(encoder, "destination_canonical_service", &destination.canonical_service)?;
        pair(encoder, "destination_canonical_revision", &destination.canonical_revision)?;
        pair(encoder, "destination_workload_namespace", &destination.namespace)?;
        pair(encoder, "destination_principal", &destination.principal)?;
        pair(encoder, "destination_app", &destination.canonical_service)?;
        pair(encoder, "destination_version", &destination.canonical_revision)?;
        pair(encoder, "destination_cluster", &destination.cluster)?;
        pair(encoder, "request_protocol", "tcp")?;
        pair(encoder, "response_flags", self.flag)?;
        pair(encoder, "connection_security_policy", if *mutual_tls { "mutual_tls" } else { "unknown" })?;
        if [source, destination].iter().any(|end| !end.region.is_empty() || !end.zone.is_empty()) {
            pair(encoder, "source_region", &known(&source.region))?;
            pair(encoder, "source_zone", &known(&source.zone))?;
            pair(encoder, "destination_region", &known(&destination.region))?;
            pair(encoder, "destination_zone", &known(&destination.zone))?;
        }
        Ok(())
    }
}

/// The labels of `istio_on_demand_dns_total`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Resolved {
    source: End,
    hostname: Str,
}

impl Resolved {
    pub(super) fn of(source: &mesh::Workload, hostname: &str) -> Self {
        Self { source: End::of_workload(source), hostname: hostname.into() }
    }
}

impl EncodeLabelSet for Resolved {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        let source = &self.source;
        pair(encoder, "source_workload", &source.workload)?;
        pair(encoder, "source_canonical_service", &source.canonical_service)?;
        pair(encoder, "source_canonical_revision", &source.canonical_revision)?;
        pair(encoder, "source_workload_namespace", &source.namespace)?;
        pair(encoder, "source_principal", &source.principal)?;
        pair(encoder, "source_app", &source.canonical_service)?;
        pair(encoder, "source_version", &source.canonical_revision)?;
        pair(encoder, "source_cluster", &source.cluster)?;
        pair(encoder, "hostname", &self.hostname)
    }
}

/// The value of `reporter`.
pub(super) const fn reporter_label(direction: Direction) -> &'static str {
    match direction {
        Direction::Inbound => "destination",
        Direction::Outbound => "source",
    }
}
