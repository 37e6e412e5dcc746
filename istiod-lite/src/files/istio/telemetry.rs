//! Telemetry: the access log, metrics and traces of what it is for.

use crate::{
    facts::{Meta, TargetKind, Telemetry, TracingAsked},
    files::{
        field::{Field, shorten},
        value::{known, percent, targets, unhonoured},
    },
};
use mesh::{
    Str,
    route::telemetry::{AccessLog, MetricOverride, TagValue, Tracing},
};

pub(super) fn telemetry(object: &Field<'_>, meta: Meta) -> Telemetry {
    let spec = object.at("spec");
    known(&spec, &["selector", "targetRef", "targetRefs", "tracing", "metrics", "accessLogging"]);
    let kinds = [TargetKind::Service, TargetKind::ServiceEntry, TargetKind::Gateway, TargetKind::GatewayClass];
    let for_workloads = !spec.at("selector").at("matchLabels").members().is_empty();
    if for_workloads {
        spec.at("selector").remark("selects workloads, and waypoints do not use it: name them in targetRefs");
    }
    Telemetry {
        targets: targets(&spec, &kinds),
        for_workloads,
        access_log: access_log(&spec.at("accessLogging")),
        metrics: spec.at("metrics").list().iter().flat_map(metrics).collect(),
        tracing: tracing(&spec.at("tracing")),
        refused: Vec::new(),
        unheeded: Vec::new(),
        meta,
    }
}

/// Whether an entry concerns the server's side, which is where waypoints tell of requests.
fn at_server(field: &Field<'_>) -> bool {
    let modes = [("CLIENT_AND_SERVER", true), ("SERVER", true), ("CLIENT", false)];
    let mode = field.at("mode");
    let here = mode.one_of(&modes).unwrap_or(true);
    if !here {
        mode.remark("is not honoured: waypoints tell of requests at the server's side");
    }
    here
}

/// The first entry for the server's side.
fn access_log(field: &Field<'_>) -> Option<AccessLog> {
    let mut found = None;
    for entry in field.list() {
        known(&entry, &["match", "providers", "disabled", "filter"]);
        known(&entry.at("match"), &["mode"]);
        known(&entry.at("filter"), &["expression"]);
        providers(&entry.at("providers"));
        if !at_server(&entry.at("match")) {
            continue;
        }
        if found.is_some() {
            entry.remark("is not honoured: waypoints write one access log, as the entry before says");
            continue;
        }
        found = Some(AccessLog {
            disabled: entry.at("disabled").flag().unwrap_or(false),
            filter: entry.at("filter").at("expression").text().filter(|text| !text.is_empty()),
        });
    }
    found
}

fn providers(field: &Field<'_>) -> Vec<Str> {
    let name = |field: &Field<'_>| {
        known(field, &["name"]);
        field.at("name").text().filter(|name| !name.is_empty())
    };
    field.list().iter().filter_map(name).collect()
}

const METRICS: [(&str, Option<&str>); 11] = [
    ("ALL_METRICS", None),
    ("REQUEST_COUNT", Some("istio_requests_total")),
    ("REQUEST_DURATION", Some("istio_request_duration_milliseconds")),
    ("REQUEST_SIZE", Some("istio_request_bytes")),
    ("RESPONSE_SIZE", Some("istio_response_bytes")),
    ("TCP_OPENED_CONNECTIONS", Some("istio_tcp_connections_opened_total")),
    ("TCP_CLOSED_CONNECTIONS", Some("istio_tcp_connections_closed_total")),
    ("TCP_SENT_BYTES", Some("istio_tcp_sent_bytes_total")),
    ("TCP_RECEIVED_BYTES", Some("istio_tcp_received_bytes_total")),
    ("GRPC_REQUEST_MESSAGES", Some("istio_request_messages_total")),
    ("GRPC_RESPONSE_MESSAGES", Some("istio_response_messages_total")),
];

fn metrics(field: &Field<'_>) -> Vec<MetricOverride> {
    known(field, &["providers", "overrides", "reportingInterval"]);
    unhonoured(field, &["reportingInterval"]);
    let served = |name: &Str| &**name == "prometheus";
    let providers = providers(&field.at("providers"));
    if !providers.is_empty() && !providers.iter().any(served) {
        field.at("providers").remark("only the provider `prometheus` is served: this entry is not used");
        return Vec::new();
    }
    field.at("overrides").list().iter().filter_map(metric).collect()
}

fn metric(field: &Field<'_>) -> Option<MetricOverride> {
    known(field, &["match", "disabled", "tagOverrides"]);
    let asked = field.at("match");
    known(&asked, &["metric", "customMetric", "mode"]);
    let named = asked.at("metric").one_of(&METRICS).unwrap_or(None).map(Str::from);
    let custom = asked.at("customMetric").text().filter(|name| !name.is_empty());
    if named.is_some() && custom.is_some() {
        asked.at("customMetric").note("stands beside metric, and only one of them may");
    }
    let tags = field.at("tagOverrides").members().into_iter().filter_map(|(name, value)| tag(name, &value)).collect();
    at_server(&asked).then(|| MetricOverride {
        metric: custom.or(named),
        disabled: field.at("disabled").flag().unwrap_or(false),
        tags,
    })
}

fn tag(name: Str, field: &Field<'_>) -> Option<(Str, Option<Str>)> {
    known(field, &["operation", "value"]);
    let removed = field.at("operation").one_of(&[("UPSERT", false), ("REMOVE", true)]).unwrap_or(false);
    if removed {
        return Some((name, None));
    }
    let value = field.at("value").text().filter(|value| !value.is_empty());
    if value.is_none() {
        field.at("value").note(format!("says nothing of what {:?} should be", shorten(&name)));
    }
    Some((name, Some(value?)))
}

/// The first entry for the server's side.
fn tracing(field: &Field<'_>) -> Option<TracingAsked> {
    let mut found = None;
    for entry in field.list() {
        known(
            &entry,
            &[
                "match",
                "providers",
                "randomSamplingPercentage",
                "disableSpanReporting",
                "customTags",
                "useRequestIdForTraceSampling",
                "enableIstioTags",
                "disableContextPropagation",
            ],
        );
        known(&entry.at("match"), &["mode"]);
        unhonoured(&entry, &["useRequestIdForTraceSampling", "enableIstioTags", "disableContextPropagation"]);
        if !at_server(&entry.at("match")) {
            continue;
        }
        if found.is_some() {
            entry.remark("is not honoured: waypoints make traces as the entry before says");
            continue;
        }
        let mut providers = providers(&entry.at("providers"));
        if providers.len() > 1 {
            entry.at("providers").remark("only the first one is told");
        }
        let disabled = entry.at("disableSpanReporting").flag();
        let tags = entry.at("customTags").members().into_iter();
        found = Some(TracingAsked {
            tracing: Tracing {
                disabled: disabled.unwrap_or(false),
                sampling: percent(&entry.at("randomSamplingPercentage")),
                collector: None,
                tags: tags.filter_map(|(name, value)| Some((name, custom_tag(&value)?))).collect(),
            },
            provider: (!providers.is_empty()).then(|| providers.swap_remove(0)),
            said_disabled: disabled.is_some(),
        });
    }
    found
}

fn custom_tag(field: &Field<'_>) -> Option<TagValue> {
    known(field, &["literal", "environment", "header", "formatter"]);
    let (literal, environment, header) = (field.at("literal"), field.at("environment"), field.at("header"));
    known(&literal, &["value"]);
    known(&environment, &["name", "defaultValue"]);
    known(&header, &["name", "defaultValue"]);
    if field.at("formatter").is_there() {
        field.at("formatter").remark("is not honoured by waypoints: the tag is left out");
        return None;
    }
    let named = |field: &Field<'_>| Some((field.at("name").text()?, field.at("defaultValue").text()));
    let found = if literal.is_there() {
        literal.at("value").text().map(TagValue::Literal)
    } else if environment.is_there() {
        named(&environment).map(|(name, otherwise)| TagValue::Environment(name, otherwise))
    } else {
        named(&header).map(|(name, otherwise)| TagValue::Header(name.to_ascii_lowercase().into(), otherwise))
    };
    if found.is_none() {
        field.note("says none of literal, environment, header");
    }
    found
}
